"""What a repair around weights is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parity.diagnosis.repairs.resolving import Resolved
from parity.diagnosis.repairs.sites import Site
from parity.diagnosis.repairs.slots import Tensors
from parity.network import Recurrent


@dataclass(frozen=True, eq=False)
class Around:
    """What is to be changed beside weights, and in what.

    Args:
        resolved: all that is to be done.
        engine: the suspect's; "" for a file that no code opens as a model.
        live: the suspect, or what its file is opened as.
        root: Python for it.
        bare: whether it is a layer or stack by itself.
        right: the recurrent layers of the reference.
        tensors: of the suspect's recurrent layers, by their numbers.
        sites: the suspect's layers by the names of the reference's.
    """

    resolved: Resolved
    engine: str
    live: object
    root: str
    bare: bool
    right: Sequence[Recurrent]
    tensors: Mapping[int, Tensors]
    sites: Mapping[str, Site]

    @property
    def places(self) -> dict[str, int]:
        """The numbers of the suspect's recurrent layers by the names of the reference's."""
        return {layer.name: self.resolved.pairs.get(number, -1) for number, layer in enumerate(self.right)}

    def node(self, layer: str) -> str:
        """What tells the ONNX node of a recurrent layer from all others: the name of one of its weights, or its own; "" if nothing does."""
        own, site = self.tensors.get(self.places.get(layer, -1)), self.sites.get(layer)
        return own.key if own is not None and own.key else "" if site is None else site.source

    @property
    def all_layers(self) -> frozenset[int]:
        """The numbers of all recurrent layers of the suspect that are known."""
        return frozenset(self.resolved.pairs.values())


__all__ = ["Around"]
