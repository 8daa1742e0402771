"""What a caution is, and what the rules that give cautions look at. Imports no framework and reads no large array."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from parity.frameworks import ENGINES
from parity.layouts import GATE_MEANINGS, GATES, LAYOUTS, Kind
from parity.network import Bidirectional, Network, Recurrent
from parity.network.opaque import Opaque

FRAMEWORKS = {"keras": "Keras", "torch": "torch", "onnx": "ONNX"}
"""The frameworks of `parity.layouts.LAYOUTS`, as people write them."""


@dataclass(frozen=True)
class Caution:
    """One thing to look out for when a network moves.

    Args:
        what: a fact of this very network.
        where: the layers it is true of; none for the file as a whole.
        why: what goes wrong when the network is moved by hand, and by how much where that was measured.
        remedy: what to do.
        pitfall: a short key of the kind of mistake, for programs.

    Example:
        >>> print(Caution("layer 'gru' has reset_after=False", ("gru",), "nn.GRU has no such option.", "Let parity convert it.", "P01"))
        layer 'gru' has reset_after=False. nn.GRU has no such option. Let parity convert it.
    """

    what: str
    where: tuple[str, ...]
    why: str
    remedy: str
    pitfall: str = ""

    def __str__(self) -> str:
        return f"{self.what}. {self.why} {self.remedy}"


@dataclass(frozen=True)
class Subject:
    """A network as the rules see it.

    Args:
        network: whole or partial.
        suffix: of its file, in lower case; empty where there is none.
    """

    network: Network
    suffix: str = ""

    @property
    def details(self) -> dict[str, str]:
        """What the file says of itself."""
        return self.network.details

    @property
    def framework(self) -> str:
        """The framework it comes from, a key of `FRAMEWORKS`; empty for none."""
        return ENGINES.get(self.network.origin, "")

    @property
    def keras_version(self) -> tuple[int, int] | None:
        """Of the Keras that wrote the file, (2, 1) for 2.1.5; None where it is not said.

        Example:
            >>> from parity.network import Opaque
            >>> from parity.errors import Problem
            >>> network = Network("m", (), origin="keras", details={"producer": "Keras 2.1.5"}, problems=(Problem("no"),))
            >>> Subject(network).keras_version
            (2, 1)
        """
        said = self.details.get("keras_version", "") or self.details.get("producer", "").removeprefix("Keras ")
        found = re.match(r"(\d{1,3})\.(\d{1,3})", said) if self.framework == "keras" else None
        return (int(found[1]), int(found[2])) if found else None

    @property
    def returns_states(self) -> bool:
        """Whether final states are among what the network hands over: always for bare layers of torch and ONNX."""
        network = self.network
        if network.bare:
            return network.origin != "keras" or any(getattr(layer, "return_state", False) for layer in network.layers)
        return any(output.value is not None and output.value.quantity in ("h", "c") for output in network.outputs)

    def recurrent(self, test: Callable[[Recurrent], bool]) -> tuple[str, ...]:
        """The recurrent layers that pass a test, by name; those inside a `Bidirectional` one by one."""
        return tuple(layer.name for layer in self.network.recurrent if test(layer))

    def alone(self, test: Callable[[Recurrent], bool]) -> tuple[Recurrent, ...]:
        """The recurrent layers that pass a test and stand in no `Bidirectional` of two unlike directions."""
        return tuple(layer for layer in self.network.layers if isinstance(layer, Recurrent) and test(layer))

    @property
    def unmasked(self) -> tuple[str, ...]:
        """Recurrent layers of a whole model whose every call gets no mask; none where the model is not known as a whole."""
        graph = self.network.graph
        if graph is None or graph.problems:
            return ()
        calls: dict[str, bool] = {}
        for node in graph.nodes:
            if isinstance(node.operation, (Recurrent, Bidirectional)):
                masked = len(node.inputs) > 1 and node.inputs[1] is not None
                calls[node.operation.name] = calls.get(node.operation.name, False) or masked
        return tuple(name for name, masked in calls.items() if not masked)

    @property
    def unlike(self) -> tuple[Bidirectional, ...]:
        """The `Bidirectional` of two unlike directions."""
        return tuple(layer for layer in self.network.layers if isinstance(layer, Bidirectional))

    def opaque(self, *classes: str) -> tuple[Opaque, ...]:
        """The layers that are not computed and have one of these classes, as Keras or ONNX write them."""
        return tuple(layer for layer in self.network.opaque if layer.class_name in classes)


def names_of(layers: Iterable[Opaque | Recurrent | Bidirectional]) -> tuple[str, ...]:
    """Names of layers.

    Example:
        >>> names_of([Opaque("conv", "Conv1D")])
        ('conv',)
    """
    return tuple(layer.name for layer in layers)


def number(value: object) -> float | None:
    """An option as a number; None for anything else.

    Example:
        >>> number(0.001), number("0.001"), number(True)
        (0.001, None, None)
    """
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def orders(kind: Kind) -> str:
    """The order of the gates in every framework, and what the letters mean.

    Example:
        >>> orders("gru")
        'z r h in Keras, r z n in torch, z r h in ONNX (r: reset gate, z: update gate, h or n: candidate)'
    """
    layouts = {name: LAYOUTS[name, kind] for name in FRAMEWORKS}
    listed = ", ".join(f"{' '.join(layout.own_gates)} in {FRAMEWORKS[name]}" for name, layout in layouts.items())
    letters = {
        gate: sorted({layout.own_gates[layout.gates.index(gate)] for layout in layouts.values()})
        for gate in GATES[kind]
    }
    meanings = ", ".join(f"{' or '.join(own)}: {GATE_MEANINGS[kind][gate]}" for gate, own in letters.items())
    return f"{listed} ({meanings})"
