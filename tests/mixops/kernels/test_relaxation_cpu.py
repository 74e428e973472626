"""The dual ascent in compiled code has the bits of torch's operations."""

from __future__ import annotations

import pytest
import torch

from mixops.kernels.relaxation_cpu import relax
from mixops.mixers.saliency import puzzle_masks
from mixops.mixers.saliency.puzzle_masks import MaskProblem


@pytest.mark.parametrize("labels", [2, 3, 5])
@pytest.mark.parametrize(("n", "b"), [(1, 2), (2, 5), (3, 1), (5, 13), (16, 33)])
def test_bits_are_those_of_torchs_operations(n: int, b: int, labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(n)
    own, partner, down, right = (
        torch.rand(shape, generator=generator) for shape in ((b, n, n), (b, n, n), (b, n - 1, n), (b, n, n - 1))
    )
    problem = MaskProblem(own / n**2, partner / n**2, down / (16 * n), right / (16 * n))
    u, _, down, right = puzzle_masks.start(problem, labels, 0.2)
    for sweeps in (1, 7):
        monkeypatch.setattr(puzzle_masks, "SWEEPS", sweeps)
        expected = puzzle_masks.ascend(u.clone(), down, right)
        found = u.clone()
        assert relax(found, down, right, sweeps, puzzle_masks.RELAXATION) is found
        assert torch.equal(found, expected) and (n == 1 or not torch.equal(found, u))


def test_what_is_no_number_stays_none() -> None:
    u, down, right = torch.ones(2, 3, 3, 4), torch.ones(2, 3, 4), torch.ones(3, 2, 4)
    u[0, 1, 1, 2] = torch.nan
    expected = puzzle_masks.ascend(u.clone(), down, right)
    found = relax(u.clone(), down, right, puzzle_masks.SWEEPS, puzzle_masks.RELAXATION)
    assert torch.equal(found.isnan(), expected.isnan()) and torch.equal(found[..., 0], expected[..., 0])
