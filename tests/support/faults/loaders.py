"""Faults in ``loaders``: schedule, steps, reading ahead, bad files, state, output, ranks, headers, conversion."""

from __future__ import annotations

from .base import Fault

SCHEDULE = ("loaders/test_schedule.py",)
STEP = ("loaders/test_step.py",)
AHEAD = ("loaders/test_read_ahead.py",)
POLICY = (
    "loaders/test_bad_files.py::test_the_budget_is_what_may_be_bad",
    "loaders/test_bad_files.py::test_a_bad_file_is_told_once_and_counts_once",
)
STATE = (
    "loaders/test_state.py",
    "loaders/test_resume.py::test_changed_configuration_is_refused_by_name",
    "loaders/test_resume.py::test_state_before_between_and_after_a_break",
    "loaders/test_resume.py::test_set_epoch_after_a_resume_keeps_the_step",
)
OUTPUT = ("loaders/test_output.py",)
RANKS = ("loaders/test_ranks.py",)
THREAD = ("loaders/test_worker_thread.py",)
ARGUMENTS = ("loaders/test_arguments.py",)
CONVERT = ("loaders/cli/test_convert.py",)
DEMO = (
    "loaders/cli/test_demo.py::test_few_images_a_class_are_drawn_anew_from_each_seed",
    "loaders/cli/test_demo.py::test_the_demo_does_not_count_the_start",
)
TIMM, CLASSES, SAMPLING = ("loaders/test_moving_from_timm.py",), ("loaders/test_classes.py",), ("loaders/test_sampling.py",)
STATS = ("loaders/test_stats.py",)
DEVICE = ("benchmarks/test_device.py::test_rounds_end_when_the_time_is_over",)
FOLDER = ("loaders/sources/test_folder.py",)

