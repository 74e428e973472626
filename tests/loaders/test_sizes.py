"""Sizes in the course of the epochs."""

from __future__ import annotations

import pytest

from loaders.sizes import BatchSizes, Sizes


def test_stages():
    sizes = Sizes("160@0 192@40 224@80")
    assert [sizes.at(epoch, 0, 10) for epoch in (0, 39, 40, 79, 80, 500)] == [160, 160, 192, 192, 224, 224]
    assert sizes.largest == 224
    assert sizes == Sizes([(0, 160), (40, 192), (80, 224)])
    assert eval(repr(sizes)) == sizes


def test_a_stage_may_begin_within_an_epoch():
    sizes = Sizes("160@0 192@1.5")
    assert [sizes.at(1, step, 10) for step in range(10)] == [160] * 5 + [192] * 5


def test_a_ramp_is_ffcvs():
    """ffcv-imagenet: 160 pixels to epoch 65, 192 from epoch 76 on, steps of 32 between."""
    sizes = Sizes("160@65 192@76", ramp=True)
    assert [sizes.at(epoch, 0, 10) for epoch in (0, 65, 70, 71, 76, 87)] == [160, 160, 160, 192, 192, 192]


def test_batch_sizes():
    sizes = BatchSizes("512@0 256@80")
    assert [sizes.at(epoch) for epoch in (0, 79, 80)] == [512, 512, 256]
    assert sizes.largest == 512


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sizes("160"), "stages must read like '160@0 192@40', value@epoch, got '160'"),
        (lambda: Sizes(""), "stages must have ascending epochs"),
        (lambda: Sizes("160@5 192@5"), "stages must have ascending epochs"),
        (lambda: Sizes("0@0"), r"stages must have values in \[1, "),
        (lambda: Sizes([(0, 1, 2)]), "stages must be pairs of"),
        (lambda: Sizes("160@0", multiple=0), "multiple must be at least 1, got 0"),
        (lambda: BatchSizes("8@0.5"), "stages of batch sizes must begin with whole epochs"),
    ],
)
def test_bad_stages_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_loader_says_its_size_and_refuses_another(jpeg_folder) -> None:
    from loaders import ImageLoader

    with ImageLoader(jpeg_folder, batch_size=4, size=(20, 24), device="cpu") as one:
        assert one.size == (20, 24)
        with pytest.raises(AttributeError, match=r"size can't be set.*give ImageLoader size=192, or size=Sizes"):
            one.size = 192
