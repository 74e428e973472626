"""The sources of the contract: each is made of an image folder and must then be what the folder is."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loaders.cli.convert import convert
from loaders.sources import Arrays, Files, Folder
from loaders.sources.tar import TarShards


@dataclass(frozen=True)
class Case:
    """How a source is made of the samples of a folder, in a folder of its own.

    ``holds_bad`` says that it can hold bytes that are no image. ``same_names`` says that classes are called as the folder's,
    whose names are "0", "1", ... ``needs`` are modules without which it is skipped.
    """

    make: Callable[[Folder, Path], Any]
    holds_bad: bool = True
    needs: tuple[str, ...] = ()

    def root(self, folder: Path, place: Path) -> Any:
        """What an ``ImageLoader`` is given; skips where a module is missing."""
        for module in self.needs:
            pytest.importorskip(module)
        place.mkdir(exist_ok=True)
        return self.make(Folder(folder), place)


class Minimal:
    """The least that is a source; nothing is inherited and no size is known."""

    def __init__(self, folder: Folder) -> None:
        self._data = [Path(folder.name(i)).read_bytes() for i in range(len(folder))]
        self.labels, self.classes = folder.labels.tolist(), list(folder.classes)
        self.sizes = np.zeros((len(folder), 2), int)
        self.digest = folder.digest

    def __len__(self) -> int:
        return len(self._data)

    def name(self, sample: int) -> str:
        return f"memory {sample}"

    def read(self, sample: int) -> bytes:
        return self._data[sample]


def pixels_of(folder: Folder) -> np.ndarray:
    """The decoded images, which must all have one size."""
    return np.stack([np.asarray(Image.open(folder.name(i)).convert("RGB")) for i in range(len(folder))])


def _paths(folder: Folder) -> list[str]:
    return [folder.name(i) for i in range(len(folder))]


def _files(folder: Folder, place: Path) -> Any:
    return Files(_paths(folder), [folder.classes[label] for label in folder.labels.tolist()])


def _csv(folder: Folder, place: Path) -> Any:
    with open(place / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "fold", "label"])
        writer.writerows([path, 0, label] for path, label in zip(_paths(folder), folder.labels.tolist(), strict=True))
    return place / "train.csv"


def _json_lines(folder: Folder, place: Path) -> Any:
    rows = [{"file_name": path, "label": label} for path, label in zip(_paths(folder), folder.labels.tolist(), strict=True)]
    (place / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place / "train.jsonl"


def _image_folder(folder: Folder, place: Path) -> Any:
    from torchvision.datasets import ImageFolder

    return ImageFolder(folder.root)


def _subset(folder: Folder, place: Path) -> Any:
    """All samples, out of twice as many."""
    from torch.utils.data import ConcatDataset, Subset
    from torchvision.datasets import ImageFolder

    both = ConcatDataset([ImageFolder(folder.root), ImageFolder(folder.root)])
    count = len(folder)
    return Subset(both, [i + count * (i % 2) for i in range(count)])


def _timm(folder: Folder, place: Path) -> Any:
    from timm.data import ImageDataset

    return ImageDataset(folder.root)


def _bytes_items(folder: Folder, place: Path) -> Any:
    from torch.utils.data import Dataset

    class Mine(Dataset):
        """Encoded images, and labels that it knows beforehand."""

        targets = folder.labels.tolist()

        def __len__(self) -> int:
            return len(folder)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return Path(folder.name(index)).read_bytes(), self.targets[index]

    return Mine()


def _hub(folder: Folder, place: Path) -> Any:
    import datasets

    images = [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in _paths(folder)]
    label = datasets.ClassLabel(names=list(folder.classes))
    features = datasets.Features({"image": datasets.Image(), "note": datasets.Value("string"), "label": label})
    columns = {"image": images, "note": ["x"] * len(images), "label": folder.labels.tolist()}
    half = len(images) // 2
    parts = [
        datasets.Dataset.from_dict({name: column[start:stop] for name, column in columns.items()}, features=features)
        for start, stop in ((0, half), (half, None))
    ]
    whole = datasets.concatenate_datasets(parts[::-1])  # several chunks, and rows in another order
    return whole.select([*range(len(images) - half, len(images)), *range(len(images) - half)])


def _hub_paths(folder: Folder, place: Path) -> Any:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(folder.classes))})
    return datasets.Dataset.from_dict({"image": _paths(folder), "label": folder.labels.tolist()}, features=features)


def _members(folder: Folder, label: str = "") -> list[tuple[str, bytes]]:
    """Names and contents of an archive: an image folder, or pairs of an image and its class where ``label`` is an ending."""
    found = []
    for i, number in enumerate(folder.labels.tolist()):
        path = Path(folder.name(i))
        name = f"{i:05d}" if label else f"train/{folder.classes[number]}/{path.stem}"
        if label:
            found.append(
                (f"{name}.{label}", (json.dumps({"label": number, "x": 1}) if label == "json" else f"{number}").encode())
            )
        found.append((f"{name}{path.suffix}", path.read_bytes()))
    return found


def write_tars(folder: Folder, place: Path, label: str = "", cut: int = 11) -> str:
    """Two shards; returns their pattern."""
    members = _members(folder, label)
    cut *= 2 if label else 1
    for shard, part in enumerate((members[:cut], members[cut:])):
        with tarfile.open(place / f"train-{shard:04d}.tar", "w") as tar:
            for name, data in part:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(place / "train-{0000..0001}.tar")


def _tar_function(folder: Folder, place: Path) -> Any:
    return TarShards(write_tars(folder, place, "json"), label=lambda meta: str(meta["label"] * meta["x"]))


def write_zip(folder: Folder, place: Path, label: str = "", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(place / "train.zip", "w", method) as archive:
        archive.writestr("train/readme.txt", b"x" * 1000)
        for name, data in _members(folder, label):
            archive.writestr(name, data)
    return place / "train.zip"


def write_parquet(folder: Folder, place: Path) -> str:
    """Two files in groups of four rows, as the Hugging Face library writes them."""
    whole, count = _hub(folder, place), len(folder)
    for part, rows in enumerate((range(9), range(9, count))):
        whole.select(rows).to_parquet(place / f"train-{part:05d}-of-00002.parquet", batch_size=4)
    return str(place / "train-*.parquet")


def _arrow(folder: Folder, place: Path) -> Any:
    _hub(folder, place).save_to_disk(place / "saved", num_shards=2)
    return str(place / "saved" / "data-*.arrow")


def example(image: bytes, label: int) -> bytes:
    """A tf.train.Example of an image, its class and a few other features."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(data)) + data

    def entry(name: str, kind: int, values: bytes) -> bytes:
        return field(1, field(1, name.encode()) + field(2, field(kind, values)))

    return field(
        1,
        entry("image/width", 3, field(1, varint(300) + varint((1 << 64) - 1)))  # packed
        + entry("image/encoded", 1, field(1, image))
        + entry("image/class/text", 1, field(1, b"a") + field(1, b"b"))
        + entry("bbox", 2, field(1, struct.pack("<2f", 0.5, 1)))
        + entry("image/class/label", 3, bytes([1 << 3]) + varint(label)),
    )


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def crc32c(data: bytes) -> int:
    """The masked checksum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(records: list[bytes]) -> bytes:
    heads = [struct.pack("<Q", len(data)) for data in records]
    return b"".join(
        head + struct.pack("<I", crc32c(head)) + data + struct.pack("<I", crc32c(data))
        for head, data in zip(heads, records, strict=True)
    )


def write_tfrecords(folder: Folder, place: Path) -> str:
    records = [
        example(Path(path).read_bytes(), label) for path, label in zip(_paths(folder), folder.labels.tolist(), strict=True)
    ]
    for part, rows in enumerate((records[:10], records[10:])):
        (place / f"train-{part:05d}-of-00002").write_bytes(tfrecord(rows))
    return str(place / "train-*-of-00002")


def recordio(images: list[bytes], labels: list[int]) -> bytes:
    """As MXNet's writer: records whose data hold the magic word at a multiple of four bytes are split there."""
    magic, out = struct.pack("<I", 0xCED7230A), b""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        flag = number % 2  # one more label in the data
        data = struct.pack("<IfQQ", flag, label, number, 0) + (struct.pack("<f", label) if flag else b"") + image
        cuts = [at for at in range(0, len(data) - 3, 4) if data[at : at + 4] == magic]
        parts = [data[start:stop] for start, stop in zip([0, *(at + 4 for at in cuts)], [*cuts, len(data)], strict=True)]
        for i, part in enumerate(parts):
            kind = 0 if len(parts) == 1 else 1 if i == 0 else 3 if i == len(parts) - 1 else 2
            out += magic + struct.pack("<I", kind << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
    return out


def write_recordio(folder: Folder, place: Path) -> Path:
    (place / "train.rec").write_bytes(recordio([Path(path).read_bytes() for path in _paths(folder)], folder.labels.tolist()))
    return place / "train.rec"


def write_lmdb(folder: Folder, place: Path, numbered: bool = False) -> Path:
    import lmdb

    with lmdb.open(str(place / "train.lmdb"), map_size=1 << 26) as database, database.begin(write=True) as writing:
        for i, (path, label) in enumerate(zip(_paths(folder), folder.labels.tolist(), strict=True)):
            data = Path(path).read_bytes()
            if numbered:
                writing.put(f"image-{i:09d}".encode(), data)
                writing.put(f"label-{i:09d}".encode(), f"{label}".encode())
            else:
                writing.put(os.fsencode(f"{folder.classes[label]}/{Path(path).name}"), data)
    return place / "train.lmdb"


def _remote(folder: Folder, place: Path) -> Any:
    import fsspec

    write_tars(folder, place, "cls")
    store = fsspec.filesystem("memory")
    for path in sorted(place.glob("*.tar")):
        store.pipe_file(f"{place}/{path.name}", path.read_bytes())
    return f"memory://{place}/train-{{0000..0001}}.tar"


ENCODED: dict[str, Case] = {
    "files": Case(_files),
    "csv": Case(_csv),
    "json lines": Case(_json_lines),
    "own": Case(lambda folder, place: Minimal(folder)),
    "torchvision ImageFolder": Case(_image_folder, needs=("torchvision",)),
    "torch Subset of ConcatDataset": Case(_subset, needs=("torchvision",)),
    "timm ImageDataset": Case(_timm, needs=("timm",)),
    "torch Dataset of bytes": Case(_bytes_items),
    "datasets": Case(_hub, needs=("datasets",)),
    "datasets of paths": Case(_hub_paths, needs=("datasets",)),
    "tar of .cls": Case(lambda folder, place: write_tars(folder, place, "cls")),
    "tar of .json": Case(lambda folder, place: write_tars(folder, place, "json")),
    "tar of .json, by a function": Case(_tar_function),
    "tar of folders": Case(lambda folder, place: write_tars(folder, place)),
    "tar elsewhere": Case(_remote, needs=("fsspec",)),
    "zip of folders": Case(write_zip),
    "zip of .cls, packed": Case(lambda folder, place: write_zip(folder, place, "cls", zipfile.ZIP_DEFLATED)),
    "parquet": Case(write_parquet, needs=("pyarrow", "datasets")),
    "arrow": Case(_arrow, needs=("pyarrow", "datasets")),
    "TFRecord": Case(write_tfrecords),
    "RecordIO": Case(write_recordio),
    "LMDB of folders": Case(write_lmdb, needs=("lmdb",)),
    "LMDB of numbers": Case(lambda folder, place: write_lmdb(folder, place, numbered=True), needs=("lmdb",)),
}


def _npy(folder: Folder, place: Path) -> Any:
    np.save(place / "images.npy", pixels_of(folder))
    np.save(place / "labels.npy", folder.labels.astype(np.uint8))
    return Arrays(place / "images.npy", place / "labels.npy", folder.classes)


def _cifar(folder: Folder, place: Path) -> Any:
    """torchvision's class with other data in it: it downloads its own."""
    from torchvision.datasets import CIFAR10

    dataset = CIFAR10.__new__(CIFAR10)
    dataset.data, dataset.targets, dataset.classes = pixels_of(folder), folder.labels.tolist(), list(folder.classes)
    dataset.transform = dataset.target_transform = None
    return dataset


def _items(folder: Folder, place: Path) -> Any:
    from torch.utils.data import Dataset

    class Mine(Dataset):
        """Pillow's images, as most people's."""

        classes = folder.classes

        def __len__(self) -> int:
            return len(folder)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return Image.open(folder.name(index)), folder.labels[index]

    return Mine()


def _beton(folder: Folder, place: Path) -> Any:
    convert(Path(folder.root), place / "train.beton", jpeg_share=0.0, num_threads=2)
    return place / "train.beton"


DECODED: dict[str, Case] = {
    "arrays": Case(lambda folder, place: Arrays(pixels_of(folder), folder.labels, folder.classes), holds_bad=False),
    "npy": Case(_npy, holds_bad=False),
    "torchvision CIFAR10": Case(_cifar, holds_bad=False, needs=("torchvision",)),
    "torch Dataset of Pillow images": Case(_items),
    ".beton of raw pixels": Case(_beton, holds_bad=False),
}
CASES = ENCODED | DECODED
