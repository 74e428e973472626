"""``pipelines.dali.mix`` in a user's pipeline, against the reference and against ``mixops`` itself."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference

from mixops import CutMix, GMix, HMix, Key, MixUp, OptimalMatching, Switch
from mixops.mixers.fmix import FMix
from mixops.mixers.saliency.puzzle import PuzzleMix
from pipelines import dali
from pipelines.dali.matching import _choose

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI")

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

N, BATCH, SHAPE, CLASSES = 29, 8, (3, 9, 14), 5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of raw pixels (c, h, w), their numbers being their labels."""
    folder = tmp_path_factory.mktemp("pixels")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(N):
        path = Path(folder) / f"{i}.raw"
        pixels = rng.integers(0, 256, SHAPE, np.uint8)
        pixels[0, 0, 0] = i
        path.write_bytes(pixels.tobytes())
        paths.append(str(path))
    return paths


@pipeline_def(batch_size=BATCH, num_threads=2, device_id=None, prefetch_queue_depth=2)
def stage(
    files: list[str],
    plans: dali.PlanSource,
    *,
    floating: bool = True,
    layout: str = "CHW",
    dtype: Any = None,
    smoothing: float = 0.0,
    device: str = "cpu",
) -> Any:
    """A reader, its images as they are, and what ``dali.mix`` makes of them."""
    data, labels = fn.readers.file(
        files=files, labels=[i % CLASSES for i in range(N)], shard_id=plans.rank, num_shards=plans.world_size,
        random_shuffle=True, initial_fill=10, pad_last_batch=True, seed=7, stick_to_shard=plans.stick_to_shard,
        name="reader",
    )  # fmt: skip
    images = fn.reshape(data, shape=list(SHAPE), layout="CHW")
    images = fn.transpose(images, perm=[1, 2, 0]) if layout == "HWC" else images
    images = fn.cast(images, dtype=types.FLOAT) / 51.0 - 2.0 if floating else images
    images = images.gpu() if device == "gpu" else images
    mixed, targets = dali.mix(images, labels, plans, num_classes=CLASSES, smoothing=smoothing, layout=layout, dtype=dtype)
    return mixed, targets, images, labels


def source(mixer: Any, **changes: Any) -> dali.PlanSource:
    arguments = {"batch_size": BATCH, "height": SHAPE[1], "width": SHAPE[2], "epoch_size": N, "seed": 3}
    return dali.plan_source(mixer, **{**arguments, **changes})


def run(pipe: Any) -> list[np.ndarray]:
    return [np.stack([np.array(sample) for sample in out.as_cpu()]) for out in pipe.run()]


def planes(images: np.ndarray, layout: str) -> np.ndarray:
    return images if layout == "CHW" else np.moveaxis(images, -1, -3)


MIXERS = [MixUp(), CutMix(), HMix(), GMix(), FMix(), Switch([MixUp(0.5), CutMix(), GMix()]), HMix(prob=0.5)]


# ------------------------------------------------------------------------------------------------- the reference


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("mixer", MIXERS, ids=str)
def test_images_and_targets_are_those_of_the_plan(files, mixer, outputs):
    """Three epochs with a partial last batch, two shards that DALI swaps every epoch."""
    mixer = mixer.replace(interpolations=outputs)
    for rank in (0, 1):
        plans = source(mixer, rank=rank, world_size=2)
        assert plans.steps == 2
        pipe = stage(files, plans, smoothing=0.1)
        for step in range(3 * plans.steps):
            mixed, targets, images, labels = run(pipe)
            plan = plans.plan(*divmod(step, plans.steps))
            assert mixed.shape == ((BATCH, *SHAPE) if outputs == 1 else (BATCH, outputs, *SHAPE))
            wanted = reference.mix_images(images, plan)
            np.testing.assert_allclose(mixed.reshape(wanted.shape), wanted, atol=2e-6)
            wanted = reference.mix_targets(labels[:, 0], plan, CLASSES, 0.1)
            np.testing.assert_allclose(targets.reshape(wanted.shape), wanted, atol=1e-6)


@pytest.mark.parametrize(("layout", "outputs"), [("CHW", 1), ("HWC", 1), ("HWC", 3)])
@pytest.mark.parametrize(("floating", "dtype"), [(True, None), (True, types.FLOAT16), (False, None), (False, types.UINT8)])
def test_layouts_and_dtypes(files, outputs, layout, floating, dtype):
    plans = source(HMix(interpolations=outputs))
    pipe = stage(files, plans, floating=floating, layout=layout, dtype=dtype)
    for step in range(plans.steps):
        mixed, _, images, _ = run(pipe)
        plan = plans.plan(0, step)
        wanted = reference.mix_images(planes(images, layout), plan)
        assert mixed.dtype == {None: np.float32, types.FLOAT16: np.float16, types.UINT8: np.uint8}[dtype]
        # a tie between two grey levels may fall either way
        tolerance = {None: 5e-5, types.FLOAT16: 3e-3, types.UINT8: 0.5001}[dtype]
        np.testing.assert_allclose(planes(mixed, layout).reshape(wanted.shape).astype(np.float64), wanted, atol=tolerance)


