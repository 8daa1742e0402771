"""A suspect mended, by what its diagnosis found."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from parity.diagnosis.agreeing import computes_the_same
from parity.diagnosis.fault import Fault
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.diagnosis.repairs import code_of
from parity.diagnosis.repairs.around import in_words
from parity.diagnosis.repairs.cells import of_cell
from parity.diagnosis.repairs.framing import framed
from parity.diagnosis.repairs.opening import file_of, form_of, verbs, with_engine
from parity.diagnosis.repairs.resolving import Resolved, resolve
from parity.diagnosis.repairs.slots import same
from parity.diagnosis.repairs.writing import NAMED, Written, written
from parity.errors import ParityError
from parity.network import Bidirectional, Network, Recurrent
from parity.sources import Opened, open_source

_ANEW = {"torch": "to_torch", "keras": "to_keras", "onnxruntime": "to_onnx"}

_COPY = "import copy\n\nsuspect = copy.deepcopy(reference)"

_REPLACES = "# this replaces your model by one that parity writes from the reference;"

NO_LINES = (AttributeError, KeyError, IndexError, TypeError, ValueError, ParityError)
"""What writing a repair for a suspect of a form that nobody thought of can come to: it is said in words then."""

_STEPS = {"batch": 3, "time": 11}
"""Lengths of an example input by which a module of torch is traced; any other word has that of time."""


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
        """The suspect mended: a copy of a live object on which the source code was run, else a description; it was seen to agree.

        What cannot be changed from outside, or does not agree then, gives place to the reference in the suspect's framework.

        Raises:
            ParityError: it takes another change than can be made from outside; says what is to be edited.
        """
        if self.in_place and code_of(self.resolved, self.suspect, self.reference).text != self.written.text:
            remedy = "diagnose it again"
            raise ParityError("the suspect was changed since it was diagnosed", self.suspect.label, remedy=remedy)
        for make in self._ways:
            with contextlib.suppress(*NO_LINES, RuntimeError):
                made = make()
                if computes_the_same(self.reference, made):
                    return made
        if self.anew and self.suspect.live is None:
            return self.reference.network
        if self.anew == _COPY:
            return copy.deepcopy(self.reference.live)
        raise self._by_hand()

    @property
    def _ways(self) -> Iterator[Callable[[], Any]]:
        """How a mended suspect may be made, the way that changes least first."""
        if self.in_place:
            yield self._described if self._by_numbers else self._run
        elif not (
            self.anew or self.resolved.unsaid or any(isinstance(one, CallRepair) for one in self.resolved.around)
        ):
            yield self._described
        if self.anew and self.suspect.live is not None:
            yield self._run_anew

    def _run_anew(self) -> Any:
        names = {"reference": self._right}
        exec(compile(self.anew, "<repair>", "exec"), names)
        return names["suspect"]

    @cached_property
    def text(self) -> str:
        """The source code, with what it begins and ends with: where it changes the suspect itself, that; else what is to be edited by
        hand, in words, and then lines that take the reference in the suspect's framework."""
        if self.in_place or not self.anew:
            return framed(self.written.text, self.suspect, self.reference)
        lines = self.written.text.splitlines()
        engine = (self.suspect.engine or "").partition(":")[0]
        said = "\n".join(in_words(one, engine).text for one in self.resolved.around) if self.written.whole else ""
        words = said.splitlines() or [line for line in lines if line.startswith("#")]
        first = [_REPLACES + (" in your own code:" if words else ""), *words]
        return framed("\n".join([*first, "", self.anew, ""]), self.suspect, self.reference)

    @cached_property
    def in_place(self) -> bool:
        """Whether the lines change the suspect itself, and it then computes what the reference computes: they were run on a copy."""
        if not self.written.whole or (self.suspect.live is None and form_of(self.suspect) is None):
            return False
        if not self.resolved.around:
            return True  # the numbers were looked at
        if "torch.backends" in self.written.text:
            return True  # a setting of the whole process is not tried
        try:
            return self._by_numbers or computes_the_same(self.reference, self._run())
        except Exception:  # whatever a framework raises: these lines are not for this suspect
            return False

    @property
    def _by_numbers(self) -> bool:
        """Whether the suspect is a file of whose numbers alone something is wrong, or that holds nothing but numbers."""
        return self.suspect.live is None and (not self.resolved.around or self.suspect.engine == "torch")

    @property
    def _right(self) -> Any:
        return self.reference.path or self.reference.live or self.reference.network

    def _run(self) -> Any:
        """What the lines make of a copy of the suspect; the description of what they make of its file."""
        live = self.suspect.live is not None and self.suspect.engine is not None
        wrong = verbs(str(self.suspect.engine)).copied(self.suspect.live) if live else str(file_of(self.suspect))
        names = {"suspect": wrong, "reference": self._right}
        exec(compile(self.written.text if live else self.written.core, "<repair>", "exec"), names)
        return names["suspect"] if live else open_source(names["model"], partial=True).network

    @cached_property
    def anew(self) -> str:
        """Lines that take the reference in the framework of the suspect; "" where parity writes no such."""
        verb = _ANEW.get((self.suspect.engine or "").partition(":")[0])
        states = self.suspect.live is None and self.suspect.engine == "torch"
        if states and "parity.to_torch(reference)" in self.written.text:
            return "import parity\n\nsuspect = parity.to_torch(reference)"
        if verb is None or states:
            return ""
        if self.reference.live is not None and self.reference.engine == self.suspect.engine == "torch":
            return _COPY
        inputs = self._example
        made = f"parity.{verb}(reference{', inputs=' if inputs else ''}{inputs})"
        imports = ["import numpy as np", "import parity"] if inputs else ["import parity"]
        if self.suspect.live is not None:
            return "\n".join([*imports, "", f"suspect = {made}"])
        saved = f"{made}.save(suspect)" if verb == "to_keras" else f"onnx.save({made}, suspect)"
        imports = [
            "from pathlib import Path",
            *imports[:-1],
            *(["import onnx"] if verb == "to_onnx" else []),
            imports[-1],
        ]
        return "\n".join([*imports, "", *NAMED, saved])

    @property
    def _example(self) -> str:
        """Python for inputs by which a live module of torch is traced; "" where nothing has to be."""
        graph = self.reference.network.graph
        if self.reference.live is None or self.reference.engine != "torch" or graph is None:
            return ""
        shapes = [
            [_STEPS.get(n, _STEPS["time"]) if isinstance(n, str) else n for n in one.shape] for one in graph.inputs
        ]
        arrays = [f'np.ones({tuple(shape)}, "{one.dtype}")' for shape, one in zip(shapes, graph.inputs, strict=True)]
        return arrays[0] if len(arrays) == 1 else f"({', '.join(arrays)})"

    def _described(self) -> Network:
        """The description of the suspect with other weights and options."""
        network, right = self.suspect.network, self.reference.network.recurrent
        own = list(network.recurrent)
        for (number, direction), weights in self.resolved.weights.items():
            kept = own[number].weights
            own[number] = replace(own[number], weights=(*kept[:direction], weights, *kept[direction + 1 :]))
        places = {layer.name: number for number, layer in enumerate(right)}
        for option in self.resolved.around:
            if isinstance(option, OptionRepair) and option.option == "weights":
                continue  # of layers that are not recurrent: there are none
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


