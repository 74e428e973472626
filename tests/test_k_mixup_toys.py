"""The k-mixup toys: what matching does to distances, and a tiny run of the whole example."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def toys():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import k_mixup_toys

        yield k_mixup_toys
    finally:
        sys.path.remove(str(EXAMPLES))


def test_matched_digits_are_nearer_the_larger_the_blocks(toys):
    costs = [cost for cost, _ in toys.digit_distances((1, 2, 4, 8, 16, 32), (1.0,), trials=2).values()]
    assert (np.diff(costs) < 0).all()


def test_matching_keeps_what_plain_mixup_destroys(toys):
    """Four Bars with lambda near one half: mixed points of bars 1 and 3 lie on bar 2."""
    plain, matched = (toys.run("Four Bars", k, 16.0, 0, 40)[0] for k in (1, 16))
    assert plain < 80 < matched


def test_the_example_writes_its_tables_and_pictures(toys, tmp_path):
    toys.main(tmp_path, k=[1, 2], alpha=[16.0], seeds=1, epochs=1, trials=1, workers=1)
    names = {path.name for path in tmp_path.iterdir()}
    pictures = {"k-mixup-decisions.png", "k-mixup-couplings.png"}
    assert names == pictures | {f"k-mixup-{name}.{kind}" for name in ("toys", "digits") for kind in ("md", "json")}
    assert all((tmp_path / name).stat().st_size < 300_000 for name in pictures)
    rows = json.loads((tmp_path / "k-mixup-toys.json").read_text())["rows"]
    assert [(row["data"], row["k"], row["by"]) for row in rows[:3]] == [
        ("One Ring", 1, "here"), ("One Ring", 1, "paper"), ("One Ring", 2, "here"),
    ]  # fmt: skip
    assert rows[1]["α = 16"] == 86.467
