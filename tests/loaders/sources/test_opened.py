"""What a source does not know is found out once, and what is none is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.images import encoded, picture

from loaders.sources import Folder, open_source
from pipelines.bad_file import BadFile


class Memory:
    """A source of a few images, whose reads are counted."""

    labels, classes, digest = np.array([0, 1, 1]), ("a", "b"), "abc"

    def __init__(self, *images: Any) -> None:
        self.images, self.reads = list(images), 0
        self.sizes = np.zeros((3, 2), np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def name(self, sample: int) -> str:
        return f"memory {sample}"

    def read(self, sample: int) -> Any:
        self.reads += 1
        if isinstance(self.images[sample], Exception):
            raise self.images[sample]
        return self.images[sample]


JPEGS = tuple(encoded(picture(i, 20 + i, 30)) for i in range(3))


def test_sizes_are_read_once(tmp_path: Path) -> None:
    first = open_source(Memory(*JPEGS), cache=tmp_path)
    assert first.sizes.tolist() == [[30, 20], [30, 21], [30, 22]] and not first.decoded
    large = [Memory(*JPEGS) for _ in range(2)]
    for source in large:
        source.digest = "large"
        source.images, source.labels = [JPEGS[i % 3] for i in range(200)], np.arange(200) % 2
        source.sizes = np.zeros((200, 2), int)
        assert np.array_equal(open_source(source, cache=tmp_path).sizes[:, 1], 20 + np.arange(200) % 3)
    assert large[0].reads > 200 and large[1].reads < 20


def test_other_images_under_the_same_names_are_noticed(tmp_path: Path) -> None:
    open_source(Memory(*JPEGS), cache=tmp_path)
    assert open_source(Memory(*JPEGS[::-1]), cache=tmp_path).sizes.tolist() == [[30, 22], [30, 21], [30, 20]]
    pixels = np.zeros((4, 5, 3), np.uint8)
    changed = open_source(Memory(BadFile("gone"), JPEGS[0], pixels), cache=tmp_path)
    assert changed.sizes.tolist() == [[0, 0], [30, 20], [4, 5]] and changed.broken == {0: "gone"}
    again = open_source(Memory(JPEGS[1], JPEGS[0], pixels), cache=tmp_path)
    assert again.sizes.tolist() == [[30, 21], [30, 20], [4, 5]] and not again.broken


def test_what_it_knows_is_kept() -> None:
    source = Memory(*JPEGS)
    source.sizes = np.array([[7, 7], [0, 0], [9, 9]])
    assert open_source(source).sizes.tolist() == [[7, 7], [30, 21], [9, 9]]


def test_pixels_of_another_kind_are_bad() -> None:
    found = open_source(Memory(np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), JPEGS[0]))
    assert set(found.broken) == {0, 1} and "uint8 pixels (h, w, 3), got float32" in found.broken[1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", [0, 1], "labels must be one for each of the 3 samples, got 2"),
        ("labels", [0, 1, 2], "labels must be class numbers of 0 to 1, got 2"),
        ("labels", [0.5, 1, 2], "labels must be integers"),
        ("sizes", np.zeros((2, 2)), r"sizes must be \(height, width\) of 3 samples"),
    ],
)
def test_errors(name: str, value: Any, message: str) -> None:
    source = Memory(*JPEGS)
    setattr(source, name, value)
    with pytest.raises((TypeError, ValueError), match=message):
        open_source(source)


def test_no_samples_are_no_source() -> None:
    with pytest.raises(ValueError, match="root must have at least one sample, got Memory with none"):
        open_source(Memory())


def test_what_is_missing_is_named() -> None:
    class Half:
        labels = sizes = classes = ()

    with pytest.raises(TypeError, match="Half, which has no read, name, digest, len"):
        open_source(Half())


def test_a_listing_is_taken_as_it_is(jpeg_folder: Path) -> None:
    source = Folder(jpeg_folder)
    assert open_source(source) is source
