"""The noise of every operation of a graph against kernels in float32: a fast version of scripts/calibrate_graph.py."""

from __future__ import annotations

import numpy as np
import pytest
from calibrate_graph import WIDE, calibrated, ratios
from drawing import DRAWS

from parity.judge import LIMIT


@pytest.mark.parametrize("name", DRAWS)
def test_float32_kernels_stay_within_the_noise(name: str) -> None:
    """A fast version of scripts/calibrate_graph.py; the kernels of ONNX Runtime and TensorFlow are measured there, too."""
    measured = calibrated([name], 4, 5, ("torch",))[name]
    assert all(worst <= LIMIT for worst in measured.worst.values()), measured
    assert measured.width < WIDE


@pytest.mark.parametrize("name", ["convolution", "matmul", "softmax", "layer_normalization", "mean", "activation gelu"])
def test_a_small_fault_lies_outside_the_noise(name: str) -> None:
    """The torch kernel's answer, one part in ten thousand too large, is not taken for rounding."""
    seen = []
    for seed in range(6):
        draw = DRAWS[name](np.random.default_rng(seed))
        kernel = draw.kernels["torch"]
        draw.kernels.clear()
        draw.kernels["torch"] = lambda *x, kernel=kernel: kernel(*x) * (1 + 1e-4)
        seen.append(ratios(draw)[0]["torch"] > LIMIT)
    assert sum(seen) >= 4
