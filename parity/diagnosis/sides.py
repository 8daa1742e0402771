"""Which arrays of a file are inputs, and which outputs, by their names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from parity.errors import ParityError
from parity.files.archive import Archive

INPUTS, OUTPUTS = "inputs", "outputs"

_WORDS = {
    INPUTS: {"inputs", "input", "x", "in", "data", "tokens", "input_ids", "features"},
    OUTPUTS: {
        *("outputs", "output", "y", "out", "pred", "preds", "prediction", "predictions", "logits", "result", "results"),
        *("h_n", "c_n", "hn", "cn", "h", "c", "hidden", "cell", "state", "states", "state_h", "state_c", "last"),
    },
}
"""Names that people give to what goes in and to what comes out."""


def has_both_sides(path: Path) -> bool:
    """Whether a file is an `.npz` file with inputs and outputs, by its names."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with Archive(path, "an .npz file", generous=True) as archive:
            return both_sides(name.removesuffix(".npy") for name in archive.names)
    except ParityError:
        return False


def both_sides(names: Iterable[str]) -> bool:
    """Whether arrays of these names are inputs and outputs."""
    return {INPUTS, OUTPUTS} <= set(map(side_of, names))


def side_of(name: str) -> str:
    """Which side an array is of by its name; "" where that does not tell."""
    first = name.partition("/")[0]
    if first in (INPUTS, OUTPUTS):
        return first
    return next((side for side, words in _WORDS.items() if "/" not in name and name.lower() in words), "")


__all__ = ["INPUTS", "OUTPUTS", "both_sides", "has_both_sides", "side_of"]
