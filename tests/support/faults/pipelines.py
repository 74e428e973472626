"""Faults in ``pipelines``: resizing, DALI's graph, plans and stage, the stages of FFCV, the .beton file."""

from __future__ import annotations

from .base import Fault

RESIZE = "pipelines/test_resize.py"
CUT, BOXES = (f"{RESIZE}::test_is_pillow_on_cut_windows",), (f"{RESIZE}::test_is_pillow_on_boxes",)
RESIZED, SIDES = (f"{RESIZE}::test_is_a_crop_of_the_resized_image",), (f"{RESIZE}::test_is_pillow_on_sizes",)
ORDER, EDGES = (
    (f"{RESIZE}::test_the_order_of_the_passes",),
    (f"{RESIZE}::test_on_other_processors_and_at_the_edges_of_memory",),
)
NAMED = (f"{RESIZE}::test_bad_arguments_are_named",)
CROPS = ("pipelines/test_crop_rows.py",)
RESIZE_ARGUMENTS = ("pipelines/test_resize.py::test_bad_arguments_are_named",)
DECODE = ("pipelines/dali/test_decode.py",)
PLANS = ("pipelines/dali/test_plans.py",)
STAGE = (
    "pipelines/dali/test_dali_stage.py::test_pixels_under_a_mask_of_0_or_1_are_kept_bit_for_bit",
    "pipelines/dali/test_dali_stage.py::test_images_and_targets_are_those_of_the_plan",
)
MATCHING = (
    "pipelines/dali/test_dali_stage.py::test_the_assignment_minimises_the_metric_and_leaves_padding_alone",
    "pipelines/dali/test_dali_stage.py::test_the_matching_is_that_of_mixops",
)
FFCV = "pipelines/ffcv/test_ffcv_loader.py"
FFCV_PLAN = (f"{FFCV}::test_images_and_targets_are_the_plan",)
FFCV_PLACES = (f"{FFCV}::test_stands_anywhere",)
JPEG = ("pipelines/test_jpeg.py",)
FAST = ("pipelines/test_scaled_decode.py",)
BETON = "loaders/cli/test_convert.py"
RECORDS = (f"{BETON}::test_any_flipped_bit_of_a_sample_is_found", f"{BETON}::test_damage_that_shows_without_checksums")

