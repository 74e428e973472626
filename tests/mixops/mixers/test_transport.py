"""Puzzle-mix's transport: permutations, the exact assignment against scipy, the auction against the exact one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from mixops.mixers.saliency.transport import auction, complete, exact_assignment, transport_blocks


def problems(count: int, n: int, peak: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Saliency shares, the more uneven the larger ``peak``, and coherent visible regions of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    saliency = torch.rand(count, n * n, generator=generator) ** peak
    field = torch.nn.functional.avg_pool2d(torch.randn(count, 1, n + 2, n + 2, generator=generator), 3, 1)
    level = torch.randn(count, 1, 1, 1, generator=generator) / 3
    return saliency / saliency.sum(1, keepdim=True), (field > level).flatten(1)


def distances(n: int) -> np.ndarray:
    y, x = divmod(np.arange(n * n), n)
    return ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / max(n - 1, 1) ** 2


def gains(source: torch.Tensor, saliency: torch.Tensor, visible: torch.Tensor, t_eps: float) -> np.ndarray:
    """What each problem gains over nobody moving, in float64, place by place."""
    n = round(saliency.shape[1] ** 0.5)
    cost, s, found = t_eps * distances(n), saliency.double().numpy(), []
    for p in range(len(s)):
        places = np.flatnonzero(visible[p].numpy())
        shown = source[p, places].numpy()
        found.append((s[p, shown] - s[p, places] - cost[places, shown]).sum())
    return np.array(found)


def best_by_scipy(saliency: torch.Tensor, visible: torch.Tensor, t_eps: float) -> torch.Tensor:
    n = round(saliency.shape[1] ** 0.5)
    cost, source = t_eps * distances(n), torch.full(saliency.shape, -1)
    for p in range(len(saliency)):
        places = np.flatnonzero(visible[p].numpy())
        source[p, places] = torch.from_numpy(linear_sum_assignment(cost[places] - saliency[p].double().numpy())[1])
    return source


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_threads_share_the_problems(threads):
    saliency, visible = problems(31, 8, 4)
    source = exact_assignment(saliency, visible, 0.8)
    one_by_one = [exact_assignment(saliency[p : p + 1], visible[p : p + 1], 0.8) for p in range(31)]
    assert torch.equal(source, torch.cat(one_by_one))


def assert_permutations(source: torch.Tensor) -> None:
    assert (source.sort(1).values == torch.arange(source.shape[1])).all()


@pytest.mark.parametrize("n", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("peak", [1, 4, 16])
@pytest.mark.parametrize("t_eps", [0.0, 0.05, 0.8])
def test_the_exact_assignment_is_scipys(n, peak, t_eps):
    saliency, visible = problems(12 if n == 16 else 40, n, peak)
    source = exact_assignment(saliency, visible, t_eps)
    assert ((source >= 0) == visible).all()
    found = gains(source, saliency, visible, t_eps)
    np.testing.assert_allclose(found, gains(best_by_scipy(saliency, visible, t_eps), saliency, visible, t_eps), atol=1e-12)
    moved = transport_blocks(saliency, visible, t_eps)
    assert_permutations(moved)
    np.testing.assert_allclose(gains(moved, saliency, visible, t_eps), found, atol=1e-12)


def test_four_blocks_by_trying_all_orders():
    saliency, visible = problems(60, 2, 6)
    cost = 0.3 * distances(2)
    best = []
    for p in range(60):
        places = np.flatnonzero(visible[p].numpy())
        totals = [
            sum(float(saliency[p, i]) - cost[j, i] for j, i in zip(places, order, strict=False))
            for order in itertools.permutations(range(4), len(places))
        ]
        best.append(max(totals) - float(saliency[p, places].double().sum()))
    found = gains(exact_assignment(saliency, visible, 0.3), saliency, visible, 0.3)
    np.testing.assert_allclose(found, best, atol=1e-6)
    assert found.max() > 0


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_the_auction_comes_near_and_gives_permutations(n):
    for peak in (1, 4, 12):
        saliency, visible = problems(8 if n == 16 else 60, n, peak, seed=n)
        source = auction(saliency, visible, 0.8)
        assert ((source >= 0) == visible).all()
        whole = complete(source)
        assert_permutations(whole)
        exact = gains(exact_assignment(saliency, visible, 0.8), saliency, visible, 0.8)
        assert gains(whole, saliency, visible, 0.8).sum() >= 0.98 * exact.sum()


def test_peers_greedy_rounds_lose_blocks_and_this_does_not():
    """The authors' rounds: each block takes its best place, each place its best block, losers pay 1 and try again."""
    saliency, visible = problems(20, 8, 4)
    cost = 0.8 * torch.from_numpy(distances(8)) - saliency[:, :, None].double() * visible[:, None]
    for _ in range(8):
        plan = torch.zeros_like(cost).scatter_(2, cost.argmin(2, keepdim=True), 1)
        kept = torch.zeros_like(cost).scatter_(1, (plan * cost).argmin(1, keepdim=True), 1) * plan
        cost = cost + (1 - kept) * plan
    assert (kept.sum(1) != 1).any(), "the greedy rounds are known not to give permutations"
    assert_permutations(transport_blocks(saliency, visible, 0.8))


@given(
    n=st.integers(1, 5), rows=st.integers(1, 4), seed=st.integers(0, 99), t_eps=st.sampled_from([0.0, 0.01, 0.8, 50.0]),
    share=st.sampled_from([0.0, 0.3, 1.0]), equal=st.booleans(),
)  # fmt: skip
@settings(max_examples=40)
def test_any_problem_gives_permutations(n, rows, seed, t_eps, share, equal):
    generator = torch.Generator().manual_seed(seed)
    saliency = torch.rand(rows, n * n, generator=generator).round(decimals=1 if equal else 6) / n**2
    visible = torch.rand(rows, n * n, generator=generator) < share
    exact = transport_blocks(saliency, visible, t_eps)
    bought = complete(auction(saliency, visible, t_eps))
    for source in (exact, bought):
        assert_permutations(source)
    best = gains(best_by_scipy(saliency, visible, t_eps), saliency, visible, t_eps)
    np.testing.assert_allclose(gains(exact, saliency, visible, t_eps), best, atol=1e-9)
    if share in (0.0, 1.0):  # nothing to bring in, or nothing to see
        assert (exact == torch.arange(n * n)).all()


def test_completing_keeps_what_is_there_and_own_blocks_where_they_are_left():
    source = torch.tensor([[-1, 0, -1, -1], [-1, -1, -1, -1], [3, -1, -1, -1]])
    assert complete(source).tolist() == [[1, 0, 2, 3], [0, 1, 2, 3], [3, 1, 2, 0]]


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"t_eps must be at least 0, got -1"):
        transport_blocks(torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool), -1)
    with pytest.raises(ValueError, match="saliency must have a square number of blocks, got 5"):
        transport_blocks(torch.ones(1, 5), torch.ones(1, 5, dtype=torch.bool), 0.8)
