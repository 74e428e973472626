import pickle
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixops import CutMix, GMix, HMix, Key, MixUp, OptimalMatching, Switch, mix_images, mix_targets
from mixops.kernels.distances import squared_distances
from mixops.pairing.blocks import Blocks, draw_blocks
from mixops.pairing.matching import _squared, assign
from mixops.pairing.thumbnails import features

METRICS = ("sqeuclidean", "l2")


def distance(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    squared = float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum())
    return squared if metric == "sqeuclidean" else float(np.sqrt(squared))


def least_cost(left: list[np.ndarray], right: list[np.ndarray], metric: str) -> float:
    """The total distance of the best of all permutations, tried one by one."""
    cost = np.array([[distance(a, b, metric) for b in right] for a in left])
    orders = np.array(list(permutations(range(len(right)))))  # (k!, k)
    return float(cost[np.arange(len(left)), orders].sum(1).min())


# ------------------------------------------------------------------------------------------------ the optimum


@pytest.mark.parametrize("metric", METRICS)
def test_the_match_is_the_brute_force_optimum_of_its_own_block(metric):
    """1,000 random cases, k <= 6, of points and of uint8 images."""
    rng = np.random.default_rng(METRICS.index(metric))
    for case in range(1000):
        k = int(rng.integers(1, 6, endpoint=True))
        b = int(rng.integers(2 * k, 4 * k, endpoint=True))
        if case % 2:
            images = rng.normal(size=(b, 3)) * 10 + 1000
        else:
            images = rng.integers(0, 256, (b, 2, 3, 1), np.uint8)
        key = Key(case)
        blocks = draw_blocks(key, b, k)
        partner = (
            MixUp(matching=OptimalMatching(k, metric)).plan(key, batch_size=b, height=3, width=1, images=images).partner
        )
        assert sorted(partner.tolist()) == list(range(b))
        for start in range(0, b, k):
            own, other = blocks.rows[start : start + k], blocks.columns[start : start + k]
            assert set(partner[own].tolist()) == set(other.tolist())
            found = sum(distance(images[i], images[partner[i]], metric) for i in own)
            if k > 1:
                assert found <= least_cost([images[i] for i in own], [images[j] for j in other], metric) * (1 + 1e-9)


def crossings(points: np.ndarray, cluster: np.ndarray, key: Key) -> tuple[int, int]:
    """Matches between different clusters, and sum_i |r_i - s_i| / 2, over the two pairs of blocks of a batch."""
    k = len(points) // 2
    blocks = draw_blocks(key, 2 * k, k)
    partner = OptimalMatching(k).partner(blocks, points)
    crossed, fewest = 0, 0
    for start in (0, k):
        own, other = blocks.rows[start : start + k], blocks.columns[start : start + k]
        assert set(partner[own].tolist()) <= set(other.tolist()) or k == 1
        crossed += int((cluster[own] != cluster[partner[own]]).sum())
        fewest += int(sum(abs((cluster[own] == c).sum() - (cluster[other] == c).sum()) for c in set(cluster.tolist()))) // 2
    return crossed, fewest


def test_lemma_1_clusters_are_crossed_as_seldom_as_can_be():
    """300 random clustered cases: sum_i |r_i - s_i| / 2 matches cross (arXiv 2106.02933, lemma 1).

    Two clusters are as near as the lemma allows. More than two are equally far from one another: the lemma's proof overlooks
    that in squared distance two short crossings can be cheaper than a long one (the next test).
    """
    rng = np.random.default_rng(0)
    total = 0
    for case in range(300):
        clusters = 2 if case % 2 else int(rng.integers(3, 6, endpoint=True))
        dimensions = int(rng.integers(1, 4, endpoint=True)) if clusters == 2 else clusters
        radius, k = rng.uniform(0.1, 2), int(rng.integers(2, 24, endpoint=True))
        centres = np.zeros((clusters, dimensions))
        if clusters == 2:
            centres[1, 0] = rng.uniform(4, 8) * radius  # the gap between the balls is at least their diameter
        else:
            centres = np.eye(clusters) * rng.uniform(12.1, 20) * radius / np.sqrt(2)
        cluster = rng.choice(clusters, 2 * k, p=rng.dirichlet(np.ones(clusters)))
        directions = rng.normal(size=(2 * k, dimensions))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        points = centres[cluster] + directions * rng.uniform(0, radius, (2 * k, 1))
        crossed, fewest = crossings(points, cluster, Key(case))
        assert crossed == fewest
        total += crossed
    assert total > 300


