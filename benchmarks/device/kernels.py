"""Kernels and whole calls: the fused pass and augmentation, beside a copy of as many bytes and beside other libraries."""

from __future__ import annotations

from loaders.bench import augment_cuda, kernels_cuda

from .run import Reports, Run


def reports(run: Run) -> Reports:
    """The table of mixing, then that of augmentation."""
    batch, rounds = (2, 1) if run.tiny else (256, 5)
    for report in kernels_cuda.reports(batch, 8 if run.tiny else run.size, rounds, run.device, kernels_cuda.PAIRS):
        yield "kernels-cuda", report
    for report in augment_cuda.reports(batch, run.size, rounds, run.device):
        yield "kernels-augment-cuda", report
