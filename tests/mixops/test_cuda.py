"""Everything on a CUDA device against the CPU: the same plans, the same pixels up to rounding, and no waiting in between."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from support import reference
from support.checks import CASES
from support.waiting import never_waiting

from loaders import ImageLoader
from mixops import (
    CoMixUp,
    CutMix,
    DirichletMixUp,
    EmaTeacher,
    FMix,
    GMix,
    HMix,
    Key,
    ManifoldMix,
    MixUp,
    MultiMix,
    OptimalMatching,
    Switch,
    ZetaMixUp,
    mix_images,
    mix_targets,
    sparse_targets,
    spectral_saliency,
)  # fmt: skip
from mixops.apply.label_maps import mix_label_maps
from mixops.embedding.align import Sinkhorn
from mixops.mixers.saliency.gradient import gradient_saliency
from mixops.mixers.saliency.puzzle import PuzzleMix

pytestmark = [
    pytest.mark.gpu,
    # torch's own compiler: what it calls is deprecated (2.11, Python 3.12), and it has advice on float32 products
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch._inductor"),
]
NORMAL = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def some_bytes(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def smooth(count: int, side: int) -> torch.Tensor:
    """Bytes that look like pictures, in which something stands out."""
    coarse = some_bytes(count, 3, side // 8, side // 8).float()
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 255).byte()


# ------------------------------------------------------------------------------------------------ mixing and targets


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.example.mask_needs])
def test_mixing_is_that_of_the_cpu_and_waits_for_nothing(name, layout, k):
    images, labels = some_bytes(16, 224, 224, 3).permute(0, 3, 1, 2), torch.arange(16) % 10
    plan = CASES[name].mixer(interpolations=k).plan(Key(3), batch_size=16, height=224, width=224)
    form = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    expected = mix_images(images, plan, memory_format=form, **NORMAL)
    wanted = mix_targets(labels, plan, num_classes=10, smoothing=0.1)
    there, labels_there = images.cuda(), labels.cuda()
    mix_images(there, plan, memory_format=form, **NORMAL)  # compiles
    with never_waiting():
        mixed = mix_images(there, plan, memory_format=form, **NORMAL)
        targets = mix_targets(labels_there, plan, num_classes=10, smoothing=0.1)
        index, weight = sparse_targets(labels_there, plan)
        half = mix_images(there, plan, memory_format=form, dtype=torch.bfloat16, **NORMAL)
    assert mixed.is_contiguous(memory_format=form)
    torch.testing.assert_close(mixed.cpu(), expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(half.cpu(), expected.bfloat16(), atol=2e-2, rtol=2**-7)
    torch.testing.assert_close(targets.cpu(), wanted, atol=1e-6, rtol=0)
    for here, there in zip(sparse_targets(labels, plan), (index, weight), strict=True):
        torch.testing.assert_close(there.cpu(), here, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_call_in_the_place_of_mixup_fn(dtype):
    images, labels = some_bytes(8, 3, 31, 33).to(dtype) / 255, torch.arange(8)
    mixer = Switch([MixUp(), GMix(), CutMix()], interpolations=2)
    expected, wanted = mixer(images.double(), labels, key=Key(1), num_classes=8)
    images, labels = images.cuda(), labels.cuda()
    mixer(images, labels, key=Key(1), num_classes=8)
    with never_waiting():
        mixed, targets = mixer(images, labels, key=Key(1), num_classes=8)
    assert mixed.dtype == dtype and mixed.is_cuda and targets.is_cuda
    error = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float64: 1e-6}[dtype]
    torch.testing.assert_close(mixed.cpu().double(), expected, atol=error, rtol=0)
    torch.testing.assert_close(targets.cpu(), wanted)


def test_gradients_and_videos_take_the_eager_path():
    plan = HMix(interpolations=2).plan(Key(), batch_size=4, height=8, width=8)
    x = torch.rand(4, 3, 8, 8, device="cuda", requires_grad=True)
    mix_images(x, plan).square().sum().backward()
    y = x.detach().cpu().requires_grad_()
    mix_images(y, plan).square().sum().backward()
    torch.testing.assert_close(x.grad.cpu(), y.grad)
    video = torch.rand(4, 3, 5, 8, 8)
    with never_waiting():
        mixed = mix_images(video.cuda(non_blocking=True), plan)
    torch.testing.assert_close(mixed.cpu(), mix_images(video, plan))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("moving", [True, False])
def test_masks_of_blocks_and_moved_blocks(form, moving):
    images, saliency = some_bytes(8, 3, 64, 64).contiguous(memory_format=form), torch.rand(8, 64, 64) ** 12
    mixer = PuzzleMix(block_num=16, interpolations=3, transport=moving, t_eps=0.05)
    plan = mixer.plan(Key(), images=images, saliency=saliency)
    expected = mix_images(images, plan, **NORMAL)
    there = images.cuda()
    mix_images(there, plan, **NORMAL)  # compiles
    with never_waiting():
        mixed = mix_images(there, plan, **NORMAL)
    torch.testing.assert_close(mixed.cpu(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "mixer", [ZetaMixUp(ranks=5), DirichletMixUp(interpolations=3), CoMixUp(saliency="spectral")], ids=str
)
def test_rows_of_several_sources(mixer):
    images, labels = some_bytes(16, 32, 32, 3).permute(0, 3, 1, 2), torch.arange(16) % 10
    plan = mixer.plan(Key(3), batch_size=16, height=32, width=32, images=images)
    expected, wanted = mix_images(images, plan, **NORMAL), mix_targets(labels, plan, num_classes=10)
    there, labels_there = images.cuda(), labels.cuda()
    mix_images(there, plan, **NORMAL)  # compiles
    with never_waiting():
        mixed, targets = mix_images(there, plan, **NORMAL), mix_targets(labels_there, plan, num_classes=10)
    torch.testing.assert_close(mixed.cpu(), expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(targets.cpu(), wanted, atol=1e-6, rtol=0)


def test_saliency_and_what_is_centred_on_it():
    images = smooth(12, 64)
    here, there = (spectral_saliency(x) for x in (images, images.cuda()))
    torch.testing.assert_close(there.cpu(), here, atol=1e-4 * here.max().item(), rtol=1e-3)
    mixer = CutMix(centre="saliency")
    plans = [mixer.plan(Key(1), batch_size=12, height=64, width=64, images=x) for x in (images, images.cuda())]
    assert np.array_equal(plans[0].partner, plans[1].partner)
    assert (np.abs(plans[0].weight - plans[1].weight) < 1e-6).mean() > 0.8, "but where two cells are equally salient"
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 62 * 62, 5)
    )
    labels, double = torch.arange(12) % 5, images.double() / 255
    here = gradient_saliency(model.double(), double, labels)
    there = gradient_saliency(copy.deepcopy(model).cuda(), double.cuda(), labels.cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("align", [None, Sinkhorn(iterations=20)], ids=str)
def test_activations_are_mixed_as_on_the_cpu(align):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 62 * 62, 5)
    )
    model, images, labels = model.double(), smooth(12, 64).double() / 255, torch.arange(12) % 5
    mixer = MixUp(interpolations=2, matching=OptimalMatching(3)) if align is None else MixUp()
    results = []
    for device in ("cpu", "cuda"):
        x = images.to(device).requires_grad_()
        mix = ManifoldMix(copy.deepcopy(model).to(device), [1], mixer, align=align)
        logits, targets = mix(x, labels.to(device), key=Key(2), num_classes=5)
        results.append([logits, targets, *torch.autograd.grad(logits.square().sum(), x)])
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-6)


def test_puzzle_masks_are_solved_on_the_device():
    generator = torch.Generator().manual_seed(0)
    images, saliency = (torch.rand(shape, generator=generator) for shape in ((32, 3, 64, 64), (32, 64, 64)))
    mixer = PuzzleMix(transport=False, interpolations=3)
    here = mixer.plan(Key(1), images=images, saliency=saliency)
    there = mixer.plan(Key(1), images=images.cuda(), saliency=saliency.cuda())
    assert np.array_equal(here.partner, there.partner)
    assert np.abs(here.dense - there.dense).mean() < 1e-3
    moved = PuzzleMix().plan(Key(1), images=images.cuda(), saliency=saliency.cuda())
    assert moved.moves is not None
    assert all(np.array_equal(np.sort(m), np.arange(m.size)) for m in moved.moves.reshape(-1, moved.moves.shape[-1]))


def test_label_maps():
    maps = torch.randint(0, 5, (6, 16, 16), generator=torch.Generator().manual_seed(0))
    plan = CutMix().plan(Key(), batch_size=6, height=16, width=16)
    for classes in (None, 5):
        here, there = (mix_label_maps(m, plan, num_classes=classes) for m in (maps, maps.cuda()))
        torch.testing.assert_close(there.cpu(), here)


@pytest.mark.parametrize("metric", ["sqeuclidean", "l2"])
def test_matching_of_bytes_does_not_depend_on_the_device(metric):
    images = some_bytes(70, 3, 64, 64)
    mixer = MixUp(matching=OptimalMatching(k=16, metric=metric))
    here, there = (mixer.plan(Key(2), batch_size=70, height=64, width=64, images=x) for x in (images, images.cuda()))
    assert np.array_equal(here.partner, there.partner)


def test_other_streams_are_served_in_order():
    """The copy of the plan, the kernel and what follows are all on the stream that is current."""
    images = some_bytes(64, 224, 224, 3).permute(0, 3, 1, 2).cuda()
    plans = [HMix().plan(Key(step=i), batch_size=64, height=224, width=224) for i in range(8)]
    expected = [mix_images(images, plan, **NORMAL) for plan in plans]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late = torch.zeros_like(images).copy_(images)
        got = [mix_images(late, plan, **NORMAL) for plan in plans]
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


# ---------------------------------------------------------------------------------------------------------- MultiMix


@pytest.mark.parametrize("options", [{}, {"dense": True}, {"dense": True, "attention": "cam"}, {"distill": 0.5}], ids=str)
def test_multimix_is_that_of_the_cpu(options):
    generator = torch.Generator().manual_seed(0)
    dense = options.get("dense", False)
    features = torch.rand(16, 32, *((3, 4) if dense else ()), generator=generator, dtype=torch.float64)
    labels = torch.arange(16) % 7
    head = torch.nn.Linear(32, 7, dtype=torch.float64)
    results = []
    for device in ("cpu", "cuda"):
        classifier = copy.deepcopy(head).to(device)
        x = features.to(device).requires_grad_()
        teacher = (features.to(device) * 0.5, copy.deepcopy(classifier)) if "distill" in options else None
        value = MultiMix(classifier, 200, **options)(x, labels.to(device), key=Key(1), teacher=teacher)
        results.append([value, *torch.autograd.grad(value, [x, classifier.weight])])
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(there.cpu(), here, atol=1e-9, rtol=1e-7)


def test_multimix_under_autocast_with_a_teacher():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU()).cuda()
    head = torch.nn.Linear(16, 5).cuda()
    teacher = EmaTeacher(torch.nn.Sequential(model, head))
    loss = MultiMix(head, 100, dense=True)
    x, y = torch.rand(8, 3, 12, 12, device="cuda"), torch.arange(8, device="cuda") % 5
    with torch.autocast("cuda", torch.bfloat16):
        value = loss(model(x), y)
    value.backward()
    teacher.update(torch.nn.Sequential(model, head))
    assert torch.isfinite(value) and all(torch.isfinite(p.grad).all() for p in [*model.parameters(), *head.parameters()])


# ------------------------------------------------------------------------------------------------------------- loader


def loader(root: Path, **options) -> ImageLoader:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    return ImageLoader(root, **{"batch_size": 16, "size": 48, "num_threads": 4, "seed": 4, "drop_last": False} | options)


LOADER_MIXERS = {
    "none": None, "hmix": HMix(interpolations=2), "switch": Switch([MixUp(0.8), CutMix(), GMix()]), "fmix": FMix(),
    "matching": MixUp(matching=OptimalMatching(k=2)), "zeta": ZetaMixUp(ranks=3),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADER_MIXERS)
def test_batches_are_what_the_plan_makes_of_the_decoded_images(awkward_folder, name):
    """Against the same loader without mixing, mixed by the slow reference."""
    mixer = LOADER_MIXERS[name]
    plain = {"mean": None, "std": None, "dtype": torch.uint8}
    with loader(awkward_folder, device="cuda", mixer=mixer) as one, loader(awkward_folder, device="cuda", **plain) as raw:
        steps = 0
        for step, ((images, targets), (pixels, labels)) in enumerate(zip(one, raw, strict=True)):
            assert images.is_cuda and targets.is_cuda and pixels.dtype == torch.uint8
            pixels, labels = pixels.cpu(), labels.cpu()
            if mixer is None:
                expected = (pixels.double() / 255 - torch.tensor(NORMAL["mean"]).view(3, 1, 1).double()) / torch.tensor(
                    NORMAL["std"]
                ).view(3, 1, 1).double()
                assert torch.equal(targets.cpu(), labels)
            else:
                plan = one.plan(0, step, pixels)
                expected = torch.from_numpy(reference.mix_images(pixels.numpy(), plan, NORMAL["mean"], NORMAL["std"]))
                wanted = reference.mix_targets(labels.numpy(), plan, 3)
                np.testing.assert_allclose(targets.cpu(), wanted, atol=1e-6)
            torch.testing.assert_close(images.cpu().double(), expected, atol=5e-5, rtol=0)
            steps += 1
        assert steps == len(one) == 6


def test_decoded_images_are_those_of_the_cpu(awkward_folder):
    plain = {"mean": None, "std": None, "dtype": torch.uint8}
    with loader(awkward_folder, device="cuda", **plain) as there, loader(awkward_folder, device="cpu", **plain) as here:
        for step, ((a, labels_a), (b, labels_b)) in enumerate(zip(there, here, strict=True)):
            assert torch.equal(labels_a.cpu(), labels_b)
            difference = (a.cpu().float() - b.float()).abs().mean((1, 2, 3))
            for i, sample in enumerate(there.draw(0, step).ids):
                name = there.dataset.name(sample)
                # the JPEG engine of the GPU repeats chroma where libjpeg interpolates it; these pictures are all colour
                assert difference[i] < (6 if name.endswith(("_rgb.jpg", "_rotated.jpg")) else 1), (name, difference[i])


def test_a_consumer_may_keep_batches_and_be_late(jpeg_folder):
    """All batches of two epochs kept while a slow kernel runs on another stream; then compared to fresh ones."""
    with loader(jpeg_folder, device="cuda", mixer=HMix(), prefetch=3) as one:
        fresh = []
        for _ in range(2):
            for images, targets in one:
                torch.cuda.synchronize()
                fresh.append((images.cpu(), targets.cpu()))
        one.set_epoch(0)
        kept = []
        with torch.cuda.stream(torch.cuda.Stream()):
            for epoch in range(2):
                one.set_epoch(epoch)
                for images, targets in one:
                    torch.cuda._sleep(20_000_000)
                    kept.append((images, targets, images * 2))
            torch.cuda.current_stream().synchronize()
    assert len(kept) == len(fresh)
    for (a, b, twice), (x, y) in zip(kept, fresh, strict=True):
        assert torch.equal(a.cpu(), x) and torch.equal(b.cpu(), y) and torch.equal(twice.cpu(), 2 * x)


def test_batches_thrown_away_are_not_overwritten_too_early(jpeg_folder):
    """The allocator must not give a batch's memory to the loader while a kernel of the consumer still reads it."""
    with loader(jpeg_folder, device="cuda", mixer=HMix(), size=224, drop_last=True) as one:
        expected = [images.double().sum().item() for images, _ in one]
        one.set_epoch(0)
        sums = []
        for images, _ in one:
            torch.cuda._sleep(10_000_000)
            sums.append(images.double().sum())
            del images
        assert [s.item() for s in sums] == expected