# one line a fault
# ruff: noqa: E501
FAULTS = (
    Fault("resize: sums are not rounded", "pipelines/resize_kernel.py", "_constant(_SUMS, 1 << (_BITS - 1))", "_constant(_SUMS, 0)", CUT),
    Fault("resize: negative sums are not clipped", "pipelines/resize_kernel.py", 'value = builder.select(builder.icmp_signed("<", value, low), low, value)', "value = value", CUT),
    Fault("resize: bicubic with another a", "pipelines/resize_kernel.py", "(1.5 * x - 2.5) * x * x + 1.0", "(1.25 * x - 2.25) * x * x + 1.0", CUT),
    Fault("resize: Lanczos with two lobes", "pipelines/resize_kernel.py", "(9.0 - 12.0 * sine * sine)", "(9.0 - 11.9 * sine * sine)", CUT),
    Fault("resize: neither edge of a box counts", "pipelines/resize_kernel.py", "-0.5 < x <= 0.5", "-0.5 < x < 0.5", CUT),
    Fault("resize: Hamming in double precision", "pipelines/resize_kernel.py", "float(np.float32(x)) for x in", "x for x in", SIDES),
    Fault("resize: never mirrored", "pipelines/resize_kernel.py", "row = ow - 1 - i if mirrored else i", "row = i", CUT),
    Fault("resize: never upside down, if down comes first", "pipelines/resize_kernel.py", "y = oh - 1 - begin - i if upside_down else begin + i", "y = begin + i", CUT),
    Fault("resize: across first always", "pipelines/resize_kernel.py", "lost > 2 * (width - full[1])", "False", SIDES),
    Fault("resize: down first too often", "pipelines/resize_kernel.py", "lost > 2 * (width - full[1])", "lost > width - full[1]", ORDER),
    Fault("resize: the edges of a box in double precision", "pipelines/resize_kernel.py", "np.float32(top), np.float32(left), np.float32(top + high), np.float32(left + wide)", "top, left, top + high, left + wide", BOXES),
    Fault("resize: a crop of a resized image is a box", "pipelines/resize_kernel.py", "if rows[0] > 0.0 and columns[0] > 0.0:", "if rows[0] > 1e9:", RESIZED),
    Fault("resize: held rows are one off", "pipelines/resize_kernel.py", "kept = min(begin, down[y, 0])", "kept = min(begin, down[y, 0] + 1)", SIDES),
    Fault("resize: reads below the image", "pipelines/resize_kernel.py", "begin = min(max(end, down[y, 0]), rows - _LANES)", "begin = max(end, down[y, 0])", EDGES),
    Fault("resize: reads right of the image", "pipelines/resize_kernel.py", "quick = ow - 1 if at < height - 1 else 0", "quick = ow - 1", EDGES),
    Fault("resize: windows may leave their image", "pipelines/resize.py", "(start + side <= sizes + slack)", "(start <= sizes + slack)", NAMED),
    Fault("resize: never upside down", "pipelines/resize.py", "turns[:, 1] = False if vertical_flips is None else vertical_flips", "turns[:, 1] = False", CROPS),
    Fault("resize: cut windows may have fractions", "pipelines/resize.py", "good &= (start % 1 == 0) & (side % 1 == 0)", "pass", RESIZE_ARGUMENTS),
    Fault("resize: windows may reach beyond the image", "pipelines/resize.py", "(start + side <= sizes + slack)", "(start + side <= sizes + slack + 1)", RESIZE_ARGUMENTS),
    Fault("resize: all images by the first one's filter", "pipelines/resize.py", "[FILTERS[name] for name in names]", "[FILTERS[names[0]] for name in names]", CROPS),
    Fault("crop: a cut image is cut again", "pipelines/crop_rows.py", "np.zeros_like(crops.windows[:, :2])", "crops.windows[:, :2]", CROPS),
    Fault("crop: margins are mirrored apart from the image", "pipelines/crop_rows.py", "columns[ow - 1 - x if mirrored else x] = _place(x - left, width, mode)", "columns[x] = _place(x - left, width, mode)", CROPS),
    Fault("crop: reflection repeats the edge", "pipelines/crop_rows.py", "2 * (side - 1) - i", "2 * side - 1 - i", CROPS),
    Fault("Pillow: flips exchanged", "pipelines/pillow.py", "pixels[:, ::-1] if crops.flips[row]", "pixels[:, ::-1] if crops.vertical_flips[row]", CROPS),
    Fault("DALI: the decoder's windows are turned", "pipelines/dali/decode.py", "start=rest[0], shape=rest[1]", "start=rest[1], shape=rest[1]", DECODE),
    Fault("DALI: the first of a broken batch is blamed", "pipelines/dali/decode.py", "bad.append(i)", "bad.append(0)", DECODE),
    Fault("DALI: another batch is blamed", "pipelines/dali/decode.py", "raise DecodeError(waiting[0], error)", "raise DecodeError(waiting[-1], error)", DECODE),
    Fault("DALI: batches and origins slip", "pipelines/dali/decode.py", "batch = waiting.popleft()", "batch = waiting.pop()", DECODE),
    Fault("DALI: an error of the reader is swallowed", "pipelines/dali/decode.py", "raise self._source.error from None", "raise StopIteration from None", DECODE),
    Fault("DALI: a batch of padding alone has a row too many", "pipelines/dali/plans.py", "[plan, padding] if n else [padding]", "[plan, padding]", PLANS),
    Fault("DALI: padding is drawn with the rest", "pipelines/dali/plans.py", "mixer.plan(key, batch_size=n,", "mixer.plan(key, batch_size=self.batch_size,", PLANS),
    Fault("DALI: ranks keep their shard", "pipelines/dali/plans.py", "(self.rank + epoch - self.first_epoch) % self.world_size", "self.rank", PLANS),
    Fault("DALI: epochs that a source ends do not count", "pipelines/dali/plans.py", "int(info.epoch_idx) + self.first_epoch", "self.first_epoch", PLANS),
    Fault("DALI: an epoch has a step too many", "pipelines/dali/plans.py", "divmod(int(info.iteration), self.steps)", "divmod(int(info.iteration), self.steps + 1)", PLANS),
    Fault("DALI: blocks that do not fit", "pipelines/dali/plans.py", "matching.shortened(n).k", "matching.k", PLANS),
    Fault("DALI: own and partner exchanged", "pipelines/dali/stage.py", "mask * own + (1.0 - mask) * other", "(1.0 - mask) * own + mask * other", STAGE),
    Fault("DALI: smoothing puts mass on one class", "pipelines/dali/stage.py", "off_value=smoothing / num_classes,", "off_value=0.0,", STAGE),
    Fault("DALI: boxes are a pixel too large", "pipelines/dali/stage.py", "(t < floats(last))", "(t <= floats(last))", STAGE),
    Fault("DALI: rows and columns of a mask exchanged", "pipelines/dali/stage.py", "axis(Y0, Y1, CY, plans.height, 1)", "axis(X0, X1, CX, plans.height, 1)", STAGE),
    Fault("DALI: distances are squared for l2", "pipelines/dali/matching.py", 'np.sqrt(cost) if metric == "l2" else cost', "cost", MATCHING),
    Fault("DALI: cells at the border count as whole ones", "pipelines/dali/matching.py", "np.minimum(cell, side - cell * np.arange(n))", "np.minimum(cell, cell + 0 * np.arange(n))", MATCHING),
    Fault("FFCV: all batches by one key", "pipelines/ffcv/batch.py", "self.mixer.plan(self.key,", "self.mixer.plan(Key(),", FFCV_PLAN),
    Fault("FFCV: batches of the whole epoch have one step", "pipelines/ffcv/epoch.py", "self.step = self.first + b_ix", "self.step = self.first", FFCV_PLAN),
    Fault("FFCV: a step that was sought counts from 0", "pipelines/ffcv/epoch.py", "self.step = self.first + b_ix", "self.step = b_ix", (f"{FFCV}::test_seek_continues_with_the_same_batches",)),
    Fault("FFCV: outputs of a pair are taken apart wrongly", "pipelines/ffcv/loader.py", "x.unflatten(2, (k, -1)).transpose(1, 2)", "x.unflatten(2, (-1, k)).transpose(1, 3).transpose(2, 3)", FFCV_PLACES),
    Fault("FFCV: planes are taken for pixels", "pipelines/ffcv/stages.py", "x = x.permute(0, 2, 3, 1) if self.planes else x", "x = x.reshape(len(x), *x.shape[2:], -1) if self.planes else x", FFCV_PLACES),
    Fault("FFCV: labels are not smoothed", "pipelines/ffcv/stages.py", "num_classes=self.num_classes, smoothing=self.smoothing)", "num_classes=self.num_classes)", (f"{FFCV}::test_without_a_mixer_nothing_is_mixed",)),
    Fault("FFCV: labels before images", "pipelines/ffcv/graph.py", "(images <= placed or not isinstance(operation(node), MixLabel))", "True", (f"{FFCV}::test_labels_are_mixed_behind_the_images_whatever_their_order",)),
    Fault("FFCV: the status of memory asked for anew", "pipelines/ffcv/crop.py", "memory[STATUS].last(slot)", "memory[STATUS][slot]", ("pipelines/ffcv/test_ffcv_faults.py::test_who_holds_a_batchs_memory_does_not_make_it_fail",)),
    Fault("FFCV: kept batches are written over", "pipelines/ffcv/memory.py", "_references(self._arrays, slot) > _UNSHARED", "False", ("pipelines/ffcv/test_ffcv_faults.py::test_kept_batches_are_not_overwritten",)),
    Fault("FFCV: a stage's error ends the epoch", "pipelines/ffcv/epoch.py", "self.failure = error", "pass", ("pipelines/ffcv/test_ffcv_faults.py::test_what_a_stage_raises_is_raised_at_its_step",)),
    Fault("beton: checksums are not compared", "pipelines/ffcv/beton.py", "if checksum(self.rows[sample], record) != checksums[sample]:", "if False:", RECORDS),
    Fault("beton: a JPEG may end early", "pipelines/ffcv/beton.py", 'record.rfind(b"\\xff\\xd9") < 0', "False", RECORDS),
    Fault("beton: raw pixels of any number", "pipelines/ffcv/beton.py", "if len(record) != 3 * height * width:", "if False:", RECORDS),
    Fault("beton: a pointer to the middle of a record", "pipelines/ffcv/beton.py", "(pointers[at] == pointer) & (sizes[at] >= 0)", "(sizes[at] >= 0)", (f"{BETON}::test_a_pointer_to_another_record_is_found",)),
    Fault("beton: a file that was cut off", "pipelines/ffcv/beton.py", "(stored != expected if known else stored % 1)", "False", (f"{BETON}::test_a_file_that_was_cut_off_is_refused",)),
    Fault("beton: height and width exchanged", "pipelines/ffcv/beton.py", "return Images(mode, height, width, pointer,", "return Images(mode, width, height, pointer,", (f"{BETON}::test_keeps_order_names_classes_and_sizes",)),
    Fault("fast decoding: one side that is large enough will do", "pipelines/scaled_decode.py", "_LEAST) and wide >=", "_LEAST) or wide >=", FAST),
    Fault("fast decoding: margins are of the image", "pipelines/scaled_decode.py", "crops.size[0] - top - bottom", "crops.size[0]", FAST),
    Fault("fast decoding: a window keeps its size", "pipelines/scaled_decode.py", "windows=crops.windows / scale", "windows=crops.windows", FAST),
    Fault("JPEG: tables are taken for frames", "pipelines/jpeg_markers.py", " and marker != _DHT and marker != _JPG and marker != _DAC", "", JPEG),
    Fault("JPEG: fill bytes are plain", "pipelines/jpeg_markers.py", "marker < 0 or start != at + 4", "marker < 0", JPEG),
    Fault("JPEG: some components are missing", "pipelines/jpeg_markers.py", "data[start] == data[frame + 5] and ", "", JPEG),
    Fault("JPEG: no end is needed", "pipelines/jpeg_markers.py", "data[start] == data[frame + 5] and _has_end(data, at)", "data[start] == data[frame + 5]", JPEG),
    Fault("JPEG: any number of scans", "pipelines/jpeg_markers.py", "for _ in range(_MOST_SCANS):", "for _ in range(10**6):", JPEG),
)  # fmt: skip
