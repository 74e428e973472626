"""The benchmarks of a GPU, as far as they go without one: interpreted kernels, and clocks that only call what they time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

SCRIPT = """
import json, itertools, torch
from benchmarks import tiles
from mixops.kernels.blend.launch import Tile

ticks = itertools.count(1)

def clock(call, *_):
    call()
    return lambda: 1e-3 * next(ticks)

tiles.run_ahead = lambda *_: None
tiles.candidates = lambda: iter([Tile(64, 2, 4), Tile(128, 1, 4, True)])
tiles.DEVICE = torch.device("cpu")
tiles.graph_seconds = clock
tiles.copy_seconds = lambda _: lambda: 1e-3 * next(ticks)
print(tiles.run(2, 8).json())
"""


def test_the_table_of_tiles() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    tiles = json.loads(done.stdout)
    assert len(tiles["rows"]) == 2 * 2 * 2 * 2
    assert {(row["result"], row["layout"], row["best for K"]) for row in tiles["rows"]} == {
        (dtype, layout, k) for dtype in ("float16", "float32") for layout in ("NHWC", "NCHW") for k in (1, 5)
    }


def test_a_replayed_graph_keeps_what_it_was_captured_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that a graph reads and writes belongs to the call: given back, others would write into it."""
    from loaders.bench.device import graph_seconds

    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None, elapsed_time=lambda _: 12.0)
    fakes = {
        "Stream": lambda: SimpleNamespace(synchronize=lambda: None), "stream": nullcontext, "synchronize": lambda: None,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None), "graph": lambda *_, **__: nullcontext(),
        "Event": lambda **_: event,
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    memory = torch.zeros(1)

    def call(kept: torch.Tensor = memory) -> None:
        kept.add_(1)

    alive = weakref.ref(memory)
    measure = graph_seconds(call, calls=3)
    del call, memory
    assert measure() == pytest.approx(12e-3 / 3)
    assert alive() is not None
    del measure
    assert alive() is None
