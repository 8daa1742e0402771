"""One direction of a recurrent layer as a Scan over plain operators, for functions that the recurrent operators do not know.

The equations are those of `parity.reference`, gate by gate, under its letters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from parity.frameworks.onnx.functions import clipped, composed_function
from parity.frameworks.onnx.nodes import BOOL, FLOAT, INT64, Assembly
from parity.layouts import GATES, LAYOUTS
from parity.network import Recurrent

OPSET = 9
"""Scan has had its present meaning since opset 9."""


def add_scan(
    assembly: Assembly,
    part: Recurrent,
    names: Mapping[str, str],
    x: str,
    lengths: str | None,
    initial: Sequence[str] | None,
    node: str,
) -> tuple[str, ...]:
    """Adds a layer of one direction.

    Args:
        assembly: of the graph.
        part: of one direction.
        names: of the initializers, by the native operator's names.
        x: (time, batch, input).
        lengths: (batch,) how many of the first steps count; None for all.
        initial: (1, batch, features) each; None for zeros.
        node: the name of the Scan.

    Returns:
        The sequence, (time, 1, batch, state), and the final states, (1, batch, features).
    """
    assembly.needs(OPSET, "a function that the ONNX operators do not have", f"layer '{part.name}'")
    return _Scan(assembly, part, names).add(x, lengths, initial, node)


class _Scan:
    def __init__(self, assembly: Assembly, part: Recurrent, names: Mapping[str, str]) -> None:
        self._a, self._part, self._spec = assembly, part, part.spec
        self._name, self._cell = part.name, part.cells[0]
        self._gates = LAYOUTS["onnx", part.spec.kind].gates
        kernels = self._by_letter(names["W"], "W")
        self._kernel, self._recurrent = kernels, self._by_letter(names["R"], "R")
        sources = self._sources(names["B"]) if "B" in names else ({}, {})
        self._bias_input, self._bias_recurrent = sources
        self._peepholes = self._seen(names["P"]) if "P" in names else {}
        self._projection = None
        if "projection" in names:
            flat = assembly.picked(names["projection"], 0, 0, f"{self._name}.projection.matrix")
            self._projection = assembly.node("Transpose", [flat], f"{self._name}.projection.transposed", perm=[1, 0])

    def add(self, x: str, lengths: str | None, initial: Sequence[str] | None, node: str) -> tuple[str, ...]:
        """Adds the Scan and what it needs; see `add_scan`."""
        a, name = self._a, self._name
        states = self._starts(x, initial)
        inputs = [self._affine(x, self._kernel[g], self._bias_input.get(g), f"{name}.{g}.input") for g in self._gates]
        if lengths is not None:
            steps = a.counted(x, 0, f"{name}.steps")
            row = a.node("Less", [steps, a.cast(lengths, INT64, f"{name}.lengths")], f"{name}.valid.row")
            inputs.append(a.unsqueezed(row, 2, f"{name}.valid"))
        backward = int(self._spec.directions == ("backward",))
        names = [*(f"{name}.final_{state}" for state in self._spec.states), f"{name}.steps.h"]
        found = a.nodes_of(
            "Scan",
            [*states, *inputs],
            names,
            node,
            body=self._body(lengths is not None),
            num_scan_inputs=len(inputs),
            scan_input_directions=[backward] * len(inputs),
            scan_output_directions=[backward],
        )
        *final, sequence = found
        return (
            a.unsqueezed(sequence, 1, f"{name}.Y"),
            *(a.unsqueezed(value, 0, f"{name}.Y_{s}") for s, value in zip(self._spec.states, final, strict=True)),
        )

    def _starts(self, x: str, initial: Sequence[str] | None) -> list[str]:
        a, spec = self._a, self._spec
        if initial is not None:
            return [
                a.picked(value, 0, 0, f"{self._name}.start_{s}") for s, value in zip(spec.states, initial, strict=True)
            ]
        batch = a.length(x, 1, f"{self._name}.batch")
        starts = []
        for state in spec.states:
            width = a.integers(f"{self._name}.{state}.width", spec.state_shape(state, 1)[-1])
            shape = a.node("Concat", [batch, width], f"{self._name}.{state}.shape", axis=0)
            starts.append(a.node("ConstantOfShape", [shape], f"{self._name}.start_{state}"))
        return starts

    def _by_letter(self, packed: str, key: str) -> dict[str, str]:
        """A packed matrix, (1, gates*hidden, columns), as one of (columns, hidden) for every gate."""
        a = self._a
        shape = a.integers(f"{self._name}.{key}.shape", len(self._gates), self._spec.hidden_size, -1)
        by_gate = a.node("Reshape", [packed, shape], f"{self._name}.{key}.gates")
        turned = a.node("Transpose", [by_gate], f"{self._name}.{key}.columns", perm=[0, 2, 1])
        return {g: a.picked(turned, 0, at, f"{self._name}.{key}_{g}") for at, g in enumerate(self._gates)}

    def _sources(self, packed: str) -> tuple[dict[str, str], dict[str, str]]:
        """The packed biases, (1, sources*gates*hidden), of the inputs and of the recurrence, gate by gate."""
        a = self._a
        shape = a.integers(f"{self._name}.B.shape", 2 * len(self._gates), self._spec.hidden_size)
        rows = a.node("Reshape", [packed, shape], f"{self._name}.B.gates")
        first, second = (
            {g: a.picked(rows, 0, start + at, f"{self._name}.{key}_{g}") for at, g in enumerate(self._gates)}
            for start, key in ((0, "Wb"), (len(self._gates), "Rb"))
        )
        return first, second

    def _seen(self, packed: str) -> dict[str, str]:
        a, layout = self._a, LAYOUTS["onnx", self._spec.kind]
        letters = next(layout.letters(tensor) for tensor in layout.tensors if tensor.name == "P")
        shape = a.integers(f"{self._name}.P.shape", len(letters), self._spec.hidden_size)
        rows = a.node("Reshape", [packed, shape], f"{self._name}.P.gates")
        return {g: a.picked(rows, 0, at, f"{self._name}.P_{g}") for at, g in enumerate(letters)}

    def _affine(self, x: str, matrix: str, bias: str | None, name: str) -> str:
        product = self._a.node("MatMul", [x, matrix], f"{name}.product")
        return product if bias is None else self._a.node("Add", [product, bias], f"{name}.sum")

    def _body(self, masked: bool) -> onnx.GraphProto:
        """The graph of one step: states and what the gates get from the input in; states and the shown h out."""
        a, name, spec = self._a, f"{self._name}.step", self._spec
        before = [a.name(f"{name}.{state}") for state in spec.states]
        gates = {g: a.name(f"{name}.{g}.input") for g in self._gates}
        valid = [a.name(f"{name}.valid")] if masked else []
        with a.body() as nodes:
            after = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[spec.kind](gates, before)
            shown = a.node("Identity", [after[0]], f"{name}.shown")
            if masked:
                zero = a.number(f"{name}.zero", 0.0)
                shown = a.node("Where", [valid[0], after[0], zero], f"{name}.shown_or_zero")
                after = [
                    a.node("Where", [valid[0], new, old], f"{name}.next")
                    for new, old in zip(after, before, strict=True)
                ]
            outputs = [
                a.node("Identity", [value], f"{name}.after_{s}") for s, value in zip(spec.states, after, strict=True)
            ]
        info = helper.make_tensor_value_info
        rows = [info(n, FLOAT, ["batch", spec.state_shape(s, 1)[-1]]) for s, n in zip(spec.states, before, strict=True)]
        inputs = [*rows, *(info(n, FLOAT, ["batch", spec.hidden_size]) for n in gates.values())]
        inputs += [info(n, BOOL, ["batch", 1]) for n in valid]
        given = [
            info(n, FLOAT, ["batch", spec.state_shape(s, 1)[-1]]) for s, n in zip(spec.states, outputs, strict=True)
        ]
        return helper.make_graph(nodes, name, inputs, [*given, info(shown, FLOAT, ["batch", spec.state_size])])

    def _op(self, op: str, *inputs: str, name: str) -> str:
        return self._a.node(op, inputs, f"{self._name}.step.{name}")

    def _recurred(self, h: str, gate: str) -> str:
        return self._affine(h, self._recurrent[gate], self._bias_recurrent.get(gate), f"{self._name}.step.{gate}.state")

    def _apply(self, slot: str, value: str, name: str) -> str:
        label = f"{self._name}.step.{name}"
        if self._cell.clip is not None and slot != "output":
            value = clipped(self._a, value, self._cell.clip, f"{label}.clip")
        return composed_function(self._a, self._cell.function(self._spec.kind, slot), value, label)

    def _less_one(self, value: str, name: str) -> str:
        one = self._a.number(f"{self._name}.step.{name}.one", 1.0)
        return self._op("Sub", one, value, name=name)

    def _seeing(self, z: str, gate: str, c: str) -> str:
        if gate not in self._peepholes:
            return z
        return self._op(
            "Add", z, self._op("Mul", self._peepholes[gate], c, name=f"{gate}.peephole"), name=f"{gate}.seeing"
        )

    def _lstm(self, x: Mapping[str, str], states: Sequence[str]) -> list[str]:
        h, c = states
        z = {g: self._op("Add", x[g], self._recurred(h, g), name=f"{g}.all") for g in GATES["lstm"]}
        i = self._apply("gate", self._seeing(z["i"], "i", c), "i")
        forget = (
            self._less_one(i, "f")
            if self._cell.input_forget
            else self._apply("gate", self._seeing(z["f"], "f", c), "f")
        )
        g = self._apply("candidate", z["g"], "g")
        kept, added = self._op("Mul", forget, c, name="kept"), self._op("Mul", i, g, name="added")
        new = self._op("Add", kept, added, name="c.new")
        o = self._apply("gate", self._seeing(z["o"], "o", new), "o")
        shown = self._op("Mul", o, self._apply("output", new, "c.shown"), name="h.new")
        if self._projection is not None:
            shown = self._op("MatMul", shown, self._projection, name="h.projected")
        return [shown, new]

    def _gru(self, x: Mapping[str, str], states: Sequence[str]) -> list[str]:
        (h,) = states
        r, z = (
            self._apply("gate", self._op("Add", x[g], self._recurred(h, g), name=f"{g}.all"), g) for g in ("r", "z")
        )
        if self._cell.reset_after:
            part = self._op("Mul", r, self._recurred(h, "n"), name="reset")
        else:
            part = self._recurred(self._op("Mul", r, h, name="reset"), "n")
        n = self._apply("candidate", self._op("Add", x["n"], part, name="n.all"), "n")
        kept, added = self._op("Mul", z, h, name="kept"), self._op("Mul", self._less_one(z, "open"), n, name="added")
        return [self._op("Add", kept, added, name="h.new")]

    def _rnn(self, x: Mapping[str, str], states: Sequence[str]) -> list[str]:
        return [self._apply("candidate", self._op("Add", x["n"], self._recurred(states[0], "n"), name="n.all"), "n")]
