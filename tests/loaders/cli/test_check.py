"""``mixstage check``: every bad file is listed with its reason, no good one is, and the exit code says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.images import DAMAGE, damage, make_folder, make_jpeg_folder, undecodable
from typer.testing import CliRunner

from loaders.cli.check import find_bad
from loaders.cli.main import app
from loaders.sources import Folder


def run(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_good_files_are_good(tmp_path):
    result = run(make_folder(tmp_path, 51))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "51 images in 3 classes read in" in result.stderr
    assert "0 of them bad" in result.stderr


@pytest.mark.parametrize("decode", [True, False])
def test_bad_files_are_listed(tmp_path, decode):
    folder = make_jpeg_folder(tmp_path / "data", 60)
    paths = sorted(folder.rglob("*.jpg"))
    kinds = [kind for kind in DAMAGE if kind not in ("missing", "folder", "wrong size")]  # not listed, or a good size
    damaged = dict(zip(paths[::5], kinds, strict=False))
    for path, kind in damaged.items():
        damage(path, kind)
    paths[1].write_bytes(undecodable(paths[1].read_bytes()))
    (folder / "0" / "dangling.jpg").symlink_to(folder / "nowhere")
    expected = (
        {str(path) for path in damaged} | {str(folder / "0" / "dangling.jpg")} | ({str(paths[1])} if decode else set())
    )
    report = tmp_path / "report.json"
    result = run(folder, "--decode" if decode else "--no-decode", "--json", report)
    assert result.exit_code == 1
    assert {line.split(": ")[0] for line in result.stdout.splitlines()} == expected
    assert "61 images in 5 classes read in" in result.stderr
    assert json.loads(report.read_text())["bad"].keys() == expected


def test_threads_change_nothing(tmp_path):
    folder = make_jpeg_folder(tmp_path, 300)
    for path in sorted(folder.rglob("*.jpg"))[::7]:
        damage(path, "half")
    source = Folder(folder)
    one, many = (find_bad(source, decode=True, num_threads=n) for n in (1, 8))
    assert list(one.items()) == list(many.items())
    assert [Path(source.name(i)).name for i in one] == [p.name for p in sorted(folder.rglob("*.jpg"))[::7]]


def test_bad_arguments():
    assert run("/nowhere").exit_code != 0
    with pytest.raises(ValueError, match="num_threads must be at least 0, got -1"):
        CliRunner().invoke(app, ["check", ".", "--num-threads=-1"], catch_exceptions=False)
