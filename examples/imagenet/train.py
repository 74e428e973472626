"""Trains ResNet-50, ViT-S/16 or any other timm model on ImageNet with mixing inside the loader.

    python train.py --config resnet50.ini                                  one GPU, or the CPU
    torchrun --nproc-per-node 8 train.py --config resnet50.ini             eight GPUs
    sbatch train.slurm --config resnet50.ini                               many nodes
    torchrun ... train.py --config resnet50.ini --resume                   goes on where the last checkpoint was written

Every option below can stand in the configuration file, as ``name = value``, or on the command line, which wins. A resumed
run continues with the identical next batch: the loader's state is a position, and everything else that is random, here and
in the loader, is drawn anew from the seed and the step.
"""

import configparser
import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import torch.nn.functional as F
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from loaders import ImageLoader
from mixops import EmaTeacher, Key, MultiMix
from mixops.mixers.registry import parse_mixer


def read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Makes the values of a configuration file the defaults of the options."""
    if file is not None:
        parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes="#")
        with open(file) as text:
            parser.read_string("[train]\n" + text.read())
        values = dict(parser["train"])
        unknown = values.keys() - {field.name for field in fields(Config)}
        if unknown:
            raise typer.BadParameter(f"{file} has unknown names: {', '.join(sorted(unknown))}")
        context.default_map = values
    return file


@dataclass(frozen=True)
class Config:
    """The options of a run; paths may be folders of class folders, tar shards ("train-{0000..1023}.tar") or .beton files."""

    train: Annotated[str, typer.Option(help="Training images.")]
    val: Annotated[str, typer.Option(help="Validation images.")]
    config: Annotated[Path | None, typer.Option(is_eager=True, callback=read_config, help="File of options.")] = None
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and TensorBoard.")] = Path("out")
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT/last.pt if it is there.")] = False
    # what is trained
    model: Annotated[str, typer.Option(help="A timm model.")] = "resnet50"
    drop_path: float = 0.0
    epochs: int = 90
    batch_size: Annotated[int, typer.Option(help="Images of one rank.")] = 256
    optimizer: Annotated[str, typer.Option(help="sgd or adamw.")] = "sgd"
    lr: Annotated[float, typer.Option(help="Peak learning rate at this total batch size.")] = 0.5
    weight_decay: Annotated[float, typer.Option(help="Not applied to biases and norms.")] = 5e-5
    warmup_epochs: float = 5.0
    clip_grad: Annotated[float, typer.Option(help="Largest gradient norm; 0: no clipping.")] = 0.0
    smoothing: Annotated[float, typer.Option(help="Label smoothing.")] = 0.1
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0: no average.")] = 0.0
    # what it is trained on
    backend: Annotated[str, typer.Option(help="dali, ffcv or torchvision.")] = "dali"
    mixer: Annotated[str, typer.Option(help='Such as "HMix(alpha=1, r=0.75)", or none.')] = "none"
    mix_off: Annotated[int, typer.Option(help="Last epochs without mixing.")] = 0
    sizes: Annotated[str, typer.Option(help='Training image size, or "160@0 192@30 224@60": size@first epoch.')] = "224"
    val_size: int = 224
    min_scale: Annotated[float, typer.Option(help="Smallest share of the image that a random crop shows.")] = 0.08
    threads: Annotated[int, typer.Option(help="Decoding threads of a rank; 0: its share of the processors.")] = 0
    on_error: Annotated[str, typer.Option(help="raise or skip: what is done about files that cannot be read.")] = "raise"
    # MultiMix: interpolated embeddings before the classifier
    tuples: Annotated[int, typer.Option(help="Interpolations a batch; 0: no MultiMix.")] = 0
    dense: Annotated[bool, typer.Option(help="At every position of the last feature map.")] = False
    distill: Annotated[float, typer.Option(help="Share of the distillation from the averaged weights.")] = 0.0
    # how
    amp: Annotated[bool, typer.Option(help="bfloat16 autocast.")] = True
    compile: bool = True
    device: Annotated[str, typer.Option(help="cuda or cpu; by default what is there.")] = ""
    seed: int = 0
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: one an epoch.")] = 0
    log_every: Annotated[int, typer.Option(help="Steps between log entries.")] = 50

    def size(self, epoch: int) -> int:
        """The training image size of an epoch."""
        stages = [stage.split("@") for stage in self.sizes.split()]
        return [int(size) for size, *start in stages if not start or int(start[0]) <= epoch][-1]

    def mixes(self, epoch: int) -> bool:
        """Whether an epoch's images are mixed."""
        return self.mixer != "none" and epoch < self.epochs - self.mix_off


# The loaders


