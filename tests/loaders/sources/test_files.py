"""Lists of files and manifests: paths, labels, columns, and clear errors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.images import encoded, make_jpeg_folder, picture

from loaders.sources import Files, Folder, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_jpeg_folder(tmp_path / "data", 9, classes=3)


def test_a_list_is_the_folder(folder: Path) -> None:
    expected = Folder(folder)
    paths = [expected.name(i) for i in range(9)]
    for files, root in ((paths, None), (map(Path, paths), None), ([os.path.relpath(p, folder) for p in paths], folder)):
        source = Files(files, expected.labels, expected.classes, root=root)
        assert [source.name(i) for i in range(9)] == paths and source.digest == expected.digest
        assert np.array_equal(source.sizes, expected.sizes)
        assert source.read(4) == Path(paths[4]).read_bytes()


def test_any_name_will_do_and_what_is_missing_is_bad(tmp_path: Path) -> None:
    (tmp_path / "a.data").write_bytes(encoded(picture(0)))
    source = Files([tmp_path / "a.data", tmp_path / "gone.jpg"], ["yes", "no"])
    assert source.classes == ("no", "yes") and source.labels.tolist() == [1, 0]
    assert source.broken == {1: "cannot be read: No such file or directory"}


def test_paths_are_relative_to_the_root_however_they_are_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [f"{folder}/0/00000.jpg", f"{folder}/1/00001.jpg"]
    others = [f"{folder}//0/00000.jpg", f"{folder}/0/./00000.jpg", f"{folder}/1/../0/00000.jpg", f"{folder}/./0/00000.jpg"]
    monkeypatch.setenv("HOME", str(folder))
    for paths in (plain, *([plain[1], other] for other in others), [plain[1], "~/0/00000.jpg"], [plain[1], "0/00000.jpg"]):
        source = Files(paths, [0, 1], root=folder)
        assert {bytes(name) for name in source.files} == {b"0/00000.jpg", b"1/00001.jpg"} and not source.broken
    outside = Files([plain[0], f"{folder.parent}/gone.jpg"], [0, 1], root=folder)
    assert outside.files.tolist() == [b"0/00000.jpg", b"../gone.jpg"] and list(outside.broken) == [1]
    alike = folder.parent / "data2"  # begins as the folder does
    assert Files([plain[0], f"{alike}/a.jpg"], [0, 1], root=folder).files.tolist()[1] == b"../data2/a.jpg"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "file_name,label\n0/00000.jpg,2\n1/00001.jpg,0\n"),
        ("m.tsv", "label\tpath\n2\t0/00000.jpg\n0\t1/00001.jpg\n"),
        ("m.csv", "\ufefffilename,class,x\n0/00000.jpg,2,\n1/00001.jpg,0,\n"),
        ("m.json", '[{"file_name": "0/00000.jpg", "label": 2}, {"file_name": "1/00001.jpg", "label": 0}]'),
        ("m.json", '{"0/00000.jpg": 2, "1/00001.jpg": 0}'),
        ("m.jsonl", '{"image": "0/00000.jpg", "target": 2}\n\n{"image": "1/00001.jpg", "target": 0}\n'),
    ],
)
def test_manifests(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    source = open_source(folder / name)
    assert isinstance(source, Files) and source.labels.tolist() == [2, 0]
    assert [source.name(i) for i in range(2)] == [f"{folder}/0/00000.jpg", f"{folder}/1/00001.jpg"]
    assert source.read(0) == (folder / "0/00000.jpg").read_bytes()


def test_names_soft_labels_and_other_columns(folder: Path) -> None:
    (folder / "m.csv").write_text("id,breed,label\n0/00000.jpg,collie,x\n1/00001.jpg,beagle,x\n")
    source = Files(folder / "m.csv", columns=("id", "breed"))
    assert source.classes == ("beagle", "collie") and source.labels.tolist() == [1, 0]
    rows = [{"file": "0/00000.jpg", "label": [0.5, 0.5]}, {"file": "1/00001.jpg", "label": [0, 1]}]
    (folder / "m.json").write_text(json.dumps(rows))
    assert Files(folder / "m.json", classes=["a", "b"]).labels.tolist() == [[0.5, 0.5], [0, 1]]
    elsewhere = folder.parent / "lists"
    elsewhere.mkdir()
    (elsewhere / "m.json").write_text('{"0/00000.jpg": 0}')
    assert not Files(elsewhere / "m.json", root=folder).broken


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "a,b\n1,2\n", r"must have a column 'file_name' .* with a, b"),
        ("m.csv", "file_name,b\n1,2\n", r"must have a column 'label'"),
        ("m.csv", "file_name,label\na.jpg,\n", r"must have 'file_name' and 'label' in every row, not in row 1"),
        ("m.csv", "", "with a row a sample"),
        ("m.json", "[1, 2]", "with a row a sample"),
        ("m.json", '{"a.jpg": ', r"must be a manifest, got .*m\.json"),
        ("m.jsonl", "x\n", r"must be a manifest, got .*m\.jsonl"),
        ("m.json", "{}", "must be at least one, got none"),
        ("m.csv", b"\xff\xfe\x00", "must be a manifest"),
    ],
)
def test_errors(tmp_path: Path, name: str, text: Any, message: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / name)


def test_errors_of_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="files must be a manifest that exists"):
        Files(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="labels must be None for a manifest"):
        Files(tmp_path / "none.csv", [1])
    with pytest.raises(ValueError, match="labels must be one for each of the 2 samples, got 1"):
        Files(["a.jpg", "b.jpg"], [1])