def test_a_training_loop_is_never_made_to_wait(jpeg_folder):
    """torch raises on any call that makes the host wait, in the loader's thread as in the loop."""
    with loader(jpeg_folder, device="cuda", mixer=Switch([MixUp(), CutMix(), FMix()])) as one:
        list(one)
        model = torch.nn.Conv2d(3, 8, 3).cuda()
        with never_waiting():
            for images, targets in one:
                (model(images).mean() * targets.sum()).backward()


def test_a_transform_has_a_generator_of_the_device(jpeg_folder):
    """Seeded by the key: two loaders show the same, each row its own."""

    def brighter(images, generator):
        more = torch.randint(0, 100, (len(images), 1, 1, 1), device=images.device, generator=generator)
        return (images.short() + more).clamp_(0, 255).byte()

    options = {"device": "cuda", "mean": None, "std": None, "dtype": torch.uint8, "views": 2, "drop_last": True}
    with (
        loader(jpeg_folder, transform=brighter, **options) as one, loader(jpeg_folder, transform=brighter, **options) as two,
        loader(jpeg_folder, **options) as plain,
    ):  # fmt: skip
        for (a, _), (b, _), (c, _) in zip(one, two, plain, strict=True):
            assert all(map(torch.equal, a, b))
            more = torch.stack([(x.short() - y.short()).flatten(1).amax(1) for x, y in zip(a, c, strict=True)])
            assert len(more.unique()) > 5 and 0 <= more.min() <= more.max() < 100


