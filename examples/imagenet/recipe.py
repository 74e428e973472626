"""A recipe: every option of a training run, from the command line and from a file of ``name = value`` lines.

The command line wins over the file, the file over the defaults here. ``recipes/`` has the files. Options that timm's or
torchvision's training script has, too, have its name and meaning.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from mixstage.mixops.mixers.base import Mixer
from mixstage.mixops.mixers.registry import parse_mixer
from mixstage.mixops.runtime.checks import check_choice

FOLDER = Path(__file__).parent / "recipes"
CHOICES = {
    "optimizer": ("sgd", "adamw", "lamb"),
    "no_decay": ("vectors", "norms", "none"),
    "schedule": ("cosine", "step", "linear"),
    "lr_by": ("step", "epoch"),
    "loss": ("ce", "bce"),
    "crop": ("resized", "padded"),
}


def read_file(context: typer.Context, name: str) -> str:
    """Makes the values of a recipe file the defaults of the options. ``name`` is a file, or one in ``recipes/``."""
    if name:
        file = Path(name) if Path(name).is_file() else FOLDER / f"{name}.ini"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.ini")))
            raise typer.BadParameter(f"{name} must be a file or one of {known}")
        context.default_map = read_values(file)
    return name


def read_values(file: Path) -> dict[str, str]:
    """The options that a file sets. Raises ``typer.BadParameter`` naming what is no option, or cannot be read."""
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes="#")
    try:
        parser.read_string("[recipe]\n" + file.read_text())
    except configparser.Error as error:
        raise typer.BadParameter(f"{file} must have lines of name = value: {error}") from None
    values = dict(parser["recipe"])
    unknown = values.keys() - {field.name for field in fields(Recipe)} | set(parser.sections()) - {"recipe"}
    if unknown:
        raise typer.BadParameter(f"{file} must set options of train.py, got {', '.join(sorted(unknown))}")
    return values


@dataclass(frozen=True)
class Recipe:
    """The options of a run; paths may be folders of class folders, tar shards ("train-{0000..1023}.tar") or .beton files.

    Raises ``ValueError`` naming options that contradict each other.
    """

    train: Annotated[str, typer.Option(help="Training images.")]
    val: Annotated[str, typer.Option(help="Validation images.")]
    config: Annotated[str, typer.Option(is_eager=True, callback=read_file, help="A recipe: a file or its name.")] = ""
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and TensorBoard.")] = Path("out")
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT/last.pt if it is there.")] = False
    # the model
    model: Annotated[str, typer.Option(help="A timm model.")] = "resnet50"
    drop_path: float = 0.0
    blurpool: Annotated[bool, typer.Option(help="Blur before convolutions with a stride, as ffcv-imagenet does.")] = False
    small_stem: Annotated[bool, typer.Option(help="ResNets for 32 pixels: 3x3 stem, no pooling behind it.")] = False
    # the optimiser
    epochs: int = 90
    batch_size: Annotated[int, typer.Option(help="Images of one rank.")] = 256
    optimizer: Annotated[str, typer.Option(help="sgd, adamw or lamb: timm's, with momentum 0.9.")] = "sgd"
    nesterov: Annotated[bool, typer.Option(help="Nesterov's momentum (SGD).")] = True
    weight_decay: float = 5e-5
    no_decay: Annotated[
        str, typer.Option(help="What does not decay: vectors (and embeddings, as in timm), norms (torchvision) or none.")
    ] = "vectors"
    clip_grad: Annotated[float, typer.Option(help="Largest gradient norm; 0: no clipping.")] = 0.0
    # the learning rate
    lr: Annotated[float, typer.Option(help="Peak learning rate, at the recipe's total batch size.")] = 0.5
    schedule: Annotated[str, typer.Option(help="cosine, step or linear.")] = "cosine"
    lr_by: Annotated[str, typer.Option(help="When the learning rate changes: each step or epoch.")] = "step"
    warmup_epochs: float = 5.0
    warmup_lr: Annotated[float, typer.Option(help="Where the warm-up begins.")] = 0.0
    warmup_prefix: Annotated[bool, typer.Option(help="The cosine begins behind the warm-up, not at epoch 0 (timm).")] = True
    min_lr: Annotated[float, typer.Option(help="Where the cosine ends.")] = 0.0
    milestones: Annotated[str, typer.Option(help='Epochs of the steps, "100 200".')] = ""
    decay_rate: Annotated[float, typer.Option(help="Factor of each step.")] = 0.1
    lr_points: Annotated[str, typer.Option(help='Of the linear schedule, "0.5@0 1.0@8 0.125@15": lr@epoch.')] = ""
    # the loss
    loss: Annotated[str, typer.Option(help="ce: cross-entropy; bce: a binary one for each class.")] = "ce"
    bce_threshold: Annotated[float | None, typer.Option(help="Targets above it are 1, others 0.")] = None
    smoothing: Annotated[float, typer.Option(help="Label smoothing.")] = 0.1
    clean_loss: Annotated[float, typer.Option(help="Weight of the loss of images that are not mixed (PuzzleMix).")] = 0.0
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0: no average.")] = 0.0
    ema_every: Annotated[int, typer.Option(help="Steps between averages.")] = 1
    ema_after: Annotated[float, typer.Option(help="Epochs in which the average is a copy.")] = 0.0
    # the images
    backend: Annotated[str, typer.Option(help="dali, ffcv or torchvision.")] = "dali"
    mixer: Annotated[str, typer.Option(help='Such as "HMix(alpha=1, r=0.75)", or none.')] = "none"
    mix_off: Annotated[int, typer.Option(help="Last epochs without mixing.")] = 0
    augment: Annotated[str, typer.Option(help='Such as "rand-m9-mstd0.5-inc1", "[AugMix(), RandomErasing(0.1)]".')] = "none"
    sizes: Annotated[str, typer.Option(help='Training image size, or "160@0 192@30 224@60": size@first epoch.')] = "224"
    size_ramp: Annotated[bool, typer.Option(help="Sizes between these, too, in steps of 32 pixels.")] = False
    crop: Annotated[str, typer.Option(help="resized, or padded: by 4 pixels, nothing resized.")] = "resized"
    min_scale: Annotated[float, typer.Option(help="Smallest share of the image that a random crop shows.")] = 0.08
    interpolation: Annotated[str, typer.Option(help="bilinear, bicubic, lanczos or random, in training.")] = "bilinear"
    repeats: Annotated[int, typer.Option(help="Repeated augmentation: views of an image in a global batch.")] = 1
    val_size: int = 224
    val_resize: Annotated[int, typer.Option(help="Shorter side before the central crop; 0: val_size / 0.875.")] = 0
    val_interpolation: Annotated[str, typer.Option(help="bilinear, bicubic or lanczos, in validation.")] = "bilinear"
    flip_tta: Annotated[bool, typer.Option(help="Validate with the sum over an image and its mirror image.")] = False
    threads: Annotated[int, typer.Option(help="Decoding threads of a rank; 0: its share of the processors.")] = 0
    on_error: Annotated[str, typer.Option(help="raise or skip: what is done about unreadable files.")] = "raise"
    # mixing inside the model
    layers: Annotated[str, typer.Option(help='Mix the output of one of these instead, "0 layer1 layer2"; 0: images.')] = ""
    tuples: Annotated[int, typer.Option(help="MultiMix interpolations a batch; 0: no MultiMix.")] = 0
    multimix_prob: Annotated[float, typer.Option(help="Share of steps with MultiMix; the others use the mixer.")] = 1.0
    dense: Annotated[bool, typer.Option(help="MultiMix at every position of the last feature map.")] = False
    distill: Annotated[float, typer.Option(help="MultiMix: share of the distillation from averaged weights.")] = 0.0
    views: Annotated[int, typer.Option(help="2: the averaged weights see another view of each image.")] = 1
    # the run
    amp: Annotated[bool, typer.Option(help="bfloat16 autocast.")] = True
    compile: bool = True
    device: Annotated[str, typer.Option(help="cuda or cpu; by default what is there.")] = ""
    seed: int = 0
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: one an epoch.")] = 0
    log_every: Annotated[int, typer.Option(help="Steps between log entries.")] = 50

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if self.schedule == "linear":
            _ = self.points
        mixer = self.mixing
        needs = {
            "schedule = step": (self.schedule != "step" or self.milestones, "milestones"),
            "bce_threshold": (self.bce_threshold is None or self.loss == "bce", "loss = bce"),
            "distill": (not self.distill or (self.tuples and self.ema), "tuples and ema"),
            "views = 2": (self.views == 1 or self.distill, "distill"),
            "dense": (not self.dense or self.tuples, "tuples"),
            "multimix_prob": (self.multimix_prob == 1 or (self.tuples and mixer), "tuples and a mixer"),
            "layers": (not self.layers or mixer, "a mixer"),
            "clean_loss": (not self.clean_loss or (mixer and "saliency" in mixer.needs), "a mixer that needs saliency"),
        }
        for name, (fits, what) in needs.items():
            if not fits:
                raise ValueError(f"{name} must be given with {what}")

    @cached_property
    def mixing(self) -> Mixer | None:
        """The mixer, read."""
        return parse_mixer(self.mixer)

    @cached_property
    def points(self) -> list[tuple[float, float]]:
        """(epoch, learning rate) of the linear schedule."""
        try:
            points = [(float(epoch), float(lr)) for lr, epoch in (point.split("@") for point in self.lr_points.split())]
        except ValueError:
            points = []
        if not points or any(later < earlier for (earlier, _), (later, _) in pairwise(points)):
            raise ValueError(f"lr_points must read like '0.5@0 1.0@8', lr@epoch in order, got {self.lr_points!r}")
        return points

    def mixes(self, epoch: int) -> bool:
        """Whether an epoch's images are mixed."""
        return self.mixing is not None and epoch < self.epochs - self.mix_off

    def mixes_in_loader(self) -> bool:
        """Whether the loader can mix: not hidden layers, not by the model's saliency, not in some steps only."""
        mixer = self.mixing
        return mixer is not None and not self.layers and self.multimix_prob == 1 and "saliency" not in mixer.needs
