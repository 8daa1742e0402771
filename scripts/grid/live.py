"""A configuration built in its own framework, with what that framework itself computes for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.cases import BATCH, FEATURES, MASKS, TIME, VOCABULARY, Config

Array = NDArray[Any]

GAIN = 0.6
CALM_GAIN = 0.2
"""Of weights in front of functions that grow without limit: errors would be lost in what they amplify."""


@dataclass(frozen=True)
class Shown:
    """One output as the framework gives it, batch first.

    Args:
        array: (batch, time, features), or (batch, features) of the last step.
        reverse: whether its steps stand in the order of processing, which is not the input's.
    """

    array: Array
    reverse: bool = False


@dataclass(frozen=True)
class Live:
    """A source, what it is run on, and its own numbers.

    Args:
        source: the live object that is handed to parity.
        inputs: (batch, time, features), or (batch, time) integers.
        outputs: what it returns beside its states.
        states: its final h (and c) of every layer and direction in order, (batch, features) each; None for one that it does not return.
        initial: h (and c) of every layer and direction in the same order; None for zeros.
        mask: (batch, time), given from outside; None for none.
        dtype: in which the target is run.
    """

    source: Any
    inputs: Array
    outputs: tuple[Shown, ...]
    states: tuple[Array | None, ...] = ()
    initial: tuple[tuple[Array, ...], ...] | None = None
    mask: NDArray[np.bool_] | None = None
    dtype: str = "float32"


def uniform(random: np.random.Generator, shape: Sequence[int], gain: float = GAIN, dtype: str = "float32") -> Array:
    """Random numbers of either sign, none of them near zero."""
    values: Array = gain * random.uniform(0.15, 0.9, shape) * random.choice([-1.0, 1.0], shape)
    return values.astype(dtype)


def given_inputs(random: np.random.Generator, time: int = TIME, dtype: str = "float32") -> Array:
    """(batch, time, features) of about one."""
    return uniform(random, (BATCH, time, FEATURES), 1.5, dtype)


def given_tokens(random: np.random.Generator) -> Array:
    """(batch, time) integers, none of them 0."""
    return random.integers(1, VOCABULARY, (BATCH, TIME))


def given_mask(config: Config) -> NDArray[np.bool_] | None:
    """The mask that a configuration names."""
    name = config.get("mask") or config.get("padding")
    return None if name is None else np.array(MASKS[name], bool)


def mask_of(lengths: Sequence[int]) -> NDArray[np.bool_]:
    """(batch, time), True up to each sample's length."""
    mask: NDArray[np.bool_] = np.arange(TIME) < np.array(lengths)[:, None]
    return mask


@dataclass(frozen=True, eq=False)
class Values:
    """What a framework computed: outputs (batch, time, features) or (batch, features), states (batch, features), in `Live`'s order."""

    outputs: tuple[Array, ...]
    states: tuple[Array, ...]


def rows_of(states: Sequence[Array]) -> tuple[Array, ...]:
    """h (and c), (layer*direction, batch, features), as one h and c after the other for every layer and direction."""
    return tuple(state[row] for row in range(len(states[0])) for state in states) if states else ()


def ends_of(states: Sequence[Array], directions: int, count: int) -> Array:
    """The last h of the last layer, both directions side by side, out of rows of `count` states each."""
    last = states[len(states) - directions * count :: count]
    return np.concatenate(last, axis=-1)
