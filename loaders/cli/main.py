"""``mixstage`` on the command line.

Commands that are one function of a module are named in a table and imported when they are called: ``mixstage doctor`` has to
work where half of the rest cannot be imported.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from mixops.mixers.registry import parse_mixer
from mixstage import __version__

from ..figures import Json, console_for, write_json


class _Later(TyperGroup):
    """A group with commands that are imported when they are asked for: {name: module of this package}."""

    modules: ClassVar[dict[str, str]]

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.modules})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.modules:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(self.modules[cmd_name], __package__)
        single = typer.Typer(add_completion=False)
        function = getattr(module, cmd_name)
        sentence = (inspect.getdoc(function) or "").split("\n\n")[0]  # what follows is for callers
        single.command(cmd_name, help=sentence)(function)
        return typer.main.get_command(single)


class _Commands(_Later):
    modules: ClassVar[dict[str, str]] = {name: f".{name}" for name in ("check", "convert", "doctor", "evaluate", "train")}


class _Benchmarks(_Later):
    modules: ClassVar[dict[str, str]] = {
        name: f"..bench.{name}" for name in ("ffcv", "kernels", "matching", "multimix", "pipeline", "plan", "puzzle")
    }


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, help="Mixed-sample augmentation inside the image loader."
)
bench = typer.Typer(
    cls=_Benchmarks, no_args_is_help=True, help="Measure speed; every figure beside a peer and a physical limit."
)


@bench.callback()
def _bench() -> None:
    pass


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mixstage {__version__}")
        raise typer.Exit


@app.callback()
def _mixstage(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.add_typer(bench, name="bench")

Backend = Annotated[str, typer.Option(help="dali, ffcv or torchvision.")]
Size = Annotated[int, typer.Option(help="Side of the output in pixels.")]


@app.command()
def demo(
    root: Annotated[
        Path | None,
        typer.Argument(help="Folder with train/ and test/ or val/ of small images, such as CIFAR's; digits without."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images and the picture.")] = Path("demo"),
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    per_class: Annotated[int, typer.Option(min=5, help="Labelled images of each class.")] = 10,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    backend: Backend = "dali",
    json_file: Json = None,
) -> None:
    """Train on a few images a class with and without mixing, and draw what every mixer does."""
    from .demo import demo as run

    results = run(out, epochs, backend, root=root, per_class=per_class, seeds=seeds, console=console_for(json_file))
    write_json(json_file, {name: asdict(result) for name, result in results.items()})


@app.command()
def preview(
    root: Annotated[Path, typer.Argument(help="Folder of class folders.")],
    mixer: Annotated[list[str], typer.Option(help='Such as "HMix(alpha=1, r=0.75)"; may be repeated.')],
    out: Annotated[Path, typer.Option("-o", "--out", help="A .png file, or an .html page that holds its pictures.")],
    rows: Annotated[int, typer.Option(min=1, help="Pairs a mixer.")] = 2,
    size: Size = 224,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    backend: Backend = "dali",
    html: Annotated[bool, typer.Option("--html", help="Write a page whatever the file is called.")] = False,
) -> None:
    """Draw sources, masks, results and label weights as the pipeline makes them."""
    from .preview import draw_sheet, write_page

    mixers = [found for text in mixer if (found := parse_mixer(text)) is not None]
    if not mixers:
        raise ValueError("mixer must name at least one mixer, got none")
    draw = write_page if html or out.suffix == ".html" else draw_sheet
    draw(root, mixers, out, rows=rows, size=size, seed=seed, backend=backend)
    typer.echo(str(out))


def main() -> None:
    """Runs the command line; errors of the user are one line, not a traceback."""
    try:
        app()
    except (ValueError, TypeError, ImportError, OSError) as error:
        typer.secho(f"mixstage: {error}", fg="red", err=True)
        sys.exit(2)
