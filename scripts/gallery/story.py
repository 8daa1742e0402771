"""What a story of the gallery is, what it makes, and how its models get their weights: from a seed, none of them zero, nothing trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from parity.comparison import Comparison
from parity.errors import REFUSED
from parity.frameworks import quiet_import
from parity.report import make_record, render_record
from parity.report.mapping import transfer_page
from parity.report.record import Record
from parity.report.refusal import render_refusal
from parity.transferring.answer import Transfer

with quiet_import():
    import keras

Float32 = NDArray[np.float32]

GAIN = 0.8
"""Of kernels, over the square root of what they add up: lively, and far from chaotic."""

BIAS = 0.3

TRANSFERRED = "transferred"
"""Stands where a comparison has its verdict: a transfer says which tensor became which, and compares nothing."""

Made: TypeAlias = Comparison | Transfer | Record
"""What a story makes; a record is that of a refusal."""


@dataclass(frozen=True)
class Story:
    """One report of the gallery.

    Args:
        name: of the page, without its suffix.
        chapter: of the index, under which it stands.
        title: in a line.
        verdict: that the report has to give; `TRANSFERRED` of a transfer.
        text: two or three sentences: what was done, and what is to be seen.
        make: makes what is drawn, in a folder where the files that it writes are to stay.
        parts: what to look at first: the ids of sections of the page, with words.
        files: what `make` writes beside the page.
    """

    name: str
    chapter: str
    title: str
    verdict: str
    text: str
    make: Callable[[], Made]
    parts: tuple[tuple[str, str], ...]
    files: tuple[str, ...] = ()

    @property
    def page(self) -> str:
        """The name of its file."""
        return f"{self.name}.html"


def drawn(made: Made) -> tuple[str, str]:
    """What a story made as its verdict and its page.

    Example:
        >>> drawn(Transfer(()))[0]
        'transferred'
    """
    if isinstance(made, Comparison):
        return made.verdict, render_record(make_record(made))
    if isinstance(made, Transfer):
        return TRANSFERRED, transfer_page(made)
    return REFUSED, render_refusal(made)


def array(random: np.random.Generator, shape: tuple[int, ...], size: float | None = None) -> Float32:
    """Normal numbers of a kernel (its axis of inputs first), or of this size.

    Example:
        >>> array(np.random.default_rng(0), (3, 5)).dtype
        dtype('float32')
    """
    spread = (GAIN / np.sqrt(shape[0]) if len(shape) > 1 else BIAS) if size is None else size
    return (spread * random.standard_normal(shape)).astype(np.float32)


def filled(model: Any, seed: int) -> Any:
    """A built Keras layer or model with weights from a seed; a scale or a variance from one upwards.

    Args:
        model: what gets them, in place.
        seed: of the numbers.

    Returns:
        The same.
    """
    random = np.random.default_rng(seed)
    for weight in model.weights:
        positive = weight.name in ("gamma", "moving_variance")
        values = array(random, tuple(weight.shape))
        # No exp: its last bits depend on the processor, and the weights and their hashes are to be the same everywhere.
        weight.assign(1 + np.abs(values) if positive else values)
    return model


def built(layer: Any, features: int, seed: int) -> Any:
    """A Keras layer for inputs of so many features, with weights from a seed."""
    layer.build((None, None, features))
    return filled(layer, seed)


def torch_filled(module: torch.nn.Module, seed: int, gain: float = GAIN) -> Any:
    """A torch module with weights from a seed; see `filled`.

    Args:
        module: what gets them, in place.
        seed: of the numbers.
        gain: of the recurrent kernels; above about 3 they are chaotic.
    """
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan = parameter.shape[-1]
            kernel = (gain if "weight_hh" in name else GAIN) / np.sqrt(fan)
            size = kernel if parameter.ndim > 1 else BIAS
            parameter.copy_(torch.from_numpy(array(random, tuple(parameter.shape), float(size))))
    return module


__all__ = [
    "TRANSFERRED",
    "Float32",
    "Made",
    "Story",
    "array",
    "built",
    "drawn",
    "filled",
    "keras",
    "torch_filled",
]
