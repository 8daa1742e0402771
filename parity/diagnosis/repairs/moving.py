"""Weights of layers that are not recurrent, turned or moved back in their place, as lines."""

from __future__ import annotations

from dataclasses import dataclass

from parity.diagnosis.repair import EXCHANGED, FLIPPED, ROLLED_DOWN, ROLLED_UP, SIDES_EXCHANGED, TRANSPOSED
from parity.diagnosis.repairs.lines import KERAS, ONNX, TORCH

HOLDERS = ("kernel", "table")
"""Weights that lines reach."""

_DIALECTS = {"torch": TORCH, "keras": KERAS, "onnxruntime": ONNX}


@dataclass(frozen=True)
class _Axes:
    """Which axes of a framework's kernel are windows, and which channels: (out, in, *window) or (*window, in, out)."""

    window: tuple[int, ...]
    channels: tuple[int, int]


def moved(engine: str, holder: str, value: str, rank: int) -> str:
    """Lines that change one tensor; "" for a change that no formula undoes.

    Args:
        engine: of the suspect.
        holder: Python for the tensor.
        value: what belongs there, one of the words of `parity.diagnosis.repair`.
        rank: how many axes it has.

    Example:
        >>> print(moved("torch", "suspect.conv.weight", FLIPPED, 3))
        import torch
        with torch.no_grad():
            array = suspect.conv.weight
            array.copy_(array.flip([2]))
        >>> print(moved("keras", "layer.embeddings", ROLLED_UP, 2))
        import keras
        import numpy as np
        array = np.array(keras.ops.convert_to_numpy(layer.embeddings))
        array[...] = np.roll(array, -1, axis=0)
        layer.embeddings.assign(array)
    """
    formula = _formula(engine, value, rank)
    if not formula:
        return ""
    dialect = _DIALECTS[engine]
    target = "array" if engine == "torch" else "array[...]"
    lines = [
        *(line.format(holder=holder, array="array") for line in dialect.read),
        dialect.put.format(target=target, value=formula),
        *(line.format(holder=holder, array="array") for line in dialect.write),
    ]
    if engine == "torch":
        return "\n".join(["import torch", "with torch.no_grad():", *(f"    {line}" for line in lines)])
    imports = ["import keras" if engine == "keras" else "import onnx"]
    return "\n".join([*imports, *(["import numpy as np"] if "np." in " ".join(lines) else []), *lines])


def _formula(engine: str, value: str, rank: int) -> str:
    """What becomes of what is called `array`."""
    axes = _axes(engine, rank)
    torch = engine == "torch"
    copied = "clone" if torch else "copy"
    if value in (ROLLED_UP, ROLLED_DOWN):
        by = -1 if value == ROLLED_UP else 1
        return f"array.roll({by}, 0)" if torch else f"np.roll(array, {by}, axis=0)"
    if value == TRANSPOSED and rank == len(axes.channels):
        return f"array.T.{copied}()"
    if value == FLIPPED and axes.window:
        return f"array.flip({list(axes.window)})" if torch else f"np.flip(array, axis={axes.window})"
    pair = {EXCHANGED: axes.channels, SIDES_EXCHANGED: axes.window}.get(value, ())
    return f"array.swapaxes({pair[0]}, {pair[1]}).{copied}()" if len(pair) == 2 else ""


def _axes(engine: str, rank: int) -> _Axes:
    if engine == "keras":
        return _Axes(tuple(range(rank - 2)), (rank - 2, rank - 1))
    return _Axes(tuple(range(2, rank)), (0, 1))


__all__ = ["HOLDERS", "moved"]
