"""What the weights of a layer look like into which nothing was loaded: the initial values of torch and Keras."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.differing import is_related
from parity.graph.calls import Layered
from parity.graph.operations import BatchNormalization, Convolution, GroupNormalization, LayerNormalization
from parity.layouts import GATE_MEANINGS, GATES
from parity.network import Dense, Embedding, Recurrent

_MOST = 20_000
"""Of more numbers a sample is looked at."""


@dataclass(frozen=True)
class _Drawn:
    """A distribution from which a framework draws weights.

    Args:
        owner: the framework.
        words: of the distribution.
        bound: beyond which there is nothing; infinite for none.
        share: of the numbers whose size is at most some number.
        square: the mean of their squares.
        fewest: so many numbers tell by themselves that they were drawn so.
    """

    owner: str
    words: str
    bound: float
    share: Callable[[Array], Array]
    square: float
    fewest: int = 64


def looks_fresh(layer: Layered, told: Mapping[str, Any], name: str, right: Array | None = None) -> str:
    """What a weight looks like if it is that of a layer that was just made, as the end of a sentence; "" for anything else.

    Args:
        layer: of the right model.
        told: the suspect's weights of this layer, by their names.
        name: of the weight.
        right: what belongs there: numbers that come from it were not drawn, whatever they look like.

    Example:
        >>> layer = Dense("scores", np.zeros((40, 5)))
        >>> drawn = np.random.default_rng(0).uniform(-(40**-0.5), 40**-0.5, (40, 5))
        >>> looks_fresh(layer, {"kernel": drawn}, "kernel")
        'they look drawn from -0.158 to 0.158, as torch makes a layer into which nothing was loaded'
        >>> looks_fresh(layer, {"kernel": 2 * drawn}, "kernel"), looks_fresh(layer, {"kernel": drawn}, "kernel", drawn + 1e-5)
        ('', '')
    """
    array, member = told[name], name.rpartition(".")[2]
    if not array.any():
        return "they are zero"
    if words := initial_constants(layer, array, member):
        return f"{words}, as {_MAKES}"
    if right is not None and is_related(right, array):
        return ""
    if isinstance(layer, Recurrent) and member == "recurrent" and _is_orthogonal(array):
        return f"they are orthogonal, as Keras {_MAKES_ONE}"
    for drawn in _distributions(layer, member):
        enough = array.size >= drawn.fewest or _accompanied(layer, told, name, drawn.owner)
        if enough and _follows(array, drawn):
            return f"they look drawn {drawn.words}, as {drawn.owner} {_MAKES_ONE}"
    return ""


_MAKES_ONE = "makes a layer into which nothing was loaded"
_MAKES = f"every framework {_MAKES_ONE}"


def initial_constants(layer: Layered, array: Array, member: str) -> str:
    """The constants that a weight holds in a layer that was just made, in words: ones of a normalization, ones of the forget gate.

    Args:
        layer: of the right model.
        array: the suspect's weight.
        member: its name without its direction.

    Returns:
        "" for any other numbers, and for zeros, which a mistake may have put there as well.
    """
    normalizes = isinstance(layer, BatchNormalization | LayerNormalization | GroupNormalization)
    if normalizes and member in ("gamma", "variance") and (array == 1).all():
        return "they are ones"
    if isinstance(layer, Recurrent) and member == "bias" and layer.spec.kind == "lstm":
        forget = list(GATE_MEANINGS["lstm"].values()).index("forget gate")
        fresh = np.zeros_like(array)
        fresh[forget] = 1
        if (array == fresh).all():
            return "they are zeros, and ones for the forget gate"
    return ""


def _distributions(layer: Layered, member: str) -> Iterator[_Drawn]:
    """What frameworks draw a weight from.

    Sources: torch `nn.RNNBase.reset_parameters`, `nn.Linear.reset_parameters` and `nn.modules.conv._ConvNd.reset_parameters`
    (`kaiming_uniform_` with a=sqrt(5) comes to 1/sqrt(fan_in)), `nn.MultiheadAttention._reset_parameters` (`xavier_uniform_`),
    `nn.Embedding.reset_parameters`; Keras `initializers.compute_fans`, `glorot_uniform`, `uniform` of `layers.Embedding`.
    """
    if isinstance(layer, Recurrent):
        spec = layer.spec
        bound = 1 / math.sqrt(spec.hidden_size)
        if member in ("kernel", "recurrent"):
            yield _uniform("torch", bound)
        elif member == "bias":
            yield _two_added("torch", bound, 1 / 3 if spec.kind == "gru" and layer.cells[0].reset_after else 0.0)
        elif member.startswith("bias"):
            yield _uniform("torch", bound)
        if member == "kernel":
            yield _uniform("Keras", math.sqrt(6 / (spec.input_size + spec.hidden_size * len(GATES[spec.kind]))))
    elif isinstance(layer, Dense):
        yield from _of_matrix(member, layer.input_size, layer.output_size)
    elif isinstance(layer, Convolution):
        (*window, taken, given) = layer.held("kernel").shape
        size = math.prod(window)
        yield from _of_matrix(member, size * taken, size * given)
    elif isinstance(layer, Embedding):
        yield _Drawn("torch", "from the normal distribution", math.inf, _normal_share, 1.0)
        yield _uniform("Keras", 0.05)


def _of_matrix(member: str, taken: int, given: int) -> Iterator[_Drawn]:
    yield _uniform("torch", 1 / math.sqrt(taken))
    if member == "kernel":
        yield _uniform("Keras (glorot_uniform) or torch (xavier_uniform_)", math.sqrt(6 / (taken + given)))


def _uniform(owner: str, bound: float) -> _Drawn:
    return _Drawn(owner, f"from -{bound:.3g} to {bound:.3g}", bound, lambda sizes: sizes / bound, bound**2 / 3)


def _two_added(owner: str, bound: float, single: float) -> _Drawn:
    """Two biases added, and a share of single ones: those of the candidate of a GRU, of which the other is told apart."""

    def share(sizes: Array) -> Array:
        found: Array = (1 - single) * (1 - (1 - sizes / (2 * bound)) ** 2) + single * np.minimum(sizes / bound, 1.0)
        return found

    return _Drawn(
        owner,
        f"from -{bound:.3g} to {bound:.3g}, twice, and added",
        2 * bound,
        share,
        (2 - single) * bound**2 / 3,
        1024,
    )


def _normal_share(sizes: Array) -> Array:
    return np.array([math.erf(size / math.sqrt(2)) for size in sizes])


def _follows(array: Array, drawn: _Drawn) -> bool:
    """Whether numbers fill a distribution: none beyond it, and shares as they must be.

    Source: the test of Kolmogorov and Smirnov, at 1%.
    """
    sizes = np.sort(np.abs(np.asarray(array, np.float64)).ravel())
    if sizes[-1] > drawn.bound * (1 + 1e-6):
        return False
    count = min(sizes.size, _MOST)
    sizes = sizes[np.linspace(0, sizes.size - 1, count).round().astype(int)]
    if math.isfinite(drawn.bound) and drawn.share(sizes[-1:])[0] < 1 - 7 / count:
        return False
    # Of numbers of both signs about half are positive: a bias of one sign was trained.
    if abs(float((sizes**2).mean()) / drawn.square - 1) > 4.5 / math.sqrt(count):
        return False
    share = drawn.share(sizes)
    places = np.arange(count)
    off = max(float(np.abs(share - places / count).max()), float(np.abs(share - (places + 1) / count).max()))
    positive = float((np.asarray(array) > 0).mean())
    return off <= 1.63 / math.sqrt(count) and abs(positive - 0.5) <= 1.7 / math.sqrt(count)


def _accompanied(layer: Layered, told: Mapping[str, Any], name: str, owner: str) -> bool:
    """Whether a larger weight of the same place looks fresh from the same framework: then a few numbers do."""
    place = name.rpartition(".")[0]
    array = told[name]
    return any(
        isinstance(other, np.ndarray)
        and other.size >= max(64, array.size + 1)
        and one.rpartition(".")[0] == place
        and "bias" not in one
        and any(
            drawn.owner == owner and _follows(other, drawn) for drawn in _distributions(layer, one.rpartition(".")[2])
        )
        for one, other in told.items()
    )


def _is_orthogonal(recurrent: Array) -> bool:
    """Whether (gate, hidden, state) has orthonormal rows, as (state, gate x hidden)."""
    rows = recurrent.reshape(-1, recurrent.shape[-1]).T.astype(np.float64)
    return bool(np.abs(rows @ rows.T - np.eye(len(rows))).max() < 1e-4)


__all__ = ["initial_constants", "looks_fresh"]
