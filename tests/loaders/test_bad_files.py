"""Bad files: replaced without a trace in the other rows, or named; never a crash, never a wrong label."""

from __future__ import annotations

import io
import itertools
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import DAMAGE, awkward, damage, encoded, make_jpeg_folder, picture, undecodable
from support.nightly import nightly
from torchvision.transforms import functional as F

from loaders import ImageLoader
from loaders.bad_files import BadFiles
from pipelines import pillow
from pipelines.jpeg import plain_size

BACKENDS = ("dali", "torchvision")
RECORD_DAMAGE = tuple(kind for kind in DAMAGE if kind not in ("missing", "folder"))  # what can become of a record
PIXELS = {"mean": None, "std": None, "dtype": torch.uint8, "size": 16, "num_threads": 2, "device": "cpu"}


def loader(root, backend, **options):
    return ImageLoader(root, backend=backend, **PIXELS, **{"drop_last": False, "on_error": "skip"} | options)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """1,000 images in 5 classes, all different."""
    return make_jpeg_folder(tmp_path_factory.mktemp("thousand"), 1000)


@pytest.fixture(scope="module")
def thousand_records(thousand, tmp_path_factory):
    """The same as a .beton file of JPEG records with checksums."""
    pytest.importorskip("ffcv")
    from loaders.cli.convert import convert

    path = tmp_path_factory.mktemp("records") / "thousand.beton"
    convert(thousand, path)
    return path


def policy(**options):
    known = BadFiles("file {}".format, **options)
    known.known.update({sample: f"reason {sample}" for sample in range(9)})
    return known


def test_the_first_bad_file_stops_unless_told_otherwise():
    policy().refuse([])
    policy().refuse([9, 10])
    with pytest.raises(RuntimeError, match=r"^file 4: reason 4 \(on_error='skip' goes on without"):
        policy().refuse([12, 4, 2])
    policy(on_error="skip").refuse([4, 2])


def test_a_bad_file_is_told_once_and_counts_once(caplog):
    skip = policy(on_error="skip", max_bad=2)
    for rejected in ([], [4, 2], [2], [4]):
        skip.deliver(rejected)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "bad file file 4: reason 4", "bad file file 2: reason 2",
    ]  # fmt: skip
    assert skip.reported == {4: "reason 4", 2: "reason 2"}


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_the_budget_is_what_may_be_bad(budget):
    skip = policy(on_error="skip", max_bad=budget)
    skip.deliver(range(budget))
    with pytest.raises(RuntimeError, match=f"{budget + 1} files are bad, more than max_bad={budget}; the first are file 0"):
        skip.deliver([budget])
    skip.check_budget(range(budget))
    with pytest.raises(RuntimeError, match=rf"{budget + 1} files are bad, .*the first are file 0.* \(reason 0; "):
        skip.check_budget(range(budget + 1))


def cases(kinds):
    """All kinds, both shares, three batch sizes; a few of them by default."""
    product = list(itertools.product(kinds, (0.01, 0.1), (16, 64, 256)))
    return [
        pytest.param(
            *case, marks={3: (), 16: pytest.mark.nightly}.get(i % 26, pytest.mark.slow), id="-".join(map(str, case))
        )
        for i, case in enumerate(product)
    ]


@pytest.mark.parametrize("backend", [BACKENDS[0], *nightly(BACKENDS[1:])])
@pytest.mark.parametrize(("kind", "share", "batch_size"), cases(DAMAGE))
def test_skipping(thousand, tmp_path, caplog, backend, kind, share, batch_size):
    """Files go bad after they were indexed."""
    folder = tmp_path / "data"
    shutil.copytree(thousand, folder, copy_function=os.link)
    with loader(folder, backend, batch_size=batch_size, max_bad=round(share * 1000)) as one:
        names = [Path(one.dataset.name(sample)) for sample in range(1000)]
        check_skipping(
            one, share, lambda sample: damage(names[sample], kind), lambda sample: Image.open(names[sample]), caplog
        )


@pytest.mark.parametrize(("kind", "share", "batch_size"), cases((*RECORD_DAMAGE, "another's")))
def test_skipping_records(thousand_records, tmp_path, caplog, kind, share, batch_size):
    """Records of a .beton file go bad after it was opened; its length stays."""
    from pipelines.ffcv.beton import Beton

    path = tmp_path / "a.beton"
    path.write_bytes(thousand_records.read_bytes())
    records = Beton(thousand_records)
    images = records.images("image")

    def record(sample):
        return records.read(images, sample)

    def spoil(sample):
        if kind == "another's":
            data = record((sample + 1) % 1000)
        else:
            (tmp_path / "record").write_bytes(record(sample))
            damage(tmp_path / "record", kind)
            data = (tmp_path / "record").read_bytes()
        size = int(images.size[sample])
        with path.open("r+b") as file:
            file.seek(int(images.pointer[sample]))
            file.write((data + bytes(size))[:size])

    with loader(path, "ffcv", batch_size=batch_size, max_bad=round(share * 1000)) as one:
        check_skipping(one, share, spoil, lambda sample: Image.open(io.BytesIO(record(sample))), caplog)