# one line a fault
# ruff: noqa: E501
FAULTS = (
    Fault("loader: a short last batch is left out", "loaders/schedule.py", "return -(-self.length // self.batch_size)", "return self.length // self.batch_size", SCHEDULE),
    Fault("loader: all ranks have the first one's groups", "loaders/schedule.py", "np.array_split(np.arange(count), self.world_size)[self.rank]", "np.array_split(np.arange(count), self.world_size)[0]", SCHEDULE),
    Fault("loader: every epoch in one order", "loaders/schedule.py", "sampling.order(Key(seed, epoch),", "sampling.order(Key(seed),", SCHEDULE),
    Fault("loader: groups of a short batch are unequal", "loaders/schedule.py", "rows // count + (i < rows % count)", "rows // count + (i == 0) * (rows % count)", SCHEDULE),
    Fault("loader: all rows are replaced alike", "loaders/step.py", "Key(schedule.seed, epoch, step, int(rows[i]))", "Key(schedule.seed, epoch, step, 0)", STEP),
    Fault("loader: replacements by the row of a rank", "loaders/step.py", "Key(schedule.seed, epoch, step, int(rows[i]))", "Key(schedule.seed, epoch, step, i)", STEP),
    Fault("loader: every attempt at a replacement draws the same", "loaders/step.py", "row.uniform(Stream.REPLACEMENT, (_ATTEMPTS,))", "np.repeat(row.uniform(Stream.REPLACEMENT, (1,)), _ATTEMPTS)", STEP),
    Fault("loader: crops by the row of a rank", "loaders/step.py", "Key(schedule.seed, epoch, step), schedule.rows(step)", "Key(schedule.seed, epoch, step), np.arange(len(ids) // self.views)", STEP),
    Fault("loader: crops of another step", "loaders/step.py", "Key(schedule.seed, epoch, step), schedule.rows(step)", "Key(schedule.seed, epoch), schedule.rows(step)", STEP),
    Fault("loader: all groups are mixed alike", "loaders/step.py", "Key(self.schedule.seed, epoch, step, group.index)", "Key(self.schedule.seed, epoch, step)", STEP),
    Fault("loader: groups see the first one's images", "loaders/step.py", "            at += size\n", "            at += 0\n", STEP),
    Fault("loader: a replacement keeps the bad file's window", "loaders/step.py", "ids=ids, crops=first.crops, more", "ids=ids, more", STEP),
    Fault("loader: one row of several is read again", "loaders/read_ahead.py", "self._submit(changed)", "self._submit(changed[:1])", AHEAD),
    Fault("loader: reads further ahead than told", "loaders/read_ahead.py", "len(queue) <= config.prefetch", "len(queue) <= config.prefetch + 1", AHEAD),
    Fault("loader: bad files are not remembered", "loaders/read_ahead.py", "bad.known.update(future.result())", "future.result()", AHEAD),
    Fault("loader: a bad file more than the budget", "loaders/bad_files.py", "len(self.reported) > self._max_bad", "len(self.reported) > self._max_bad + 1", POLICY),
    Fault("loader: the last of the budget is too many", "loaders/bad_files.py", "len(self.reported) > self._max_bad", "len(self.reported) >= self._max_bad", POLICY),
    Fault("loader: a bad file is told each time", "loaders/bad_files.py", "if sample in self.reported:", "if False:", POLICY),
    Fault("loader: another seed may go on", "loaders/state.py", '        "seed": schedule.seed,\n', "", STATE),
    Fault("loader: another crop may go on", "loaders/state.py", '        "crop": repr(p.crop),\n', "", STATE),
    Fault("loader: the state is a batch behind", "loaders/stats.py", "self.step += 1", "self.step += bool(self._images)", STATE),
    Fault("loader: a chosen mix group may change", "loaders/state.py", "return old[0] == new[0] or old[1] == new[1]", "return True", STATE),
    Fault("loader: an epoch may be negative", "loaders/state.py", "not isinstance(value, bool) and value >= 0", "not isinstance(value, bool)", STATE),
    Fault("loader: set_epoch forgets the step", "loaders/position.py", "if epoch != self._epoch:", "if True:", STATE),
    Fault("loader: an epoch begins at its first step whatever is set", "loaders/image_loader.py", "if step is None:", "if True:", ("test_works_with.py::test_an_epoch_begins_at_the_step_that_is_set",)),
    Fault("loader: the first batch counts in the rates", "loaders/stats.py", "self._images - self._first[0]", "self._images", STATS),
    Fault("loader: outputs are those of one view", "loaders/epoch.py", "sum(map(len, ready.batch.images))", "len(ready.batch.images[0])", STATS),
    Fault("loader: a folder of splits is a data set", "loaders/sources/splits.py", "<= {TRAINING, *HELD_OUT}", "<= set()", ("loaders/sources/test_splits.py",)),
    Fault("loader: sizes of another listing", "loaders/sources/folder.py", 'np.array_equal(stored["listing"], listing)', "True", FOLDER),
    Fault("loader: a file has the size of its neighbour in the cache", "loaders/sources/folder.py", "(old_files[old] == files) & ", "", FOLDER),
    Fault("loader: a listing that lost files is compared anew at each start", "loaders/sources/folder.py", " or (not is_current and sizes.any())", "", FOLDER),
    Fault("loader: whoever reads a whole cache waits for its lock", "loaders/sources/folder.py", "if is_current and sizes.all():", "if False:", FOLDER),
    Fault("cache: sums of the wrong arrays", "loaders/sources/cache.py", "sorted(set(stored.files) - {_SUMS})", "sorted(arrays)", ("loaders/sources/test_cache.py",)),
    Fault("loader: fast decoding is not in the state", "loaders/state.py", '{"decode": "fast"} if p.fast else {}', "{}", ("loaders/test_options.py::test_fast_decoding_is_done_and_close",)),
    Fault("loader: every Accelerator saves the loader", "loaders/frameworks.py", "not any(saved is loader for", "not any(True for", ("test_works_with.py::test_an_accelerator_that_would_not_save_the_loader_is_warned_of",)),
    Fault("loader: Composer's Trainer may be at another place", "loaders/frameworks.py", "if (epoch, step) != (", "if () and (epoch, step) != (", ("test_works_with.py::test_the_place_that_composer_goes_on_from_is_looked_at",)),
    Fault("train: a file that cannot be written is noticed after the work", "loaders/figures.py", "if file.is_dir() or", "if False and", ("loaders/cli/test_train.py::test_files_are_checked_before_the_work",)),
    Fault("sources: an empty one is no error of its own", "loaders/sources/opened.py", "if not len(source):", "if False:", ("loaders/sources/test_opened.py::test_no_samples_are_no_source",)),
    Fault("command line: tables cut figures", "loaders/figures.py", "if needed > console.width:", "if False:", ("loaders/test_figures.py",)),
    Fault("command line: a resumed training sees the first epoch again", "loaders/cli/training.py", '_PARTS = ("loader", "model",', '_PARTS = ("model",', ("loaders/cli/test_train.py::test_a_resumed_run_ends_with_the_same_weights",)),
    Fault("loader: labels of the first samples", "loaders/output.py", "to_device(self.labels[ids],", "to_device(self.labels[: len(ids)],", OUTPUT),
    Fault("loader: labels are not smoothed", "loaders/output.py", "smoothing=self.smoothing)", "smoothing=0.0)", OUTPUT),
    Fault("loader: a matching of another step", "loaders/output.py", "planner.mix(step.epoch, step.step, batches[0])", "planner.mix(step.epoch, 0, batches[0])", OUTPUT),
    Fault("loader: a rank too many", "loaders/ranks.py", "not 0 <= rank < world_size", "not 0 <= rank <= world_size", RANKS),
    Fault("loader: ranks that are not the group's", "loaders/ranks.py", "if group not in (None, (rank, world_size)):", "if False:", RANKS),
    Fault("loader: the thread is one item further ahead", "loaders/worker_thread.py", "range(depth - 1)", "range(depth)", THREAD),
    Fault("loader: the thread dies without a word", "loaders/worker_thread.py", "end = _End(error)", "end = _End(None)", THREAD),
    Fault("loader: validation resizes to the shorter side", "mixops/augment/crops.py", "round(max(size) / 0.875)", "round(min(size) / 0.875)", ARGUMENTS),
    Fault("loader: every rank takes all processors", "loaders/arguments.py", "// (int(ranks) if ranks.isdigit() else 1)", "// 1", ARGUMENTS),
    Fault("loader: mixes although it is switched off", "loaders/step.py", "UNMIXED = MixUp(1.0, prob=0.0)", "UNMIXED = MixUp(1.0)", TIMM),
    Fault("loader: the switch waits for another schedule", "loaders/image_loader.py", "(was.schedule, was.mixer) != (planner.schedule, planner.mixer)", "was.schedule != planner.schedule", TIMM),
    Fault("loader: the mixer's smoothing is forgotten", "loaders/arguments.py", "0.0 if mixer is None else mixer.smoothing", "0.0", TIMM),
    Fault("loader: as many classes are the same classes", "loaders/classes.py", "if list(train) == list(val):", "if len(train) == len(val):", CLASSES),
    Fault("loader: views that do not divide a batch take samples of the next", "loaders/sampling.py", "full = -(-batch_size // self.views)", "full = batch_size // self.views", SAMPLING),
    Fault("demo: every seed trains on the same images", "loaders/cli/demo.py", "order = Key(seed).permutation", "order = Key(0).permutation", DEMO),
    Fault("demo: the start is counted", "loaders/cli/demo.py", "self.ends[self.warm - 1 :]", "self.ends[:]", DEMO),
    Fault("convert: overwrites what was made meanwhile", "loaders/cli/convert.py", "os.link(part, out)", "os.replace(part, out)", CONVERT),
    Fault("bench: rounds go on when the time is over", "loaders/bench/measure.py", "if turn and time.monotonic() > ends:", "if turn > rounds:", DEVICE),
    Fault("bench: the decoder is not told", "pipelines/dali/decode.py", 'decode |= options.decoder', 'decode |= {}', ("pipelines/dali/test_decode.py",)),
)  # fmt: skip