def test_pixels_under_a_mask_of_0_or_1_are_kept_bit_for_bit(files):
    plans = source(CutMix())
    pipe = stage(files, plans)
    mixed, _, images, _ = run(pipe)
    plan = plans.plan(0, 0)
    mask = plan.mask()[:, 0, None].astype(bool)
    assert (mixed == np.where(mask, images, images[plan.partner])).all()


def test_layouts_are_named_for_the_operators_that_follow(files):
    for mixer, name in ((MixUp(), "CHW"), (MixUp(interpolations=2), "FCHW")):
        assert stage(files, source(mixer)).run()[0].layout() == name


# --------------------------------------------------------------------------------------------------- the matching


MATCHINGS = [
    OptimalMatching(2),
    OptimalMatching(4, "l2"),
    OptimalMatching(3, resolution=4),
    OptimalMatching(4, resolution=None),
]


@pytest.mark.parametrize(("layout", "outputs"), [("CHW", 3), ("HWC", 1)])
@pytest.mark.parametrize("matching", MATCHINGS, ids=str)
@pytest.mark.parametrize("exact", [True, False])
def test_the_matching_is_that_of_mixops(files, matching, layout, outputs, exact):
    plans = source(CutMix(interpolations=outputs, matching=matching), rank=1, world_size=2)
    pipe = stage(files, plans, layout=layout, floating=not exact, dtype=types.UINT8 if exact else None)
    for step in range(2 * plans.steps):
        mixed, targets, images, labels = run(pipe)
        x = planes(images, layout)
        plan = plans.plan(*divmod(step, plans.steps), images=x)
        n = plans.rows(*divmod(step, plans.steps))
        assert sorted(plan.partner.tolist()) == list(range(BATCH))
        assert plan.partner[n:].tolist() == list(range(n, BATCH))
        np.testing.assert_allclose(
            targets.reshape(-1, CLASSES), reference.mix_targets(labels[:, 0], plan, CLASSES), atol=1e-6
        )
        wanted = reference.mix_images(x, plan)
        found = planes(mixed, layout).reshape(wanted.shape).astype(np.float64)
        np.testing.assert_allclose(found, wanted, atol=0.5001 if exact else 2e-6)


@pytest.mark.parametrize(("metric", "wanted"), [("sqeuclidean", [2, 3, 0, 1, 4]), ("l2", [3, 2, 0, 1, 4])])
def test_the_assignment_minimises_the_metric_and_leaves_padding_alone(metric, wanted):
    """Rows 0, 1 at (0, 0), (1, 0) and 2, 3 at (1, 0), (1.5, 1); row 4 pads."""
    place = np.array([[0, 2], [1, 2], [2, 2], [3, 2], [-1, 1]], np.int32)
    columns = np.array([[2, 3], [2, 3], [0, 1], [0, 1], [4, 4]], np.int32)
    squared = np.array([[1, 3.25], [0, 1.25], [0, 9], [9, 0], [0, 0]])
    assert [int(row) for row in _choose(metric, squared, place, columns)] == wanted


