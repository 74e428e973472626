"""Makes the table of docs/recipes.md from the recipe files: ``python docs/recipes.py``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "imagenet"
FILE = ROOT / "docs" / "recipes.md"
BEGIN, END = "<!-- made by docs/recipes.py -->\n", "<!-- end -->\n"
HEAD = ("recipe", "model, epochs", "ranks x batch", "optimiser", "learning rate", "images", "augmentation", "mixing", "loss")


def read(file: Path) -> Any:
    """The recipe of a file, its values as the command line would read them."""
    for folder in (ROOT, EXAMPLE):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    import typer
    from recipe import Recipe, read_values

    command = typer.main.get_command_from_info(
        typer.models.CommandInfo(name="train", callback=_command(Recipe)),
        pretty_exceptions_short=True,
        rich_markup_mode=None,
    )
    with command.make_context("train", ["--train", "", "--val", ""], default_map=read_values(file)) as context:
        return Recipe(**context.params)


def _command(kind: type) -> Any:
    from inspect import signature

    def command(**options: Any) -> None: ...

    command.__signature__ = signature(kind, eval_str=True)  # type: ignore[attr-defined]
    return command


def ranks(file: Path) -> int:
    """How many GPUs the first line of a recipe says."""
    line = file.read_text().splitlines()[0]
    nodes, one = re.search(r"(\d+) nodes of", line), "one GPU" in line
    gpus = re.search(r"(\d+) GPUs", line)
    return 1 if one or gpus is None else int(gpus[1]) * (int(nodes[1]) if nodes else 1)


def row(file: Path) -> tuple[str, ...]:
    """The cells of a recipe."""
    r, n = read(file), ranks(file)
    decay = {"vectors": "matrices", "norms": "all but norms", "none": "all"}[r.no_decay]
    optimizer = {"sgd": "SGD, Nesterov" if r.nesterov else "SGD", "adamw": "AdamW", "lamb": "LAMB"}[r.optimizer]
    if r.schedule == "linear":
        rate = r.lr_points
    else:
        rate = (
            f"{r.lr:g}, x{r.decay_rate:g} at {r.milestones}" if r.schedule == "step" else f"{r.lr:g} to {r.min_lr:g}, cosine"
        )
        rate += f"; {r.warmup_epochs:g} of warm-up from {r.warmup_lr:g}" if r.warmup_epochs else ""
        rate += f", by {r.lr_by}" if r.schedule == "cosine" else ""
    loss = "cross-entropy" if r.loss == "ce" else f"binary, targets > {r.bce_threshold:g}"
    mixing = r.mixer
    if r.tuples:
        mixing = f"MultiMix({r.tuples}{', dense' if r.dense else ''}), p = {r.multimix_prob:g}, else {r.mixer}"
    crop = f"{r.interpolation}, from {r.min_scale:g}" if r.crop == "resized" else "padded by 4"
    return (
        f"`{file.stem}`",
        f"{r.model}{', blurpool' if r.blurpool else ''}{', small stem' if r.small_stem else ''}, {r.epochs}",
        f"{n} x {r.batch_size}",
        f"{optimizer}, {r.weight_decay:g} on {decay}",
        rate,
        f"{r.sizes}{' ramp' if r.size_ramp else ''} {crop}; val {r.val_size} of {r.val_resize or round(r.val_size / 0.875)} "
        f"{r.val_interpolation}",
        r.augment + (f", repeats {r.repeats}" if r.repeats > 1 else ""),
        mixing,
        loss
        + (f", smoothing {r.smoothing:g}" if r.smoothing else "")
        + (f", clean {r.clean_loss:g}" if r.clean_loss else "")
        + (f", drop path {r.drop_path:g}" if r.drop_path else "")
        + (f", average {r.ema:.6g}" if r.ema else ""),
    )


def table() -> str:
    """A line for each recipe."""
    lines = [HEAD, ("---",) * len(HEAD), *(row(file) for file in sorted((EXAMPLE / "recipes").glob("*.ini")))]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def page() -> str:
    """The page with its table made anew."""
    text = FILE.read_text()
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    FILE.write_text(page())
