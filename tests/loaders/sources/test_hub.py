"""Data sets of the library ``datasets``: which columns are taken, and what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.images import encoded, picture

from loaders.sources import open_source

datasets = pytest.importorskip("datasets", reason="needs datasets: pip install 'mixstage[datasets]'")

JPEGS = [encoded(picture(i)) for i in range(4)]


def dataset(label: Any = None, values: Any = (1, 0, 1, 1), column: str = "label", image: Any = None) -> Any:
    features = {"picture": image or datasets.Image(), column: label or datasets.ClassLabel(names=["a", "b"])}
    images = [{"bytes": data, "path": None} for data in JPEGS] if image is None else [0] * 4
    return datasets.Dataset.from_dict({"picture": images, column: list(values)}, features=datasets.Features(features))


def test_labels() -> None:
    assert open_source(dataset()).classes == ("a", "b") and open_source(dataset()).labels.tolist() == [1, 0, 1, 1]
    plain = open_source(dataset(datasets.Value("int64"), (3, 0, 1, 1)))
    assert plain.labels.tolist() == [3, 0, 1, 1] and plain.classes == ("0", "1", "2", "3")
    named = open_source(dataset(datasets.Value("string"), ("x", "y", "x", "z"), "target"))
    assert named.classes == ("x", "y", "z") and named.labels.tolist() == [0, 1, 0, 2]
    several = open_source(dataset(datasets.Sequence(datasets.ClassLabel(names=["a", "b", "c"])), ([0, 2], [], [1], [0])))
    assert several.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_selected_and_shuffled_rows() -> None:
    source = open_source(dataset().select([3, 1]))
    assert [source.read(i) for i in range(2)] == [JPEGS[3], JPEGS[1]] and source.labels.tolist() == [1, 0]
    assert source.name(0) == "row 3 of a Dataset"
    assert source.digest != open_source(dataset().select([2, 1])).digest
    order = dataset().shuffle(seed=1)
    stored = order.cast_column("picture", datasets.Image(decode=False))
    assert [open_source(order).read(i) for i in range(4)] == [stored[i]["picture"]["bytes"] for i in range(4)]


def test_a_loaded_one(tmp_path: Path) -> None:
    dataset().save_to_disk(tmp_path / "saved")
    source = open_source(datasets.load_from_disk(tmp_path / "saved"))
    assert [source.read(i) for i in range(4)] == JPEGS


def test_rows_without_an_image_are_bad() -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    images = [{"bytes": JPEGS[0], "path": "x.jpg"}, None, {"bytes": None, "path": "x.jpg"}]
    source = open_source(datasets.Dataset.from_dict({"image": images, "label": [0, 0, 0]}, features=features))
    assert source.broken == {1: "has no image", 2: "has neither bytes nor the path of a file"}
    assert source.name(0) == "row 0 of a Dataset (x.jpg)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: datasets.DatasetDict(train=dataset()), r"one split, such as dataset\['train'\], got a DatasetDict"),
        (lambda: dataset().to_iterable_dataset(), "whose samples have numbers, got an IterableDataset"),
        (lambda: dataset().with_format("torch"), "no format or transform .*got 'torch'"),
        (lambda: dataset().with_transform(lambda row: row), "no format or transform .*got 'custom'"),
        (lambda: dataset(image=datasets.Value("int64")), "must have a column of the feature Image, got picture, label"),
        (lambda: dataset(datasets.Value("int64"), column="x"), "must have a ClassLabel column, or one called label"),
        (lambda: dataset(values=(-1, 0, 1, 1)), "labels must be class numbers of 0 to 1, got -1"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        open_source(make())
