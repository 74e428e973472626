"""CRC-32C (Castagnoli), the checksum of TFRecord, compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8, UInt32

from mixops.runtime.jit import njit


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord: CRC-32C (Castagnoli), turned and shifted so that checksums of checksums are sound."""
    crc = int(_crc32c(np.frombuffer(data, np.uint8), _TABLE))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> UInt32[np.ndarray, " 256"]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1).astype(np.uint32)
    return table


_TABLE = _table()


@njit()
def _crc32c(data: UInt8[np.ndarray, " n"], table: UInt32[np.ndarray, " 256"]) -> int:
    crc = np.uint32(0xFFFFFFFF)
    for i in range(data.size):
        crc = table[(crc ^ data[i]) & np.uint32(255)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)  # type: ignore[return-value]
