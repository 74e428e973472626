"""Faults in ``loaders.sources``, and in what several crops, label maps and arrays are shown by."""

from __future__ import annotations

from .base import Fault

_PLACE = "loaders/sources/"
COMPOSED = (f"{_PLACE}test_composed.py",)
PACKED = (f"{_PLACE}test_packed.py",)
SAME = (f"{_PLACE}test_contract.py::test_labels_classes_and_sizes",)
BAD = (f"{_PLACE}test_contract.py::test_a_bad_sample_is_named_and_another_takes_its_place",)
TRUNCATED, TAR, MAC = ((f"{_PLACE}test_{name}.py",) for name in ("truncated", "tar", "tar_damage"))
FOLDER, CACHE, FILES, HUB = ((f"{_PLACE}test_{name}.py",) for name in ("folder", "cache", "files", "hub"))
OPENED, STORAGE, TORCH, ARRAYS = ((f"{_PLACE}test_{name}.py",) for name in ("opened", "storage", "torch_dataset", "arrays"))
MANY = (f"{_PLACE}test_read_many.py",)
ROWS, MAPS, CROPS = ("pipelines/test_crop_arrays.py",), (f"{_PLACE}test_label_maps.py",), ("loaders/test_multi_crop.py",)

# one line a fault
# ruff: noqa: E501
FAULTS = (
    Fault("folder: folders inside a class are not listed", "loaders/sources/folder.py", "found.append((entry.path, (*above, _identity(entry.path))))", "pass", FOLDER),
    Fault("folder: a file of another time is as it was", "loaders/sources/folder.py", "(old_stats[old] == stats).all(1)", "(old_stats[old, 0] == stats[:, 0])", FOLDER),
    Fault("folder: sizes of the files that had their place", "loaders/sources/folder.py", "sizes[same] = old_sizes[old[same]]", "sizes[same] = old_sizes[np.flatnonzero(same)]", FOLDER),
    Fault("files: the mark at the beginning is part of a name", "loaders/sources/files.py", 'encoding="utf-8-sig"', 'encoding="utf-8"', FILES),
    Fault("files: numbers are names", "loaders/sources/files.py", "return [int(label) for label in labels]", "return labels", FILES),
    Fault("tar: two images of a key", "loaders/sources/tar.py", "if key in images:", "if False:", TAR),
    Fault("tar: a Mac's files are samples", "loaders/sources/tar.py", 'if base.startswith("."):', "if False:", MAC),
    Fault("tar: a damaged header is the end", "loaders/sources/tar.py", "if any(rest[: tarfile.BLOCKSIZE]):", "if False:", MAC),
    Fault("tar: no end mark is needed", "loaders/sources/tar.py", "if len(rest) < tarfile.BLOCKSIZE:", "if False:", MAC),
    Fault("shards: one that changed is as it was", "loaders/sources/packed.py", '(old["stats"] == stats).all(1)', '(old["stats"] == stats).any(1)', TAR),
    Fault("shards: one that ends early is read", "loaders/sources/packed.py", "if len(data) < length:", "if False:", TRUNCATED),
    Fault("shards: names of classes begin with the shared folder", "loaders/sources/packed.py", "as_labels([part[shared] for part in parts], classes)", "as_labels([part[0] for part in parts], classes)", SAME),
    Fault("zip: checksums are not compared", "loaders/sources/zips.py", "if zlib.crc32(data) != checksum:", "if False:", TRUNCATED),
    Fault("zip: the extra field is part of a member", "loaders/sources/zips.py", "int(name) + int(extra)", "int(name)", PACKED),
    Fault("parquet: one row of a lost group is bad", "loaders/sources/arrow.py", "range(rows, rows + count), why", "range(rows, rows + 1), why", TRUNCATED),
    Fault("tables: rows of the first chunk", "loaders/sources/tables.py", "row - (int(self._ends[chunk - 1]) if chunk else 0)", "row - (int(self._ends[0]) if chunk else 0)", SAME),
    Fault("tables: one class of several", "loaders/sources/tables.py", "row[numbers] = 1", "row[numbers[:1]] = 1", HUB),
    Fault("hub: rows that were not selected", "loaders/sources/hub.py", "order.column(0).to_numpy().astype(np.int64)", "np.arange(len(order))", HUB),
    Fault("TFRecord: checksums are not compared", "loaders/sources/tfrecord.py", "if masked_crc32c(data) != _TAIL.unpack(tail)[0]:", "if False:", TRUNCATED),
    Fault("RecordIO: parts are joined without the word between them", "loaders/sources/recordio.py", "_MAGIC.join(parts)", 'b"".join(parts)', PACKED),
    Fault("selected: bad samples have the numbers of the whole", "loaders/sources/composed.py", "{i: source.broken[int(self._indices[i])] for i in", "{int(self._indices[i]): source.broken[int(self._indices[i])] for i in", COMPOSED),
    Fault("joined: samples of the first part", "loaders/sources/composed.py", "sample - (int(self._ends[part - 1]) if part else 0)", "sample - (int(self._ends[0]) if part else 0) * 0", COMPOSED),
    Fault("datasets of torch: a transform inside is passed over", "loaders/sources/torch_dataset.py", "if inside is not None:", "if False:", TORCH),
    Fault("datasets of torch: an error ends the run", "loaders/sources/torch_dataset.py", 'raise BadFile(f"cannot be read: {type(error).__name__}: {error}") from error', "raise", TORCH),
    Fault("opened: sizes of other images under the same names", "loaders/sources/opened.py", "if np.array_equal(sizes[probes], stored[probes]):", "if True:", OPENED),
    Fault("cache: contents need not match their checksum", "loaders/sources/cache.py", "if any(sums[places[name]] != _checksum(name, array) for name, array in arrays.items()):", "if False:", CACHE),
    Fault("cache: a lock is waited for for ever", "loaders/sources/cache.py", "if touched != seen:", "if True:", CACHE),
    Fault("remote: a download begins anew", "loaders/sources/remote.py", "part.stat().st_size if part.exists() else 0", "0", TRUNCATED),
    Fault("remote: a download that ends early is complete", "loaders/sources/remote.py", "if size >= 0 and have != size:", "if False:", TRUNCATED),
    Fault("remote: nothing makes room", "loaders/sources/remote.py", "if total <= self._limit:", "if True:", TRUNCATED),
    Fault("storage: a FIFO is waited for", "loaders/sources/storage.py", "if not stat.S_ISREG(mode):", "if False:", STORAGE),
    Fault("arrays: planes are mirrored unasked", "loaders/array_limits.py", "0.0 if is_planes(root) else 0.5", "0.5 if is_planes(root) else 0.5", ARRAYS),
    Fault("arrays: on a device all rows are resized across first", "pipelines/resize_tensor.py", "axes if down else axes[::-1]", "axes[::-1]", ROWS),
    Fault("arrays: on a device weights are rounded down", "pipelines/resize_tensor.py", "torch.where(weight >= 0, 0.5, -0.5)", "torch.where(weight >= 0, 0.0, -0.5)", ROWS),
    Fault("arrays: on a device a part of the rows is resized", "pipelines/resize_tensor.py", "out[where] =", "out[: len(part)] =", ROWS),
    Fault("arrays: on a device nothing is augmented", "loaders/backends/decoded.py", "augmented=not isinstance(images, torch.Tensor)", "augmented=True", ARRAYS),
    Fault("arrays: on a device nothing is mirrored", "pipelines/crop_arrays.py", "np.where(flips[:, None], places[:, ::-1], places)", "places", ROWS),
    Fault("arrays: on a device reflection repeats the edge", "pipelines/crop_arrays.py", "2 * last - at, at", "2 * last + 1 - at, at", ROWS),
    Fault("arrays: black shows the first pixel", "pipelines/crop_arrays.py", "if places.min() >= 0:", "if True:", ROWS),
    Fault("arrays: rows of the first images", "pipelines/crop_arrays.py", "inner = images[ids[i], top", "inner = images[i, top", ROWS),
    Fault("crops: each name begins with the same", "loaders/step.py", "first += named.count", "first += 0", CROPS),
    Fault("crops: a batch has the crops of the one before", "loaders/backends/rows.py", "        at = end\n", "", CROPS),
    Fault("crops: a transform has one number for all names", "loaders/transform.py", "start=nth", "start=0", CROPS),
    Fault("crops: other counts may go on", "loaders/state.py", '        "crops": [repr(one) for one in p.named] or None,\n', "", CROPS),
    Fault("crops: DALI cuts before it crops", "loaders/backends/dali.py", "spill=planner.crop.spill or bool(planner.named)", "spill=planner.crop.spill", CROPS),
    Fault("label maps: numbers are averaged", "loaders/segmentation.py", '(nearest,) * len(crops.flips)', "crops.interpolations", MAPS),
    Fault("label maps: warps average numbers", "loaders/segmentation.py", "np.full_like(augment.filter, Filter.NEAREST)", "augment.filter", MAPS),
    Fault("label maps: colours of what is outside are classes", "loaders/segmentation.py", "fill=np.zeros_like(augment.fill)", "fill=augment.fill", MAPS),
    Fault("label maps: what is erased loses its classes", "loaders/segmentation.py", "np.isin(augment.op, [int(op) for op in WARPS])", "augment.op != Op.KEEP", MAPS),
    Fault("label maps: numbers of one byte", "loaders/sources/label_maps.py", "classes >> _BITS", "0 * classes", MAPS),
    Fault("label maps: pixels without a class are of class 0", "loaders/sources/label_maps.py", "valid * 255", "valid * 0 + 255", MAPS),
    Fault("many files: one of another size is good", "loaders/sources/read_files.py", "(sizes[i, 0] == h and sizes[i, 1] == w)", "(sizes[i, 0] == h or sizes[i, 1] == w or True)", MANY),
    Fault("many files: an end of the name before is left", "loaders/sources/read_files.py", "path[len(prefix) : len(prefix) + width] = names[i]", "path[len(prefix) : len(prefix) + np.count_nonzero(names[i])] = names[i][: np.count_nonzero(names[i])]", MANY),
    Fault("many files: descriptors are left open", "loaders/sources/read_files.py", "                _close(file)", "                pass", MANY),
    Fault("many files: shards are closed", "loaders/sources/read_files.py", "            if files[i] < 0:\n                _close(file)", "            _close(file)", MANY),
    Fault("many files: pieces from the beginning", "loaders/sources/read_files.py", "offset[i] + got)", "got)", MANY),
    Fault("many files: what does not fit is left out", "loaders/sources/read_many.py", "while len(images) < n:", "for _ in range(1):", MANY),
    Fault("many files: memory is given again at once", "loaders/sources/read_many.py", "finalize(given, self._idle.append, memory).atexit = False", "self._idle.append(memory)", MANY),
    Fault("many files: of a zip too, as it is packed", "loaders/sources/packed.py", " or type(self).decode is not Packed.decode", "", MANY),
    Fault("joined: places of another sample", "loaders/sources/composed.py", "inside = samples[rows] - (int(self._ends[part - 1]) if part else 0)", "inside = samples[rows] % len(source)", MANY),
    Fault("joined: all or none has places", "loaders/sources/composed.py", "return join_places(len(samples), found)", "return join_places(len(samples), found) if sum(len(rows) for rows, _ in found) == len(samples) else None", MANY),
    Fault("DALI: file by file", "loaders/backends/dali.py", "None if self._places is None else self._load_many", "None", MANY),
)  # fmt: skip
