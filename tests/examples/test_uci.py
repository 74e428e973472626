"""The example on UCI's tables: splits are stratified and standardised, every method learns, the report compares."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("sklearn")
spec = importlib.util.spec_from_file_location("uci", Path(__file__).parents[2] / "examples" / "uci.py")
uci = importlib.util.module_from_spec(spec)
sys.modules["uci"] = uci
spec.loader.exec_module(uci)


@pytest.mark.parametrize("name", uci.HIDDEN)
def test_a_fifth_of_each_class_is_held_out(name):
    rows, other = uci.split(name, 0), uci.split(name, 1)
    whole = torch.cat([rows.y, rows.held_y]).bincount()
    assert ((rows.held_y.bincount() - whole / 5).abs() < 1).all()
    assert rows.x.mean(0).abs().max() < 1e-5 and (rows.x.std(0, unbiased=False) - 1).abs().max() < 1e-5
    assert not torch.equal(rows.held_x, other.held_x)
    held = {tuple(row) for row in rows.held_x.tolist()}
    assert len(held & {tuple(row) for row in rows.x.tolist()}) <= 3  # the tables hold a row twice here and there


@pytest.mark.parametrize("method", uci.METHODS)
def test_each_method_learns(method):
    assert uci.train("wine", uci.METHODS[method], 0, 12) > 90
    assert uci.train("wine", uci.METHODS[method], 0, 1) == uci.train("wine", uci.METHODS[method], 0, 1)


def test_the_report_says_mean_and_standard_error():
    found = uci.report({("iris", "mixup"): [90.0, 94.0, 98.0], ("iris", "zeta-mixup"): [90.0]}, 7).figures()
    one, other = found["rows"]
    assert one["accuracy, %"] == 94 and one["standard error"] == pytest.approx(4 / 3**0.5) and one["published, %"] == 98
    assert other["standard error"] is None and other["published, %"] is None
