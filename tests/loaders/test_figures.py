"""Tables keep their figures at every width, and JSON goes where it is sent."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from loaders.figures import console_for, print_table, write_json

COLUMNS = ["loader", "images/s", "x torchvision with mixing", "x same loader without mixing", "x plain DALI"]
ROWS = [
    ["torchvision DataLoader, v2.RandomChoice([MixUp, CutMix])", "1,234 (1,201 to 1,297)", "1 (1 to 1)", "—", "—"],
    ["mixstage dali, HMix", "12,345 (12,301 to 12,402)", "10.3 (9.97 to 10.4)", "0.98 (0.97 to 0.99)", "1.01 (1 to 1.02)"],
]


def printed(width: int, columns: list[str], rows: list[list[str | Text]]) -> str:
    file = io.StringIO()
    print_table(Console(file=file, width=width), columns, rows, "Loaders [alone]")
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 60, 80, 100, 120, 150, 200])
def test_no_figure_is_cut(width: int) -> None:
    text = printed(width, COLUMNS, ROWS)
    for row in ROWS:
        for figure in row[1:]:
            assert figure == "—" or any(figure in line for line in text.splitlines()), (figure, text)
    if width >= 80:
        assert max(map(len, text.splitlines())) <= width
    assert "[alone]" in text and "…" not in text
    if width >= 200:
        assert "v2.RandomChoice([MixUp, CutMix])" in text  # brackets are no markup


def test_words_wrap_where_figures_fit() -> None:
    text = printed(60, ["part", "share", "seen"], [["DALI", "12.5%", "a product of two matrices " * 4]])
    assert "12.5%" in text and " ".join(text.replace("│", " ").split()).count("matrices") == 4
    assert text.splitlines()[1].startswith("┏")  # still a table
    assert printed(60, ["part"], []).count("part") == 1


def test_json_goes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(None, {"a": 1})
    assert capsys.readouterr().out == ""
    write_json(Path("-"), {"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    write_json(tmp_path / "new" / "a.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"a": 1}
    assert console_for(Path("-")).stderr and not console_for(tmp_path).stderr and not console_for(None).stderr
