"""The table of mixers: whatever goes over all mixers has each of them, and a new one is one file and one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.checks import CASES

import mixops
from mixops.mixers.base import Mixer
from mixops.mixers.registry import REGISTRY, parse_mixer

ROOT = Path(__file__).parents[3]


def public_mixers() -> set[str]:
    found = {name: getattr(mixops, name) for name in mixops.__all__}
    return {name for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Mixer)}


def test_every_public_mixer_is_in_the_table_and_every_other_is_public() -> None:
    assert {entry.name for entry in REGISTRY} == public_mixers()
    assert len({entry.page for entry in REGISTRY}) == len(REGISTRY)


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.name)
def test_a_mixer_has_contract_cases_a_page_and_a_picture(entry) -> None:
    examples = entry.examples()
    assert examples and set(examples) <= set(CASES)
    for text, mixer in examples.items():
        assert type(mixer) is entry.kind and parse_mixer(text) == mixer == parse_mixer(repr(mixer))
    page = ROOT / "docs" / "mixers" / f"{entry.page}.md"
    assert page.is_file() and f"pictures/{entry.page}.jpg" in page.read_text()
    assert (ROOT / "docs" / "pictures" / f"{entry.page}.jpg").is_file()
    assert f"mixers/{entry.page}.md" in (ROOT / "docs" / "choosing-a-mixer.md").read_text()


def worked_example() -> tuple[str, str]:
    """The file and the line of CONTRIBUTING.md's new mixer."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Add a mixer")[1].split("\n## ")[0]
    file, line = re.findall(r"^```(?:python|text)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return file, line


def test_a_new_mixer_is_one_file_and_one_line(tmp_path: Path) -> None:
    """CONTRIBUTING's example, done in a copy of the tree: command line and contract have the mixer without further ado."""
    for name in ("mixops", "tests", "pyproject.toml"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / name)
    file, line = worked_example()
    (tmp_path / "mixops" / "mixers" / "stripemix.py").write_text(file)
    registry = tmp_path / "mixops" / "mixers" / "registry.py"
    before = registry.read_text()
    registry.write_text(before.replace('    Entry("switch.Switch"', f'    {line.strip()}\n    Entry("switch.Switch"', 1))
    options = ["-q", "-p", "no:cacheprovider", "tests/mixops/mixers/test_contract.py"]
    without_kernels = "StripeMix and not applied and not call and not alpha_to_zero"  # which would compile them
    code = f"""
import sys, pytest
ended = pytest.main({[*options, "-k", without_kernels]!r})
from mixops.mixers.registry import parse_mixer
print(parse_mixer("StripeMix"))
sys.exit(ended)
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout[-3000:] + run.stderr
    assert run.stdout.endswith("\nStripeMix(alpha=1.0)\n")
