"""``mixstage doctor``: what is installed, what of it works on this machine, and the line that installs what is missing.

Nothing is believed: every part is tried in a process of its own with a time limit, because a decoder that does not fit the
driver may crash or hang instead of raising. Missing optional parts are no failure; a part that is there and fails is.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from ..figures import Json, console_for, print_table, write_json
from ..processors import usable_processors

State = Literal["works", "fails", "missing", "no GPU"]
_COLOURS: dict[State, str] = {"works": "green", "fails": "red", "missing": "yellow", "no GPU": "yellow"}
_BACKENDS = ("dali", "ffcv", "torchvision")
_FFCV = "sudo apt-get install -y pkg-config libturbojpeg0-dev libopencv-dev && pip install 'mixstage[ffcv]'"


@dataclass(frozen=True)
class Finding:
    """One part: its version, whether it works, what was seen, and the command that installs it where it is missing."""

    part: str
    version: str
    state: State
    seen: str
    install: str = ""


@dataclass(frozen=True)
class Part:
    """``packages`` (the first one installed counts) hold the part, ``probe`` tries it, with a GPU only where ``gpu``."""

    name: str
    packages: tuple[str, ...]
    probe: str
    install: str
    gpu: bool = False


def parts() -> tuple[Part, ...]:
    """What is looked at, in the order of the table."""
    dali = "pip install 'mixstage[dali]'   # CUDA 13; for CUDA 12: pip install 'mixstage[dali-cuda12]' 'torch<2.11'"
    packages = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")
    return (
        Part("torch", ("torch",), "torch", "pip install torch"),
        Part("CUDA in torch", ("torch",), "cuda", "pip install torch", gpu=True),
        Part("numba kernels", ("numba",), "numba", "pip install numba"),
        Part("Triton kernels", ("triton",), "triton", "pip install triton", gpu=True),
        Part("DALI loader", packages, "dali", dali),
        Part("DALI loader on GPU, NVJPEG", packages, "dali_gpu", dali, gpu=True),
        Part("FFCV loader", ("ffcv",), "ffcv", _FFCV),
        Part("torchvision loader", ("pillow",), "torchvision", "pip install pillow"),
    )


def doctor(
    json_file: Json = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one part may take.")] = 120.0,
) -> None:
    """Say what of mixstage works on this machine; exit code 1 if an installed part fails or no loader works."""
    console = console_for(json_file)
    machine = describe_machine()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    with console.status("trying every part in a process of its own"):
        findings = examine(parts(), timeout, gpu="gpu" in machine or Path("/dev/nvidia0").exists())
    rows: list[list[str | Text]] = [[f.part, f.version, Text(f.state, _COLOURS[f.state]), f.seen] for f in findings]
    print_table(console, ["part", "version", "state", "seen"], rows)
    for found in findings:
        if found.state == "missing":
            console.print(f"{found.part}: {found.install}", markup=False, highlight=False, soft_wrap=True)
    code = exit_code(findings)
    write_json(json_file, {"machine": machine, "findings": [asdict(found) for found in findings], "exit_code": code})
    raise typer.Exit(code)


def examine(chosen: tuple[Part, ...], timeout: float, *, gpu: bool) -> list[Finding]:
    """Try every part, as many at a time as there are processors; no part takes longer than ``timeout`` seconds."""
    with ThreadPoolExecutor(usable_processors()) as pool:
        return list(pool.map(lambda part: _examine(part, timeout, gpu), chosen))


def exit_code(findings: list[Finding]) -> int:
    """0 if nothing that is installed fails and at least one loader works, else 1."""
    loaders = [found for found in findings if found.part.endswith("loader") and found.state == "works"]
    return int(not loaders or any(found.state == "fails" for found in findings))


def describe_machine() -> dict[str, str]:
    """Python, mixstage, processors, and GPU and driver where the driver's own tool names them."""
    machine = {
        "Python": sys.version.split()[0],
        "mixstage": _version("mixstage") or "from source",
        "processors": str(usable_processors()),
    }
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0 and done.stdout.strip():
            machine["gpu"] = "; ".join(done.stdout.strip().splitlines())
    return machine


