"""A plugin of pytest's that prints why a test failed as soon as it has: a run that is cut off prints no summary."""

from __future__ import annotations

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called for each report, in the process that prints."""
    if report.failed:
        print(f"\n{report.nodeid} failed:\n{report.longreprtext}", flush=True)
