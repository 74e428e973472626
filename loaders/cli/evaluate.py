"""``mixstage evaluate``: what papers report of a trained model, for a checkpoint and a folder of images.

Accuracy, calibration with its diagram, alignment and uniformity of the embeddings, and where they are asked for the error
under attack and how well unknown images are told from known ones. A checkpoint is a ``state_dict``, alone or under "model"
or "state_dict" as training scripts write it; names may begin with what data parallelism and compilation put before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.measures import alignment, detection, fgsm, pgd, reliability, uniformity
from mixops.measures.calibration import Reliability

from ..figures import Json, check_output, console_for, print_table, write_json
from ..image_loader import ImageLoader
from .models import load_model

_EMBEDDINGS = 10_000  # pairs are as many squared


@dataclass(frozen=True)
class Answers:
    """What a model said of each image: the embedding before its last layer, the largest softmax, and whether it is right."""

    embedding: Tensor
    confidence: Tensor
    labels: Tensor
    right: Tensor
    right_in_five: Tensor
    attacked: dict[str, Tensor]


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A state_dict that torch.save wrote.", exists=True, dir_okay=False)],
    data: Annotated[Path, typer.Argument(help="Labelled images that the model was not trained on.")],
    ood: Annotated[Path | None, typer.Option(help="Images of what the model does not know.")] = None,
    model: Annotated[
        str, typer.Option(help="As in mixstage train: small, or the name of a model of torchvision or timm.")
    ] = "resnet18",
    size: Annotated[int, typer.Option(min=1, help="Side of the images in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    bins: Annotated[int, typer.Option(min=1, help="Of the calibration error.")] = 10,
    attack: Annotated[
        bool, typer.Option(help="Error under FGSM (8/255) and PGD (4/255), which takes a dozen passes.")
    ] = False,
    backend: Annotated[str, typer.Option(help="dali, ffcv or torchvision.")] = "dali",
    device: Annotated[str | None, typer.Option(help="cuda or cpu; by default what is there.")] = None,
    diagram: Annotated[Path | None, typer.Option(help="Draw the reliability diagram to this file.")] = None,
    json_file: Json = None,
) -> None:
    """Print what papers report of a trained model: accuracy, calibration, embeddings, robustness, unknown images."""
    check_output("diagram", diagram)
    options: dict[str, Any] = {
        "backend": backend, "size": size, "batch_size": batch_size, "split": "val", "device": device,
    }  # fmt: skip
    with ImageLoader(data, **options) as loader:
        net = load_model(checkpoint, model, loader.num_classes).to(loader.device).eval()
        answers = answer(net, loader, attack=attack, describe="evaluating")
    found = reliability(answers.confidence, answers.right, bins=bins)
    figures = measures(answers, found)
    if ood is not None:
        with ImageLoader(ood, **options) as unknown:
            theirs = answer(net, unknown, attack=False, describe="unknown images", known=False)
        detected = detection(answers.confidence, theirs.confidence)
        names = ("detection accuracy, %", "AUROC, %", "AUPR of known, %", "AUPR of unknown, %")
        figures |= {name: 100 * value for name, value in zip(names, asdict(detected).values(), strict=True)}
    rows = [[name, f"{value:.3f}"] for name, value in figures.items()]
    title = f"{checkpoint.name} on {len(answers.labels)} images"
    print_table(console_for(json_file), ["measure", "value"], rows, title)
    if diagram is not None:
        draw_reliability(diagram, found)
    write_json(json_file, {"images": len(answers.labels), **figures})


def measures(answers: Answers, found: Reliability) -> dict[str, float]:
    """The figures of a model by name; of many images the first ``_EMBEDDINGS`` embeddings are compared."""
    embedding, labels = answers.embedding[:_EMBEDDINGS], answers.labels[:_EMBEDDINGS]
    figures = {
        "top-1, %": 100 * answers.right.float().mean().item(),
        "top-5, %": 100 * answers.right_in_five.float().mean().item(),
        f"ECE ({len(found.count)} bins), %": 100 * found.error,
        "alignment (lower is better)": alignment(embedding, labels),
        "uniformity (lower is better)": uniformity(embedding),
    }
    figures |= {
        f"error under {name}, %": 100 * (1 - right.float().mean().item()) for name, right in answers.attacked.items()
    }
    return figures


def answer(net: nn.Module, loader: ImageLoader, *, attack: bool, describe: str, known: bool = True) -> Answers:
    """Runs the model over all images. Labels of images that it does not ``know`` are not its classes."""
    rows: list[tuple[Tensor, ...]] = []
    attacked: dict[str, list[Tensor]] = {}
    normal: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    with Progress(console=Console(stderr=True), transient=True) as progress, _embedding(net) as seen:
        for images, labels in progress.track(loader, total=len(loader), description=describe):
            with torch.no_grad():
                logits = net(images).float()
            best = logits.topk(min(5, logits.shape[1]), 1).indices
            right = best == labels[:, None] if known else torch.zeros_like(best, dtype=torch.bool)
            sure = logits.double().softmax(1).amax(1).clamp(max=1)
            rows.append(tuple(x.cpu() for x in (seen[-1], sure, labels, right[:, 0], right.any(1))))
            if attack:
                for name, changed in (
                    ("FGSM 8/255", fgsm(net, images, labels, eps=8 / 255, **normal)),
                    ("PGD 4/255", pgd(net, images, labels, eps=4 / 255, step=2 / 255, **normal)),
                ):
                    with torch.no_grad():
                        attacked.setdefault(name, []).append((net(changed).argmax(1) == labels).cpu())
    embedding, confidence, labels, right, right_in_five = (torch.cat(column) for column in zip(*rows, strict=True))
    under = {name: torch.cat(parts) for name, parts in attacked.items()}
    return Answers(embedding, confidence, labels, right, right_in_five, under)


@contextmanager
def _embedding(net: nn.Module) -> Iterator[list[Tensor]]:
    """A list whose last item is what the model's last linear layer was last given, (b, d)."""
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise ValueError("model must have a linear layer, whose input is the embedding, got none")
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = [inputs[0].detach().float().flatten(1)]

    handle = linear[-1].register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def draw_reliability(path: Path, found: Reliability) -> None:
    """Accuracy against confidence, a bar a bin, with the gap to the diagonal, and below it how many answers there are."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the diagram needs matplotlib: pip install 'mixstage[bench]'") from error
    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot

    bins = len(found.count)
    left, width = np.arange(bins) / bins, 1 / bins
    accuracy, middle = np.nan_to_num(found.accuracy), np.where(found.count > 0, found.confidence, left + width / 2)
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(4, 5), height_ratios=(3, 1), sharex=True, layout="constrained")
    upper.bar(left, accuracy, width, align="edge", color="#4878a8", edgecolor="white", label="accuracy")
    full = found.count > 0
    upper.vlines(middle[full], accuracy[full], middle[full], color="#c44e52", label="gap to confidence")
    upper.plot([0, 1], [0, 1], color="#303030", linewidth=0.8, linestyle="--")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"ECE {100 * found.error:.2f} %")
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(left, found.count / found.count.sum(), width, align="edge", color="#a0a0a0", edgecolor="white")
    lower.set(xlabel="confidence", ylabel="share of answers")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