def test_resume_is_exact(jpeg_folder):
    with loader(jpeg_folder, device="cuda", mixer=GMix()) as one:
        iterator = iter(one)
        for _ in range(3):
            next(iterator)
        state = one.state_dict()
        rest = [(images.cpu(), targets.cpu()) for images, targets in iterator]
    with loader(jpeg_folder, device="cuda", mixer=GMix()) as two:
        two.load_state_dict(state)
        again = [(images.cpu(), targets.cpu()) for images, targets in two]
    assert len(rest) == len(again) == 4
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(rest, again, strict=True))


def test_bad_files_are_skipped_and_labels_do_not_slip(jpeg_folder, tmp_path):
    import shutil

    root = tmp_path / "images"
    shutil.copytree(jpeg_folder, root)
    paths = sorted(root.glob("*/*"))
    paths[7].write_bytes(b"")
    paths[20].write_bytes(paths[20].read_bytes()[:200])
    data = bytearray(paths[33].read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    paths[33].write_bytes(data)
    plain = {"mean": None, "std": None, "dtype": torch.uint8, "on_error": "skip"}
    with loader(root, device="cuda", **plain) as there:
        batches = [(images.cpu(), labels.cpu()) for images, labels in there]
        for step, (images, labels) in enumerate(batches):
            assert torch.equal(labels, torch.from_numpy(there.dataset.labels[there.draw(0, step).ids]))
            assert images.float().std((1, 2, 3)).min() > 0
    assert sum(len(labels) for _, labels in batches) == 101


def test_breaking_off_and_starting_again(jpeg_folder):
    with loader(jpeg_folder, device="cuda", mixer=HMix(), prefetch=4) as one:
        first = None
        for _ in range(20):
            one.set_epoch(0)
            images, _ = next(iter(one))
            first = images.clone() if first is None else first
            assert torch.equal(images, first)
