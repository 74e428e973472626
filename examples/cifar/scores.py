"""What is measured of a trained net: the columns of the papers' tables, on the test images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mixstage.mixops import Key
from mixstage.mixops.key import Stream
from mixstage.mixops.measures import alignment, detection, fgsm, pgd, reliability, uniformity

from .data import MEAN, STD, Images
from .networks import PreActResNet
from .train import batches

ATTACKED = 20
"""One test image of so many is attacked: an attack of ten steps costs ten passes forward and back."""
_NOISE = 0.1


Bins = dict[str, list[float]]
"""The reliability diagram: images, mean confidence and accuracy of ten bins."""


def scores(net: PreActResNet, test: Images, unknown: Images | None, device: torch.device) -> tuple[dict[str, float], Bins]:
    """The figures of a net by name, in percent but for the negative log-likelihood, alignment and uniformity; the diagram.

    ``unknown`` are images of other classes, for the area under the ROC curve of the largest softmax.
    """
    embedding, logits, labels = answers(net, test, device)
    confidence = logits.double().softmax(1).amax(1).clamp(max=1)
    right = logits.argmax(1) == labels
    bins = reliability(confidence, right)
    figures = {
        "top-1": 100 * right.double().mean().item(),
        "ECE": 100 * bins.error,
        "NLL": cross_entropy(logits.double(), labels).item(),
        **attacked(net, Images(test.pixels[::ATTACKED], test.labels[::ATTACKED], test.classes), device),
        "error, noise": 100 * (1 - noisy(net, test, device)),
        "alignment": alignment(embedding, labels),
        "uniformity": uniformity(embedding),
    }
    if unknown is not None:
        _, others, _ = answers(net, unknown, device)
        figures["AUROC"] = 100 * detection(confidence, others.double().softmax(1).amax(1).clamp(max=1)).auroc
    columns = {"count": bins.count, "confidence": bins.confidence, "accuracy": bins.accuracy}
    return figures, {name: values.tolist() for name, values in columns.items()}


@torch.no_grad()
def answers(net: PreActResNet, images: Images, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, logits and labels of all images, on the CPU."""
    rows = [(seen := net.embed(batch), net.fc(seen), labels) for batch, labels in batches(images, device)]
    embedding, logits, labels = (torch.cat([row[i].cpu() for row in rows]) for i in range(3))
    return embedding, logits, labels


def attacked(net: PreActResNet, images: Images, device: torch.device) -> dict[str, float]:
    """Errors under FGSM of 8/255 and PGD of 4/255 in ten steps of 2/255."""
    wrong = torch.zeros(2, dtype=torch.float64)
    for batch, labels in batches(images, device):
        changed = (
            fgsm(net, batch, labels, eps=8 / 255, mean=MEAN, std=STD),
            pgd(net, batch, labels, eps=4 / 255, step=2 / 255, iterations=10, mean=MEAN, std=STD),
        )
        with torch.no_grad():
            wrong += torch.tensor([int((net(x).argmax(1) != labels).sum()) for x in changed])
    share = 100 * wrong / len(images.labels)
    return {"error, FGSM": share[0].item(), "error, PGD": share[1].item()}


@torch.no_grad()
def noisy(net: PreActResNet, images: Images, device: torch.device) -> float:
    """The share of right answers on pixels with Gaussian noise of 0.1 of their range, the same for every net."""
    right, std = 0, torch.tensor(STD).view(1, 3, 1, 1)
    for number, (batch, labels) in enumerate(batches(images, device)):
        generator = torch.Generator().manual_seed(int(Key(0, 0, number).words(Stream.NOISE, 1)[0] >> 1))
        noise = torch.randn(batch.shape, generator=generator) * (_NOISE / std)
        right += int((net(batch + noise.to(device)).argmax(1) == labels).sum())
    return right / len(images.labels)
