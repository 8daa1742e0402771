"""bfloat16, which NumPy does not have: the upper half of a float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.recurrent import Array


def from_bfloat16(bits: Array) -> NDArray[np.float32]:
    """The numbers of 16-bit patterns, exactly, as float32; an array of the same shape.

    Example:
        >>> from_bfloat16(np.array([0x3F80, 0xC040], "<u2")).tolist()
        [1.0, -3.0]
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)
