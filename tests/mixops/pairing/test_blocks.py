import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixops import Key
from mixops.pairing.blocks import draw_blocks


@st.composite
def batches(draw):
    """(batch size, k) with two blocks."""
    k = draw(st.integers(1, 9))
    return draw(st.integers(2 * k, 70)), k


@given(batches(), st.integers(0, 2**64 - 1))
def test_blocks_hold_different_images_and_cover_the_batch(sizes, seed):
    b, k = sizes
    blocks = draw_blocks(Key(seed), b, k)
    everyone = list(range(b))
    assert sorted(blocks.rows.tolist()) == everyone
    assert sorted(blocks.columns.tolist()) == everyone
    for start in range(0, b, k):
        own, other = blocks.rows[start : start + k], blocks.columns[start : start + k]
        assert not set(own.tolist()) & set(other.tolist())
    block = blocks.block_of_row()
    assert np.bincount(block).tolist() == [k] * (b // k) + ([b % k] if b % k else [])
    assert all(block[row] == i // k for i, row in enumerate(blocks.rows))


@given(batches(), st.integers(0, 2**64 - 1), st.randoms(use_true_random=False))
def test_partner_follows_the_choice(sizes, seed, random):
    b, k = sizes
    blocks = draw_blocks(Key(seed), b, k)
    choice = list(range(b))
    random.shuffle(choice)
    partner = blocks.partner(np.array(choice))
    for i in range(b):
        assert partner[blocks.rows[i]] == blocks.columns[choice[i]]
    assert (blocks.partner() == blocks.partner(np.arange(b))).all()


def test_nobody_is_his_own_partner_and_all_partners_are_as_likely():
    b, times = 5, 4000
    counts = np.zeros((b, b))
    for step in range(times):
        counts[np.arange(b), draw_blocks(Key(step=step), b).partner()] += 1
    assert not counts.diagonal().any()
    expected = times / (b - 1)
    others = counts[~np.eye(b, dtype=bool)]
    assert (((others - expected) ** 2) / expected).sum() < 60  # chi-squared of 15 degrees: below 1e-6 to exceed


def test_a_batch_of_one_is_paired_with_itself():
    assert draw_blocks(Key(), 1).partner().tolist() == [0]


def test_sizes_that_leave_no_two_blocks_are_refused():
    with pytest.raises(ValueError, match=r"batch_size must be at least 2 \* k = 8 to match two blocks of 4, got 7"):
        draw_blocks(Key(), 7, 4)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        draw_blocks(Key(), 0)
