"""Values that people and programs hand to functions by mistake, and a walk that hands each to every public argument.

A call is made from arguments that work, with one of them replaced. It may work; else it must raise ``ValueError`` or
``TypeError`` that names the argument (a missing backend: ``ImportError`` with the install line), and values that are right
nowhere must be refused. So a message from inside, of another argument, or of another kind is a failure.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import mixops
from mixops import Key, MixUp, OptimalMatching

NOWHERE_RIGHT = {"object", "complex", "bytes", "set", "iterator", "class", "bytearray", "an exception", "meta tensor"}


def values() -> dict[str, Any]:
    """Hostile values by what they are; made anew, since iterators are used up."""
    return {
        "object": object(), "complex": 1j, "bytes": b"\xff", "set": {1}, "iterator": iter([1, 2]), "class": int,
        "bytearray": bytearray(3), "an exception": ValueError("x"), "meta tensor": torch.empty(3, device="meta"),
        "none": None, "true": True, "false": False, "zero": 0, "one": 1, "minus one": -1, "seven": 7, "huge": 10**30,
        "minus huge": -(10**30), "int64 and one": 2**63, "many digits": 10**5000, "float": 1.5, "tiny": 5e-324,
        "minus tiny": -5e-324, "1e39": 1e39, "1e308": 1e308, "minus": -0.5, "nan": float("nan"), "inf": float("inf"),
        "minus inf": -float("inf"), "minus zero": -0.0, "text": "text", "no text": "", "odd text": "\ud800\x1b[31m$[",
        "long text": "x" * 10_000, "no list": [], "list": [1, 2, 3], "list of nan": [float("nan")] * 3,
        "nested": [[1], [2, 3]], "list of text": ["a", "b"], "list of none": [None], "falling": (2.0, 0.5), "pair": (1, 2),
        "dict": {}, "mapping": {"a": 1}, "range": range(3), "function": lambda *_: None, "int8": np.int8(-128),
        "float16": np.float16(0.5), "numpy nan": np.float32("nan"), "no array": np.zeros(0), "array": np.arange(3),
        "flipped": np.arange(4)[::-1], "unsigned": np.arange(3, dtype=np.uint16), "big endian": np.arange(3, dtype=">i8"),
        "array of text": np.array(["a"]), "array of objects": np.array([None, 1], object),
        "dates": np.array(["2020"], "M8[Y]"), "long double": np.longdouble(2), "cube": np.zeros((2, 3, 4)),
        "number in an array": np.array(0.5), "tensor": torch.arange(3), "no tensor": torch.empty(0),
        "bool tensor": torch.tensor([True, False]), "number in a tensor": torch.tensor(0.5),
        "half tensor": torch.ones(3).half(), "sparse": torch.eye(3).to_sparse(), "complex tensor": torch.ones(3) * 1j,
        "quantized": quantized(), "gradient": torch.ones(3, requires_grad=True), "dtype": torch.int64,
        "numpy dtype": np.dtype("f4"), "layout": torch.strided, "device": torch.device("meta"), "module": nn.Identity(),
        "key": Key(1), "mixer": MixUp(), "matching": OptimalMatching(2), "recursive": recursive(),
    }  # fmt: skip


def quantized() -> Any:
    """A tensor of quantized numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are deprecated
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)


def recursive() -> list[Any]:
    """A list that holds itself."""
    it: list[Any] = []
    it.append(it)
    return it


@dataclass(frozen=True)
class Call:
    """A public callable and arguments that work.

    The errors of those that are ``functions`` are their own; of ``outside`` the system may refuse what it is asked for.
    """

    function: Callable[..., Any]
    arguments: Callable[[], dict[str, Any]]
    functions: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()

    @property
    def parameters(self) -> list[str]:
        """The names of its arguments."""
        kinds = inspect.Parameter
        found = inspect.signature(self.function).parameters.values()
        return [p.name for p in found if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)]


