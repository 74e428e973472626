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
from loaders.bench import kernels_cuda
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
tables = list(kernels_cuda.reports(2, 8, 1, torch.device("cpu"), kernels_cuda.PAIRS[:3]))
print(json.dumps([json.loads(report.json()) for report in (*tables, tiles.run(2, 8))]))
"""


@pytest.mark.nightly
def test_tables_of_kernels_and_tiles() -> None:
    pytest.importorskip("kornia")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    *kernels, tiles = json.loads(done.stdout)
    assert [len(table["rows"]) for table in kernels] == [6, 12, 18, 24, 30, 36, 46], "it grows by a kind of result"
    rows = kernels[-1]["rows"]
    assert {(row["mixer"], row["K"], row["result"]) for row in rows if row["path"] == "kernel"} == {
        (mixer, k, f"{dtype} {layout}") for mixer in ("MixUp", "CutMix", "HMix") for k in (1, 5)
        for dtype in ("float16", "bfloat16", "float32") for layout in ("NHWC", "NCHW")
    }  # fmt: skip
    assert all((row["share of a copy of the same bytes"] is None) == (row["path"] != "kernel") for row in rows)
    assert all(row[f"{what} µs"]["median"] > 0 for row in rows for what in ("GPU", "call", "host"))
    whole = [row for row in rows if row["path"] != "kernel"]
    assert {row["path"].split(",")[0] for row in whole} == {"mixstage", "eager torch", "torchvision", "timm", "kornia"}
    told = " ".join(kernels[-1]["notes"])
    assert "timm, with targets, CutMix: " in told and "No other library was measured" not in told
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
