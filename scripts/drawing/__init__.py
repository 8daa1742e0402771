"""Random operations of graphs on random inputs, each with the kernels of the frameworks that compute the same, for calibration."""

from __future__ import annotations

from collections.abc import Callable

import torch

from drawing import elementwise, normalizations, sums
from drawing.inputs import SIZES, Draw, Random
from parity.functions import FUNCTIONS

DRAWS: dict[str, Callable[[Random], Draw]] = {
    "convolution": sums.convolution,
    "dense": sums.dense,
    "matmul": sums.matmul,
    "einsum": sums.einsum,
    "pooling": sums.pooling,
    "sum": sums.reduced("sum", torch.sum, "ReduceSum"),
    "mean": sums.reduced("mean", torch.mean, "ReduceMean"),
    "prod": sums.reduced("prod", torch.prod, "ReduceProd", SIZES),
    "logsumexp": sums.reduced("logsumexp", torch.logsumexp, "ReduceLogSumExp"),
    "norm": sums.reduced("norm", lambda x, axis, keep: torch.linalg.vector_norm(x, dim=axis, keepdim=keep), "ReduceL2"),
    "batch_normalization": normalizations.batch_normalization,
    "layer_normalization": normalizations.layer_normalization,
    "rms_normalization": normalizations.rms_normalization,
    "group_normalization": normalizations.group_normalization,
    "unit_normalization": normalizations.unit_normalization,
    "softmax": elementwise.softmax(False),
    "log_softmax": elementwise.softmax(True),
    **{f"elementwise {name}": elementwise.elementwise(name) for name in elementwise.ELEMENTWISE},
    **{f"activation {name}": elementwise.activation(name) for name in FUNCTIONS},
}
"""A random draw of every operation that rounds, by name."""

__all__ = ["DRAWS", "Draw"]