def test_lemma_1_does_not_hold_for_three_clusters_on_a_line():
    """From one end to the other over the middle costs 2 * 10^2, straight 20^2."""
    for seed in range(100):
        blocks = draw_blocks(Key(seed), 4, 2)
        points, cluster = np.empty((4, 1)), np.empty(4, np.int64)
        cluster[blocks.rows] = [
            0,
            1,
            1,
            2,
        ]  # one block at the near end and the middle, the other at the middle and the far end
        points[:, 0] = 10 * cluster
        assert crossings(points, cluster, Key(seed)) == (4, 2)


@pytest.mark.parametrize("mixer", [MixUp(), CutMix(), HMix(), GMix(interpolations=3), Switch([MixUp(), CutMix()])], ids=str)
@pytest.mark.parametrize("batch_size", [16, 19])
def test_labels_follow_the_matched_partner(mixer, batch_size):
    """An identity matrix mixed with the images' masks, averaged, is the targets."""
    rng = np.random.default_rng(1)
    images = rng.random((batch_size, 1, 9, 7))
    mixer = mixer.replace(matching=OptimalMatching(5))
    plan = mixer.plan(Key(3), batch_size=batch_size, height=9, width=7, images=images)
    plain = mixer.replace(matching=None).plan(Key(3), batch_size=batch_size, height=9, width=7)
    assert (plan.partner != plain.partner).any()
    marks = np.broadcast_to(np.eye(batch_size)[:, :, None, None], (batch_size, batch_size, 9, 7))
    shares = mix_images(np.ascontiguousarray(marks), plan).mean((2, 3))  # (b * k, b)
    targets = mix_targets(np.arange(batch_size), plan, num_classes=batch_size)
    np.testing.assert_allclose(shares, targets, atol=2e-7)


def test_a_block_has_one_lambda_and_one_mask():
    images = np.random.default_rng(2).random((22, 3, 8, 8))
    plan = HMix(matching=OptimalMatching(4)).plan(Key(5), batch_size=22, height=8, width=8, images=images)
    block = draw_blocks(Key(5), 22, 4).block_of_row()
    drawn = {i: plan.params[block == i] for i in range(6)}
    assert all((params == params[0]).all() for params in drawn.values())
    assert len({params[0].tobytes() for params in drawn.values()}) == 6


@pytest.mark.parametrize("mixer", [MixUp(), CutMix(0.5), HMix(interpolations=3)], ids=str)
def test_k_of_one_is_the_plain_mixer_bit_for_bit(mixer):
    images = np.random.default_rng(3).random((13, 3, 8, 8))
    size = {"batch_size": 13, "height": 8, "width": 8}
    matched = mixer.replace(matching=OptimalMatching(1))
    assert matched.plan(Key(1), images=images, **size).to_json() == mixer.plan(Key(1), **size).to_json()
    assert matched.plan(Key(1), **size).to_json() == mixer.plan(Key(1), **size).to_json()


@pytest.mark.parametrize(("batch_size", "k"), [(65, 32), (64, 32), (63, 31), (6, 3), (3, 1), (2, 1), (1, 1)])
def test_a_short_batch_takes_the_largest_k_that_leaves_two_blocks(batch_size, k):
    matching = OptimalMatching(32, metric="l2")
    assert matching.shortened(batch_size) == OptimalMatching(k, metric="l2")
    images = np.random.default_rng(batch_size).random((batch_size, 3, 8, 8))
    mixer, size = CutMix(0.5, matching=matching), {"batch_size": batch_size, "height": 8, "width": 8}
    short = mixer.replace(matching=OptimalMatching(k, metric="l2"))
    assert mixer.plan(Key(3), images=images, **size).to_json() == short.plan(Key(3), images=images, **size).to_json()
    if k == 1:  # then nobody is matched, and the images are not looked at
        assert mixer.plan(Key(3), **size).to_json() == short.plan(Key(3), **size).to_json()


def test_a_short_last_batch_is_mixed_by_the_call():
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    mixed, targets = MixUp(matching=OptimalMatching(4))(images, labels, key=Key(), num_classes=6)
    plan = MixUp(matching=OptimalMatching(3)).plan(Key(), images=images)
    assert torch.equal(mixed, mix_images(images, plan))
    assert torch.equal(targets, mix_targets(labels, plan, num_classes=6))


