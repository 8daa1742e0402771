"""Trained models of public projects, which stand beside the checkout, and what others computed with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.recurrent import Array

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"

ROUNDING: dict[str, Any] = {"rtol": 0, "atol": 2e-6}
"""Outputs of another engine in float32 against stored ones in float32: two roundings of numbers up to one, after a few dozen steps."""

FLOORS = 2.0
"""What parity allows an engine: see `parity.judge`."""

there = pytest.mark.skipif(not MODELS.is_dir(), reason="the trained models are not in this checkout's neighbourhood")


def stored(name: str) -> dict[str, Array]:
    """Inputs and outputs of a model, as its own framework computed them."""
    with np.load(MODELS / f"{name}_expected.npz") as file:
        return dict(file)
