"""No random word is used twice: what is drawn for one step reads places of its streams that do not meet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from mixops import CutMix, FMix, GMix, HMix, Key, ManifoldMix, MixUp
from mixops.augment.words import row_words
from mixops.embedding.dirichlet import gammas
from mixops.key import Stream

Places = dict[tuple[Key, Stream], list[tuple[int, int]]]


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    """Where words were read: (first, last) of each reading, by key and stream."""
    read: Places = defaultdict(list)
    words = Key.words

    def recorded(key: Key, stream: Stream, count: int, start: int = 0) -> NDArray[np.uint64]:
        read[key, stream].append((start, start + count))
        return words(key, stream, count, start)

    monkeypatch.setattr(Key, "words", recorded)
    return read


def twice(places: Places) -> set[tuple[Stream, int]]:
    """The words that were read more than once."""
    found = set()
    for (_, stream), ranges in places.items():
        read = [word for first, last in ranges for word in range(first, last)]
        found |= {(stream, word) for word in read if read.count(word) > 1}
    return found


def plan_with(mixer) -> Callable[[Key], object]:
    return lambda key: mixer.plan(key, batch_size=6, height=8, width=8)


DRAWS: dict[str, Callable[[Key], object]] = {
    "tuples of MultiMix": lambda key: gammas(key, positions=2, tuples=3, samples=4, alpha=(0.5, 2.0)),
    "a layer": lambda key: ManifoldMix(nn.Sequential(nn.Identity()), [0, 1], MixUp()).layer(key),
    "crops of two ranks": lambda key: [row_words(key, np.arange(first, first + 4)) for first in (0, 4)],
    **{
        repr(mixer): plan_with(mixer)
        for mixer in (MixUp(), CutMix(interpolations=3), HMix(), GMix(), FMix())  # a Switch's members share them
    },
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_no_word_is_read_twice(draw: Callable[[Key], object], places: Places) -> None:
    for key in (Key(1, 2, 3, 4), Key(1, 2, 3, 5), Key(1, 2, 4, 4)):
        draw(key)
    assert places and twice(places) == set()


def test_a_word_that_is_read_twice_is_found(places: Places) -> None:
    Key(1).words(Stream.MIX, 4)
    Key(1).uniform(Stream.MIX, (2, 2), start=3)
    Key(1).words(Stream.FIELD, 4), Key(2).words(Stream.MIX, 4)
    assert twice(places) == {(Stream.MIX, 3)}
