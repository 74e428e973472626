"""The state of a loader as a value: JSON and back, and what it refuses to go on with."""

from __future__ import annotations

import json

import pytest

from loaders.state import LoaderState

CONFIG = {"seed": 3, "size": [8, 8], "mix_group": [None, 12]}
STATE = LoaderState(2, 5, CONFIG)


def test_it_survives_json() -> None:
    assert LoaderState.from_dict(json.loads(json.dumps(STATE.to_dict()))) == STATE


@pytest.mark.parametrize(
    "changes",
    [{"version": 2}, {"epoch": -1}, {"step": -1}, {"step": 1.0}, {"step": "1"}, {"epoch": True}, {"config": None}],
)
def test_what_is_no_state_is_refused(changes) -> None:
    with pytest.raises(ValueError, match="state must"):
        LoaderState.from_dict(STATE.to_dict() | changes)
    for missing in ("version", "epoch", "step", "config"):
        with pytest.raises(ValueError, match="state must"):
            LoaderState.from_dict({name: value for name, value in STATE.to_dict().items() if name != missing})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"crop": "centre"}, "crop was None and is 'centre'"),
        ({"seed": 4, "size": [8, 9]}, r"seed was 3 and is 4; size was \[8, 8\] and is \[8, 9\]"),
        ({"mix_group": [4, 4]}, r"mix_group was \[None, 12\] and is \[4, 4\]"),
    ],
)
def test_what_differs_is_named(changes, message) -> None:
    with pytest.raises(ValueError, match=f"of the same configuration, but {message}$"):
        STATE.check(CONFIG | changes)


@pytest.mark.parametrize("mix_group", [[None, 12], [None, 6], [12, 12]])
def test_rows_that_are_mixed_may_differ_where_nobody_chose_them(mix_group) -> None:
    STATE.check(CONFIG | {"mix_group": mix_group})
