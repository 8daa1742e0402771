"""A suspect mended, by what its diagnosis found."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from parity.diagnosis.agreeing import computes_the_same
from parity.diagnosis.fault import Fault
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.diagnosis.repairs import code_of
from parity.diagnosis.repairs.around import in_words
from parity.diagnosis.repairs.cells import of_cell
from parity.diagnosis.repairs.framing import framed, gathered
from parity.diagnosis.repairs.opening import file_of, form_of, verbs, with_engine
from parity.diagnosis.repairs.partly import Around, parts
from parity.diagnosis.repairs.replacing import COPY, replacements
from parity.diagnosis.repairs.resolving import Resolved, repair_of, resolve
from parity.diagnosis.repairs.slots import same
from parity.diagnosis.repairs.writing import Written, titles, written
from parity.errors import ParityError
from parity.network import Bidirectional, Network, Recurrent
from parity.sources import Opened, layer_named, open_source

NO_LINES = (AttributeError, KeyError, IndexError, TypeError, ValueError, ParityError)
"""What writing a repair for a suspect of a form that nobody thought of can come to: it is said in words then."""

_IN_PLACE = "# This is mended in place:"

_BY_HAND = "# This is to be changed in your own code; no lines do it from outside:"

_LAST_RESORT = (
    "# The last resort, if you cannot change your code: another model, which parity writes from the reference."
)

_NO_PATCH = "# No lines mend this from outside; in its place, another model, which parity writes from the reference:"

_LAYER_ALONE = "# The new file holds this layer alone."

_DESCRIBED = (
    "# The suspect is a description that was read; diagnose the model or the file itself for lines that change that."
)


@dataclass(frozen=True, eq=False)
class Mending:
    """What is to be done to a suspect, and how it is said.

    Args:
        reference, suspect: as they were opened.
        resolved: the changes.
        written: their source code.
        faults: that are mended.
        given: on what both ran, where that was given, by the names of `parity.diagnose`.
    """

    reference: Opened
    suspect: Opened
    resolved: Resolved
    written: Written
    faults: tuple[Fault, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

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
                if self._agrees(made):
                    return made
        if self.anew and self.suspect.live is None:
            return self.reference.network
        if self.anew == COPY:
            return copy.deepcopy(self.reference.live)
        raise self._by_hand()

    @property
    def replaces(self) -> bool:
        """Whether the lines end with another model in the place of the suspect, since they cannot patch all of it."""
        return bool(self.anew) if not self.in_place else "suspect = parity.to_" in self.written.text

    @cached_property
    def text(self) -> str:
        """The source code, with what it begins and ends with: where it changes the suspect itself, that; else what can be changed, what is
        to be edited by hand, in words, and as the last resort lines that take the reference in the suspect's framework."""
        if self.in_place:
            return framed(self.written.text, self.suspect, self.reference, self.given)
        if self._is_description and self._description_agrees:
            lines = [_DESCRIBED, *(f"# {one}" for one in titles(self.resolved, self.suspect.network.recurrent))]
            again = "".join(f", {name}={name}" for name in self.given)
            lines += ["import parity", "", f"suspect = parity.diagnose(reference, suspect{again}).repaired()"]
            return framed("\n".join(lines), self.suspect, self.reference, self.given)
        patch, left = self._patch
        words = self._words(left, bool(patch))
        if not self.anew:
            return self.written.text if not self.written.whole else "\n".join([*words, ""])
        alone = "" if self.suspect.inside is None else f"\n{_LAYER_ALONE}"
        said, last = "\n".join(words), f"{_LAST_RESORT if words else _NO_PATCH}{alone}\n{self.anew}"
        text = gathered(f"{_IN_PLACE}\n{patch}", said, last) if patch else f"{said}\n\n{gathered(last)}"
        return framed(text, self.suspect, self.reference, self.given, anew=True)

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
            return self._by_numbers or self._agrees(self._run(self.written))
        except Exception:  # whatever a framework raises: these lines are not for this suspect
            return False

    @cached_property
    def anew(self) -> str:
        """Lines that take the reference in the framework of the suspect, which were run; "" where parity writes no such."""
        word = "anew" if self._patch[0] else "mended"
        return next((text for text in replacements(self.reference, self.suspect, word) if self._is_made(text)), "")

    @cached_property
    def _patch(self) -> tuple[str, Around]:
        """Lines that mend in place what can be, where they do not mend everything, and what is left; "" where nothing can be."""
        for part, left in () if self.in_place else parts(self.resolved, lambda one: self._said(one) is not None):
            said = self._said(part)
            if said is not None and (not part.around or self._leaves(said, left)):
                return said.text, left
        return "", self.resolved.around

    def _said(self, part: Resolved) -> Written | None:
        """The lines of a part of the repair; None where they do not make all of it, or make a model anew."""
        try:
            said = code_of(part, self.suspect, self.reference)
        except NO_LINES:
            return None
        return said if said.whole and "suspect = parity.to_" not in said.text else None

    def _leaves(self, said: Written, left: Around) -> bool:
        """Whether lines leave a suspect that is known to do nothing but what is left."""
        right = self.reference.network.recurrent
        faults = [one for one in self.faults if set(left) & set(repair_of(one, right))]
        try:
            return self._agrees(self._run(said), faults)
        except Exception:  # whatever a framework raises: these lines are not for this suspect
            return False

    def _words(self, left: Around, patched: bool) -> list[str]:
        """What is to be edited by hand, as comments."""
        engine = (self.suspect.engine or "").partition(":")[0]
        said = [line for one in left for line in in_words(one, engine).text.splitlines()]
        if not patched and not self.written.whole:
            said = [line for line in self.written.text.splitlines() if line.startswith("#")]
        elif patched and self.resolved.unsaid:
            said += [f"#     {line}" for line in self.resolved.own_code or self.resolved.unsaid]
        return [_BY_HAND, *said] if said else []

    @property
    def _ways(self) -> Iterator[Callable[[], Any]]:
        """How a mended suspect may be made, the way that changes least first."""
        if self.in_place:
            yield self._described if self._by_numbers else lambda: self._run(self.written)
        elif not (
            self.anew or self.resolved.unsaid or any(isinstance(one, CallRepair) for one in self.resolved.around)
        ):
            yield self._described
        if self.anew and self.suspect.live is not None:
            yield lambda: self._made_of(self.anew, None)

    def _agrees(self, made: Any, faults: Sequence[Fault] = ()) -> bool:
        return computes_the_same(self.reference, made, self.given, faults)

    def _is_made(self, text: str) -> bool:
        """Whether lines that make the suspect anew run."""
        with tempfile.TemporaryDirectory() as folder:
            path = file_of(self.suspect)
            try:
                self._made_of(text, None if path is None else Path(folder) / path.name)
            except Exception:  # whatever a framework raises: these lines are not for this suspect
                return False
        return True

    def _made_of(self, text: str, path: Path | None) -> Any:
        """What is called `suspect` after lines that take it from the reference alone."""
        names = {"reference": self._right, **({} if path is None else {"suspect": str(path)})}
        exec(compile(text, "<repair>", "exec"), names)
        return names["suspect"]

    @property
    def _is_description(self) -> bool:
        """Whether the suspect is neither live nor a file: something that was read."""
        return self.suspect.live is None and file_of(self.suspect) is None

    @property
    def _description_agrees(self) -> bool:
        with contextlib.suppress(*NO_LINES, RuntimeError):
            return not self.resolved.unsaid and self._agrees(self._described())
        return False

    @property
    def _by_numbers(self) -> bool:
        """Whether the suspect is a file of whose numbers alone something is wrong, or that holds nothing but numbers."""
        return self.suspect.live is None and (not self.resolved.around or self.suspect.engine == "torch")

    @property
    def _right(self) -> Any:
        return self.reference.path or self.reference.live or self.reference.network

    def _run(self, said: Written) -> Any:
        """What lines make of a copy of the suspect; the description of what they make of its file."""
        live = self.suspect.live is not None and self.suspect.engine is not None
        wrong = verbs(str(self.suspect.engine)).copied(self.suspect.live) if live else str(file_of(self.suspect))
        names = {"suspect": wrong, "reference": self._right}
        exec(compile(said.text if live else said.core, "<repair>", "exec"), names)
        if live:
            return names["suspect"]
        opened, layers = open_source(names["model"], partial=True), self.suspect.network.recurrent
        one_of_several = self.suspect.inside is not None and len(layers) == 1
        return (layer_named(opened, layers[0].name) if one_of_several else opened).network

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


def mending(
    reference: Opened, suspect: Opened, faults: Sequence[Fault], given: Mapping[str, Any] | None = None
) -> Mending | None:
    """How a suspect is mended; None where no fault was found.

    Args:
        reference, suspect: as they were opened.
        faults: that explain the suspect.
        given: on what both ran, where that was given, by the names of `parity.diagnose`.
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
    return Mending(reference, suspect, resolved, said, tuple(faults), given or {})


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
