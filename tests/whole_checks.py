"""What the tests of chains ask of a model that is none: it is read as a whole, and computes the same in every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import parity
from parity.network import Network


def assert_whole(source: Any, why: str = "", engines: Sequence[str] | None = None) -> Network:
    """A source that is no chain of layers is a complete graph, on which its own engine and all others agree with the reference.

    Args:
        source: anything that is read.
        why: it is no chain: words of its problems.
        engines: all that are installed by default.
    """
    network = parity.read(source)
    assert network.graph is not None
    assert not network.stopping
    assert why in "\n".join(f"{problem.what} {problem.where}" for problem in network.problems)
    comparison = parity.compare(source, engines=engines)
    assert comparison.ok, str(comparison)
    assert set(comparison.participants) == set(engines or ("keras", "torch", "onnxruntime"))
    return network