def check_skipping(one, share, spoil, picture_of, caplog):
    """A share of the samples of a loader is spoilt: other rows stay bit for bit, bad ones show a good sample and its label.

    The first, the middle and the last row of a batch are among the bad ones.
    """
    expected = [(images, labels, one.draw(0, step)) for step, (images, labels) in enumerate(one)]
    ids = expected[1][2].ids
    aimed_at = ids[[0, len(ids) // 2, -1]].tolist()
    others = np.random.default_rng(one.batch_size).permutation(1000).tolist()
    bad = list(dict.fromkeys([*aimed_at, *others]))[: round(share * 1000)]
    for sample in bad:
        spoil(sample)
    one.set_epoch(0)
    with caplog.at_level(logging.WARNING, logger="mixstage"):
        batches = [(images, labels, one.draw(0, step)) for step, (images, labels) in enumerate(one)]
        assert sum(len(images) for images, _ in one) == 1000  # the next epoch, too
    assert [len(images) for images, _, _ in batches] == [len(images) for images, _, _ in expected]
    shown = []
    for (images, labels, draw), (clean_images, clean_labels, clean_draw) in zip(batches, expected, strict=True):
        good = ~np.isin(clean_draw.ids, bad)
        keep = torch.from_numpy(good)
        assert torch.equal(images[keep], clean_images[keep])
        assert torch.equal(labels[keep], clean_labels[keep])
        assert np.array_equal(draw.ids[good], clean_draw.ids[good])
        assert np.array_equal(labels, one.dataset.labels[draw.ids])
        shown += draw.ids.tolist()
        for row in np.flatnonzero(~good):
            assert _is_crop(picture_of(draw.ids[row]), draw, row, images[row])
    assert len(shown) == 1000
    assert set(shown) == set(range(1000)) - set(bad)
    warnings = [r.getMessage() for r in caplog.records if r.getMessage().startswith("bad file")]
    names = sorted(one.dataset.name(i) for i in bad)
    assert sorted(w.split(": ")[0].removeprefix("bad file ") for w in warnings) == names


def _is_crop(whole, draw, row, image):
    """Whether the pixels of a row are those of its sample."""
    crop = F.resized_crop(whole.convert("RGB"), *(int(v) for v in draw.windows[row]), [16, 16], antialias=True)
    crop = np.asarray(F.hflip(crop) if draw.flips[row] else crop).transpose(2, 0, 1)
    return np.abs(image.numpy().astype(int) - crop).mean() < 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("prefetch", [1, 4])
def test_raising(tmp_path, backend, kind, prefetch):
    """All batches before the bad file come, then the error names it."""
    make_jpeg_folder(tmp_path / "data", 60)
    with loader(tmp_path / "data", backend, batch_size=8, on_error="raise", prefetch=prefetch) as one:
        name = one.dataset.name(int(one.draw(0, 3).ids[5]))
        damage(Path(name), kind)
        batches = []
        with pytest.raises(RuntimeError) as error:
            batches.extend(iter(one))
        assert str(error.value).startswith(f"{name}: ")
        assert len(batches) <= 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_budget(tmp_path, backend, caplog):
    make_jpeg_folder(tmp_path / "data", 60)
    with loader(tmp_path / "data", backend, batch_size=8, max_bad=2) as one:
        names = [one.dataset.name(int(one.draw(0, step).ids[0])) for step in (1, 2, 4)]
        for name in names:
            damage(Path(name), "garbage")
        count = 0
        with pytest.raises(RuntimeError, match="3 files are bad, more than max_bad=2") as error:
            for _ in one:
                count += 1
        assert count == 4
        assert all(name in str(error.value) for name in names)


@pytest.mark.parametrize("backend", BACKENDS)
def test_broken_when_indexed(tmp_path, backend, caplog):
    """A file that is bad from the start keeps its place in the order, its label and its report."""
    make_jpeg_folder(tmp_path / "data", 40)
    damage(tmp_path / "data" / "0" / "00005.jpg", "html")
    with loader(tmp_path / "data", backend, batch_size=8) as one:
        assert len(one.dataset) == 40
        assert len(list(one)) == 5
        assert one.stats().bad_files == 1
    assert "00005.jpg: is no image of an accepted format" in caplog.text
    stopping = loader(tmp_path / "data", backend, batch_size=8, on_error="raise")
    with pytest.raises(RuntimeError, match=r"00005.jpg: is no image"):
        list(stopping)


@pytest.mark.parametrize("prefetch", [1, 2, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_that_only_decoding_finds(tmp_path, backend, prefetch, caplog):
    """The pipeline dies and is opened again: nothing is lost, repeated or out of order, and a resume agrees."""
    make_jpeg_folder(tmp_path / "data", 100)
    with loader(tmp_path / "data", backend, batch_size=8, prefetch=prefetch, seed=1) as one:
        clean = [(images, one.draw(0, step)) for step, (images, _) in enumerate(one)]
        bad = [int(clean[step][1].ids[row]) for step, row in ((0, 0), (5, 3), (5, 7), (6, 1), (12, 3))]
        for sample in bad:
            path = Path(one.dataset.name(sample))
            data = undecodable(path.read_bytes())
            assert plain_size(data)
            path.write_bytes(data)
        one.set_epoch(0)
        states, batches = [], []
        for images, labels in one:
            batches.append((images, labels, one.draw(0, len(batches))))
            states.append(one.state_dict())
    assert len(batches) == len(clean)
    for (images, labels, draw), (clean_images, clean_draw) in zip(batches, clean, strict=True):
        good = ~np.isin(clean_draw.ids, bad)
        assert np.array_equal(draw.ids[good], clean_draw.ids[good])
        assert torch.equal(images[torch.from_numpy(good)], clean_images[torch.from_numpy(good)])
        assert np.array_equal(labels, one.dataset.labels[draw.ids])
        assert not np.isin(draw.ids, bad).any()
    assert sum("bad file" in r.getMessage() for r in caplog.records) == len(bad)
    with loader(tmp_path / "data", backend, batch_size=8, prefetch=3, seed=1) as other:  # it knows of no bad file
        other.load_state_dict(states[3])
        for (images, labels), (expected, expected_labels, _) in zip(other, batches[4:], strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(labels, expected_labels)


def test_all_files_bad(tmp_path):
    make_jpeg_folder(tmp_path / "data", 20)
    for path in (tmp_path / "data").rglob("*.jpg"):
        damage(path, "garbage")
    with pytest.raises(RuntimeError, match="found no good sample for row 0 of step 0"):
        list(loader(tmp_path / "data", "dali", batch_size=8))


def mutants(seed, count):
    """Files of all formats with a few bytes changed, most in the header: ``count`` that reach DALI's decoder, and others."""
    rng = np.random.default_rng(seed)
    while count:
        name, good = awkward(int(rng.integers(34)))
        broken = bytearray(good)
        reach = min(len(broken), 700) if rng.random() < 0.8 else len(broken)
        for at in rng.integers(0, reach, int(rng.integers(1, 6))).tolist():
            if rng.random() < 0.2:
                del broken[at : at + int(rng.integers(1, 30))]
                reach = min(reach, len(broken))
            elif at < len(broken):
                broken[at] = int(rng.integers(256))
        if plain_size(bytes(broken)) is not None:
            count -= 1
        elif rng.random() < 0.9:
            continue
        yield name, bytes(broken)


_DECODE_MUTANTS = """
import sys
from loaders import ImageLoader
one = ImageLoader(sys.argv[1], batch_size=64, size=16, device="cpu", num_threads=2, on_error="skip", max_bad=10**6)
print(sum(len(images) for _ in range(2) for images, _ in one), one.stats().bad_files)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 20))])
def test_no_bytes_end_the_process(tmp_path, seed):
    """A batch of 64 with a hundred header mutants among good files, in a process of its own."""
    odd = list(mutants(seed, 100))
    folder = make_jpeg_folder(tmp_path / "data", 576 - len(odd), classes=2)
    for i, (name, data) in enumerate(odd):
        (folder / "0" / f"m{i}_{name}").write_bytes(data)
    run = subprocess.run([sys.executable, "-c", _DECODE_MUTANTS, str(folder)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    images, bad = map(int, run.stdout.split())
    assert images == 2 * 576
    assert bad < len(odd)


def test_what_is_no_plain_jpeg_reaches_dali_decoded():
    from loaders.backends.dali import _as_pnm

    for kind in ("BMP", "TIFF", "PNG"):
        pixels = np.asarray(pillow.decode(encoded(picture(1, 37, 53), kind)))
        data = _as_pnm(pixels)
        assert data[:13] == b"P6 37 53 255\n"
        np.testing.assert_array_equal(np.asarray(pillow.decode(data)), pixels)
