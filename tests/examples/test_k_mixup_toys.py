"""The k-mixup toys: what matching does to distances and to accuracy."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def toys():
    threads = torch.get_num_threads()  # a training takes one
    sys.path.insert(0, str(EXAMPLES))
    try:
        import k_mixup_toys

        yield k_mixup_toys
    finally:
        sys.path.remove(str(EXAMPLES))
        torch.set_num_threads(threads)


def test_matched_digits_are_nearer_the_larger_the_blocks(toys):
    costs = [cost for cost, _ in toys.digit_distances((1, 2, 4, 8, 16, 32), (1.0,), trials=2).values()]
    assert (np.diff(costs) < 0).all()


def test_matching_keeps_what_plain_mixup_destroys(toys):
    """Four Bars with lambda near one half: mixed points of bars 1 and 3 lie on bar 2."""
    plain, matched = (toys.run("Four Bars", k, 16.0, 0, 40)[0] for k in (1, 16))
    assert plain < 80 < matched
