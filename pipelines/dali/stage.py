"""``dali.mix``: mixing in anybody's DALI pipeline, by DALI's own operators.

Masks are computed from their nine floats on the device of the images. A matching computes distances there too; only k
numbers a sample leave for the CPU, where one small Python function assigns partners. Nothing else runs Python but the
source that draws the plans.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from mixops.apply.targets import check_smoothing
from mixops.masks import CX, CY, DV, V0, X0, X1, Y0, Y1, A
from mixops.runtime.checks import check_choice, check_count, check_type, shown

from .matching import match
from .plans import PlanSource

_LAYOUTS = ("CHW", "HWC")


def mix(
    images: Any,
    labels: Any,
    plans: PlanSource,
    *,
    num_classes: int,
    smoothing: float = 0.0,
    layout: Literal["CHW", "HWC"] = "CHW",
    dtype: Any = None,
) -> tuple[Any, Any]:
    """Mixed images and their targets, inside a DALI ``@pipeline_def``.

    ``images`` are of one size, on CPU or GPU, floating or uint8; ``labels`` are integers below ``num_classes``, scalar or
    of shape (1,). Returns images (c, h, w), or (h, w, c) under ``layout="HWC"``, and float32 targets (classes,). With K > 1
    interpolations a sample is K outputs, (K, c, h, w) and (K, classes): ``batch.flatten(0, 1)`` makes (b * K, c, h, w) of
    what an iterator returns, row b * K + k being output k of pair b. ``dtype`` is that of the images returned,
    ``types.FLOAT`` by default; ``types.UINT8`` takes uint8 images and rounds. ``smoothing`` in [0, 1) as in
    ``mixops.mix_targets``.

    A matching on the GPU, and labels there, need DALI's dynamic executor, its default. An image that a mask hides takes no
    part, even where it is not finite. Raises ``ValueError`` or ``TypeError`` naming the argument; the pipeline raises
    ``RuntimeError`` for labels that are not in [0, num_classes), as it runs.
    """
    fn, types, _, pipeline = _dali()
    from nvidia.dali import data_node

    check_type("plans", plans, PlanSource, "a plan_source")
    num_classes, smoothing = check_count("num_classes", num_classes), check_smoothing(smoothing)
    check_choice("layout", layout, _LAYOUTS)
    current = pipeline.Pipeline.current()
    if current is None:
        raise ValueError("images must be those of a pipeline_def that is being defined, got a call outside of one")
    if current.max_batch_size != plans.batch_size:
        raise ValueError(f"plans must have the pipeline's batch_size = {current.max_batch_size}, got {plans.batch_size}")
    for name, value in (("images", images), ("labels", labels)):
        check_type(name, value, data_node.DataNode, "what an operator of the pipeline returns")
    dtype = types.FLOAT if dtype is None else dtype
    if dtype not in (results := (types.FLOAT, types.FLOAT16, types.FLOAT64, types.UINT8)):
        raise ValueError(f"dtype must be one of {', '.join(map(str, results))}, got {shown(dtype)}")
    *pairing, weight, masks = fn.external_source(plans, num_outputs=plans.num_outputs, batch_info=True)
    if plans.k == 1:
        partner = pairing[0]
    else:
        partner = match(images, plans, pairing[0], pairing[1], layout, exact=dtype == types.UINT8)
    mask = _mask(masks, plans, layout, images.device)
    if dtype != types.UINT8:  # bytes are always numbers
        images = fn.cast(images, dtype=types.FLOAT)
    own, other = images, fn.permute_batch(images, indices=partner)
    if dtype != types.UINT8:
        own, other = _shown(own, mask != 0.0), _shown(other, mask != 1.0)
    mixed = _blend(own, other, mask)
    if dtype != types.FLOAT:
        mixed = fn.cast(mixed, dtype=dtype)
    mixed = fn.reshape(mixed, layout=layout if plans.mixer.interpolations == 1 else f"F{layout}")
    return mixed, _targets(labels, partner, weight, plans.mixer.interpolations, num_classes, smoothing)


def _blend(own: Any, other: Any, mask: Any) -> Any:
    return mask * own + (1.0 - mask) * other  # exact where the mask is 0 or 1


def _shown(images: Any, where: Any) -> Any:
    """Floats, and 0 where they are not shown: 0 times what is no number is no number. DALI selects bits, not floats."""
    fn, types, _, _ = _dali()
    bits = fn.reinterpret(images, dtype=types.INT32) & -fn.cast(where, dtype=types.INT32)
    return fn.reinterpret(bits, dtype=types.FLOAT)


def _mask(masks: Any, plans: PlanSource, layout: str, device: str) -> Any:
    """M, shaped to broadcast over images: (1, h, w), or (K, 1, h, w) for K > 1, and with the channels last for HWC."""
    fn, types, math, _ = _dali()
    outputs = [] if plans.mixer.interpolations == 1 else [plans.mixer.interpolations]

    def shape(height: int, width: int) -> list[int]:
        return [*outputs, *((1, height, width) if layout == "CHW" else (height, width, 1))]

    masks = masks.gpu() if device == "gpu" else masks
    if plans.dense:
        return fn.cast(fn.reshape(masks, shape=shape(plans.height, plans.width)), dtype=types.FLOAT)

    def floats(i: int) -> Any:
        return fn.reshape(masks[:, i], shape=shape(1, 1))

    def axis(first: int, last: int, centre: int, *sides: int) -> Any:
        count = max(sides)
        t = types.Constant(
            list(map(float, range(count))), dtype=types.FLOAT, shape=shape(*sides)[len(outputs) :], device=device
        )
        inside = fn.cast((t >= floats(first)) & (t < floats(last)), dtype=types.FLOAT)
        d = t - floats(centre)
        return inside * math.exp(-floats(A) * d * d)

    if plans.mixer.constant:
        return floats(V0)
    return floats(V0) + floats(DV) * axis(Y0, Y1, CY, plans.height, 1) * axis(X0, X1, CX, 1, plans.width)


def _targets(labels: Any, partner: Any, weight: Any, outputs: int, num_classes: int, smoothing: float) -> Any:
    """Targets (classes,), or (K, classes) for K > 1, on the device of the labels."""
    fn, types, _, _ = _dali()
    # fn.one_hot leaves the row of any other number empty in silence; DALI's error shows the next statement
    numbers = types.Constant(np.arange(num_classes, dtype=np.int32))
    first = fn.cast(fn.reshape(labels.cpu() if labels.device == "gpu" else labels, shape=[1]), dtype=types.INT32)
    labels_within_num_classes = fn.slice(numbers, start=first, shape=[1], axes=[0], out_of_bounds_policy="error")
    own = fn.one_hot(
        labels_within_num_classes,
        num_classes=num_classes,
        on_value=1 - smoothing + smoothing / num_classes,
        off_value=smoothing / num_classes,
    )
    own = own.gpu() if labels.device == "gpu" else own
    weight = fn.reshape(weight, shape=[1] if outputs == 1 else [outputs, 1])
    return _blend(own, fn.permute_batch(own, indices=partner), weight.gpu() if labels.device == "gpu" else weight)


def _dali() -> tuple[Any, Any, Any, Any]:
    """``nvidia.dali``'s fn, types, math and pipeline."""
    try:
        from nvidia.dali import fn, math, pipeline, types
    except ImportError as error:
        raise ImportError("pipelines.dali needs NVIDIA DALI: pip install 'mixstage[dali]'") from error
    return fn, types, math, pipeline