def train_loader(cfg: Config, epoch: int, device: torch.device) -> ImageLoader:
    """The loader of an epoch. All of them draw from the same seed, so changing the size or the mixer loses nothing."""
    mixer = parse_mixer(cfg.mixer) if cfg.mixes(epoch) else None
    crops = {"size": cfg.size(epoch), "scale": (cfg.min_scale, 1.0)}
    return ImageLoader(cfg.train, mixer=mixer, **crops, **common_options(cfg, device))


def val_loader(cfg: Config, device: torch.device) -> ImageLoader:
    """Whole validation set: shorter side to val_size / 0.875, centre crop."""
    return ImageLoader(cfg.val, size=cfg.val_size, split="val", **common_options(cfg, device))


def common_options(cfg: Config, device: torch.device) -> dict[str, Any]:
    """What both loaders are told."""
    return {
        "backend": cfg.backend, "batch_size": cfg.batch_size, "device": device, "seed": cfg.seed,
        "num_threads": cfg.threads or None, "on_error": cfg.on_error, "memory_format": torch.channels_last,
        "dtype": torch.bfloat16 if cfg.amp else torch.float32,
    }  # fmt: skip


# The model and its loss


class Network(nn.Module):
    """A model with its loss, so that DistributedDataParallel sees one forward."""

    def __init__(self, cfg: Config, classes: int) -> None:
        super().__init__()
        self.model = timm.create_model(
            cfg.model, num_classes=classes, **({"drop_path_rate": cfg.drop_path} if cfg.drop_path else {})
        )
        self.smoothing, self.dense = cfg.smoothing, cfg.dense
        self.multimix = None
        if cfg.tuples:
            head = self.model.get_classifier()
            self.multimix = MultiMix(head, cfg.tuples, dense=cfg.dense, distill=cfg.distill, smoothing=cfg.smoothing)

    def forward(self, images: Tensor, targets: Tensor, teacher: nn.Module | None, key: Key) -> Tensor:
        """The loss; ``targets`` are class numbers or, of mixed images, class probabilities."""
        if self.multimix is None:
            return F.cross_entropy(self.model(images), targets, label_smoothing=self.smoothing)
        seen = None
        if teacher is not None:
            with torch.no_grad():
                seen = embed(teacher, images, self.dense), teacher.get_classifier()
        return self.multimix(embed(self.model, images, self.dense), targets, teacher=seen, key=key)


def embed(model: nn.Module, images: Tensor, dense: bool) -> Tensor:
    """What the classifier of a timm model sees: (b, d), or dense, a feature map (b, d, h, w) or patch tokens (b, r, d)."""
    features = model.forward_features(images)
    if not dense:
        return model.forward_head(features, pre_logits=True)
    return features if features.ndim == 4 else model.fc_norm(features[:, model.num_prefix_tokens :])


