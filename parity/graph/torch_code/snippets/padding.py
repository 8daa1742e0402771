"""Padding that depends on the length."""

import torch.nn.functional as F  # noqa: N812  as everybody does it
from torch import Tensor


def pad_same(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    value: float = 0.0,
) -> Tensor:
    """Pad the last axes as TensorFlow's padding="same" does, the odd place at the end."""
    pads: list[int] = []
    for axis, (size, step, spread) in enumerate(
        zip(kernel, stride, dilation, strict=True)
    ):
        length = x.shape[axis - len(kernel)]
        reach = (size - 1) * spread + 1
        total = max((-(-length // step) - 1) * step + reach - length, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)
