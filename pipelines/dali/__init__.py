"""Augmenting and mixing inside anybody's NVIDIA DALI pipeline, and the graph that decodes for the loader.

    @pipeline_def(batch_size=256, num_threads=8, device_id=0, enable_checkpointing=True)
    def train(plans):
        jpegs, labels = fn.readers.file(file_root=root, random_shuffle=True, pad_last_batch=True, name="reader")
        images = fn.decoders.image_random_crop(jpegs, device="mixed")
        images = fn.resize(images, size=[224, 224])
        images = fn.crop_mirror_normalize(images, dtype=types.FLOAT, output_layout="CHW", mean=mean, std=std)
        return dali.mix(images, labels, plans, num_classes=1000)

    plans = dali.plan_source(HMix(r=0.75), batch_size=256, height=224, width=224, epoch_size=len(dataset))
    pipe = train(plans)

The loader draws its plans itself; ``plan_source`` is for pipelines that nobody draws for.
"""

from .augment import augment
from .augment_plans import AugmentSource
from .plans import PlanSource
from .stage import mix

plan_source = PlanSource
augment_source = AugmentSource

__all__ = ["AugmentSource", "PlanSource", "augment", "augment_source", "mix", "plan_source"]