def walk(name: str, call: Call) -> Iterator[str]:
    """Runs every case of a callable; yields what is wrong, or "" for a case that is right."""
    for parameter in call.parameters:
        for kind, value in values().items():
            arguments = call.arguments() | {parameter: value}
            case = f"{name}({parameter}={kind})"
            try:
                call.function(**arguments)
            except (ValueError, TypeError) as error:
                named = re.search(rf"\b{re.escape(parameter)}\b", str(error)) is not None
                yield "" if named else f"{case}: does not name it: {type(error).__name__}: {error}"
            except ImportError as error:
                yield "" if "pip install" in str(error) else f"{case}: {error}"
            except OSError as error:
                yield "" if parameter in call.outside else f"{case}: {type(error).__name__}: {error}"
            except Exception as error:
                theirs = parameter in call.functions and parameter in str(error)
                yield "" if theirs else f"{case}: {type(error).__name__}: {error}"
            else:
                wrong = kind in NOWHERE_RIGHT and parameter not in call.functions
                yield f"{case}: taken" if wrong else ""


def no_surprise(call: Call, name: str) -> None:
    """Asserts that a callable works with the arguments that work, and that all else is refused by its name."""
    call.function(**call.arguments())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch and NumPy warn of some of the values
        wrong = [text for text in walk(name, call) if text]
    assert not wrong, "\n".join(wrong)


def mixops_calls() -> dict[str, Call]:
    """Every public name of ``mixops`` that can be called."""
    plan = MixUp(interpolations=2).plan(Key(), batch_size=3, height=4, width=5)
    hard = MixUp().plan(Key(), batch_size=3, height=4, width=5)
    images = torch.rand(3, 3, 4, 5)
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(40, 4))
    made: dict[str, dict[str, Any]] = {
        "Beta": {"alpha": 1.0}, "Cutout": {"length": 4}, "RandomSolarize": {"threshold": 128.0}, "OptimalMatching": {"k": 2},
        "Switch": {"mixers": [MixUp(), mixops.CutMix()]}, "EmaTeacher": {"model": nn.Linear(2, 2)},
        "ManifoldMix": {"model": model, "layers": [0], "mixer": MixUp()}, "MultiMix": {"classifier": nn.Linear(4, 3)},
        "HistoryLoss": {"head": nn.Linear(4, 3)},
        "MixPlan": {name: getattr(hard, name) for name in ("partner", "weight", "lam", "params", "height", "width")},
        "gradient_saliency": {"model": model, "images": images, "labels": torch.tensor([0, 1, 2])},
        "mix_images": {"images": images, "plan": plan}, "parse_mixer": {"text": "MixUp"},
        "mix_label_maps": {"maps": torch.zeros(3, 4, 5, dtype=torch.int64), "plan": hard, "num_classes": 4},
        "mix_targets": {"labels": torch.tensor([0, 1, 2]), "plan": plan, "num_classes": 4},
        "soft_cross_entropy": {"logits": torch.rand(3, 4), "targets": torch.rand(3, 4)},
        "spectral_saliency": {"images": images}, "PlanSources": {
            "rows": hard.sources, "weight": hard.weights, "masks": hard.weights.astype(np.float32),
        },
        "sparse_targets": {"labels": torch.tensor([0, 1, 2]), "plan": plan},
    }  # fmt: skip
    functions = {"gradient_saliency": {"loss"}}
    calls = {
        name: Call(getattr(mixops, name), partial(dict, made.get(name, {})), frozenset(functions.get(name, ())))
        for name in mixops.__all__
        if name not in ("AugmentPlan", "augment_images")
    }
    augment = augment_plan()
    fields = {name: getattr(augment, name) for name in augment.__dataclass_fields__}
    calls["AugmentPlan"] = Call(mixops.AugmentPlan, partial(dict, fields))
    pictures = torch.zeros(2, 6, 7, 3, dtype=torch.uint8)
    calls["augment_images"] = Call(mixops.augment_images, lambda: {"images": pictures, "plan": augment})
    return calls


def augment_plan() -> Any:
    """A plan of two rows for pictures of 6 x 7 pixels."""
    from mixops.augment.composition import as_augmentation

    augmentation = as_augmentation([mixops.RandAugment(), mixops.RandomErasing(1.0)], interpolation="bilinear")
    assert augmentation is not None
    return augmentation.draw(Key(), np.arange(2), (6, 7))
