"""python -m tests.support.installed: the wheel in clean environments, of the oldest and the newest Python on this machine.

The oldest gets the oldest versions that ``pyproject.toml`` admits and the newest those of ``constraints.txt``, so that no
end of a range is a guess. In each the doctor looks at what was installed, and a slice of the tests runs on it, with the
wheel's names in their imports. Both environments are made and tested at the same time, and ``constraints.txt`` is resolved
for every Python between them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hatch_build import public_names, rewrite

ROOT = Path(__file__).parents[2]
OLDEST, NEWEST = 10, 14  # minor versions of requires-python, and of what numba and torch have wheels for
LAST_WITH_OLD_WHEELS = 12  # the oldest versions of numba, numpy and SciPy have no wheels for later ones
TOOLS = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100")
SLICE = ("mixops/test_key.py", "mixops/test_plan.py", "mixops/apply/test_targets.py", "loaders/test_schedule.py")
LOADER = ("loaders/test_image_loader.py", "test_batches_are_what_torchvision_and_the_plan_make")  # on torchvision


def main() -> int:
    """Prints how it went and returns how much failed."""
    pythons = found_pythons()
    oldest, newest = min(pythons), max(pythons)
    print(f"Pythons on this machine: {', '.join(f'3.{minor}' for minor in sorted(pythons))}")
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(3) as pool:
        folder = Path(scratch)
        write_tests(folder / "tests-of-the-wheel")
        run(ROOT, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        wheel = next(folder.glob("*.whl"))
        constraints = ROOT / "constraints.txt"
        floors = folder / "floors.txt" if oldest <= LAST_WITH_OLD_WHEELS else constraints
        if floors != constraints:
            floors.write_text(compiled(oldest, "--resolution", "lowest-direct", "--extra", "torchvision"))
        jobs = {
            f"Python 3.{oldest}, {floors.name}": (pythons[oldest], floors),
            f"Python 3.{newest}, {constraints.name}": (pythons[newest], constraints),
        }
        results = [pool.submit(try_wheel, name, folder / str(i), wheel, *job) for i, (name, job) in enumerate(jobs.items())]
        return sum(not result.result() for result in results)


def resolves(minor: int) -> bool:
    """Whether ``constraints.txt`` holds versions of everything for a Python, whether or not it is on this machine."""
    try:
        compiled(minor, "--all-extras", "--constraint", "constraints.txt")
    except subprocess.CalledProcessError as error:
        print(f"Python 3.{minor}: constraints.txt does not resolve\n{error.stdout}", flush=True)
        return False
    return True


def compiled(minor: int, *options: str) -> str:
    """The versions that uv chooses for a Python."""
    command = ("pip", "compile", "--quiet", "--no-header", "--python-version", f"3.{minor}", *options, "pyproject.toml")
    return run(ROOT, sys.executable, "-m", "uv", *command)


def try_wheel(name: str, folder: Path, wheel: Path, python: Path, constraints: Path) -> bool:
    """Whether the wheel works in an environment of its own; prints the last lines of a command that fails."""
    own = folder / "bin" / "python"
    tests = folder.parent / "tests-of-the-wheel"
    place = tests / "tests"
    steps: dict[str, tuple[str | Path, ...]] = {
        "made": (sys.executable, "-m", "uv", "venv", "--quiet", "--python", python, folder),
        "installed": (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", own, "--constraint", constraints,
                      f"mixstage[torchvision] @ {wheel.as_uri()}", *TOOLS),
        "looked at": (folder / "bin" / "mixstage", "doctor", "--timeout", "1000"),
        "tested": (own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not dali and not ffcv",
                   *(place / path for path in SLICE), f"{place / LOADER[0]}::{LOADER[1]}"),
    }  # fmt: skip
    for step, command in steps.items():
        try:
            output = run(tests, *command)
        except subprocess.CalledProcessError as error:
            print(
                f"{name}: not {step} (code {error.returncode}): {' '.join(map(str, command))}\n{error.stdout[-4000:]}",
                flush=True,
            )
            return False
        last = output.strip().splitlines()[-1:] if step == "tested" else []
        print(": ".join([name, step, *last]), flush=True)
    return True


def found_pythons() -> dict[int, Path]:
    """Interpreters by minor version: on the path, and those that pyenv has without having them on the path."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {sys.version_info.minor: Path(sys.executable)}
    for minor in range(OLDEST, NEWEST + 1):
        on_path = shutil.which(f"python3.{minor}")
        for place in [*([Path(on_path)] if on_path else []), *sorted(versions.glob(f"3.{minor}.*/bin/python3"))]:
            if runs(place):
                found[minor] = place
    return found


def runs(python: Path) -> bool:
    """Whether an interpreter is one: a shim may be there without its Python, a file without the right to be run."""
    try:
        return subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def write_tests(target: Path) -> None:
    """Copies the slice, what it shares, and pytest's settings, with the imports of the wheel."""
    names = public_names(ROOT)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        place = path.relative_to(ROOT)
        if (
            place.parts[1] == "support"
            or place.name == "conftest.py"
            or str(place.relative_to("tests")) in (*SLICE, *LOADER)
        ):
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (target / place).write_text(rewrite(path.read_text(), names, str(place)))
    shutil.copy(ROOT / "pyproject.toml", target)


def run(folder: Path, *command: str | Path) -> str:
    """What a command prints; nothing of this process's Python path is handed on."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
