"""Rank and world size: what is given, what ``torch.distributed`` says, and where they disagree."""

from __future__ import annotations

import pytest

from loaders import ranks


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch):
    """Makes ``torch.distributed`` say something."""

    def set_group(value: tuple[int, int] | None) -> None:
        monkeypatch.setattr(ranks, "process_group", lambda: value)

    set_group(None)
    return set_group


def test_arguments_come_first_then_the_group_then_one_alone(group) -> None:
    assert ranks.find_rank(None, None) == (0, 1)
    assert ranks.find_rank(2, 3) == (2, 3)
    group((1, 4))
    assert ranks.find_rank(None, None) == (1, 4)
    assert ranks.find_rank(1, 4) == (1, 4)


@pytest.mark.parametrize(
    ("rank", "world_size", "message"),
    [
        (3, 3, r"rank must be in \[0, 3\), got 3"),
        (-1, 3, r"rank must be in \[0, 3\), got -1"),
        (0, 0, "world_size must be at least 1, got 0"),
        (0, None, "rank and world_size must be given together, got rank=0, world_size=None"),
        (None, 2, "must be given together"),
    ],
)
def test_impossible_ranks_are_named(group, rank, world_size, message) -> None:
    with pytest.raises(ValueError, match=message):
        ranks.find_rank(rank, world_size)


@pytest.mark.parametrize("given", [(0, 2), (1, 2), (0, 4)])
def test_a_rank_that_is_not_the_groups_is_refused(group, given) -> None:
    group((1, 4))
    with pytest.raises(ValueError, match=r"must agree with torch.distributed, which has \(1, 4\)"):
        ranks.find_rank(*given)


@pytest.mark.parametrize(("launched", "world_size", "told"), [("4", 1, True), ("4", 4, False), ("1", 1, False)])
def test_one_of_several_that_knows_of_no_others_is_warned(group, monkeypatch, caplog, launched, world_size, told) -> None:
    monkeypatch.setenv("WORLD_SIZE", launched)
    ranks.warn_if_alone(world_size)
    assert ("each process loads all data" in caplog.text) == told
    caplog.clear()
    group((0, 4))
    ranks.warn_if_alone(world_size)
    assert caplog.text == ""
