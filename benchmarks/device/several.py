"""Kernels of rows of several sources, beside a copy of as many bytes."""

from __future__ import annotations

from loaders.bench import kernels_cuda

from .run import Reports, Run


def reports(run: Run) -> Reports:
    """A table of their own: what crosses the L2 cache is each source once, and a copy has one."""
    batch, rounds = (2, 1) if run.tiny else (256, 5)
    for report in kernels_cuda.reports(batch, 8 if run.tiny else run.size, rounds, run.device, kernels_cuda.SEVERAL):
        yield "kernels-several-cuda", report
