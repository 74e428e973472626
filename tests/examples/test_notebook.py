"""The notebook's cells run in their order, in one name space, as in Jupyter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nvidia.dali", reason="needs DALI: pip install 'mixstage[dali]'")
pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'mixstage[demo]'")
NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_steps.ipynb"


def test_all_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    monkeypatch.chdir(tmp_path)
    shown: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.gcf().axes)) or plt.close())
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert cell["cell_type"] != "code" or cell["outputs"] == []  # what it prints is not kept in the repository
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert shown == [8, 8]
    printed = capsys.readouterr().out
    assert "2 batches, equal bit for bit" in printed and "accuracy on mixed images" in printed and "HMix" in printed
