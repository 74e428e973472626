"""Data sets of torch's ecosystem: what is taken of them, what is refused and why."""

from __future__ import annotations

import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import encoded, picture
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from loaders import ImageLoader
from loaders.sources import Arrays, Files, Folder, open_source
from loaders.sources.torch_dataset import Items


class Listed(Dataset):
    """A data set of the items that it is given."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)


def test_images_of_any_kind_are_the_same_pixels() -> None:
    forms = [PIXELS[0], torch.from_numpy(PIXELS[1]).permute(2, 0, 1), Image.fromarray(PIXELS[2])]
    forms.append(encoded(Image.fromarray(PIXELS[3]), "PNG"))
    source = open_source(Listed([(image, torch.tensor(i)) for i, image in enumerate(forms)]))
    assert isinstance(source, Items) and source.labels.tolist() == [0, 1, 2, 3]
    with _plain(source) as one:
        ((images, _),) = list(one)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), PIXELS)


def _plain(source: Any) -> ImageLoader:
    from mixops import PaddedRandomCrop

    return ImageLoader(
        source, backend="torchvision", batch_size=4, size=(6, 5), crop=PaddedRandomCrop(0), flip=0, shuffle=False,
        device="cpu", mean=None, std=None, dtype=torch.uint8,
    )  # fmt: skip


def test_grey_images_have_three_channels() -> None:
    source = open_source(Listed([(PIXELS[0, ..., 0], 0), (torch.from_numpy(PIXELS[1, ..., :1]).permute(2, 0, 1), 0)]))
    assert np.array_equal(source.read(0), np.repeat(PIXELS[0, ..., :1], 3, 2))
    assert np.array_equal(source.read(1), np.repeat(PIXELS[1, ..., :1], 3, 2))


def test_soft_labels() -> None:
    source = open_source(Listed([(PIXELS[0], np.array([0.25, 0.75])), (PIXELS[1], [1.0, 0.0])]))
    assert source.labels.dtype == np.float32 and source.labels.tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert source.classes == ("0", "1")


def test_what_cannot_be_read_is_a_bad_sample() -> None:
    source = open_source(Listed([(PIXELS[0], 0), RuntimeError("lost"), (b"<html>", 1)]))
    assert source.broken[1] == "cannot be read: RuntimeError: lost" and "no image" in source.broken[2]
    with pytest.raises(ValueError, match=r"samples that can be read, got sample 0 of Listed: cannot be read: KeyError"):
        open_source(Listed([KeyError("x")]))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(torch.rand(3, 4, 4), 0)], r"got float32 of shape \(3, 4, 4\): is there a transform inside"),
        ([PIXELS[0]], r"must be \(image, label\), got ndarray"),
        ([(np.zeros((4, 4, 7), np.uint8), 0)], r"one or three channels, got shape \(4, 4, 7\)"),
        ([(PIXELS[0], "cat"), (PIXELS[1], 3)], "labels"),
    ],
)
def test_other_items_are_refused(items: list[Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        open_source(Listed(items))


def test_a_transform_inside_is_refused(jpeg_folder: Path) -> None:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(jpeg_folder), transforms.Compose([transforms.RandomCrop(8), transforms.ToTensor()]))
    for inside in (dataset, Subset(dataset, [0, 1]), ConcatDataset([dataset])):
        with pytest.raises(ValueError, match=r"ImageFolder must be made with transform=None.*crop=, augment=.*RandomCrop"):
            ImageLoader(inside, batch_size=2)


def test_streams_and_empty_ones_are_refused() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(TypeError, match=r"map-style Dataset, whose samples have numbers, got Stream"):
        open_source(Stream())
    with pytest.raises(ValueError, match="must have samples, got an empty Listed"):
        open_source(Listed([]))


def test_an_image_folder_is_its_files(jpeg_folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(jpeg_folder))
    source = open_source(dataset)
    assert isinstance(source, Files) and source.digest == Folder(jpeg_folder).digest
    turned = open_source(ImageFolder(str(jpeg_folder), target_transform=lambda label: label % 2))
    assert turned.labels.tolist() == [label % 2 for label in dataset.targets] and turned.classes == ("0", "1")
    own = open_source(ImageFolder(str(jpeg_folder), loader=lambda path: Image.new("RGB", (3, 4))))
    assert isinstance(own, Items) and own.sizes[5].tolist() == [4, 3]


def test_torchvisions_arrays() -> None:
    from torchvision.datasets import CIFAR10, MNIST, SVHN

    def filled(kind: Any, **values: Any) -> Any:
        dataset = kind.__new__(kind)
        vars(dataset).update({"transform": None, "target_transform": None, **values})
        return dataset

    cifar = open_source(filled(CIFAR10, data=PIXELS, targets=[0, 1, 0, 1], classes=["a", "b", "c"]))
    assert isinstance(cifar, Arrays) and cifar.images is PIXELS and cifar.classes == ("a", "b", "c")
    grey = open_source(filled(MNIST, data=torch.from_numpy(PIXELS[..., 0].copy()), targets=torch.tensor([0, 1, 2, 1])))
    assert grey.classes == tuple(MNIST.classes) and np.array_equal(grey.read(1), np.repeat(PIXELS[1, ..., :1], 3, 2))
    first = open_source(filled(SVHN, data=PIXELS.transpose(0, 3, 1, 2), labels=np.array([3, 0, 1, 2])))
    assert np.array_equal(first.read(2), PIXELS[2]) and first.labels.tolist() == [3, 0, 1, 2]
    halved = {"targets": [0, 1, 2, 3], "classes": list("abcd"), "target_transform": lambda label: label // 2}
    turned = open_source(filled(CIFAR10, data=PIXELS, **halved))
    assert turned.labels.tolist() == [0, 0, 1, 1] and turned.classes == ("0", "1")


def test_parts_must_agree_on_classes() -> None:
    parts = [Listed([(PIXELS[0], 0), (PIXELS[1], 1)]) for _ in range(2)]
    parts[0].classes, parts[1].classes = ["x", "y"], ["x", "y", "z"]
    joined = open_source(ConcatDataset(parts))
    assert joined.classes == ("x", "y", "z") and joined.labels.tolist() == [0, 1, 0, 1]
    assert [np.array_equal(joined.read(i), PIXELS[i % 2]) for i in range(4)] == [True] * 4
    parts[1].classes = ["x", "other"]
    with pytest.raises(ValueError, match="joined must have the same classes"):
        open_source(ConcatDataset(parts))


def test_a_timm_tar_is_read_one_item_at_a_time(tmp_path: Path) -> None:
    from timm.data import ImageDataset

    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for i in range(24):
            (tmp_path / "x.jpg").write_bytes(encoded(picture(i)))
            tar.add(tmp_path / "x.jpg", f"c{i % 3}/{i:02d}.jpg")
    dataset = ImageDataset(str(tmp_path / "train.tar"))
    source = open_source(dataset)
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda k=k: found.update({i: source.read(i) for i in range(k, 24, 4)})) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [dataset.reader.samples[i][0].name for i in range(24)]
    assert all(found[i] == encoded(picture(int(names[i][-6:-4]))) for i in range(24))
    assert source.classes == ("c0", "c1", "c2") and not source.broken
    dataset.reader.tar_state.tf.close()
