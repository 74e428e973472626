"""``mixstage convert``: what is in the file, what is refused, what is left behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.ffcv_data import picture, write_beton, write_folder

from loaders.cli import convert as convert_module
from loaders.cli.convert import convert
from loaders.sources import Folder
from pipelines.bad_file import BadFile
from pipelines.ffcv import beton_writer
from pipelines.ffcv.beton import IMAGE, INT, JPEG, RAW, Beton, checksum


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("images") / "train")


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_keeps_order_names_classes_and_sizes(folder: Path, tmp_path: Path) -> None:
    index, beton = Folder(folder), Beton(write_beton(folder, tmp_path / "a.beton"))
    assert beton.annotations.classes == index.classes == ("cat", "dog", "owl")
    assert beton.annotations.names == tuple(os.fsdecode(name) for name in index.files.tolist())
    np.testing.assert_array_equal(beton.column(beton.first(INT)), index.labels)
    images = beton.images(beton.first(IMAGE))
    np.testing.assert_array_equal(np.stack([images.height, images.width], 1), index.sizes)
    assert (images.mode == JPEG).all()


def test_raw_records_are_the_pixels(folder: Path, tmp_path: Path) -> None:
    index, beton = Folder(folder), Beton(write_beton(folder, tmp_path / "a.beton", jpeg_share=0))
    images = beton.images("image")
    for sample in range(len(index)):
        expected = np.asarray(Image.open(index.name(sample)).convert("RGB"))
        record = np.frombuffer(beton.read(images, sample), np.uint8)
        np.testing.assert_array_equal(record.reshape(expected.shape), expected)


def test_jpeg_records_have_the_quality_asked_for(folder: Path, tmp_path: Path) -> None:
    index, beton = Folder(folder), Beton(write_beton(folder, tmp_path / "a.beton", quality=71))
    for sample in range(len(index)):
        expected = io.BytesIO()
        Image.open(index.name(sample)).convert("RGB").save(expected, "JPEG", quality=71)
        assert beton.read(beton.images("image"), sample) == expected.getvalue()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_share_of_jpegs(folder: Path, tmp_path: Path, share: float) -> None:
    beton = Beton(write_beton(folder, tmp_path / "a.beton", jpeg_share=share))
    modes = beton.images("image").mode
    assert (modes == JPEG).sum() == int(len(modes) * share)
    assert set(modes.tolist()) <= {JPEG, RAW}


def test_shrinks_by_the_longer_side(folder: Path, tmp_path: Path) -> None:
    index, beton = Folder(folder), Beton(write_beton(folder, tmp_path / "a.beton", max_side=45))
    images = beton.images("image")
    sizes = np.stack([images.height, images.width], 1)
    large = index.sizes.max(1) > 45
    assert (sizes[large].max(1) == 45).all() and large.any() and not large.all()
    np.testing.assert_array_equal(sizes[~large], index.sizes[~large])
    aspect, before = sizes[:, 0] / sizes[:, 1], index.sizes[:, 0] / index.sizes[:, 1]
    np.testing.assert_allclose(aspect, before, rtol=0.04)


def test_equal_folders_become_equal_files(folder: Path, tmp_path: Path) -> None:
    one = write_beton(folder, tmp_path / "a.beton", jpeg_share=0.5, num_threads=1)
    two = write_beton(folder, tmp_path / "b.beton", jpeg_share=0.5, num_threads=5)
    assert one.read_bytes() == two.read_bytes()


def test_records_do_not_cross_pages(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beton_writer, "_PAGE", 1 << 14)
    beton = Beton(write_beton(folder, tmp_path / "a.beton", jpeg_share=0))
    images = beton.images("image")
    page = beton.page_size
    assert page == 1 << 14
    assert (images.pointer // page == (images.pointer + images.size - 1) // page).all()
    assert len(np.unique(images.pointer // page)) > 3
    ends = np.sort(images.pointer + images.size)
    assert (np.sort(images.pointer)[1:] >= ends[:-1]).all()


def test_page_grows_with_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beton_writer, "_PAGE", 1 << 10)
    folder = write_folder(tmp_path / "train", per_class=1)
    assert Beton(write_beton(folder, tmp_path / "a.beton", jpeg_share=0)).page_size == 1 << 14  # 61 * 47 * 3 bytes
    assert Beton(write_beton(folder, tmp_path / "b.beton", jpeg_share=0, max_side=20)).page_size == 1 << 11


def test_ffcv_reads_the_file(folder: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("ffcv.reader", reason="ffcv is not installed")
    path = write_beton(folder, tmp_path / "a.beton", jpeg_share=0.5)
    theirs, ours = reader.Reader(str(path)), Beton(path)
    assert list(theirs.handlers) == ["image", "label"]
    assert theirs.num_samples == ours.samples and theirs.page_size == ours.page_size
    assert theirs.metadata.tobytes() == ours.metadata.tobytes()
    np.testing.assert_array_equal(theirs.alloc_table["ptr"], ours.images("image").pointer)
    np.testing.assert_array_equal(theirs.alloc_table["size"], ours.images("image").size)


def test_refuses_to_overwrite(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.beton").write_text("mine")
    with pytest.raises(FileExistsError, match=r"out must not exist, got .*a\.beton"):
        convert(folder, tmp_path / "a.beton")
    assert (tmp_path / "a.beton").read_text() == "mine"
    assert left_in(tmp_path) == ["a.beton"]


def test_does_not_overwrite_a_file_made_meanwhile(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = convert_module.write_beton

    def write_and_be_overtaken(*args: object) -> None:
        write(*args)  # type: ignore[arg-type]
        (tmp_path / "a.beton").write_text("theirs")

    monkeypatch.setattr(convert_module, "write_beton", write_and_be_overtaken)
    with pytest.raises(FileExistsError):
        convert(folder, tmp_path / "a.beton")
    assert (tmp_path / "a.beton").read_text() == "theirs"
    assert left_in(tmp_path) == ["a.beton"]


def test_an_unreadable_image_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "train", per_class=3)
    bad = folder / "dog" / "000.jpg"
    data = bad.read_bytes()
    bad.write_bytes(data[: len(data) // 2])
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"dog/000\.jpg: cannot be converted"):
        convert(folder, tmp_path / "out" / "a.beton")
    bad.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"dog/000\.jpg: is no image"):
        convert(folder, tmp_path / "out" / "a.beton")
    assert left_in(tmp_path / "out") == []


@pytest.mark.slow
def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        picture(0, 500, 500).save(tmp_path / "train" / name / "0.jpg")
        for i in range(1, 3000):
            os.link(tmp_path / "train" / name / "0.jpg", tmp_path / "train" / name / f"{i}.jpg")
    (tmp_path / "out").mkdir()
    code = "import sys; from pathlib import Path; from loaders.cli.convert import convert; convert(*map(Path, sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(tmp_path / "train"), str(tmp_path / "out" / "a.beton")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not left_in(tmp_path / "out") and process.poll() is None:
        time.sleep(0.02)
    assert left_in(tmp_path / "out"), "the conversion did not begin"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode != 0 and b"KeyboardInterrupt" in errors
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": 0}, r"quality must be in \[1, 100\], got 0"),
        ({"quality": 101}, r"quality must be in \[1, 100\], got 101"),
        ({"jpeg_share": 1.5}, r"jpeg_share must be in \[0, 1\], got 1.5"),
        ({"max_side": 0}, r"max_side must be in \[1, 65535\], got 0"),
        ({"num_threads": -1}, r"num_threads must be at least 0, got -1"),
    ],
)
def test_bad_arguments(folder: Path, tmp_path: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_beton(folder, tmp_path / "a.beton", **options)
    assert left_in(tmp_path) == []


def test_folders_that_do_not_exist(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out must lie in a folder that exists"):
        convert(folder, tmp_path / "nowhere" / "a.beton")
    with pytest.raises(ValueError, match=r"root must be one of: .* a folder with one .*nothing', which does not exist"):
        convert(tmp_path / "nothing", tmp_path / "a.beton")


# ------------------------------------------------------------------------------------------------ reading the file back


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    return write_beton(folder, tmp_path / "a.beton", jpeg_share=0.5)


def corrupt(path: Path, at: int, value: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(value)


def test_any_flipped_bit_of_a_sample_is_found(file: Path) -> None:
    beton = Beton(file)
    images, rng = beton.images("image"), np.random.default_rng(0)
    start = file.read_bytes().index(beton.rows.tobytes())
    for sample in range(4):
        pointer, size = int(images.pointer[sample]), int(images.size[sample])
        row = start + sample * beton.rows.shape[1]
        for at in [*rng.integers(pointer, pointer + size, 5).tolist(), row, row + beton.rows.shape[1] - 1]:
            with open(file, "rb") as opened:
                opened.seek(at)
                before = opened.read(1)
            corrupt(file, at, bytes([before[0] ^ (1 << int(rng.integers(8)))]))
            damaged = Beton(file)
            with pytest.raises(BadFile):
                damaged.read(damaged.images("image"), sample)
            corrupt(file, at, before)
    assert all(beton.read(images, sample) for sample in range(beton.samples))


def test_a_pointer_to_another_record_is_found(file: Path) -> None:
    beton = Beton(file)
    start = file.read_bytes().index(beton.rows.tobytes())
    width = beton.rows.shape[1]
    pointers = beton.metadata.dtype.fields["f0"][1] + beton.column("image").dtype.fields["pointer"][1]  # type: ignore[index]
    corrupt(file, start + pointers, beton.rows[2, pointers : pointers + 8].tobytes())
    damaged = Beton(file)
    with pytest.raises(BadFile, match="does not match its checksum"):
        damaged.read(damaged.images("image"), 0)
    corrupt(file, start + width + pointers, (12345).to_bytes(8, "little"))
    damaged = Beton(file)
    with pytest.raises(BadFile, match="point to no record"):
        damaged.read(damaged.images("image"), 1)


@pytest.mark.parametrize("keep", [0, 10, 500, 2000, 8_000_000, -1, -24, -100])
def test_a_file_that_was_cut_off_is_refused(file: Path, keep: int) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:keep])
    with pytest.raises(ValueError, match=r"a\.beton"):
        Beton(file)


def test_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Beton(tmp_path / "nothing.beton")
    with pytest.raises(ValueError, match="must be an FFCV data set"):
        Beton(folder / "cat" / "000.jpg")


def test_a_file_that_shrinks_while_open_is_an_error(file: Path) -> None:
    beton = Beton(file)
    os.truncate(file, int(beton.images("image").pointer[3]) + 5)
    with pytest.raises(RuntimeError, match=r"had \d+ bytes when it was opened and now has \d+"):
        beton.read(beton.images("image"), 3)
    with pytest.raises(RuntimeError, match=r"had \d+ bytes"):
        beton.check_length()


def test_damage_that_shows_without_checksums(file: Path) -> None:
    beton = Beton(file)
    images = beton.images("image")
    object.__setattr__(beton.annotations, "checksums", None)
    jpeg = int(np.flatnonzero(images.mode == JPEG)[0])
    at, size = int(images.pointer[jpeg]), int(images.size[jpeg])
    good = beton.read(images, jpeg)
    damages = {
        "header": (at, bytes(64)),
        "does not say": (at, picture_bytes(20, 21)[:200]),
        "ends early": (at + size // 2, bytes(size - size // 2)),
    }
    for message, (where, value) in damages.items():
        corrupt(file, where, value)
        with pytest.raises(BadFile, match=message):
            beton.read(images, jpeg)
        corrupt(file, at, good)
    images.height[np.flatnonzero(images.mode == RAW)[0]] += 1
    with pytest.raises(BadFile, match="raw pixels"):
        beton.read(images, int(np.flatnonzero(images.mode == RAW)[0]))


def picture_bytes(height: int, width: int) -> bytes:
    data = io.BytesIO()
    picture(0, height, width).save(data, "JPEG")
    return data.getvalue()


def test_checksum_covers_row_and_record() -> None:
    row = np.arange(24, dtype=np.uint8)
    values = {checksum(row, b"abc"), checksum(row, b"abd"), checksum(row[::-1].copy(), b"abc")}
    assert len(values) == 3
