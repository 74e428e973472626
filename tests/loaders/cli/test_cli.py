"""The command line: every command has a help text, mixers are read from text, user errors are one line."""

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from support.images import make_jpeg_folder
from typer.testing import CliRunner

from loaders.cli.main import app, main
from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching, Switch
from mixops.mixers.registry import REGISTRY, parse_mixer

COMMANDS = ("check", "convert", "demo", "doctor", "evaluate", "preview", "train")
BENCHMARKS = ("ffcv", "kernels", "matching", "multimix", "pipeline", "plan", "puzzle")


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["bench", name] for name in BENCHMARKS], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output and "Raises" not in result.output


def test_the_version_is_the_distributions() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.output == f"mixstage {metadata.version('mixstage')}\n"


@pytest.mark.parametrize("group, names", [([], (*COMMANDS, "bench")), (["bench"], BENCHMARKS)])
def test_help_lists_the_commands(group: list[str], names: tuple[str, ...]) -> None:
    output = CliRunner().invoke(app, [*group, "--help"]).output
    assert all(f" {name} " in output for name in names)


@pytest.mark.parametrize(
    "mixer",
    [
        MixUp(),
        CutMix(0.3, draw="batch", prob=0.5),
        HMix(2.0, r=0.25, convention="paper"),
        GMix(0.5, interpolations=5),
        MixUp(matching=OptimalMatching(k=8, metric="l2", resolution=None)),
        Switch([MixUp(0.8), CutMix(1.0)], weights=[1, 3], interpolations=2),
    ],
    ids=lambda mixer: type(mixer).__name__,
)
def test_a_mixer_reads_back_from_what_it_prints(mixer: object) -> None:
    assert parse_mixer(repr(mixer)) == mixer


def test_names_alone_and_none_are_read() -> None:
    alone = [entry for entry in REGISTRY if entry.name != "Switch"]
    assert [parse_mixer(entry.name) for entry in alone] == [entry.kind() for entry in alone]
    assert parse_mixer("Switch([MixUp, CutMix])") == Switch([MixUp(), CutMix()])
    assert parse_mixer("none") is None


@pytest.mark.parametrize(
    "text, named",
    [
        ("Mixup()", "Mixup"),
        ("HMix(r=2)", "r must be in"),
        ("HMix(", "HMix("),
        ("__import__('os')", "__import__"),
        ("OptimalMatching(3)", "MixUp, CutMix"),
        ("MixUp(beta=1)", "beta"),
        ("3", "3"),
    ],
)
def test_other_text_is_an_error_that_says_what_is_known(text: str, named: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        parse_mixer(text)
    assert named in str(error.value)


def test_a_user_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--mixer", "HMix", "-o", str(tmp_path / "a.png")]
    monkeypatch.setattr(sys, "argv", ["mixstage", "preview", str(tmp_path / "none"), *options])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.startswith("mixstage: ") and str(tmp_path / "none") in told
    assert told.count("\n") == 1


# Figures for programs


@pytest.mark.parametrize(
    "command", ["check", "demo", "doctor", "evaluate", "train", *(f"bench {name}" for name in BENCHMARKS)]
)  # fmt: skip
def test_every_command_with_figures_gives_them_to_standard_output(command: str) -> None:
    text = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}).output
    assert "--json" in text and "- is standard output" in text


def test_standard_output_holds_nothing_but_the_json(tmp_path: Path) -> None:
    root = make_jpeg_folder(tmp_path / "images", 6, classes=2)
    result = CliRunner().invoke(app, ["check", str(root), "--json", "-"])
    assert json.loads(result.stdout)["images"] == 6 and "6 images in 2 classes" in result.stderr
    result = CliRunner().invoke(app, ["bench", "plan", "--batch-size", "4", "--size", "16", "--rounds", "1", "--json", "-"])
    assert json.loads(result.stdout)["rows"] and "What a plan costs" in result.stderr
