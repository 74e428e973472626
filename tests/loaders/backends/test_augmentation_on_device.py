"""On CUDA the loader's stream augments: backends leave it out, and the batch is the one that the CPU makes.

Without a device the parts run on the CPU, and the kernels in Triton's interpreter, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.images import make_jpeg_folder
from support.waiting import never_waiting

from loaders import ImageLoader
from loaders.backends.base import BackendConfig, Decoded, find_backend
from mixops import CutMix, PaddedRandomCrop, RandomErasing, TrivialAugmentWide, augment_images

OPTIONS = {
    "batch_size": 8, "size": 24, "device": "cpu", "num_threads": 2, "seed": 5, "crop": PaddedRandomCrop(4), "flip": 0.0,
    "augment": [TrivialAugmentWide(), RandomErasing(0.5, value="pixel")],
}  # fmt: skip


def first(backend: str, config: BackendConfig) -> Decoded:
    """The first step of a backend."""
    engine = find_backend(backend)(config)
    steps = engine.open(0, 0)
    try:
        return next(steps)
    finally:
        steps.close()
        engine.close()


@pytest.mark.parametrize("backend", ["dali", "ffcv", "torchvision"])
def test_backends_leave_it_to_the_stream(roots, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops with margins are made on the CPU, so a backend that is told of a GPU does not need it."""
    pytest.importorskip("triton")
    with ImageLoader(roots(backend), backend=backend, **OPTIONS) as one:
        here, _ = one._open()
        there = replace(here, device=torch.device("cuda", 0))
        assert not here.augments_on_device and there.augments_on_device
        done, left = first(backend, here), first(backend, there)
        assert done.augment is None
        if backend == "torchvision":  # the reference is Pillow's from end to end
            assert left.augment is None and torch.equal(left.images, done.images)
            return
        assert left.augment is left.plan.augment and not torch.equal(left.images, done.images)
        assert torch.equal(augment_images(left.images, left.augment), done.images)
        a, b = (one._output.finish(x, here.planner, eager=False) for x in (done, left))
        assert torch.equal(a.images[0], b.images[0])
        monkeypatch.setattr("loaders.backends.base.is_installed", lambda name: name != "triton")
        assert torch.equal(first(backend, there).images, done.images)


_INTERPRETED = """
import sys
import torch
from functools import partial
from loaders import ImageLoader, output
from loaders.backends.base import BackendConfig
from mixops import CutMix, RandomErasing, TrivialAugmentWide, augment_images
def batches():
    options = {"augment": [TrivialAugmentWide(), RandomErasing(0.5, value="pixel")], "mixer": CutMix(), "views": 2}
    with ImageLoader(sys.argv[1], backend="ffcv", batch_size=4, size=20, device="cpu", seed=5, **options) as one:
        return [torch.cat([*images, targets.flatten(1)[:, :1, None, None].expand(-1, 3, 20, 20)]) for images, targets in one]
here = batches()
calls = []
def on_device(images, plan):
    calls.append(plan)
    return augment_images(images, plan, backend="triton")
BackendConfig.augments_on_device = True
output.augment_images = on_device
there = batches()
assert len(calls) == len(here) == 2
print(all(map(torch.equal, here, there)))
"""


@pytest.mark.nightly
def test_batches_are_those_of_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    root = make_jpeg_folder(tmp_path / "images", 8, classes=2)
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", _INTERPRETED, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.lower())


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["dali", "ffcv"])
def test_a_device_makes_pillows_bytes_of_its_crops(roots, backend: str) -> None:
    """What the loader delivers is what the CPU's kernels make of the loader's own crops."""
    options = OPTIONS | {"device": "cuda", "mean": None, "std": None, "dtype": torch.uint8, "crop": None, "size": 96}
    with (
        ImageLoader(roots(backend), backend=backend, **options) as one,
        ImageLoader(roots(backend), backend=backend, **options | {"augment": None}) as plain,
    ):
        for step, ((images, _), (before, _)) in enumerate(zip(one, plain, strict=True)):
            assert images.is_cuda
            expected = augment_images(before.cpu().permute(0, 2, 3, 1).contiguous(), one.draw(0, step).augment)
            assert torch.equal(images.cpu().permute(0, 2, 3, 1), expected)


@pytest.mark.gpu
def test_a_device_is_not_waited_for(jpeg_folder) -> None:
    """torch raises on any call that makes the host wait, in the loader's thread as in the loop."""
    options = OPTIONS | {"device": "cuda", "crop": None, "mixer": CutMix()}
    with ImageLoader(jpeg_folder, backend="dali", **options) as one:
        list(one)
        with never_waiting():
            for images, _ in one:
                images.mean()
