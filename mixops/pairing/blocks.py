"""Who is mixed with whom: shuffle, cut into blocks of k, match each block with the one that follows.

The shuffled batch p and the same order rotated by k, q, are cut at the same places. Block i of p and block i of q hold
different images as long as 2k <= b, both are permutations of the batch, and a one-to-one match inside each block is one of
the whole batch, also where the last block is short. k = 1 leaves nothing to match: shuffle and rotate by one, nobody is his
own partner. Any k gives the two batches that k-mixup matches (arXiv 2106.02933), which there are drawn independently and may
overlap; here they are disjoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from ..key import Key, Stream
from ..runtime.checks import check_count, check_type


@dataclass(frozen=True, eq=False)
class Blocks:
    """A shuffled batch cut into blocks: ``rows[i]`` may be matched with ``columns[j]`` if ``block[i] == block[j]``."""

    rows: Int64[np.ndarray, " b"]
    columns: Int64[np.ndarray, " b"]
    k: int

    def partner(self, choice: Int64[np.ndarray, " b"] | None = None) -> Int64[np.ndarray, " b"]:
        """The partner of each row; position i of ``rows`` takes position ``choice[i]`` of ``columns``, by default i."""
        partner = np.empty_like(self.rows)
        partner[self.rows] = self.columns if choice is None else self.columns[choice]
        return partner

    def block_of_row(self) -> Int64[np.ndarray, " b"]:
        """The number of the block that each row of the batch is in."""
        block = np.empty_like(self.rows)
        block[self.rows] = np.arange(len(self.rows)) // self.k
        return block


def draw_blocks(key: Key, batch_size: int, k: int = 1) -> Blocks:
    """Shuffles a batch and cuts it into blocks of ``k``, the last one smaller where k does not divide the batch.

    A batch of one is paired with itself. Raises ``ValueError`` if k > 1 and the batch has fewer than two blocks.
    """
    check_type("key", key, Key, "a Key")
    batch_size, k = check_count("batch_size", batch_size), check_count("k", k)
    if k > 1 and batch_size < 2 * k:
        raise ValueError(f"batch_size must be at least 2 * k = {2 * k} to match two blocks of {k}, got {batch_size}")
    rows = key.permutation(Stream.PAIRING, batch_size)
    return Blocks(rows, np.roll(rows, -k), k)
