"""Problems for puzzle-mix's solver, random and real, and the exact solver they are judged by.

Real problems are handwritten digits of scikit-learn, enlarged to 32 x 32, under the input gradients of a small network that
was trained on them. The judge is PyMaxflow: a mask of M + 1 labels is a binary cut of M layers, and minimum cuts are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from mixops.mixers.saliency.gradient import gradient_saliency
from mixops.mixers.saliency.puzzle_masks import EPSILON, MaskProblem, block_saliency, mask_problem

SIDE = 32


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images in [0, 1] and the saliency of each."""

    images: Float[Tensor, "b c h w"]
    saliency: Float[Tensor, "b h w"]

    def problem(self, n: int) -> MaskProblem:
        """The mask problems of each image with the next, the authors' weights."""
        partner = torch.arange(len(self.images)).roll(-1)
        return mask_problem(block_saliency(self.saliency, n), self.images, partner, torch.ones(self.images.shape[1]))


def random_pictures(count: int, seed: int = 0) -> Pictures:
    """Noise of several scales under saliencies from even to sharply peaked."""
    generator = torch.Generator().manual_seed(seed)

    def noise(channels: int) -> Tensor:
        scales = [torch.randn(count, channels, SIDE // s, SIDE // s, generator=generator) for s in (1, 2, 4, 8)]
        return torch.stack([interpolate(x, size=SIDE, mode="bilinear", antialias=False) for x in scales]).sum(0)

    peak = torch.rand(count, 1, 1, generator=generator) * 3
    return Pictures(noise(3).sigmoid(), (noise(1)[:, 0] * peak).exp())


def load_digits() -> tuple[Float[Tensor, "b 1 h w"], Int64[Tensor, " b"]]:
    """The 1797 digits in [0, 1], enlarged to 32 x 32, and their labels."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: pip install 'mixstage[demo]'") from error
    images, labels = datasets.load_digits(return_X_y=True)
    small = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    return interpolate(small, size=SIDE, mode="bilinear").clamp_(0, 1), torch.from_numpy(labels).long()


def train_digits(images: Float[Tensor, "b 1 h w"], labels: Int64[Tensor, " b"], steps: int = 80, seed: int = 0) -> nn.Module:
    """A small network trained on the digits, in evaluation mode; global random state is left as it was."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(steps):
            rows = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model.eval()


def digit_pictures(count: int, seed: int = 0) -> Pictures:
    """Digits under the input gradients of a network trained on all of them."""
    images, labels = load_digits()
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    saliency = gradient_saliency(train_digits(images, labels), images[rows], labels[rows])
    return Pictures(images[rows], saliency)


def mask_energies(
    problem: MaskProblem, mask: Float[Tensor, "b k n n"], lam: Float[Tensor, "b k"], n_labels: int, eta: float
) -> Float[Tensor, "b k"]:
    """The energy that each mask has under its lambda, in float64."""
    m, layers, n = mask.double(), n_labels - 1, mask.shape[-1]
    own, partner, down, right = (x.double()[:, None] for x in _tensors(problem))
    odds = torch.stack([torch.log(lam.double() + EPSILON), torch.log(1 - lam.double() + EPSILON)])[..., None, None]
    label = (m * layers).round()
    choose = torch.tensor([math.log(math.comb(layers, i)) for i in range(n_labels)], dtype=torch.float64)
    prior = choose[label.long()] + label * odds[0] + (layers - label) * odds[1]
    energy = (m * own + (1 - m) * partner - eta / n**2 * prior).sum((2, 3))
    return energy + (down * m.diff(dim=2) ** 2).sum((2, 3)) + (right * m.diff(dim=3) ** 2).sum((2, 3))


def exact_masks(problem: MaskProblem, lam: Float[Tensor, "b k"], n_labels: int, eta: float) -> Float[Tensor, "b k n n"]:
    """The masks of least energy, one minimum cut after the other."""
    try:
        import maxflow
    except ImportError as error:
        raise ImportError("the exact solver is PyMaxflow: pip install 'mixstage[dev]'") from error
    layers, n = n_labels - 1, problem.own.shape[-1]
    own, partner, down, right = (x.double().numpy() for x in _tensors(problem))
    node = np.arange(layers * n * n).reshape(layers, n, n)
    ends: list[tuple[np.ndarray, np.ndarray]] = []
    for i in range(layers):
        for j in range(layers):
            ends += [(node[i, :-1].ravel(), node[j, 1:].ravel()), (node[i, :, :-1].ravel(), node[j, :, 1:].ravel())]
    tails, heads = (np.concatenate(side) for side in zip(*ends, strict=True))
    degree = np.zeros_like(own)
    degree[:, :-1] += down
    degree[:, 1:] += down
    degree[:, :, :-1] += right
    degree[:, :, 1:] += right
    choose = np.diff([math.log(math.comb(layers, i)) for i in range(n_labels)])[:, None, None]
    step = (2 * np.arange(layers) + 1 - layers)[:, None, None] / layers**2
    odds = np.log(lam.double().numpy() + EPSILON) - np.log(1 - lam.double().numpy() + EPSILON)
    masks = np.empty((*lam.shape, n, n))
    for b in range(len(lam)):
        weights = np.tile(np.concatenate([down[b].ravel(), right[b].ravel()]), layers**2) / layers**2
        fixed = (own[b] - partner[b]) / layers - eta / n**2 * choose + degree[b] * step
        for k in range(lam.shape[1]):
            cost = fixed - eta / n**2 * odds[b, k]  # of layer i being 1
            graph = maxflow.GraphFloat(node.size, len(tails))
            graph.add_grid_nodes(node.shape)
            graph.add_edges(tails, heads, weights, weights)
            graph.add_grid_tedges(node, np.maximum(-cost, 0), np.maximum(cost, 0))
            graph.maxflow()
            masks[b, k] = (~graph.get_grid_segments(node)).sum(0) / layers
    return torch.from_numpy(masks)


def best_constant_energies(
    problem: MaskProblem, lam: Float[Tensor, "b k"], n_labels: int, eta: float
) -> Float[Tensor, "b k"]:
    """The least energy of a mask that has one value everywhere: what a solver has to improve upon."""
    whole = torch.ones(*lam.shape, *problem.own.shape[-2:], dtype=torch.float64)
    values = [mask_energies(problem, whole * i / (n_labels - 1), lam, n_labels, eta) for i in range(n_labels)]
    return torch.stack(values).amin(0)


def _tensors(problem: MaskProblem) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return problem.own, problem.partner, problem.vertical, problem.horizontal
