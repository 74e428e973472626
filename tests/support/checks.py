"""The contract of all mixers: one line in ``mixops.mixers.registry`` and a mixer gets every check.

``PLAN_CHECKS`` look at one plan, ``MIXER_CHECKS`` at many plans of one mixer. A check asserts and knows no particular mixer;
what can be said of one beyond what holds for all (its formula, what lambda = 0 shows) is in ``FACTS``.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import stats
from support import reference

from mixops import Key, MixPlan, OptimalMatching, mix_images, mix_targets, parse_mixer
from mixops.masks import mask_means
from mixops.mixers.base import Mixer, Pairs
from mixops.mixers.beta import BetaMixer, UnitDraws
from mixops.mixers.registry import REGISTRY

# the lambdas of a pair, centre y, centre x, height, width -> its masks
Formula = Callable[[list[float], int, int, int, int], list[np.ndarray]]


def each(mask: Callable[..., np.ndarray]) -> Formula:
    """The masks of a pair where every output has a mask of its own lambda."""
    return lambda lams, *where: [mask(lam, *where) for lam in lams]


@dataclass(frozen=True)
class Facts:
    """What is particular about a mixer.

    ``formula`` is its mask, written in ``reference``. ``whole`` says that lambda = 0 shows the partner alone, for pairs of
    one output and of K. ``exact`` says that label weight and sampled lambda are one. ``steps`` says that the blend around a
    box follows the box, which grows by whole pixels. ``grid`` divides the sides that images must have. ``law`` is that of
    the own share by alpha, None where it is not drawn or depends on a choice. ``paths`` says that every image is the partner
    of one row, and that outputs lie on a path from the one to the other.
    """

    formula: Formula | None = None
    whole: tuple[bool, bool] = (False, False)
    exact: bool = False
    steps: bool = False
    grid: int = 1
    law: Callable[[float], Any] | None = lambda alpha: stats.beta(alpha, alpha)
    paths: bool = True


class ResizeLaw:
    """The own share 1 - tau^2 of ResizeMix, tau uniform between two scales."""

    def __init__(self, alpha: float) -> None:
        self.low, self.high = scales(alpha)

    def cdf(self, lam: Any) -> Any:
        """The share of draws that are less."""
        return np.clip((self.high - np.sqrt(1 - np.asarray(lam))) / (self.high - self.low), 0, 1)


def scales(alpha: float) -> tuple[float, float]:
    """What ResizeMix has in the place of alpha: a range that is the wider, the larger alpha is."""
    return 0.1, 0.1 + 0.8 * alpha / (1 + alpha)


def area(alpha: float) -> float:
    """What RecursiveMix has in the place of alpha."""
    return alpha / (1 + alpha)


BOTH = (True, True)
_hmix = reference.hmix_mask
# CutMix at lambda = 0 shows the partner in a box as large as the image around a centre anywhere, clipped, as its authors do;
# the paper's Gaussian has a spread of two images there, and so have outputs of a pair of the authors' that keep its role
FACTS: dict[str, Facts] = {
    "MixUp()": Facts(each(lambda lam, cy, cx, h, w: reference.mixup_mask(lam, h, w)), BOTH, exact=True),
    "CutMix()": Facts(each(reference.cutmix_mask)),
    "HMix()": Facts(each(_hmix), BOTH, exact=True, steps=True),
    "HMix(r=0)": Facts(each(partial(_hmix, r=0)), BOTH, exact=True),
    "HMix(r=1.0)": Facts(each(partial(_hmix, r=1.0)), BOTH, exact=True, steps=True),
    "HMix(r=Beta(0.5))": Facts(None, BOTH, exact=True, steps=True),
    "HMix(convention='paper')": Facts(each(partial(_hmix, convention="paper")), BOTH),
    "HMix(r=1, convention='paper')": Facts(each(partial(_hmix, r=1, convention="paper"))),
    "GMix()": Facts(reference.gmix_masks, (True, False)),
    "GMix(convention='paper')": Facts(each(partial(reference.gmix_mask, convention="paper"))),
    "FMix()": Facts(None, BOTH),
    "PuzzleMix()": Facts(None, BOTH, grid=2),
    "PuzzleMix(transport=False)": Facts(None, BOTH, grid=2),
    "PuzzleMix(saliency='spectral')": Facts(None, BOTH, grid=2),
    "ResizeMix()": Facts(law=ResizeLaw),
    "RecursiveMix()": Facts(law=lambda alpha: stats.uniform(1 - area(alpha), area(alpha))),
    "ZetaMixUp()": Facts(exact=True, law=None),
    "ZetaMixUp(ranks=3)": Facts(exact=True, law=None),
    "DirichletMixUp()": Facts(exact=True, law=lambda alpha: stats.beta(alpha, 2 * alpha)),
    "DirichletMixUp(sources=2)": Facts(exact=True),
    "Switch([ZetaMixUp(), CutMix()])": Facts(law=None),
    "Switch([ResizeMix(), HMix()])": Facts(law=None, steps=True),
    "Switch([RecursiveMix(), MixUp()])": Facts(law=None),
    "CoMixUp(saliency='spectral')": Facts(grid=4, law=None, paths=False),
    "CoMixUp()": Facts(grid=4, law=None, paths=False),
}


@dataclass(frozen=True)
class Case:
    """An example of a mixer and its facts."""

    example: Mixer
    facts: Facts = Facts()

    def plans(self, count: int) -> int:
        """How many plans a law is tested on: a fifth where every plan solves for its masks."""
        return count // 5 if self.example.mask_needs else count

    def mixer(self, alpha: float = 1.0, *, label: str = "mask", **options: Any) -> Mixer:
        """The mixer with ``alpha``, ``label`` and any of the options that all mixers have; of a switch the members'."""
        members = getattr(self.example, "mixers", None)
        if members is None:
            return shaped(self.example, alpha, label).replace(**options)
        return self.example.replace(mixers=[shaped(m, alpha, label) for m in members]).replace(**options)

    @property
    def of_pairs(self) -> bool:
        """Whether all that is drawn of a row is a lambda, which shows one of two images at its ends."""
        return all(isinstance(member, BetaMixer) for member in getattr(self.example, "mixers", [self.example]))

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """The next sides that images may have."""
        grid = self.facts.grid
        return -(-height // grid) * grid, -(-width // grid) * grid

    def plan(self, mixer: Mixer, key: Key, batch_size: int, height: int, width: int) -> MixPlan:
        """A plan at the next sides that fit, of random pictures where the mixer looks at them."""
        height, width = self.fit(height, width)
        return mixer.plan(
            key, batch_size=batch_size, height=height, width=width, **pictures(mixer, batch_size, height, width)
        )


def shaped(mixer: Mixer, alpha: float, label: str) -> Mixer:
    """A mixer with ``alpha``, or what it has in its place, and ``label`` where it has a choice."""
    names = {field.name for field in fields(mixer)}
    options: dict[str, Any] = {"alpha" if "alpha" in names else "gamma": alpha}
    for name, instead in (("scale", scales), ("area", area)):
        if name in names:
            options = {name: instead(alpha)}
    return mixer.replace(**options, **({"label": label} if "label" in names else {}))


def pictures(mixer: Mixer, batch_size: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Random images and saliency, as far as ``mixer`` needs them."""
    rng = np.random.default_rng(batch_size)
    given = {}
    if "images" in mixer.needs:
        given["images"] = rng.random((batch_size, 3, height, width), np.float32)
    if "saliency" in mixer.needs:
        given["saliency"] = rng.random((batch_size, height, width), np.float32) ** 4
    return given


CASES: dict[str, Case] = {
    text: Case(mixer, FACTS.get(text, Facts())) for entry in REGISTRY for text, mixer in entry.examples().items()
}


# ------------------------------------------------------------------------------------------------ settings of a plan


@dataclass(frozen=True)
class Setting:
    """What a plan is drawn with."""

    alpha: float
    batch_size: int
    height: int
    width: int
    interpolations: int
    draw: str
    label: str
    prob: float
    key: Key

    def fitted(self, case: Case) -> Setting:
        """The same at sides that the mixer takes."""
        height, width = case.fit(self.height, self.width)
        return replace(self, height=height, width=width)

    def plan(self, case: Case) -> MixPlan:
        """The plan of a mixer."""
        mixer = case.mixer(self.alpha, interpolations=self.interpolations, draw=self.draw, prob=self.prob, label=self.label)
        return case.plan(mixer, self.key, self.batch_size, self.height, self.width)


_WRITTEN = 200_000
AWKWARD = ((1, 1), (1, 7), (1, 16000), (224, 1), (2, 2), (37, 224), (224, 37), (31, 33))


def sweep(seed: int, count: int) -> Iterator[Setting]:
    """``count`` settings over all that the contract ranges over, the same for the same seed."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        if rng.random() < 0.15:
            height, width = AWKWARD[rng.integers(len(AWKWARD))]
        else:
            height, width = (int(side) for side in rng.integers(1, 20, 2))
        big = height * width > 1000
        yield Setting(
            alpha=float(10 ** rng.uniform(-3, 3)),
            batch_size=int(rng.integers(1, 5 if big else 66)),
            height=height, width=width,
            interpolations=int(rng.integers(1, 4 if big else 8)),
            draw=("sample", "batch")[rng.integers(2)],
            label=("mask", "mask", "mask", "sampled")[rng.integers(4)],
            prob=(1.0, 1.0, 0.5)[rng.integers(3)],
            key=Key(seed, *(int(word) for word in rng.integers(0, 2**63, 2)), rank=i),
        )  # fmt: skip


def dense(plan: MixPlan, rows: np.ndarray) -> np.ndarray:
    """The masks of some rows, float64 (rows, k, h, w), from the floats of the plan and nothing else."""
    if plan.more is not None:
        return plan.masks()[rows, :, 0]
    if plan.dense is not None:
        high, wide = plan.height // plan.dense.shape[2], plan.width // plan.dense.shape[3]
        return plan.dense[rows].repeat(high, 2).repeat(wide, 3).astype(np.float64)
    v0, dv, y0, y1, x0, x1, cy, cx, a = np.moveaxis(plan.params[rows].astype(np.float64), -1, 0)[..., None, None]
    y, x = np.arange(plan.height)[:, None], np.arange(plan.width)
    inside = (y0 <= y) & (y < y1) & (x0 <= x) & (x < x1)
    return v0 + dv * inside * np.exp(-a * ((y - cy) ** 2 + (x - cx) ** 2))


# ------------------------------------------------------------------------------------------------- checks of one plan


def shapes_and_types(case: Case, s: Setting, plan: MixPlan) -> None:
    """Fields have the promised shapes and dtypes and nothing is infinite or NaN."""
    b, k = s.batch_size, s.interpolations
    assert plan.partner.shape == (b,) and plan.partner.dtype == np.int64
    assert plan.weight.shape == plan.lam.shape == (b, k) and plan.weight.dtype == plan.lam.dtype == np.float64
    assert plan.params.shape == (b, k, 9) and plan.params.dtype == np.float32
    assert (plan.batch_size, plan.interpolations, plan.height, plan.width) == (b, k, s.height, s.width)
    assert np.isfinite(plan.weight).all() and np.isfinite(plan.lam).all() and np.isfinite(plan.params).all()
    assert (plan.lam == plan.lam.astype(np.float32)).all()


def partner_is_a_permutation(case: Case, s: Setting, plan: MixPlan) -> None:
    """Everybody is somebody's partner, nobody his own unless he is alone."""
    if not case.facts.paths:
        return
    rows = np.arange(s.batch_size)
    np.testing.assert_array_equal(np.sort(plan.partner), rows)
    assert s.batch_size == 1 or (plan.partner != rows).all()


def weights_in_range_and_falling(case: Case, s: Setting, plan: MixPlan) -> None:
    """Label weights are shares and fall along k."""
    assert plan.weight.min() >= 0 and plan.weight.max() <= 1
    assert plan.lam.min() >= 0 and plan.lam.max() <= 1
    assert (np.diff(plan.weight, axis=1) <= 0).all()


def mask_is_in_range_and_means_the_label(case: Case, s: Setting, plan: MixPlan) -> None:
    """M is in [0, 1]; its mean is the label weight, or the sampled lambda is, where that was asked for."""
    size = s.interpolations * s.height * s.width
    rows = np.unique(np.linspace(0, s.batch_size - 1, max(1, min(s.batch_size, 8_000 // size))).astype(int))
    masks = dense(plan, rows)
    assert masks.min() >= 0 and masks.max() <= 1
    if s.label == "sampled" and case.of_pairs:
        np.testing.assert_array_equal(plan.weight, plan.lam)
    elif s.label != "sampled":
        np.testing.assert_allclose(plan.weight[rows], masks.mean((-2, -1)), rtol=0, atol=1e-6)
        if case.facts.exact:
            np.testing.assert_allclose(plan.weight, plan.lam, rtol=0, atol=1e-6)


def shares_of_all_sources_are_those_of_their_masks(case: Case, s: Setting, plan: MixPlan) -> None:
    """However many images a row is made of: their shares and their masks sum to 1, and a share is the mean of its mask."""
    b, count = plan.sources.shape
    assert plan.weights.shape == (b, s.interpolations, count) and plan.sources.dtype == np.int64
    np.testing.assert_array_equal(plan.sources[:, :2], np.stack([np.arange(b), plan.partner], 1))
    np.testing.assert_array_equal(plan.weights[..., 0], plan.weight)
    np.testing.assert_allclose(plan.weights.sum(2), 1, rtol=0, atol=1e-6)
    if s.label == "sampled" or count * b * s.interpolations * s.height * s.width > 100_000:
        return
    masks = plan.masks()
    np.testing.assert_allclose(masks.sum(2), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(masks.mean((3, 4)), plan.weights, rtol=0, atol=1e-6)


def outputs_are_an_ordered_path(case: Case, s: Setting, plan: MixPlan) -> None:
    """At every pixel the mask falls along k, so that each output is nearer the partner than the one before.

    Where the blend around a box of whole pixels follows the box, the boxes are nested.
    """
    if not case.facts.paths:
        return
    size = s.interpolations * s.height * s.width
    rows = np.unique(np.linspace(0, s.batch_size - 1, max(1, min(s.batch_size, 8_000 // size))).astype(int))
    masks = dense(plan, rows)
    if case.facts.steps:
        masks = (masks > 0).astype(np.float64)
    assert np.diff(masks, axis=1).max(initial=0) <= 1e-8


def outputs_of_a_pair_share_a_centre(case: Case, s: Setting, plan: MixPlan) -> None:
    """The K boxes of a pair are nested around one centre, the K Gaussians have one centre."""
    if plan.dense is not None:
        return
    _, dv, y0, y1, x0, x1, cy, cx, a = np.moveaxis(plan.params.astype(np.float64), -1, 0)
    assert (cy == cy[:, :1])[dv != 0].all() and (cx == cx[:, :1])[dv != 0].all()
    box = (a == 0) & (dv != 0)
    for low, high, side in ((y0, y1, s.height), (x0, x1, s.width)):
        free = box & (low > 0) & (high < side)  # neither edge clipped: the middle is the centre
        middle = low + high
        assert (np.where(free, middle, -np.inf).max(1) <= np.where(free, middle, np.inf).min(1))[free.any(1)].all()
        order = np.argsort(high - low, axis=1, kind="stable")
        growth = np.diff(np.take_along_axis(low, order, 1)) <= 0, np.diff(np.take_along_axis(high, order, 1)) >= 0
        assert (growth[0] & growth[1])[box.all(1)].all()


def units_are_what_draw_says(case: Case, s: Setting, plan: MixPlan) -> None:
    """One draw for the batch, or one a row."""
    if s.draw == "batch" and case.facts.paths:
        assert (plan.lam == plan.lam[:1]).all()
        same = (plan.params == plan.params[:1]).all() and (plan.weight == plan.weight[:1]).all()
        assert same or case.example.mask_needs, "masks that look at nothing are those of the unit"
    elif s.prob == 1 and 0.2 < s.alpha < 100 and case.facts.law is not None:
        assert len({row.tobytes() for row in plan.lam}) == s.batch_size


def key_is_all_there_is(case: Case, s: Setting, plan: MixPlan) -> None:
    """The same key gives the same plan from an equal mixer, bit for bit, whatever else was drawn in between."""
    again = s.plan(case)
    for name in ("partner", "weight", "lam", "params", "dense", "moves", "inset", "past", "sources", "weights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(plan, name))


def json_keeps_every_bit(case: Case, s: Setting, plan: MixPlan) -> None:
    """A plan survives JSON; more than ``_WRITTEN`` numbers of masks would take seconds, and say nothing else."""
    masks = plan.dense if plan.more is None else plan.more.masks
    if masks is not None and masks.size > _WRITTEN:
        return
    back = MixPlan.from_json(plan.to_json())
    assert (back.height, back.width) == (plan.height, plan.width)
    assert (back.more is None) == (plan.more is None)
    if plan.more is not None:
        np.testing.assert_array_equal(back.more.masks, plan.more.masks)
    for name in ("partner", "weight", "lam", "params", "dense", "moves", "inset", "past", "sources", "weights"):
        there, here = getattr(back, name), getattr(plan, name)
        assert (there is None) == (here is None)
        if here is not None:
            assert there.dtype == here.dtype
            np.testing.assert_array_equal(there, here)


def pixels_and_targets_agree(case: Case, s: Setting, plan: MixPlan) -> None:
    """Image i is of ones in channel i alone, so the mean of each mixed channel is the label share of its source."""
    b, k = s.batch_size, s.interpolations
    if b * b * k * s.height * s.width > 30_000 or s.label == "sampled":
        return
    images = np.zeros((b, b, s.height, s.width), np.float32)
    images[np.arange(b), np.arange(b)] = 1
    before = images.copy()
    past = images[::-1].copy() if plan.recalls else None  # what was mixed before is of one channel an image, too
    mixed = mix_images(images, plan, backend="eager", history=past)
    shares = mixed.astype(np.float64).mean((-2, -1))
    known = None if past is None else past.mean((-2, -1))
    targets = mix_targets(np.arange(b), plan, num_classes=b, history=known)
    np.testing.assert_allclose(targets, shares, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(images, before)


PLAN_CHECKS: tuple[Callable[[Case, Setting, MixPlan], None], ...] = (
    shapes_and_types,
    partner_is_a_permutation,
    weights_in_range_and_falling,
    mask_is_in_range_and_means_the_label,
    shares_of_all_sources_are_those_of_their_masks,
    outputs_are_an_ordered_path,
    outputs_of_a_pair_share_a_centre,
    units_are_what_draw_says,
)
COSTLY_PLAN_CHECKS: tuple[Callable[[Case, Setting, MixPlan], None], ...] = (
    key_is_all_there_is,
    json_keeps_every_bit,
    pixels_and_targets_agree,
)


# ------------------------------------------------------------------------------------------------ checks of one mixer


def with_lambdas(mixer: Mixer, lam: Any, height: int, width: int, step: int = 0) -> MixPlan:
    """A plan of a mixer with K = 1 whose row i has ``lam[i]`` instead of a random one."""
    lam = np.asarray(lam, np.float32).astype(np.float64)[:, None]
    rows = np.arange(len(lam))
    given = pictures(mixer, len(lam), height, width)
    with mock.patch("mixops.mixers.beta.symmetric_beta", lambda u, alpha: lam.copy() if u.ndim == 3 else u[..., 0]):
        return mixer.plan_pairs(Pairs(Key(step=step), np.roll(rows, 1), rows, height, width, **given))


def injected(mixer: Any, lam: Any, cy: Any, cx: Any, height: int, width: int, partner: Any = None) -> MixPlan:
    """A plan with given lambdas (b, k) and centres in pixels (b,), by the mask of a mixer; partners roll by one."""
    lam = np.atleast_2d(np.asarray(lam, np.float64))
    cy, cx = (np.broadcast_to((np.asarray(c) + 0.5) / side, len(lam)) for c, side in ((cy, height), (cx, width)))
    params = mixer.masks(UnitDraws(Key(), lam, cy, cx), height, width)
    partner = np.roll(np.arange(len(lam)), 1) if partner is None else np.array(partner)
    return MixPlan(partner, mask_means(params, height, width), lam, params, height, width)


def finite_at_the_ends(case: Case) -> None:
    """lambda of 0, 1 and next to them: masks in [0, 1], and 1 is the own image, 0 the partner where the mixer says so."""
    tiny = np.finfo(np.float32).tiny
    if not case.of_pairs:
        return
    lam = [0, 1, tiny, 1e-30, 1e-7, 1 - 2.0**-24, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1, 0]
    for height, width in AWKWARD:
        for step in range(3):
            plan = with_lambdas(case.mixer(), lam, *case.fit(height, width), step)
            masks = plan.mask()
            assert np.isfinite(masks).all() and masks.min() >= 0 and masks.max() <= 1
            np.testing.assert_allclose(plan.weight[:, 0], masks.mean((1, 2, 3)), rtol=0, atol=1e-6)
            assert (masks[[1, 8]] == 1).all() and (plan.weight[[1, 8]] == 1).all()
            if case.facts.whole[0]:
                assert (masks[[0, 9]] == 0).all() and (plan.weight[[0, 9]] == 0).all()


def alpha_to_zero_is_the_identity(case: Case) -> None:
    """Beta(0, 0) is a coin: lambda is 0 or 1, and each output one of its two images, bit for bit.

    Where the mixer is not ``whole``, that holds for all outputs with lambda = 1.
    """
    if not case.of_pairs:
        return
    plan = case.plan(case.mixer(1e-9, interpolations=2), Key(4), 64, 5, 6)
    images = np.random.default_rng(0).standard_normal((64, 2, plan.height, plan.width)).astype(np.float32)
    assert set(plan.lam.ravel()) == {0.0, 1.0}
    assert 0.35 < plan.lam.mean() < 0.65
    mixed = mix_images(images, plan).reshape(64, 2, *images.shape[1:])  # (b * k, c, h, w) -> (b, k, c, h, w)
    for i, k in np.ndindex(64, 2):
        if plan.lam[i, k] == 1:
            np.testing.assert_array_equal(mixed[i, k], images[i])
        elif case.facts.whole[1]:
            np.testing.assert_array_equal(mixed[i, k], images[plan.partner[i]])


def every_part_of_the_key_counts(case: Case) -> None:
    """Another seed, epoch, step or rank is another plan, and partners and lambdas of different keys are unrelated."""
    keys = [Key(), Key(1), Key(0, 1), Key(0, 0, 1), Key(0, 0, 0, 1), Key(2**63), Key(0, 2**63), Key(1, 1), Key(0, 1, 1)]
    plans = [case.plan(case.mixer(), key, 32, 16, 16) for key in keys]
    assert len({plan.partner.tobytes() for plan in plans}) == len(keys)
    if case.facts.law is None:
        return
    assert len({plan.lam.tobytes() for plan in plans}) == len(keys)
    lam = np.stack([plan.lam.ravel() for plan in plans])
    assert np.abs(np.corrcoef(lam) - np.eye(len(keys))).max() < 0.75  # 36 pairs of 32 numbers


def lambda_follows_its_law(case: Case) -> None:
    """All lambdas of all outputs, mixed together, are Beta(alpha, alpha), or what else is told, for either ``draw``."""
    if case.facts.law is None:
        return
    for alpha in (0.2, 1.0, 16.0):
        for k, draw, plans, b in ((1, "sample", 8, 488), (4, "sample", 4, 250), (2, "batch", case.plans(300), 2)):
            mixer = case.mixer(alpha, interpolations=k, draw=draw)
            lam = [case.plan(mixer, Key(7, 1, step), b, 4, 4).lam[: b if draw == "sample" else 1] for step in range(plans)]
            p = stats.kstest(np.concatenate(lam).ravel(), case.facts.law(alpha).cdf).pvalue
            assert p > 1e-4, (alpha, k, draw, p)


def rows_and_outputs_are_independent(case: Case) -> None:
    """lambdas of neighbouring rows, of the outputs before sorting, and of row and partner are uncorrelated."""
    if case.facts.law is None:
        return
    steps, b = 32, 400
    lam = np.concatenate([case.plan(case.mixer(), Key(3, step=step), b, 4, 4).lam.reshape(1, b) for step in range(steps)])
    bound = 5 / math.sqrt(lam[:, 1:].size)
    assert abs(np.corrcoef(lam[:, :-1].ravel(), lam[:, 1:].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(lam[:-1].ravel(), lam[1:].ravel())[0, 1]) < bound
    pair = np.concatenate([case.plan(case.mixer(interpolations=2), Key(3, step=step), b, 4, 4).lam for step in range(steps)])
    # of two independent uniforms sorted, Var(sum) = 2 Var, however they are ordered
    assert abs(pair.sum(1).var() / (2 * pair.ravel().var()) - 1) < 5 * math.sqrt(2 / len(pair))


def prob_is_the_share_that_is_mixed(case: Case) -> None:
    """prob = 0 mixes nothing; at 0.3 that share of the units is mixed and the others are their own images."""
    plan = case.plan(case.mixer(prob=0.0, interpolations=2), Key(), 9, 5, 7)
    assert (plan.mask() == 1).all() and (plan.weight == 1).all() and (plan.lam == 1).all()
    images = np.random.default_rng(1).random((9, 3, plan.height, plan.width)).astype(np.float32)
    np.testing.assert_array_equal(mix_images(images, plan), images.repeat(2, 0))
    if not case.facts.paths:  # a row that is mixed may show itself alone
        return
    lam = [case.plan(case.mixer(prob=0.3), Key(step=i), 50, 9, 9).lam for i in range(40)]
    mixed = int((np.concatenate(lam) != 1).sum())
    assert stats.binomtest(mixed, 2000, 0.3).pvalue > 1e-4
    whole = [case.plan(case.mixer(prob=0.5, draw="batch"), Key(step=i), 8, 9, 9).lam for i in range(40)]
    assert all((lam == lam[0]).all() for lam in whole)
    assert 0 < sum(lam[0, 0] == 1 for lam in whole) < 40


def partners_are_uniform(case: Case) -> None:
    """Every other row is equally often the partner of row 0, whatever the lambdas are."""
    if not case.facts.paths:
        return
    b, plans = 5, case.plans(600)
    partner = [case.plan(case.mixer(), Key(11, step=i), b, 1, 1).partner for i in range(plans)]
    for row in range(b):
        counts = np.bincount([p[row] for p in partner], minlength=b)
        assert counts[row] == 0
        assert stats.chisquare(np.delete(counts, row)).pvalue > 1e-4


def centres_are_uniform(case: Case) -> None:
    """E[M] is the mean over all pixels as centres: none of a small image is favoured."""
    if case.facts.formula is None:
        return
    lam = np.full(50, 0.75)
    masks = np.concatenate([with_lambdas(case.mixer(), lam, 6, 8, step).mask()[:, 0] for step in range(80)])
    spread = masks.std(0) / math.sqrt(len(masks))
    exact = np.mean([case.facts.formula([0.75], y, x, 6, 8)[0] for y in range(6) for x in range(8)], axis=0)
    assert (np.abs(masks.mean(0) - exact) <= 5 * spread + 1e-6).all()


def masks_equal_the_formula(case: Case) -> None:
    """From the words of the key, by the formulas of the papers alone, to the masks: in Python, in float64."""
    if case.facts.formula is None:
        return
    for setting in sweep(21, 60):
        h, w, k = min(setting.height, 40), min(setting.width, 40), setting.interpolations
        b = min(setting.batch_size, 3)
        key, alpha = setting.key, setting.alpha
        mixer = case.mixer(alpha, interpolations=k)
        plan = mixer.plan(key, batch_size=b, height=h, width=w)
        order = sorted(range(b), key=reference.words(*_parts(key), 2, b).__getitem__)
        expected_partner = {order[i]: order[(i + 1) % b] for i in range(b)}
        u = reference.uniforms(reference.words(*_parts(key), 3, (4 + 3 * k) * b))
        for position, row in enumerate(order):
            assert plan.partner[row] == expected_partner[row]
            mine = u[(4 + 3 * k) * position :][: 4 + 3 * k]
            lams = sorted((reference.symmetric_beta(*mine[4 + 3 * j : 7 + 3 * j], alpha) for j in range(k)), reverse=True)
            cy, cx = math.floor(mine[2] * h), math.floor(mine[3] * w)
            masks = case.facts.formula(lams, cy, cx, h, w)
            masks.sort(key=lambda m: -m.mean())
            np.testing.assert_allclose(np.sort(plan.lam[row]), sorted(lams), rtol=0, atol=0)
            np.testing.assert_allclose(plan.weight[row], [m.mean() for m in masks], rtol=0, atol=1e-6)
            for j in range(k):
                np.testing.assert_allclose(reference.mask(plan, row, j), masks[j], rtol=0, atol=1e-6)


def _parts(key: Key) -> tuple[int, int, int, int]:
    return key.seed, key.epoch, key.step, key.rank


def applied_equals_reference(case: Case) -> None:
    """Pixels and targets against the loops of ``reference``, by every way to apply a plan on this machine."""
    rng = np.random.default_rng(3)
    for height, width, b, k in ((1, 1, 1, 1), (5, 9, 3, 2), (16, 7, 4, 3)):
        plan = case.plan(case.mixer(interpolations=k), Key(2, b, k), b, height, width)
        images = rng.standard_normal((b, 3, plan.height, plan.width)).astype(np.float32)
        past = rng.standard_normal((b + 1, 3, plan.height, plan.width)).astype(np.float32)
        expected = reference.mix_images(images, plan, history=past)
        for backend in (None, "eager"):
            mixed = mix_images(images, plan, backend=backend, history=past)
            np.testing.assert_allclose(mixed, expected, rtol=0, atol=2e-6)
        labels, known = rng.integers(0, 4, b), rng.random((b + 1, 4)).astype(np.float32)
        expected = reference.mix_targets(labels, plan, 4, 0.1, known)
        targets = mix_targets(labels, plan, num_classes=4, smoothing=0.1, history=known)
        np.testing.assert_allclose(targets, expected, rtol=0, atol=1e-6)


def the_call_is_plan_then_mix(case: Case) -> None:
    """Mixed as a batch, in the place of a collate function, from the same needs as a plan."""
    mixer, (height, width) = case.mixer(interpolations=2), case.fit(9, 8)
    images, labels = np.random.default_rng(4).random((6, 3, height, width), np.float32), np.arange(6) % 4
    given = {name: value for name, value in pictures(mixer, 6, height, width).items() if name != "images"}
    past, known = np.random.default_rng(5).random((12, 3, height, width), np.float32), np.eye(12, 4, dtype=np.float32)
    options = {"num_classes": 4, "smoothing": 0.1}
    mixed, targets = mixer(images, labels, key=Key(1, 2, 3), history=(past, known), **options, **given)
    plan = mixer.plan(Key(1, 2, 3), batch_size=6, height=height, width=width, images=images, **given)
    np.testing.assert_array_equal(mixed, mix_images(images, plan, history=past[::2]))
    np.testing.assert_array_equal(targets, mix_targets(labels, plan, history=known[::2], **options))


def says_what_it_needs(case: Case) -> None:
    """Nothing but what it needs changes a plan, and without it there is none."""
    mixer, (height, width) = case.mixer(), case.fit(6, 8)
    size = {"batch_size": 5, "height": height, "width": width}
    rng = np.random.default_rng(1)
    given = {"images": rng.random((5, 3, height, width)), "saliency": rng.random((5, height, width))}
    assert mixer.needs <= {*given, "history"} and ("history" in mixer.needs) == (mixer.period > 1)
    needed = {name: given[name] for name in mixer.needs & given.keys()}
    assert mixer.plan(Key(), **size, **needed).to_json() == mixer.plan(Key(), **size, **given).to_json()
    for name in needed:
        with pytest.raises(ValueError, match=f"{name} must be given"):
            mixer.plan(Key(), **size, **{other: value for other, value in given.items() if other != name})
    assert mixer.constant is False or mixer.plan(Key(), **size, **needed).constant


def is_a_value(case: Case) -> None:
    """Equal mixers are equal, hash alike, pickle, and print as the code that makes them."""
    for options in ({}, {"interpolations": 3}, {"draw": "batch", "prob": 0.25}):
        mixer, same = case.mixer(0.7, **options), case.mixer(0.7, **options)
        assert mixer == same and hash(mixer) == hash(same)
        assert pickle.loads(pickle.dumps(mixer)) == mixer
        assert parse_mixer(repr(mixer)) == mixer
        assert mixer != case.mixer(0.6, **options)
        assert mixer.replace(interpolations=2).interpolations == 2


def matching_changes_partners_only(case: Case) -> None:
    """With a matching the partner is a permutation within blocks, and a block is one unit of draw="sample"."""
    if case.example.period > 1:
        with pytest.raises(ValueError, match="matching must be None for a mixer whose partners were mixed before"):
            case.mixer(matching=OptimalMatching(k=3))
        return
    mixer = case.mixer(interpolations=2, matching=OptimalMatching(k=3))
    assert mixer.needs == case.example.needs | {"images"}
    plan = case.plan(mixer, Key(1), 10, 6, 6)
    partner_is_a_permutation(case, Setting(1, 10, 6, 6, 2, "sample", "mask", 1, Key(1)), plan)
    assert case.facts.law is None or len({row.tobytes() for row in plan.lam}) == 4  # blocks of 3, 3, 3 and 1
    np.testing.assert_allclose(plan.weight, plan.mask().mean((2, 3)), rtol=0, atol=1e-6)
    one, plain = (case.plan(mixer.replace(matching=m), Key(1), 10, 6, 6) for m in (OptimalMatching(k=1), None))
    np.testing.assert_array_equal(one.partner, plain.partner)
    np.testing.assert_array_equal(one.params, plain.params)


MIXER_CHECKS: tuple[Callable[[Case], None], ...] = (
    finite_at_the_ends,
    alpha_to_zero_is_the_identity,
    every_part_of_the_key_counts,
    lambda_follows_its_law,
    rows_and_outputs_are_independent,
    prob_is_the_share_that_is_mixed,
    partners_are_uniform,
    centres_are_uniform,
    masks_equal_the_formula,
    applied_equals_reference,
    the_call_is_plan_then_mix,
    says_what_it_needs,
    is_a_value,
    matching_changes_partners_only,
)
DRAWS = (
    every_part_of_the_key_counts,
    lambda_follows_its_law,
    rows_and_outputs_are_independent,
    prob_is_the_share_that_is_mixed,
    partners_are_uniform,
)
"""Those that look at what is drawn, of many plans."""
