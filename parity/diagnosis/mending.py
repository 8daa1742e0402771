"""A suspect mended, by what its diagnosis found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from parity.diagnosis.agreeing import computes_the_same
from parity.diagnosis.fault import Fault
from parity.diagnosis.repair import OptionRepair
from parity.diagnosis.repairs import code_of
from parity.diagnosis.repairs.around import of_cell
from parity.diagnosis.repairs.opening import verbs
from parity.diagnosis.repairs.resolving import Resolved, resolve
from parity.diagnosis.repairs.writing import Written
from parity.errors import ParityError
from parity.network import Bidirectional, Network, Recurrent
from parity.sources import Opened

_ANEW = {"torch": "to_torch", "keras": "to_keras"}


@dataclass(frozen=True, eq=False)
class Mending:
    """What is to be done to a suspect, and how it is said.

    Args:
        reference, suspect: as they were opened.
        resolved: the changes.
        written: their source code.
    """

    reference: Opened
    suspect: Opened
    resolved: Resolved
    written: Written

    def made(self) -> Any:
        """The suspect mended: a copy of a live object on which the source code was run, else a description.

        A live object whose own code would have to be edited gives place to the reference in its framework.

        Raises:
            ParityError: it takes another change than can be made from outside; says what is to be edited.
        """
        if self.suspect.live is not None and self.suspect.engine is not None and self.written.whole:
            if code_of(self.resolved, self.suspect, self.reference).text != self.written.text:
                remedy = "diagnose it again"
                raise ParityError("the suspect was changed since it was diagnosed", self.suspect.label, remedy=remedy)
            source = self.reference.path or self.reference.live or self.reference.network
            names = {"suspect": verbs(self.suspect.engine).copied(self.suspect.live), "reference": source}
            exec(compile(self.written.text, "<repair>", "exec"), names)
            return self._agreeing(names["suspect"])
        if self.anew:
            names = {"reference": self.reference.path or self.reference.live or self.reference.network}
            exec(compile(self.anew, "<repair>", "exec"), names)
            return names["suspect"]
        if self.resolved.unsaid or not all(isinstance(one, OptionRepair) for one in self.resolved.around):
            raise self._by_hand()
        return self._described()

    @property
    def text(self) -> str:
        """The source code: of what can only be edited by hand, in words, and then how the model is had without the mistake."""
        return f"{self.written.text.rstrip()}\n\n{self.anew}" if self.anew else self.written.text

    @property
    def anew(self) -> str:
        """Lines that take the reference in the framework of a live suspect that cannot be changed from outside; "" for others."""
        verb = _ANEW.get(self.suspect.engine or "")
        traced = (
            self.reference.engine == "torch" and self.reference.live is not None
        )  # needs example inputs, and is at hand
        if self.suspect.live is None or self.written.whole or verb is None or traced:
            return ""
        return f"# or the model as parity writes it, without the mistake\nimport parity\nsuspect = parity.{verb}(reference)"

    def _agreeing(self, made: Any) -> Any:
        """What was mended by more than weights, whose numbers are known, if it computes what the reference computes."""
        if self.resolved.around and not computes_the_same(self.reference, made):
            raise self._by_hand()
        return made

    def _described(self) -> Network:
        """The description of the suspect with other weights and options."""
        network, right = self.suspect.network, self.reference.network.recurrent
        own = list(network.recurrent)
        for (number, direction), weights in self.resolved.weights.items():
            kept = own[number].weights
            own[number] = replace(own[number], weights=(*kept[:direction], weights, *kept[direction + 1 :]))
        places = {layer.name: number for number, layer in enumerate(right)}
        for option in self.resolved.around:
            number = places.get(option.layer, -1)
            place = self.resolved.pairs.get(number, -1)
            if place < 0 or not isinstance(option, OptionRepair):
                raise self._by_hand()
            if of_cell(option):
                own[place] = replace(own[place], cells=right[number].cells)
            elif option.option == "merge_mode":
                own[place] = replace(own[place], merge_mode=right[number].merge_mode)
            else:
                raise self._by_hand()
        return _with_layers(network, dict(zip(map(id, network.recurrent), own, strict=True)))

    def _by_hand(self) -> ParityError:
        words = " ".join(line.strip("# ") for line in self.written.text.splitlines() if line.startswith("#"))
        expected = "a change of weights, or of an option that can be set from outside"
        return ParityError("this is mended in the suspect's own code", self.suspect.label, expected, remedy=words)


def mending(reference: Opened, suspect: Opened, faults: Sequence[Fault]) -> Mending | None:
    """How a suspect is mended; None where no fault was found.

    Args:
        reference, suspect: as they were opened.
        faults: that explain the suspect.
    """
    if not faults:
        return None
    resolved = resolve(faults, reference.network.recurrent, suspect.network.recurrent)
    return Mending(reference, suspect, resolved, code_of(resolved, suspect, reference))


def _with_layers(network: Network, made: dict[int, Recurrent]) -> Network:
    """A network with other recurrent layers, by the identity of those that it has."""

    def changed(layer: Any) -> Any:
        if isinstance(layer, Bidirectional):
            forward, backward = (tuple(made.get(id(one), one) for one in stack) for stack in layer.stacks)
            return replace(layer, forward=forward, backward=backward)
        return made.get(id(layer), layer)

    graph = network.graph
    if graph is not None:
        operations = {id(one): changed(one) for one in graph.operations}
        nodes = tuple(replace(node, operation=operations[id(node.operation)]) for node in graph.nodes)
        graph = replace(graph, nodes=nodes)
    return replace(network, layers=tuple(changed(layer) for layer in network.layers), graph=graph)


__all__ = ["Mending", "mending"]
