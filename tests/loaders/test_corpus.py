"""A thousand odd files, those of Pillow's own tests, through every backend: no crash, no hang, and all of one opinion.

They come with Pillow's source distribution, which pip brings where a package index can be reached.
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import platformdirs
import pytest
from PIL import Image

from pipelines import pillow
from pipelines.jpeg import plain_size

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3000)]  # under a minute where nothing else runs
_SIZE = 48
_RUN = """
import sys
import numpy as np, torch
from loaders import ImageLoader
root, backend, out = sys.argv[1:]
options = dict(batch_size=64, size=48, split="val", val_resize=48, device="cpu", num_threads=2, timeout=120)
options |= dict(on_error="skip", max_bad=10**6, mean=None, std=None, dtype=torch.uint8)
with ImageLoader(root, backend=backend, **options) as one:
    images, labels = (np.concatenate(arrays) for arrays in zip(*((x.numpy(), y.numpy()) for x, y in one)))
    ids = np.concatenate([one.draw(0, step).ids for step in range(len(one))])
    names = [one.dataset.name(i) for i in range(len(one.dataset))]
np.savez(out, images=images, labels=labels, ids=ids, names=np.array(names))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files in two class folders, under names that a loader takes."""
    root = tmp_path_factory.mktemp("corpus")
    with tarfile.open(_source_distribution()) as tar:
        count = 0
        for member in tar:
            if member.isreg() and "/Tests/images/" in member.name:
                path = root / "ab"[count % 2] / f"{count:04d} {Path(member.name).name}.jpg"
                path.parent.mkdir(exist_ok=True)
                opened = tar.extractfile(member)
                assert opened is not None
                path.write_bytes(opened.read())
                count += 1
    assert count > 900
    return root


def _source_distribution() -> Path:
    version = PIL.__version__
    folder = platformdirs.user_cache_path("mixstage-tests")
    file = folder / f"pillow-{version}.tar.gz"
    if not file.exists():
        if importlib.util.find_spec("pip") is None:
            pytest.skip("needs pip, to download Pillow's source distribution")
        command = "-m pip download --quiet --no-input --no-deps --no-binary pillow --retries 1 --timeout 20"
        try:
            subprocess.run(
                [sys.executable, *command.split(), f"pillow=={version}", "--dest", str(folder)],
                check=True, capture_output=True, timeout=200,
            )  # fmt: skip
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"needs a package index, to download Pillow's source distribution: {error}")
    if not file.exists():
        pytest.skip(f"Pillow's source distribution has another name than {file.name}")
    return file


@pytest.fixture(scope="module")
def opinions(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each installed backend makes of the files, in a process of its own, which a crash would end."""
    found = {}
    for backend, needs in {"torchvision": "torchvision", "dali": "nvidia.dali", "ffcv": "ffcv"}.items():
        try:
            installed = importlib.util.find_spec(needs) is not None
        except ImportError:
            installed = False
        if installed:
            out = tmp_path_factory.mktemp("opinions") / f"{backend}.npz"
            command = [sys.executable, "-c", _RUN, str(corpus), backend, str(out)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{backend}: exit code {done.returncode}\n{done.stderr[-3000:]}"
            with np.load(out) as stored:
                found[backend] = dict(stored)
    return found


def test_all_backends_are_of_one_opinion(opinions: dict[str, dict[str, Any]]) -> None:
    assert {"torchvision", "dali"} <= opinions.keys()
    reference = opinions["torchvision"]
    plain = np.array([plain_size(Path(name).read_bytes()) is not None for name in reference["names"][reference["ids"]]])
    assert plain.sum() > 20
    for backend, opinion in opinions.items():
        for what in ("names", "ids", "labels"):
            np.testing.assert_array_equal(opinion[what], reference[what], err_msg=backend)
        difference = np.abs(opinion["images"].astype(int) - reference["images"])
        allowed = np.where(plain, 12, 0) if backend == "ffcv" else np.where(plain, 1, 0)  # libffcv takes a faster transform
        wrong = np.flatnonzero(difference.max((1, 2, 3)) > allowed)
        assert reference["names"][reference["ids"][wrong]].tolist() == [], backend


def test_opinions_are_pillows(opinions: dict[str, dict[str, Any]]) -> None:
    """What is refused is what Pillow refuses, or a format that is not accepted; what is shown is Pillow's picture."""
    reference = opinions["torchvision"]
    shown = reference["ids"] == np.arange(len(reference["ids"]))
    assert shown.sum() > 500
    for i, name in enumerate(reference["names"]):
        data = Path(name).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(io.BytesIO(data), formats=pillow.FORMATS) as opened:
                    image = opened.convert("RGB")
            except Exception:
                assert not shown[i], name
                continue
        if not shown[i]:  # only a checksum is looked at that Pillow does not look at
            assert data.startswith(b"\x89PNG"), name
            continue
        scale = _SIZE / min(image.size)
        if min(image.size) * 30 > max(image.size):  # of very long ones a resize of the whole is slow
            resized = image.resize([max(_SIZE, int(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
            left, top = ((side - _SIZE) / 2 for side in resized.size)
            box = (round(left), round(top), round(left) + _SIZE, round(top) + _SIZE)
            difference = np.abs(np.asarray(resized.crop(box), int).transpose(2, 0, 1) - reference["images"][i])
            assert difference.mean() < 12, name