def try_code(code: str, timeout: float) -> tuple[bool, str]:
    """Whether ``code`` ends well in a fresh interpreter, and the last line it printed, or why it did not.

    It imports from where this process does, so that it finds this very package.
    """
    command = [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout:g} s"
    if done.returncode < 0:
        return False, f"ended by {signal.Signals(-done.returncode).name}"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"ended with code {done.returncode}"


def _examine(part: Part, timeout: float, gpu: bool) -> Finding:
    version = next((found for package in part.packages if (found := _version(package))), "")
    if not version:
        return Finding(part.name, "", "missing", "not installed", part.install)
    if part.gpu and not gpu:
        return Finding(part.name, version, "no GPU", "needs a GPU with its driver; none was found")
    works, seen = try_code(f"from loaders.cli.doctor import probe; probe({part.probe!r})", timeout)
    return Finding(part.name, version, "works" if works else "fails", seen)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def probe(name: str) -> None:
    """Try one part in this process; prints what was seen and raises if it does not work."""
    if name in _BACKENDS:
        print(_try_loader(name, "cpu"))
    else:
        print({"torch": _try_torch, "cuda": _try_cuda, "dali_gpu": _try_dali_gpu}.get(name, lambda: _try_kernel(name))())


def _try_torch() -> str:
    import torch

    x = torch.arange(6.0).view(2, 3)
    if not torch.equal(x @ x.T, torch.tensor([[5.0, 14.0], [14.0, 50.0]])):
        raise RuntimeError("a product of two matrices is wrong")
    return f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"


def _try_cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"torch, built for CUDA {torch.version.cuda}, finds no usable device")
    torch.ones(8, device="cuda").sum().item()
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, compute capability {major}.{minor}"


def _try_kernel(backend: Any) -> str:
    """Blends a batch with the kernel ``backend`` and with plain torch."""
    import torch

    from mixops import HMix, Key, mix_images

    device = "cuda" if backend == "triton" else "cpu"
    images = torch.arange(4 * 3 * 16 * 16, dtype=torch.int32).to(device, torch.uint8).view(4, 3, 16, 16)
    plan = HMix().plan(Key(), batch_size=4, height=16, width=16)
    options: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.2] * 3}
    got, expected = (mix_images(images, plan, backend=name, **options) for name in (backend, "eager"))
    error = (got - expected).abs().max().item()
    if not error < 1e-4:
        raise RuntimeError(f"a mixed batch differs by {error:.1e} from plain torch")
    return "a mixed batch agrees with plain torch"


def _try_dali_gpu() -> str:
    return f"{_try_loader('dali', 'cuda')}, nvJPEG {_version('nvidia-nvjpeg') or 'of the CUDA toolkit'}"


def _try_loader(backend: Any, device: str) -> str:
    """Loads one mixed batch of four small JPEGs."""
    from PIL import Image

    from mixops import MixUp

    from ..image_loader import ImageLoader

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIXSTAGE_CACHE"] = folder
        root = Path(folder, "images")
        for i in range(4):
            path = root / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (60 * i, 90, 120)).save(path)
        if backend == "ffcv":
            from .convert import convert

            convert(root, Path(folder, "images.beton"), num_threads=1)
            root = Path(folder, "images.beton")
        with ImageLoader(
            root, backend=backend, batch_size=4, size=24, mixer=MixUp(), device=device, num_threads=1
        ) as loader:
            images, targets = next(iter(loader))
            if images.shape != (4, 3, 24, 24) or not images.isfinite().all() or not (targets.sum(1) - 1).abs().max() < 1e-5:
                raise RuntimeError(f"a batch came out as {tuple(images.shape)}, targets {targets.tolist()}")
    return f"loaded and mixed four JPEGs on {device}"
