"""The checks of arguments: what they take, in which form they give it back, and what they say of the rest."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mixops.runtime.checks import (
    check_array,
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_numbers,
    check_range,
    check_sequence,
    check_type,
    shown,
)

HUGE = 10**5000  # has no text: Python refuses to print it


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_counts_become_integers(value):
    assert type(check_count("k", value)) is int and check_count("k", value) == 3


@pytest.mark.parametrize("value", [3, 3.0, np.float16(3), np.uint8(3)])
def test_numbers_become_floats(value):
    assert type(check_number("x", value)) is float and check_number("x", value) == 3


@pytest.mark.parametrize(
    ("check", "error", "message"),
    [
        (lambda: check_count("k", 0), ValueError, "k must be at least 1, got 0"),
        (lambda: check_count("k", 9, 2, 8), ValueError, r"k must be in \[2, 8\], got 9"),
        (lambda: check_count("k", HUGE, 2, 8), ValueError, r"k must be in \[2, 8\], got a value of type int"),
        (lambda: check_count("k", True), TypeError, "k must be an integer, got True"),
        (lambda: check_count("k", np.True_), TypeError, "k must be an integer, got"),
        (lambda: check_count("k", 2.0), TypeError, "k must be an integer, got 2.0"),
        (lambda: check_count("k", torch.tensor(2)), TypeError, r"k must be an integer, got tensor\(2\)"),
        (lambda: check_count("k", "2"), TypeError, "k must be an integer, got '2'"),
        (lambda: check_number("x", math.nan), ValueError, "x must be finite, got nan"),
        (lambda: check_number("x", math.inf, 0), ValueError, "x must be at least 0 and finite, got inf"),
        (lambda: check_number("x", HUGE, 0), ValueError, "x must be at least 0 and finite, got a value of type int"),
        (lambda: check_number("x", 0, 0, above=True), ValueError, "x must be positive and finite, got 0"),
        (lambda: check_number("x", 1, 0, 1, below=True), ValueError, r"x must be in \[0, 1\), got 1"),
        (lambda: check_number("x", 0, 0, 1, above=True), ValueError, r"x must be in \(0, 1\], got 0"),
        (lambda: check_number("x", True), TypeError, "x must be a number, got True"),
        (lambda: check_number("x", 1j), TypeError, "x must be a number, got 1j"),
        (lambda: check_number("x", np.complex64(1)), TypeError, "x must be a number"),
        (lambda: check_number("x", None), TypeError, "x must be a number, got None"),
        (lambda: check_number("x", np.ones(3)), TypeError, r"x must be a number, got a float64 array of shape \(3,\)"),
        (lambda: check_flag("f", 1), TypeError, "f must be True or False, got 1"),
        (lambda: check_choice("c", "d", ("a", "b")), ValueError, "c must be 'a' or 'b', got 'd'"),
        (
            lambda: check_choice("c", np.ones(2), ("a", "b", "c")),
            ValueError,
            "c must be one of 'a', 'b', 'c', got a float64",
        ),
        (lambda: check_numbers("n", (1, 2), length=3), ValueError, r"n must be 3 numbers, got 2: \(1, 2\)"),
        (lambda: check_numbers("n", "12"), TypeError, "n must be a list of numbers, got '12'"),
        (lambda: check_numbers("n", itertools.count()), TypeError, r"n must be a list of numbers, got count\(0\)"),
        (lambda: check_numbers("n", {1, 2}), TypeError, "n must be a list of numbers"),
        (lambda: check_numbers("n", np.ones((1, 2))), TypeError, "n must be a list of numbers, got a float64 array"),
        (lambda: check_numbers("n", torch.empty(3, device="meta")), TypeError, "n must be a dense tensor that has values"),
        (lambda: check_range("r", (2, 1)), ValueError, r"r must be a pair that rises, got \(2, 1\)"),
        (lambda: check_range("r", (0, 2), 0, 1), ValueError, r"r must be in \[0, 1\], got 2"),
        (lambda: check_range("r", 1), TypeError, "r must be a pair of numbers, got 1"),
        (lambda: check_type("t", 3, str, "a name"), TypeError, "t must be a name, got 3"),
    ],
)
def test_the_rest_is_refused_by_name(check, error, message):
    with pytest.raises(error, match=f"^{message}"):
        check()


def test_sequences_become_tuples():
    for value in ([1, 2], (1, 2), range(1, 3), np.array([1, 2]), torch.tensor([1, 2])):
        assert check_sequence("s", value, "numbers") == (1, 2)
        assert check_numbers("s", value, length=2) == (1.0, 2.0)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">i2", "u1", "<u2", "?"])
def test_arrays_of_any_order_become_tensors(dtype):
    array = np.arange(24).reshape(4, 6).astype(dtype)
    array.flags.writeable = False
    for view in (array, array[::-1], array[:, ::-2], array.T):
        found = check_array("x", view)
        np.testing.assert_array_equal(found.numpy(), view)


def test_fields_of_records_become_tensors():
    records = np.zeros(5, [("a", "u1"), ("b", "<f4")])
    records["b"] = np.arange(5)
    np.testing.assert_array_equal(check_array("x", records["b"]).numpy(), np.arange(5))


def test_a_tensor_is_itself():
    x = torch.ones(2, requires_grad=True)
    assert check_array("x", x) is x


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "x must be a torch tensor or NumPy array, got list"),
        (np.array(["a"]), "x must hold numbers, got a <U1 array"),
        (np.array([None]), "x must hold numbers, got a object array"),
        (np.zeros(2, "M8[s]"), "x must hold numbers, got a datetime64"),
        (np.zeros(2, np.longdouble), "x must be of a dtype that torch has, got a float128 array"),
        (torch.zeros(2, 2).to_sparse(), "x must be a dense tensor that has values, got a torch.sparse_coo"),
        (torch.empty(2, device="meta"), "x must be a dense tensor that has values, got a torch.float32 tensor .* meta"),
    ],
)
def test_what_is_no_dense_tensor_is_refused(value, message):
    with pytest.raises(TypeError, match=message):
        check_array("x", value)


def test_a_message_is_short_and_never_fails():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert shown(Odd()) == "a value of type Odd" and shown(HUGE) == "a value of type int"
    assert shown("x" * 1000) == "'" + "x" * 99 + "... (str)"
    assert shown(torch.zeros(3, 4)) == "a torch.float32 tensor of shape (3, 4) on cpu"


def test_a_namesake_of_another_library_says_whose_it_is() -> None:
    mix_up = type("MixUp", (), {"__module__": "torchvision.transforms.v2", "__repr__": lambda self: "MixUp(alpha=1.0)"})
    with pytest.raises(TypeError, match=r"^mixer must be a mixer, got MixUp\(alpha=1\.0\) of torchvision$"):
        check_type("mixer", mix_up(), int, "a mixer")
