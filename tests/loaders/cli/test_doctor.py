"""The doctor must notice what raises, crashes, hangs or is missing, and must believe nothing but a try."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loaders.cli import doctor as module
from loaders.cli.doctor import Finding, Part, doctor, examine, exit_code, parts, probe, try_code

LONG = 600  # seconds that no probe takes, however busy the machine is


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("raise RuntimeError('no such driver')", "RuntimeError: no such driver"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("import time; time.sleep(600)", "no answer within 1 s"),
        ("import sys; sys.exit(3)", "ended with code 3"),
    ],
)
def test_notices_what_does_not_work(code: str, seen: str) -> None:
    assert try_code(code, timeout=1 if "sleep" in code else LONG) == (False, seen)


def test_takes_the_last_line_of_what_works() -> None:
    assert try_code("import warnings; warnings.warn('x'); print('a'); print('b')", timeout=LONG) == (True, "b")


def test_tries_in_a_process_that_finds_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    works, seen = try_code("import loaders; print(loaders.__file__)", timeout=LONG)
    assert works and Path(seen).samefile(Path(module.__file__).parents[1] / "__init__.py")


def test_missing_parts_come_with_their_install_line_and_are_not_tried() -> None:
    part = Part("nothing", ("mixstage-has-no-such-package",), "no such probe", "pip install nothing")
    assert examine((part,), 60, gpu=True) == [Finding("nothing", "", "missing", "not installed", "pip install nothing")]


def test_gpu_parts_are_tried_only_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "try_code", lambda code, timeout: (False, code))
    part = Part("torch on GPU", ("torch",), "cuda", "", gpu=True)
    assert examine((part,), 60, gpu=False)[0].state == "no GPU"
    found = examine((part,), 60, gpu=True)[0]
    assert found.state == "fails" and "probe('cuda')" in found.seen


def test_exit_code() -> None:
    works, fails = Finding("DALI loader", "1", "works", ""), Finding("FFCV loader", "1", "fails", "")
    missing, numba = Finding("FFCV loader", "", "missing", ""), Finding("numba kernels", "1", "works", "")
    assert exit_code([works, missing, numba]) == 0
    assert exit_code([works, fails, numba]) == 1
    assert exit_code([missing, numba]) == 1


def test_probes_of_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("torch", "numba"):
        probe(name)
    assert "agrees with plain torch" in capsys.readouterr().out


def test_a_wrong_kernel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import mixops

    right = mixops.mix_images
    monkeypatch.setattr(
        mixops, "mix_images", lambda *args, backend, **kw: right(*args, backend="eager", **kw) + 0.01 * (backend == "numba")
    )
    with pytest.raises(RuntimeError, match="differs by 1"):
        probe("numba")


@pytest.mark.nightly
def test_command_tries_the_loaders_and_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", reason="needs torchvision: pip install 'mixstage[bench]'")
    monkeypatch.setattr(module, "parts", lambda: tuple(part for part in parts() if part.probe in ("torchvision", "triton")))
    app = typer.Typer()
    app.command()(doctor)
    file = tmp_path / "new" / "findings.json"
    result = CliRunner().invoke(app, ["--json", str(file), "--timeout", str(LONG)])
    written = json.loads(file.read_text())
    state = {found["part"]: found["state"] for found in written["findings"]}
    assert state["torchvision loader"] == "works", written
    assert result.exit_code == written["exit_code"] == int("fails" in state.values())
