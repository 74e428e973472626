"""The size of a JPEG file's frame, and whether it is one that all decoders read alike.

Pillow finds a size, too, in 100 microseconds; ``jpeg_markers.py`` in one, and is asked by compiled code for every sample of
every epoch, which does not keep the interpreter from a training loop.
"""

from __future__ import annotations

import numpy as np

Size = tuple[int, int]  # height, width


def frame_size(data: bytes) -> Size | None:
    """(height, width) of the frame that a JPEG header declares; ``None`` where none is found in the bytes given."""
    from .jpeg_markers import find_frame

    height, width = find_frame(np.frombuffer(data, np.uint8))
    return None if height < 0 else (height, width)


def plain_size(data: bytes) -> Size | None:
    """(height, width) of a whole JPEG file that all decoders read alike; ``None`` for anything else."""
    from .jpeg_markers import find_plain

    height, width = find_plain(np.frombuffer(data, np.uint8))
    return (height, width) if height else None
