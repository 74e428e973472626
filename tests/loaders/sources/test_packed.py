"""Images in the middle of larger files: what stands between a header and the data, and data that hold a header's word."""

from __future__ import annotations

import zipfile
from pathlib import Path

from support.images import encoded, make_jpeg_folder, picture
from support.source_cases import write_recordio

from loaders.sources import Folder, open_source

MAGIC = b"\x0a\x23\xd7\xce"  # of a RecordIO record


def test_members_of_a_zip_with_extra_fields(tmp_path: Path) -> None:
    images = [encoded(picture(i)) for i in range(3)]
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for i, data in enumerate(images):
            info = zipfile.ZipInfo(f"a/{i}.jpg")
            info.extra = b"\x75\x70" + (4 * i).to_bytes(2, "little") + b"name" * i
            archive.writestr(info, data)
    source = open_source(tmp_path / "train.zip")
    assert [source.read(i) for i in range(3)] == images


def test_records_that_are_split_where_their_first_word_stands(tmp_path: Path) -> None:
    folder = Path(make_jpeg_folder(tmp_path / "folder", 4, classes=2))
    comment = b"".join(MAGIC + b"c" * i for i in range(1, 9))  # at every remainder of four bytes
    for path in folder.glob("*/*"):
        data = path.read_bytes()
        path.write_bytes(data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:])
    (tmp_path / "made").mkdir()
    source, expected = open_source(write_recordio(Folder(folder), tmp_path / "made")), Folder(folder)
    assert len(source) == 4 and not source.broken
    assert [source.read(i) for i in range(4)] == [expected.read(i) for i in range(4)]