def framework_of(suspect: Opened) -> str:
    """Whose letters and orders a suspect's arrays have: "torch", "keras", "onnx"; "" where that is not known."""
    engine = (with_engine(suspect).engine or "").partition(":")[0]
    return {"onnxruntime": "onnx"}.get(engine, engine or str(suspect.network.origin or ""))


def mending(reference: Opened, suspect: Opened, faults: Sequence[Fault]) -> Mending | None:
    """How a suspect is mended; None where no fault was found.

    Args:
        reference, suspect: as they were opened.
        faults: that explain the suspect.
    """
    if not faults:
        return None
    suspect = with_engine(suspect)
    own = suspect.network.recurrent
    try:
        resolved = resolve(faults, reference.network.recurrent, own)
    except NO_LINES:
        resolved = Resolved((), {}, (), tuple(f"that the suspect {fault.cause}" for fault in faults))
    try:
        said = code_of(resolved, suspect, reference)
    except NO_LINES:
        said = written(None, resolved, {}, own, [in_words(one, "") for one in resolved.around])
    return Mending(reference, suspect, resolved, said)


def _with_layers(network: Network, made: dict[int, Recurrent]) -> Network:
    """A network with other recurrent layers, by the identity of those that it has; its graph may keep its own copies of them."""
    kept = {number: one for one in network.recurrent for number in [id(one)] if number in made}

    def changed(layer: Any) -> Any:
        if isinstance(layer, Bidirectional):
            forward, backward = (tuple(made.get(id(one), one) for one in stack) for stack in layer.stacks)
            return replace(layer, forward=forward, backward=backward)
        if not isinstance(layer, Recurrent) or id(layer) in made:
            return made.get(id(layer), layer)
        alike = [number for number, one in kept.items() if one.spec == layer.spec and same(one.weights, layer.weights)]
        if not alike:
            return layer
        other = made[alike[0]]
        return replace(layer, weights=other.weights, cells=other.cells, merge_mode=other.merge_mode)

    graph = network.graph
    if graph is not None:
        operations = {id(one): changed(one) for one in graph.operations}
        nodes = tuple(replace(node, operation=operations[id(node.operation)]) for node in graph.nodes)
        graph = replace(graph, nodes=nodes)
    return replace(network, layers=tuple(changed(layer) for layer in network.layers), graph=graph)


__all__ = ["Mending", "framework_of", "mending"]
