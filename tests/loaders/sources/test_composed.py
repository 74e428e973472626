"""Sources made of sources: which samples they have, what they are called, and that their digests stay what they were."""

from __future__ import annotations

import hashlib

import numpy as np

from loaders.sources.arrays import Arrays
from loaders.sources.composed import Joined, Selected


def source(first: int, count: int) -> Arrays:
    images = (np.arange(first, first + count, dtype=np.uint8)[:, None, None, None]).repeat(3, 3)
    made = Arrays(images, np.arange(count) % 3, ["a", "b", "c"])
    made.broken.update({2: "is bad", 5: "is worse"})
    return made


def test_some_samples() -> None:
    whole = source(0, 10)
    indices = np.tile([9, 2, 0, 5, 5], 20_000)  # more than are hashed at once
    some = Selected(whole, indices)
    assert len(some) == 100_000 and some.read(99_996)[0, 0, 0] == 2
    assert {i: why for i, why in some.broken.items() if i < 7} == {1: "is bad", 3: "is worse", 4: "is worse", 6: "is bad"}
    assert len(some.broken) == 60_000 and list(some.broken) == sorted(some.broken)
    text = "\0".join(["selected", whole.digest, indices.astype(np.int64).tobytes().hex()])
    assert some.digest == hashlib.sha256(text.encode()).hexdigest()[:16]
    whole.broken.clear()
    assert Selected(whole, [9]).broken == {}


def test_one_after_the_other() -> None:
    one, two = source(0, 7), source(50, 6)
    joined = Joined([one, two])
    assert [joined.read(i)[0, 0, 0] for i in (0, 6, 7, 12)] == [0, 6, 50, 55]
    assert joined.broken == {2: "is bad", 5: "is worse", 9: "is bad", 12: "is worse"}
    text = "\0".join(["joined", one.digest, two.digest])
    assert joined.digest == hashlib.sha256(text.encode()).hexdigest()[:16]
