"""Every argument of every public function and class meets hostile values: what is wrong is refused by its name."""

from __future__ import annotations

import pytest
from support.hostile_arguments import mixops_calls, no_surprise, values

import mixops

CALLS = mixops_calls()


def test_every_public_name_is_walked() -> None:
    assert set(CALLS) == set(mixops.__all__)


def test_the_walk_is_long() -> None:
    assert sum(len(call.parameters) for call in CALLS.values()) * len(values()) > 10_000


@pytest.mark.parametrize("name", CALLS)
def test_what_is_wrong_is_refused_by_its_name(name: str) -> None:
    no_surprise(CALLS[name], name)
