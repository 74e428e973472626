"""Names as text: plain ones as they are, others escaped, nothing that a stream or a terminal minds."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.printable import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"cat/1.jpg", "cat/1.jpg"),
        ("Füße und 猫 😀.jpg".encode(), "Füße und 猫 😀.jpg"),
        (b"caf\xe9.jpg", "caf\\xe9.jpg"),
        (b"\x1b[31mred\x07.jpg", "\\x1b[31mred\\x07.jpg"),
        (b"two\nlines", "two\\nlines"),
        ("right to left \u202e".encode(), "right to left \\u202e"),
        (b"$x_{$ [b]", "$x_{$ [b]"),
    ],
)
def test_names(name: bytes, shown: str) -> None:
    assert printable(os.fsdecode(name)) == shown


@given(st.binary())
def test_any_name_can_be_shown(name: bytes) -> None:
    shown = printable(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.text(st.characters(exclude_categories=())))
def test_any_string_can_be_shown(name: str) -> None:
    assert printable(name).isprintable()
