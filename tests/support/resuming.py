"""Runs that are cut off and continued, told apart by the hash of every batch; and a program whose process is killed."""

from __future__ import annotations

import hashlib

from loaders import ImageLoader
from mixops import HMix

EPOCHS = 3
MIXER = HMix(1.0, r=0.5, interpolations=2)


def loader(root, backend="dali", **options):
    """A small loader with a mixer; ``options`` are its arguments."""
    defaults = {
        "batch_size": 12,
        "size": 24,
        "mixer": MIXER,
        "device": "cpu",
        "num_threads": 2,
        "drop_last": False,
        "seed": 11,
    }
    return ImageLoader(root, backend=backend, **defaults | options)


def digest(batch):
    """A hash of every bit of a batch."""
    return hashlib.sha256(batch[0].numpy().tobytes() + batch[1].numpy().tobytes()).hexdigest()[:16]


def remains(one, epochs):
    """Whether anything is left of ``epochs``."""
    state = one.state_dict()
    return state["epoch"] * len(one) + state["step"] < epochs * len(one)


def run(one, epochs, stop=None):
    """Digests of the batches to the end of ``epochs``, or of the first ``stop`` ones; leaves the loop by break."""
    got = []
    while remains(one, epochs) and len(got) != stop:
        for batch in one:
            got.append(digest(batch))
            if len(got) == stop:
                break
    return got


KILLED = """
import json, os, random, signal, sys
import torch
from loaders import ImageLoader
sys.path.insert(0, "tests")
from support.resuming import EPOCHS, digest, loader, remains

root, backend, folder, trials = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)  # no threads before a fork
if backend == "torchvision":
    import torchvision.transforms  # once, and not in every child

def train(name, reporting):
    # one process: resume if there is a state, then batches; the state is written after each, at once or not at all
    one = loader(root, backend)
    if os.path.exists(name + ".state"):
        one.load_state_dict(json.load(open(name + ".state")))
    while remains(one, EPOCHS):
        for batch in one:
            line = digest(batch) + "\\n"
            with open(name + ".part", "w") as file:
                json.dump(one.state_dict(), file)
            with open(name + ".log", "a") as file:
                file.write(line)
            os.replace(name + ".part", name + ".state")
            os.write(reporting, b".")

def start(name):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            train(name, writing)
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading

rng = random.Random(trials)
for trial in range(trials):
    name = os.path.join(folder, str(trial))
    child, reading = start(name)
    for _ in range(rng.randrange(26)):
        os.read(reading, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    child, reading = start(name)
    while os.read(reading, 4096):
        pass
    os.waitpid(child, 0)
    os.close(reading)
"""
