"""What two sources that should be the same have in their weights: the same, the same numbers elsewhere, or other numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.network import Network, Recurrent
from parity.recurrent import Array, merge_biases

_MOST_SORTED = 1 << 24
"""Elements of an array that are sorted to see whether two hold the same numbers in another order."""


def weights_apart(first: Network, other: Network, label: str) -> str | None:
    """In a sentence, how the recurrent weights of another source lie beside those of the first; None where their sizes differ.

    Args:
        first: the network that is the measure.
        other: the one that does not agree with it.
        label: what the other is called.

    Example:
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> def network(kernel):
        ...     return Network("n", (Recurrent("n", RecurrentSpec("rnn", 3, 1), (Weights(kernel, np.ones((1, 1, 1))),)),))
        >>> kernel = np.arange(3.0).reshape(1, 1, 3)
        >>> print(weights_apart(network(kernel), network(kernel[..., ::-1]), "b"))
        the weights of b are those of the first in another order (forward.kernel of layer 'n'): look for the mistake in the mapping
    """
    if [layer.spec for layer in first.recurrent] != [layer.spec for layer in other.recurrent]:
        return None
    moved, changed, equal = [], [], 0
    for mine, theirs in zip(first.recurrent, other.recurrent, strict=True):
        for name, left, right in _pairs(mine, theirs):
            if np.array_equal(left, right):
                equal += 1
            elif same_numbers(left, right):
                moved.append(f"{name} of layer '{theirs.name}'")
            else:
                changed.append(f"{name} of layer '{theirs.name}'")
    if changed:
        share = f"{len(changed)} of {len(changed) + len(moved) + equal} arrays, such as {changed[0]}"
        return (
            f"the weights of {label} are other numbers ({share}), not the first's in another order: "
            "another training or release of the model, not a mistake of the mapping"
        )
    if moved:
        listed = ", ".join(moved[:4])
        return f"the weights of {label} are those of the first in another order ({listed}): look for the mistake in the mapping"
    return f"the weights of {label} are those of the first, bit for bit: they differ in how they are used"


def _pairs(mine: Recurrent, theirs: Recurrent) -> Iterator[tuple[str, Array, Array]]:
    """The arrays of both; biases that a cell only ever adds as their sum."""
    both = mine.spec.kind == "gru" and any(cell.reset_after for cell in (*mine.cells, *theirs.cells))
    for way, left, right in zip(mine.spec.directions, mine.weights, theirs.weights, strict=True):
        yield f"{way}.kernel", left.kernel, right.kernel
        yield f"{way}.recurrent", left.recurrent, right.recurrent
        zeros = np.zeros(mine.spec.shape("bias_input"))
        for name in ("bias_input", "bias_recurrent") if both else ("bias",):
            ours, others = (one.member(name) if both else merge_biases(one) for one in (left, right))
            yield f"{way}.{name}", zeros if ours is None else ours, zeros if others is None else others


def same_numbers(left: Array, right: Array) -> bool:
    """Whether two arrays of one shape hold the same numbers, each as often, to a few roundings."""
    if left.size > _MOST_SORTED:
        return False
    ours, theirs = np.sort(left, axis=None), np.sort(right, axis=None)
    return bool(np.allclose(ours, theirs, rtol=1e-6, atol=1e-7 * float(np.abs(ours).max(initial=0.0))))
