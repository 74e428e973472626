"""The decode graph on the CPU, on plain bytes: pixels, order, errors of both sides, and who cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from support.images import encoded, picture, undecodable

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI")

from mixops.augment.crop_plan import CropPlan
from pipelines import pillow
from pipelines.crop_rows import crop_rows
from pipelines.dali import decode
from pipelines.dali.decode import DecodeError, DecodeOptions, DecodePipeline, EncodedBatch

SIZE = (12, 10)
SHAPES = [(40, 31), (27, 60), (33, 33), (64, 20), (29, 52)]
FILES = [encoded(picture(i, width, height), "PNG") for i, (height, width) in enumerate(SHAPES)]  # no loss
WINDOWS = np.array([[3, 2, 30, 20], [0, 5, 17, 40], [8, 8, 16, 16], [10, 0, 50, 20], [2, 3, 25, 39]], np.float64)
FLIPS = np.array([True, False, True, False, False])


def crops(rows: slice, spill: bool = False) -> CropPlan:
    windows = WINDOWS[rows] - 0.25 * spill * (WINDOWS[rows] > 1)
    return CropPlan(windows, FLIPS[rows], ~FLIPS[rows], ("bilinear",) * len(windows), SIZE, spill)


def batch(first: int, last: int, spill: bool = False) -> EncodedBatch:
    return EncodedBatch(FILES[first:last], crops(slice(first, last), spill), None, (first, last))


def pipeline(spill: bool = False, prefetch: int = 2) -> DecodePipeline:
    return DecodePipeline(DecodeOptions(3, spill, num_threads=2, prefetch=prefetch))


def wanted(first: int, last: int, spill: bool) -> np.ndarray:
    """Without DALI."""
    return crop_rows([np.asarray(pillow.decode(data)) for data in FILES[first:last]], crops(slice(first, last), spill))


@pytest.mark.parametrize("spill", [False, True])
def test_pixels_are_the_windows_of_the_images(spill: bool) -> None:
    """Batches of three and of two, then an epoch more from the same pipeline."""
    pipe = pipeline(spill)
    for _ in range(2):
        pipe.start(iter([batch(0, 3, spill), batch(3, 5, spill)]))
        for first, last in ((0, 3), (3, 5)):
            (pixels,), origin = pipe.run()
            assert origin == (first, last)
            np.testing.assert_array_equal(pixels, wanted(first, last, spill))
        pipe.finish()


def test_a_batch_that_cannot_be_decoded_is_the_one_that_is_told() -> None:
    broken = EncodedBatch([FILES[3], undecodable(encoded(picture(0)))], crops(slice(3, 5)), None, "broken")
    pipe = pipeline()
    pipe.start(iter([batch(0, 3), batch(1, 4), broken, batch(0, 2)]))
    assert [pipe.run()[1] for _ in range(2)] == [(0, 3), (1, 4)]
    with pytest.raises(DecodeError) as error:
        pipe.run()
    assert error.value.batch is broken and isinstance(error.value.reason, RuntimeError)


def test_an_error_of_the_iterator_comes_after_the_batches_before_it() -> None:
    def batches() -> Iterator[EncodedBatch]:
        yield batch(0, 3)
        yield batch(3, 5)
        raise TimeoutError("no more")

    pipe = pipeline(prefetch=4)
    pipe.start(batches())
    assert [pipe.run()[1] for _ in range(2)] == [(0, 3), (3, 5)]
    with pytest.raises(TimeoutError, match="no more"):
        pipe.run()


def test_an_iterator_that_ends_too_soon_is_noticed() -> None:
    pipe = pipeline()
    pipe.start(iter([batch(0, 3)]))
    pipe.run()
    with pytest.raises(RuntimeError, match="ended before the epoch did"):
        pipe.run()


def test_images_that_cannot_be_decoded_are_found() -> None:
    bad = undecodable(encoded(picture(0)))
    assert decode.undecodable([FILES[0], bad, FILES[1], FILES[2], bad, bad, FILES[3]], None) == [1, 4, 5]
    assert decode.undecodable(FILES, None) == []


def test_the_decoder_is_told_more() -> None:
    with pytest.raises(KeyError, match="hw_load"):
        DecodePipeline(DecodeOptions(3, False, num_threads=1, prefetch=1, decoder={"hw_load": 0.25}))
    pipe = DecodePipeline(DecodeOptions(3, False, num_threads=1, prefetch=1, decoder={"hw_decoder_load": 0.25}))
    pipe.start(iter([batch(0, 3)]))
    np.testing.assert_array_equal(pipe.run()[0][0], wanted(0, 3, False))


@pytest.mark.parametrize("spill", [False, True])
def test_what_a_gpu_makes_of_decoded_images_is_near(spill: bool) -> None:
    """Its part of the graph, run on the CPU: windows, filters and flips of each image, up to DALI's rounding."""
    plan = replace(crops(slice(0, 5), spill), interpolations=("nearest", "bilinear", "bicubic", "lanczos", "bilinear"))
    source = decode._Source(decode._ALL, spill)
    source.batches = iter([EncodedBatch(FILES, plan, None, None)])
    pipe = decode._build(source, decode._ALL, DecodeOptions(5, spill, num_threads=1, prefetch=0))
    (images,) = pipe.run()
    expected = crop_rows([np.asarray(pillow.decode(data)) for data in FILES], plan)
    difference = np.abs(np.stack([images.at(i) for i in range(5)]).astype(int) - expected).mean((1, 2, 3))
    assert (difference[1:] < 1.5).all() and difference[0] < 8, difference  # of the nearest pixels, halves may differ


@pytest.mark.parametrize("spill", [False, True])
def test_the_gpu_graph_is_made_of_operators_that_a_gpu_has(spill: bool) -> None:
    """No device is needed to make it."""
    from nvidia.dali import Pipeline, backend

    pipe = Pipeline(batch_size=2, num_threads=1, device_id=0)
    with pipe:
        options = DecodeOptions(2, spill, num_threads=1, prefetch=1, device_id=0)
        pipe.set_outputs(decode._graph(decode._Source(decode._ALL, spill), decode._ALL, options))
    pipe._build_graph()
    placed = {(op._op.device, getattr(op._op, "schema_name", type(op._op).__name__)) for op in pipe._ops}
    known = {"gpu": backend.RegisteredGPUOps(), "cpu": backend.RegisteredCPUOps(), "mixed": backend.RegisteredMixedOps()}
    assert {(device, name) for device, name in placed if name not in known[device]} == set()
    assert {("gpu", "Resize"), ("gpu", "Flip")} <= placed and any(device == "mixed" for device, _ in placed)