def make_optimizer(cfg: Config, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; no weight decay for biases and norms."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": cfg.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if cfg.optimizer == "sgd":
        return torch.optim.SGD(groups, cfg.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, cfg.lr)


def learning_rate(cfg: Config, epoch: float) -> float:
    """Linear warm-up, then half a cosine."""
    if epoch < cfg.warmup_epochs:
        return cfg.lr * epoch / cfg.warmup_epochs
    done = (epoch - cfg.warmup_epochs) / (cfg.epochs - cfg.warmup_epochs)
    return cfg.lr * (1 + math.cos(math.pi * done)) / 2


# The run


class Run:
    """Everything that a checkpoint holds, and the steps that change it."""

    def __init__(self, cfg: Config, rank: int, world_size: int, device: torch.device) -> None:
        self.cfg, self.rank, self.world_size, self.device = cfg, rank, world_size, device
        self.validation = val_loader(cfg, device)
        self.loader, self.loader_kind = train_loader(cfg, 0, device), (cfg.size(0), cfg.mixes(0))
        if self.loader.classes != self.validation.classes:
            raise ValueError(f"train and val must have the same classes, got {cfg.train} and {cfg.val}")
        torch.manual_seed(cfg.seed)  # the same weights everywhere
        self.network = Network(cfg, self.loader.num_classes).to(device, memory_format=torch.channels_last)
        self.optimizer = make_optimizer(cfg, self.network.model)
        self.teacher = EmaTeacher(self.network.model, cfg.ema) if cfg.ema else None
        self.step = 0  # of the whole run
        if cfg.resume and (cfg.out / "last.pt").exists():
            self.load(cfg.out / "last.pt")
        if cfg.compile:
            self.network.compile()
        self.forward: nn.Module = self.network
        if world_size > 1:
            self.forward = DistributedDataParallel(self.network, [device] if device.type == "cuda" else None)
        self.writer = SummaryWriter(cfg.out) if rank == 0 else None

    def train(self) -> None:
        """The epochs that are left."""
        steps = len(self.loader)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, disable=self.rank != 0) as progress:
            bar = progress.add_task("", total=self.cfg.epochs * steps, completed=self.step)
            for epoch in range(self.step // steps, self.cfg.epochs):
                for _ in self.train_epoch(epoch):
                    progress.update(bar, advance=1, description=f"epoch {epoch}, size {self.cfg.size(epoch)}")
                self.validate(epoch)
                self.save()

    def use_loader(self, epoch: int) -> None:
        """Makes the loader of an epoch if the one at hand has another image size or mixing. Both are at the same position
        for the same epoch and step, since they draw from the same seed."""
        kind = self.cfg.size(epoch), self.cfg.mixes(epoch)
        if kind != self.loader_kind:
            self.loader.close()
            self.loader, self.loader_kind = train_loader(self.cfg, epoch, self.device), kind

    def train_epoch(self, epoch: int) -> Iterator[None]:
        """The steps of an epoch from where the run is."""
        cfg, steps, device = self.cfg, len(self.loader), self.device.type
        self.use_loader(epoch)
        if self.step % steps == 0:
            self.loader.set_epoch(epoch)
        self.network.train()
        losses, began, since = torch.zeros((), device=self.device), time.perf_counter(), self.step
        for images, targets in self.loader:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(cfg, self.step / steps)
            key = Key(cfg.seed, epoch, self.step % steps, self.rank)
            torch.manual_seed(
                (cfg.seed << 40) + self.step * self.world_size + self.rank
            )  # drop path is a function of the step
            with torch.autocast(device, torch.bfloat16) if cfg.amp else nullcontext():
                loss = self.forward(images, targets, self.teacher.module if cfg.distill else None, key)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if cfg.clip_grad:
                nn.utils.clip_grad_norm_(self.network.parameters(), cfg.clip_grad)
            self.optimizer.step()
            if self.teacher is not None:
                self.teacher.update(self.network.model)
            self.step += 1
            losses += loss.detach()
            if self.step % cfg.log_every == 0:
                count, seconds = self.step - since, time.perf_counter() - began
                self.log({
                    "loss": losses.item() / count, "lr": group["lr"], "share of time waiting": self.loader.stats().waited,
                    "images per second": count * cfg.batch_size * self.world_size / seconds,
                })  # fmt: skip
                losses.zero_()
                began, since = time.perf_counter(), self.step
            if cfg.checkpoint_every and self.step % cfg.checkpoint_every == 0:
                self.save()
            yield

    @torch.inference_mode()
    def validate(self, epoch: int) -> None:
        """Top-1 and top-5 of the weights and of their average, over all ranks."""
        averaged = {"": self.network.model} | ({} if self.teacher is None else {" averaged": self.teacher.module})
        classes = self.loader.num_classes
        for name, model in averaged.items():
            tops = {f"top-{k}{name}": MulticlassAccuracy(classes, top_k=min(k, classes), average="micro") for k in (1, 5)}
            metrics = MetricCollection(tops, compute_groups=False).to(self.device)
            model.eval()
            for images, labels in self.validation:
                with torch.autocast(self.device.type, torch.bfloat16) if self.cfg.amp else nullcontext():
                    logits = model(images)
                metrics.update(logits.float(), labels)
            figures = {name: value.item() for name, value in metrics.compute().items()}
            self.log(figures)
            if self.rank == 0:
                print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.2%}" for name, value in figures.items()))

    def log(self, figures: dict[str, float]) -> None:
        """To TensorBoard."""
        if self.writer is not None:
            for name, value in figures.items():
                self.writer.add_scalar(name, value, self.step)

    def save(self) -> None:
        """Writes OUT/last.pt, whole or not at all. A loader's position is the same on all ranks."""
        if self.rank == 0:
            state = {
                "model": self.network.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "loader": self.loader.state_dict(), "step": self.step,
                "teacher": None if self.teacher is None else self.teacher.state_dict(),
            }  # fmt: skip
            torch.save(state, self.cfg.out / "last.pt.part")
            os.replace(self.cfg.out / "last.pt.part", self.cfg.out / "last.pt")

    def load(self, file: Path) -> None:
        """Goes back to where ``save`` was called."""
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.network.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        self.step = state["step"]
        epoch, step = divmod(self.step, len(self.loader))
        self.use_loader(epoch)
        if step:
            self.loader.load_state_dict(state["loader"])

    def close(self) -> None:
        """Ends the loaders and the log."""
        self.loader.close()
        self.validation.close()
        if self.writer is not None:
            self.writer.close()


def main(**options: Any) -> None:
    """Trains a model of timm on images that the loader mixes."""
    cfg = Config(**options)
    device = torch.device(cfg.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if world_size > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    cfg.out.mkdir(parents=True, exist_ok=True)
    run = Run(cfg, rank, world_size, device)
    try:
        run.train()
    finally:
        run.close()
        if world_size > 1:
            distributed.destroy_process_group()


main.__signature__ = signature(Config)  # one option a field
if __name__ == "__main__":
    typer.run(main)