# ------------------------------------------------------------------------------------- the same for every memory


def layouts(pixels: torch.Tensor) -> dict[str, object]:
    """One batch (b, c, h, w) as different people hold it."""
    b, c, h, w = pixels.shape
    wide = torch.zeros(b, c, h, w + 3, dtype=pixels.dtype)
    wide[..., 2:-1] = pixels
    frozen = pixels.numpy().copy()
    frozen.setflags(write=False)
    return {
        "contiguous": pixels,
        "channels last": pixels.contiguous(memory_format=torch.channels_last),
        "a cut-out": wide[..., 2:-1],
        "every second row": pixels.repeat_interleave(2, 0)[::2],
        "numpy": pixels.numpy().copy(),
        "numpy, channels last": np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()).transpose(0, 3, 1, 2),
        "numpy, read only": frozen,
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(9, 3, 45, 50), (9, 1, 33, 64), (9, 4, 40, 7), (9, 3, 8, 8)], ids=str)
def test_features_do_not_depend_on_the_memory_layout(dtype, shape):
    pixels = torch.from_numpy(np.random.default_rng(4).integers(0, 256, shape, np.uint8)).to(dtype) / (
        1 if dtype == torch.uint8 else 51
    )
    pixels = pixels.to(dtype)
    wanted = features(pixels, 8)
    for name, images in layouts(pixels).items():
        assert torch.equal(features(images, 8), wanted), name


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_matching_does_not_depend_on_the_number_of_threads(threads):
    pixels = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (21, 3, 45, 50), np.uint8))
    blocks = draw_blocks(Key(), 21, 4)
    wanted = OptimalMatching(4, resolution=16).partner(blocks, pixels)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert (OptimalMatching(4, resolution=16).partner(blocks, pixels) == wanted).all()
    finally:
        torch.set_num_threads(before)