def test_the_matching_of_a_last_batch_takes_the_largest_blocks_that_fit():
    plans = source(MixUp(matching=OptimalMatching(4)))
    for step, rows in enumerate((8, 8, 8, 5)):
        assert plans.rows(0, step) == rows
        plan, place, columns = plans._blocks(0, step)
        k = min(4, rows // 2)
        assert (place[:rows, 1] == k).all() and sorted(place[:rows, 0]) == list(range(rows))
        assert (place[rows:] == [-1, 1]).all()
        assert (columns[rows:] == np.arange(rows, BATCH)[:, None]).all() and (columns[:rows] < rows).all()
        block = place[:rows, 0] // k
        assert len({tuple(plan.weight[:rows][block == i][:, 0]) for i in set(block)}) == len(set(block))
        assert all(len(set(plan.weight[:rows][block == i][:, 0])) == 1 for i in set(block))


# ------------------------------------------------------------------------------------- epochs, shards, checkpoints


@pytest.mark.parametrize("stick", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_iterator_shows_every_image_once_and_none_is_mixed_with_padding(files, world_size, stick):
    mixer = MixUp(matching=OptimalMatching(2)) if world_size == 2 else CutMix()
    seen: list[list[int]] = [[], [], []]
    for rank in range(world_size):
        plans = source(mixer, rank=rank, world_size=world_size, stick_to_shard=stick)
        pipe = stage(files, plans, layout="CHW", floating=False)
        loop = DALIGenericIterator(
            pipe, ["mixed", "targets", "images", "labels"], reader_name="reader", auto_reset=True,
            last_batch_policy=LastBatchPolicy.PARTIAL,
        )  # fmt: skip
        assert len(loop) == plans.steps
        for epoch in range(3):
            for step, (batch,) in enumerate(loop):
                n = plans.rows(epoch, step)
                plan = plans.plan(
                    epoch, step, images=torch.cat([batch["images"], batch["images"].new_zeros(BATCH - n, *SHAPE)])
                )
                assert len(batch["images"]) == n
                assert not n or plan.partner[:n].max() < n
                assert (plan.partner[n:] == np.arange(n, BATCH)).all() and (plan.weight[n:] == 1).all()
                rows = plan.weight[:n], plan.partner[:n]
                own, other = (torch.eye(CLASSES)[batch["labels"][index, 0].long()] for index in (slice(None), rows[1]))
                weight = torch.from_numpy(rows[0]).float()
                assert torch.allclose(batch["targets"], weight * own + (1 - weight) * other, atol=1e-6)
                seen[epoch] += batch["images"][:, 0, 0, 0].tolist()
    assert all(sorted(epoch) == list(range(N)) for epoch in seen)
    assert seen[0] != seen[1]


def test_a_plan_is_the_plan_of_its_key():
    for mixer in (HMix(interpolations=2), MixUp(matching=OptimalMatching(4))):
        plans = source(mixer, rank=1, world_size=2, first_epoch=2)
        images = np.random.default_rng(0).random((BATCH, *SHAPE))
        for epoch, step in ((2, 0), (3, 0), (3, 1)):
            n = plans.rows(epoch, step)
            wanted = mixer.plan(Key(3, epoch, step, 1), batch_size=n, height=SHAPE[1], width=SHAPE[2], images=images[:n])
            plan = plans.plan(epoch, step, images)
            for name in ("partner", "weight", "lam", "params"):
                assert (getattr(plan, name)[:n] == getattr(wanted, name)).all()


@pytest.mark.parametrize("mixer", [GMix(interpolations=3), MixUp(matching=OptimalMatching(2))], ids=str)
@pytest.mark.parametrize("taken", [0, 3, 4, 6])
def test_a_checkpoint_continues_with_the_same_batches(files, mixer, taken):
    plans = source(mixer)
    arguments = {"enable_checkpointing": True, "prefetch_queue_depth": 1}
    first = stage(files, plans, **arguments)
    for _ in range(taken):
        first.run()
    saved = first.checkpoint()
    resumed = stage(files, pickle.loads(pickle.dumps(plans)), checkpoint=saved, **arguments)
    for _ in range(6):
        for a, b in zip(run(first), run(resumed), strict=True):
            assert (a == b).all()


def test_a_new_pipeline_can_begin_at_a_later_epoch(files):
    plans = source(MixUp(), first_epoch=5)
    mixed, _, images, _ = run(stage(files, plans))
    np.testing.assert_allclose(mixed, reference.mix_images(images, plans.plan(5, 0)), atol=2e-6)
    assert (plans.plan(5, 0).weight != plans.plan(0, 0).weight).any()


class Pixels:
    """An epoch of 20 images in true partial batches, ended by the source."""

    def __call__(self, info: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(20)[info.iteration * BATCH : (info.iteration + 1) * BATCH]
        if not len(rows):
            raise StopIteration
        return np.tile(rows[:, None, None, None], (1, *SHAPE)).astype(np.float32), (rows % CLASSES).astype(np.int32)


@pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)
def own_source(plans: dali.PlanSource) -> Any:
    images, labels = fn.external_source(Pixels(), num_outputs=2, batch_info=True, layout=["CHW", ""])
    return *dali.mix(images, labels, plans, num_classes=CLASSES), images


def test_sources_with_true_partial_batches_that_end_their_epochs():
    plans = source(HMix(), epoch_size=20, pad_last_batch=False)
    pipe = own_source(plans)
    for epoch in range(3):
        for step in range(3):
            mixed, _, images = run(pipe)
            assert len(mixed) == (8, 8, 4)[step]
            np.testing.assert_allclose(mixed, reference.mix_images(images, plans.plan(epoch, step)), atol=1e-5)
        with pytest.raises(StopIteration):
            pipe.run()
        pipe.reset()


# ---------------------------------------------------------------------------------------------- GPU, errors, values


@pytest.mark.parametrize("mixer", [*MIXERS, GMix(interpolations=3, matching=OptimalMatching(4))], ids=str)
@pytest.mark.parametrize("dtype", [None, types.UINT8])
def test_the_gpu_graph_is_made_of_operators_with_gpu_kernels(files, mixer, dtype):
    from nvidia.dali import backend

    pipe = stage(files, source(mixer), device="gpu", dtype=dtype, floating=dtype is None, device_id=0)
    pipe._build_graph()
    placed = {(op._op.device, getattr(op._op, "schema_name", type(op._op).__name__)) for op in pipe._ops}
    assert ("gpu", "PermuteBatch") in placed
    known = {"gpu": backend.RegisteredGPUOps(), "cpu": backend.RegisteredCPUOps(), "mixed": backend.RegisteredMixedOps()}
    unknown = {(device, name) for device, name in placed if name not in known[device]}
    assert unknown == (set() if mixer.matching is None else {("cpu", "PythonFunction")})


@pytest.mark.gpu
def test_gpu_results_are_those_of_the_plan(files):
    plans = source(HMix(interpolations=3, matching=OptimalMatching(2)))
    pipe = stage(files, plans, device="gpu", device_id=0)
    for step in range(plans.steps):
        mixed, _, images, _ = run(pipe)
        wanted = reference.mix_images(images, plans.plan(0, step, images=images))
        np.testing.assert_allclose(mixed.reshape(wanted.shape), wanted, atol=5e-6)


@pytest.mark.parametrize(
    ("mixer", "changes", "error", "message"),
    [
        ("mixup", {}, TypeError, "mixer must be a mixer, got 'mixup'"),
        (PuzzleMix(), {}, ValueError, "mixer must need no images and no saliency in a DALI pipeline"),
        (MixUp(matching=OptimalMatching(2, metric=max)), {}, ValueError, "metric must be 'sqeuclidean' or 'l2' in a DALI"),
        (MixUp(matching=OptimalMatching(5)), {}, ValueError, r"batch_size must be at least 2 \* k = 10 .* got 8"),
        (MixUp(), {"rank": 1}, ValueError, "rank must be below world_size = 1, got 1"),
        (MixUp(), {"rank": -1}, ValueError, "rank must be at least 0, got -1"),
        (MixUp(), {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        (MixUp(), {"epoch_size": None}, ValueError, "epoch_size must be given, or steps_per_epoch .* got None and None"),
        (MixUp(), {"steps_per_epoch": 4}, ValueError, "epoch_size must be given, or .* and not both, got 29 and 4"),
        (MixUp(), {"epoch_size": 0}, ValueError, "epoch_size must be .*, got 0"),
        (MixUp(), {"epoch_size": 2.0}, TypeError, "epoch_size must be an integer, got 2.0"),
    ],
)  # fmt: skip
def test_arguments_of_a_source_are_checked(mixer, changes, error, message):
    with pytest.raises(error, match=message):
        source(mixer, **changes)


@pytest.mark.parametrize(
    ("plans", "changes", "error", "message"),
    [
        (source(MixUp(), batch_size=9), {}, ValueError, "plans must have the pipeline's batch_size = 8, got 9"),
        (MixUp(), {}, TypeError, "plans must be a plan_source, got MixUp"),
        (source(MixUp()), {"layout": "NCHW"}, ValueError, "layout must be 'CHW' or 'HWC', got 'NCHW'"),
        (source(MixUp()), {"smoothing": 1.0}, ValueError, r"smoothing must be in \[0, 1\), got 1.0"),
        (source(MixUp()), {"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
    ],
)
def test_arguments_of_mix_are_checked(plans, changes, error, message):
    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)
    def wrong() -> Any:
        images = fn.external_source(lambda: np.zeros((BATCH, *SHAPE), np.float32), layout="CHW")
        labels = fn.external_source(lambda: np.zeros(BATCH, np.int32))
        return dali.mix(images, labels, plans, **{"num_classes": CLASSES, **changes})

    with pytest.raises(error, match=message):
        wrong()


def test_mix_outside_of_a_pipeline_is_refused():
    with pytest.raises(ValueError, match="images must be those of a pipeline_def that is being defined"):
        dali.mix(None, None, source(MixUp()), num_classes=2)


def test_a_source_of_full_batches_has_no_padding():
    plans = source(MixUp(), epoch_size=None, steps_per_epoch=3)
    assert plans.steps == 3 and plans.rows(7, 2) == BATCH
    assert plans == pickle.loads(pickle.dumps(plans))


# ---------------------------------------------------------------------------------------------- what nobody meant


def given(images: list[np.ndarray], labels: list[Any], plans: dali.PlanSource, **options: Any) -> Any:
    """A pipeline over one batch again and again."""

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)
    def graph() -> Any:
        pixels = fn.external_source(lambda: images, batch=True, layout="CHW")
        numbers = fn.external_source(lambda: [np.array(label) for label in labels], batch=True)
        return dali.mix(pixels, numbers, plans, **{"num_classes": 4, **options})

    return graph()


@pytest.mark.parametrize("labels", [[1, 2, 3, 4] * 2, [0] * 7 + [255], [0] * 7 + [-1], [2**32] * 8, [[0]] * 7 + [[4]]])
def test_labels_that_are_no_classes_are_an_error(labels):
    pipe = given([np.zeros(SHAPE, np.float32)] * BATCH, labels, source(MixUp(), epoch_size=BATCH))
    with pytest.raises(RuntimeError, match=r"labels_within_num_classes[\s\S]*out of bounds"):
        pipe.run()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.uint64])
def test_labels_of_any_integers_give_rows_that_sum_to_one(kind):
    labels = [kind(i % 4) for i in range(BATCH)]
    _, targets = run(given([np.zeros(SHAPE, np.float32)] * BATCH, labels, source(MixUp(), epoch_size=BATCH), smoothing=0.1))
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("mixer", [MixUp(prob=0.0), MixUp(0.01), CutMix(), HMix(prob=0.5), FMix(interpolations=2)], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [None, types.FLOAT16])
def test_only_the_rows_that_show_a_bad_image_have_it(mixer, value, dtype):
    images = [np.full(SHAPE, i / 8, np.float32) for i in range(BATCH)]
    images[3][:, ::2] = value
    plans = source(mixer, epoch_size=BATCH)
    mixed, _ = run(given(images, [0] * BATCH, plans, dtype=dtype))
    plan = plans.plan(0, 0)
    mask = np.broadcast_to(plan.mask().astype(np.float32), (BATCH, mixer.interpolations, *SHAPE[1:]))
    own, other = (np.arange(BATCH) == 3)[:, None, None, None], (plan.partner == 3)[:, None, None, None]
    seen = (own & (mask > 0) | other & (mask < 1)) & (np.arange(SHAPE[1]) % 2 == 0)[:, None]
    assert not seen.all()
    mixed = mixed.reshape(BATCH, mixer.interpolations, *SHAPE)
    np.testing.assert_array_equal(~np.isfinite(mixed), np.broadcast_to(seen[:, :, None], mixed.shape))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_classes": 2.5}, TypeError, "num_classes must be an integer, got 2.5"),
        ({"dtype": np.float32}, ValueError, "dtype must be one of DALIDataType.FLOAT, .* got <class 'numpy.float32'>"),
        ({"dtype": types.INT32}, ValueError, "dtype must be one of DALIDataType.FLOAT, .* got .*INT32"),
        ({"smoothing": "0.1"}, TypeError, "smoothing must be a number, got '0.1'"),
        ({"layout": None}, ValueError, "layout must be 'CHW' or 'HWC', got None"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        given([], [], source(MixUp()), **options)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_arrays_are_not_taken_for_operators(name):
    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)
    def wrong() -> Any:
        node = fn.external_source(lambda: np.zeros((BATCH, *SHAPE), np.float32))
        return dali.mix(**{"images": node, "labels": node, name: np.zeros((BATCH, 1))}, plans=source(MixUp()), num_classes=2)

    with pytest.raises(TypeError, match=f"{name} must be what an operator of the pipeline returns, got a float64 array"):
        wrong()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"seed": 1.5}, TypeError, "seed must be an integer, got 1.5"),
        ({"rank": None}, TypeError, "rank must be an integer, got None"),
        ({"world_size": 0}, ValueError, "world_size must be at least 1, got 0"),
        ({"first_epoch": "1"}, TypeError, "first_epoch must be an integer, got '1'"),
        ({"stick_to_shard": 1}, TypeError, "stick_to_shard must be True or False, got 1"),
        ({"pad_last_batch": None}, TypeError, "pad_last_batch must be True or False, got None"),
        ({"epoch_size": 2**70}, ValueError, "epoch_size must be in"),
        ({"height": 2**40}, ValueError, "height must be at most"),
    ],
)
def test_arguments_of_a_source_of_another_kind_are_refused_by_name(changes, error, message):
    with pytest.raises(error, match=message):
        source(MixUp(), **changes)
