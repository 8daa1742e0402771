"""Layers that take (time, batch, ...) beside others that take (batch, time, ...): parity turns their inputs, and says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import chain_outputs, with_sequence
from parity.errors import ParityError
from parity.frameworks import Settings, call, family
from parity.result import zero_state
from parity.running import runner
from parity.sources import Opened


def notes_of_axes(sides: Sequence[Opened], x: Array, settings: Settings) -> Iterator[str]:
    """What is to be said where one of two layers takes the steps first and the other one the samples.

    Args:
        sides: the right model and the suspect.
        x: (batch, time, features), of which each is given the array as it is, from states of zeros.
        settings: where they run.

    Example:
        >>> import torch
        >>> from parity.sources import open_source
        >>> right, other = torch.nn.GRU(3, 5, batch_first=True), torch.nn.GRU(3, 5)
        >>> _ = other.load_state_dict(right.state_dict())
        >>> x = np.ones((2, 4, 3), np.float32)
        >>> note, = notes_of_axes([open_source(right), open_source(other)], x, Settings())
        >>> note.startswith("GRU 'gru' takes (time, batch, ...): parity turned the inputs for it")
        True
    """
    for own, other in (sides, sides[::-1]):
        if _takes_steps_first(own) and _takes_samples_first(other):
            apart = _apart(own, other, x, settings)
            note = f"{own.label} takes (time, batch, ...): parity turned the inputs for it"
            beside = "the reference" if own is sides[1] else "the suspect"
            if apart:
                note += f"; fed with the same array as {beside} it gives something else by up to {apart:.2g}"
            yield f"{note} (batch_first)"


def _takes_steps_first(source: Opened) -> bool:
    """Whether a source is a module of torch by itself that takes the steps first."""
    return source.network.bare and getattr(source.live, "batch_first", None) is False


def _takes_samples_first(source: Opened) -> bool:
    """Whether it is known that a source takes the samples first; of a file of weights it is not."""
    if source.network.bare and source.live is not None and source.engine == "torch":
        return getattr(source.live, "batch_first", False) is True
    return source.engine is not None and family(source.engine) == "keras"


def _apart(own: Opened, other: Opened, x: Array, settings: Settings) -> float | None:
    """How far what a layer gives for an array as it is, is from what the other one gives for it; None where that cannot be said."""
    if own.network.graph is not None or other.network.graph is not None or x.ndim != 3:
        return None
    try:
        mine, theirs = (
            _given(one, array, settings) for one, array in ((own, np.ascontiguousarray(x.swapaxes(0, 1))), (other, x))
        )
    except ParityError:
        return None
    if mine is None or theirs is None or mine.swapaxes(0, 1).shape != theirs.shape:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        apart = float(np.abs(mine.swapaxes(0, 1).astype(np.float64) - theirs).max(initial=0.0))
    return apart if np.isfinite(apart) else None


def _given(source: Opened, x: Array, settings: Settings) -> Array | None:
    """Every step that a layer gives, (batch, time, features), from states of zeros."""
    network = with_sequence(source.network)
    engine = source.engine
    if engine is None:
        return None
    states = {layer.name: zero_state(layer.spec, len(x)) for layer in network.recurrent}
    result = call(runner(source, engine, settings), x, states, None)
    return chain_outputs(network, result).get("output")


__all__ = ["notes_of_axes"]