def cells_by_hand(image: np.ndarray, resolution: int) -> np.ndarray:
    """Means of the cells of one channel, float64."""
    h, w = image.shape
    height, width = -(-h // resolution), -(-w // resolution)
    return np.array([[image[y : y + height, x : x + width].astype(np.float64).mean() for x in range(0, w, width)]
                     for y in range(0, h, height)])  # fmt: skip


@given(
    st.integers(1, 3), st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.sampled_from(["uint8", "float64"]),
    st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_features_are_the_means_of_cells(c, h, w, resolution, dtype, last, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, c, h, w), np.uint8).astype(dtype)
    x = torch.from_numpy(images)
    found = features(x.contiguous(memory_format=torch.channels_last) if last else x, resolution)
    wanted = np.stack([np.concatenate([cells_by_hand(plane, resolution).ravel() for plane in image]) for image in images])
    assert found.dtype == x.dtype
    if dtype == "uint8":
        assert (found.numpy() == np.floor(wanted + 0.5)).all()
    else:
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def test_cells_of_many_rows_do_not_overflow():
    white = torch.full((1, 3, 258, 2), 255, dtype=torch.uint8)
    for rows in (257, 258):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            assert (features(white[:, :, :rows].contiguous(memory_format=memory_format), 1) == 255).all()


def test_features_of_other_shapes():
    assert features(np.ones((4, 50)), 8).shape == (4, 50)
    assert features(torch.ones(4, 3, 50), 8).shape == (4, 150)
    assert features(torch.ones(4, 3, 5, 16, 16), 8).shape == (4, 3 * 5 * 8 * 8)
    assert features(torch.ones(4, 3, 16, 16), None).shape == (4, 3 * 256)
    assert features(torch.ones(4, 3, 16, 16, dtype=torch.int64), None).dtype == torch.float32


# ------------------------------------------------------------------------------------------------- distances


@st.composite
def bytes_in_blocks(draw):
    k = draw(st.integers(1, 7))
    b = draw(st.integers(2 * k, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    x = np.random.default_rng(seed).integers(0, 256, (b, draw(st.integers(1, 50))), np.uint8)
    x[0], x[1] = 0, 255
    return x, draw_blocks(Key(seed), b, k)


@given(bytes_in_blocks(), st.sampled_from(METRICS))
def test_distances_of_bytes_are_exact_on_both_paths(case, metric):
    x, blocks = case
    b, k = len(x), blocks.k
    found = OptimalMatching(k, metric).distances(blocks, torch.from_numpy(x))
    device = []  # what runs on a GPU, here run on the CPU
    whole = b - b % k
    left, right = torch.from_numpy(x[blocks.rows]), torch.from_numpy(x[blocks.columns])
    device.append(_squared(left[:whole].view(-1, k, x.shape[1]), right[:whole].view(-1, k, x.shape[1]), k))
    if whole < b:
        device.append(_squared(left[None, whole:], right[None, whole:], k))
    for i in range(b):
        start = i // k * k
        for j in range(min(k, b - start)):
            wanted = distance(x[blocks.rows[i]], x[blocks.columns[start + j]], metric)
            assert found[i, j] == wanted
            assert np.sqrt(torch.cat(device)[i, j].item()) == wanted or metric == "sqeuclidean"
            assert torch.cat(device)[i, j].item() == wanted or metric == "l2"


def test_distances_of_bytes_do_not_overflow():
    x = np.zeros((4, 150_000), np.uint8)
    x[[1, 3]] = 255
    order = np.arange(4)
    assert squared_distances(x, order, np.roll(order, -1), 1)[:, 0].tolist() == [150_000 * 255**2] * 4


def test_distances_of_a_large_offset_keep_their_digits():
    x = torch.randn(64, 40, generator=torch.Generator().manual_seed(0)) + 1000
    blocks = draw_blocks(Key(), 64, 32)
    found = OptimalMatching(32).distances(blocks, x)
    wanted = np.array([[distance(x[i].numpy(), x[j].numpy(), "sqeuclidean") for j in blocks.columns[s : s + 32]]
                       for s in (0, 32) for i in blocks.rows[s : s + 32]])  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_autocast_does_not_blur_distances():
    x = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))
    blocks = draw_blocks(Key(), 16, 8)
    wanted = OptimalMatching(8).distances(blocks, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert (OptimalMatching(8).distances(blocks, x) == wanted).all()


def test_hidden_features_that_need_a_gradient_are_only_looked_at():
    x = torch.randn(8, 4, 3, 3, requires_grad=True)
    plan = MixUp(matching=OptimalMatching(4)).plan(Key(), batch_size=8, height=3, width=3, images=x)
    mix_images(x, plan).sum().backward()
    assert x.grad is not None


# ---------------------------------------------------------------------------------------------------- metrics


def manhattan(a, b):
    return torch.cdist(a, b, p=1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_callable_metric_sees_the_pixels_as_they_are(dtype):
    images = torch.arange(7 * 3).view(7, 3).to(dtype)
    seen = []

    def metric(a, b):
        seen.append((a, b))
        return manhattan(a, b)

    blocks = draw_blocks(Key(), 7, 3)
    partner = OptimalMatching(3, metric).partner(blocks, images)
    assert [tuple(a.shape) for a, _ in seen] == [(3, 3), (3, 3), (1, 3)]
    assert torch.equal(torch.cat([a for a, _ in seen]), images[blocks.rows].float())
    assert torch.equal(torch.cat([b for _, b in seen]), images[blocks.columns].float())
    for start in (0, 3, 6):
        own, other = blocks.rows[start : start + 3], blocks.columns[start : start + 3]
        cost = {(i, j): float((images[i].float() - images[j].float()).abs().sum()) for i in own for j in other}
        best = min(sum(cost[pair] for pair in zip(own, order, strict=True)) for order in permutations(other))
        assert sum(cost[i, partner[i]] for i in own) == best


def test_a_metric_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"metric must return distances of shape \(3, 3\), got \(3,\)"):
        OptimalMatching(3, lambda a, b: (a - b).sum(1)).partner(draw_blocks(Key(), 6, 3), torch.ones(6, 2))


def test_distances_that_are_not_finite_are_refused():
    images = torch.ones(6, 2)
    images[3, 1] = torch.nan
    with pytest.raises(ValueError, match="images must have finite distances to be matched, got nan"):
        OptimalMatching(3).partner(draw_blocks(Key(), 6, 3), images)


def test_assign_stays_in_its_block():
    order = np.arange(7)
    blocks = Blocks(order, np.roll(order, -3), 3)
    choice = assign(np.random.default_rng(0).random((7, 3)), 3)
    assert sorted(choice[:3]) == [0, 1, 2] and sorted(choice[3:6]) == [3, 4, 5] and choice[6] == 6
    assert sorted(blocks.partner(choice)) == order.tolist()


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 2.0}, TypeError, "k must be an integer, got 2.0"),
        ({"k": True}, TypeError, "k must be an integer, got True"),
        (
            {"k": 2, "metric": "cosine"},
            ValueError,
            "metric must be 'sqeuclidean' or 'l2' or a function, got 'cosine'",
        ),
        ({"k": 2, "resolution": 0}, ValueError, "resolution must be at least 1, got 0"),
        ({"k": 2, "resolution": 8.0}, TypeError, "resolution must be an integer, got 8.0"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        OptimalMatching(**arguments)


def test_a_plan_with_matching_needs_the_images_of_its_batch():
    mixer = MixUp(matching=OptimalMatching(2))
    with pytest.raises(ValueError, match="images must be given to a mixer with matching, got None"):
        mixer.plan(Key(), batch_size=4, height=2, width=2)
    with pytest.raises(ValueError, match="images must hold batch_size = 4 images, got 5"):
        mixer.plan(Key(), batch_size=4, height=2, width=2, images=torch.ones(5, 1, 2, 2))


def test_it_pickles_and_prints():
    matching = OptimalMatching(4, metric="l2", resolution=None)
    assert pickle.loads(pickle.dumps(matching)) == matching
    assert repr(matching) == "OptimalMatching(k=4, metric='l2', resolution=None)"
    assert hash(matching) == hash(OptimalMatching(4, "l2", None))


def _distance(a, b, scale=1.0):
    return scale * torch.cdist(a, b)


class _Plain:
    def __call__(self, a, b):
        return torch.cdist(a, b)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("l2", "'l2'"),
        (np.str_("l2"), "'l2'"),
        (_distance, f"{__name__}._distance"),
        (partial(_distance, scale=2.0), f"partial({__name__}._distance, scale=2.0)"),
        (_Plain(), f"{__name__}._Plain"),
        (_Plain().__call__, f"{__name__}._Plain.__call__"),
        (torch.nn.PairwiseDistance(3.0), "PairwiseDistance()"),
    ],
)
def test_a_matching_prints_alike_in_every_process(metric, name):
    """A loader's state holds what its mixer prints, so no address may be in it."""
    printed = repr(OptimalMatching(np.int64(4), metric))
    assert printed == f"OptimalMatching(k=4, metric={name}, resolution=32)"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 2.0}, TypeError, "k must be an integer, got 2.0"),
        ({"k": 2**40}, ValueError, "k must be at most 16777216"),
        ({"resolution": True}, TypeError, "resolution must be an integer, got True"),
        ({"metric": "l1"}, ValueError, "metric must be 'sqeuclidean' or 'l2' or a function, got 'l1'"),
        ({"metric": None}, ValueError, "metric must be 'sqeuclidean' or 'l2' or a function, got None"),
        ({"metric": lambda a, b: 3}, TypeError, "metric must be a function that returns a tensor, got int"),
        ({"metric": lambda a, b: a}, ValueError, r"metric must return distances of shape \(2, 2\), got \(2, 3\)"),
    ],
)
def test_bad_arguments_of_a_matching_are_refused_by_name(change, error, message):
    with pytest.raises(error, match=message):
        OptimalMatching(**{"k": 2, **change}).partner(draw_blocks(Key(1), 4, 2), torch.rand(4, 3))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([[1.0]], TypeError, "images must be a torch tensor or NumPy array, got list"),
        (torch.rand(5, 3), ValueError, "images must have the 4 rows of blocks, got 5"),
        (torch.rand(4), ValueError, "images must be real and have a batch axis and at least one more"),
        (torch.rand(4, 3).to_sparse(), TypeError, "images must be a dense tensor that has values"),
    ],
)
def test_bad_images_of_a_matching_are_refused_by_name(images, error, message):
    with pytest.raises(error, match=message):
        OptimalMatching(2).partner(draw_blocks(Key(1), 4, 2), images)


def test_flipped_and_foreign_images_are_matched():
    images = np.random.default_rng(0).random((8, 3, 4, 5)).astype(np.float32)
    blocks = draw_blocks(Key(1), 8, 4)
    expected = OptimalMatching(4).partner(blocks, images)
    np.testing.assert_array_equal(OptimalMatching(4).partner(blocks, images[:, ::-1][:, ::-1]), expected)
    np.testing.assert_array_equal(OptimalMatching(4).partner(blocks, images.astype(">f4")), expected)
