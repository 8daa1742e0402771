"""Recurrent layers that torch does not have, as classes a person can read: one step, and a loop around it.

The equations are those of `parity.reference`; gates stand in torch's order, from `parity.layouts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

import numpy as np

from parity.cell import Cell, peculiarities, plain_cell
from parity.functions import Function
from parity.graph.code import prose
from parity.graph.torch_code.elementwise import activated
from parity.graph.torch_code.expressions import Expr, Level, binary, method
from parity.graph.torch_code.formatting import formatted
from parity.graph.torch_code.names import class_name
from parity.graph.torch_code.writer import Writer
from parity.layouts import LAYOUTS, PEEPHOLES, SLOTS, STATES, Kind
from parity.network import Bidirectional, Recurrent

_CLASS = '''class {name}(nn.Module):
    """{what}

    It takes and returns what a batch-first nn.{native} of one layer does{masks}.
    """

    def __init__(self, input_size: int, hidden_size: int{more}) -> None:
        super().__init__()
        self.hidden_size = hidden_size
{parameters}

    def step(self, {step_arguments}) -> {step_result}:
        """{states} after a step; x is what the input adds to the gates."""
{step}

    def forward(
        self,
        x: Tensor,
        {argument}: {state} | None = None,{mask_argument}
    ) -> tuple[Tensor, {state}]:
{start}
        outputs = []
        for {loop} in {steps}:
{body}
            outputs.append({output})
        return torch.stack(outputs, dim=1), {result}
'''


@dataclass(frozen=True)
class _Options:
    """What the class of a layer depends on."""

    kind: Kind
    cell: Cell
    bias: bool
    peepholes: bool
    projected: bool
    masked: bool
    double: bool

    @property
    def gates(self) -> tuple[str, ...]:
        return LAYOUTS["torch", self.kind].gates

    @property
    def states(self) -> tuple[str, ...]:
        return STATES[self.kind]


def cell_class(w: Writer, layer: Recurrent) -> str:
    """The name of a class that computes one direction of a layer; its text goes to `w.classes`."""
    weights = layer.weights[0]
    masked = any(
        isinstance(node.operation, (Recurrent, Bidirectional)) and len(node.inputs) > 1 and node.inputs[1] is not None
        for node in w.graph.nodes
    )
    options = _Options(
        layer.spec.kind,
        layer.cells[0],
        layer.has_bias,
        weights.held("peepholes") is not None,
        bool(layer.spec.projection_size),
        masked,
        w.float_type == np.float64,
    )
    if options not in w.class_keys:
        name = _name(options)
        number = 2
        while name in w.classes:
            name, number = f"{_name(options)}{number}", number + 1
        w.class_keys[options] = name
        w.classes[name] = _text(name, options)
    return w.class_keys[options]


def _name(options: _Options) -> str:
    words = []
    usual = plain_cell(options.kind)
    if options.kind == "gru" and not options.cell.reset_after:
        words.append("ResetBefore")
    odd = [a for a, b in zip(options.cell.functions, usual.functions, strict=True) if a != b]
    words += [class_name(odd[0].name)] if odd else []
    words += ["Peephole"] if options.peepholes else []
    words += ["Projected"] if options.projected else []
    words += ["Clipped"] if options.cell.clip is not None else []
    words += ["Coupled"] if options.cell.input_forget else []
    return f"{''.join(words[:2]) or 'Looped'}{options.kind.upper()}"


def _text(name: str, options: _Options) -> str:
    states = options.states
    one = states[0]
    two = len(states) == 2
    state = "tuple[Tensor, Tensor]" if two else "Tensor"
    article = "An" if options.kind in ("lstm", "rnn") else "A"
    return _CLASS.format(
        name=name,
        what="\n    ".join(wrap(f"{article} {options.kind.upper()} {_peculiarity(options)}.", 80)),
        native=options.kind.upper(),
        masks=", and skips the steps\n    that mask (batch, time) leaves out: they keep the state and give zeros"
        if options.masked
        else "",
        more=", proj_size: int" if options.projected else "",
        parameters=_parameters(options),
        step_arguments=", ".join(f"{argument}: Tensor" for argument in ("x", *states)),
        step_result=state,
        states=", ".join(states),
        step="\n".join(line for text in _step(options) for line in formatted("", text, 8)),
        argument="state" if two else one,
        state=state,
        mask_argument="\n        mask: Tensor | None = None," if options.masked else "",
        start=_start(options),
        loop="t, step" if options.masked else "step",
        steps=("enumerate({})" if options.masked else "{}").format("inputs.unbind(1)"),
        body=_loop(options),
        output=one if not options.masked else "output",
        result="(h[None], c[None])" if two else f"{one}[None]",
    )


def _peculiarity(options: _Options) -> str:
    """What sets it apart from torch's own, in words."""
    words = [*peculiarities(options.kind, options.cell)]
    words += ["peepholes"] if options.peepholes else []
    words += ["a projection of h"] if options.projected else []
    return prose(f"with {', '.join(words)}", 400) if words else "in a loop"


def _parameters(options: _Options) -> str:
    rows = f"{len(options.gates)} * hidden_size" if len(options.gates) > 1 else "hidden_size"
    shapes = {
        "weight_ih": f"{rows}, input_size",
        "weight_hh": f"{rows}, {'proj_size' if options.projected else 'hidden_size'}",
        **({"bias_ih": rows, "bias_hh": rows} if options.bias else {}),
        **({"weight_hr": "proj_size, hidden_size"} if options.projected else {}),
        **({"weight_p": f"{len(PEEPHOLES[options.kind])}, hidden_size"} if options.peepholes else {}),
    }
    lines = [f"        self.{name} = nn.Parameter(torch.empty({shape}))" for name, shape in shapes.items()]
    if options.projected:
        lines.insert(0, "        self.proj_size = proj_size")
    return "\n".join(lines)


def _start(options: _Options) -> str:
    size = "self.proj_size" if options.projected else "self.hidden_size"
    bias = ", self.bias_ih" if options.bias else ""
    lines = [f"        inputs = F.linear(x, self.weight_ih{bias})"]
    if len(options.states) == 1:
        lines.append(f"        h = x.new_zeros(len(x), {size}) if h is None else h[0]")
    else:
        lines += ["        if state is None:"]
        if options.projected:
            lines += [
                f"            h = x.new_zeros(len(x), {size})",
                "            c = x.new_zeros(len(x), self.hidden_size)",
            ]
        else:
            lines += ["            h = c = x.new_zeros(len(x), self.hidden_size)"]
        lines += ["        else:", "            h, c = state[0][0], state[1][0]"]
    return "\n".join(lines)


def _loop(options: _Options) -> str:
    states = ", ".join(options.states)
    space = " " * 12
    if not options.masked:
        return f"{space}{states} = self.step(step, {states})"
    new = ", ".join(f"new_{state}" for state in options.states)
    lines = [
        f"{new} = self.step(step, {states})",
        "if mask is None:",
        f"    {states}, output = {new}, new_h",
        "else:",
        "    valid = mask[:, t, None]",
        "    output = torch.where(valid, new_h, 0.0)",
        *(f"    {state} = torch.where(valid, new_{state}, {state})" for state in options.states),
    ]
    return "\n".join(f"{space}{line}" for line in lines)


def _step(options: _Options) -> list[str]:
    return {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[options.kind](options)


def _applied(options: _Options, slot: str, text: str) -> Expr:
    """A function of the cell on a variable or a sum; only those of the gates and of the candidate are clipped."""
    function: Function = options.cell.functions[SLOTS[options.kind].index(slot)]
    value = Expr(text, Level.ATOM if text.isidentifier() else Level.SUM)
    if options.cell.clip is not None and slot != "output":
        value = method(value, "clamp", repr(-float(options.cell.clip)), repr(float(options.cell.clip)))
    return activated(function, value, options.double)


def _recurrence(options: _Options, h: str = "h") -> str:
    return f"F.linear({h}, self.weight_hh{', self.bias_hh' if options.bias else ''})"


def _lstm(options: _Options) -> list[str]:
    def seen(gate: str) -> str:
        if not options.peepholes:
            return gate
        return f"{gate} + self.weight_p[{PEEPHOLES['lstm'].index(gate)}] * c"

    coupled = options.cell.input_forget
    names = ["_" if gate == "f" and coupled else gate for gate in options.gates]
    candidate = _applied(options, "candidate", "g").text
    return [
        f"gates = x + {_recurrence(options)}",
        f"{', '.join(names)} = gates.chunk({len(names)}, dim=-1)",
        f"i = {_applied(options, 'gate', seen('i')).text}",
        f"f = {'1 - i' if coupled else _applied(options, 'gate', seen('f')).text}",
        *([] if candidate == "g" else [f"g = {candidate}"]),
        "c = f * c + i * g",
        f"o = {_applied(options, 'gate', seen('o')).text}",
        f"h = {binary('*', Expr('o'), _applied(options, 'output', 'c')).text}",
        f"return {'F.linear(h, self.weight_hr)' if options.projected else 'h'}, c",
    ]


def _gru(options: _Options) -> list[str]:
    gates, count = options.gates, len(options.gates)
    lines = [f"{', '.join(f'x_{gate}' for gate in gates)} = x.chunk({count}, dim=-1)"]
    if options.cell.reset_after:
        lines += [
            f"past = {_recurrence(options)}",
            f"{', '.join(f'h_{gate}' for gate in gates)} = past.chunk({count}, dim=-1)",
        ]
        past = {gate: f"h_{gate}" for gate in gates} | {"n": "r * h_n"}
    else:
        lines += [f"{', '.join(f'w_{gate}' for gate in gates)} = self.weight_hh.chunk({count})"]
        lines += [f"{', '.join(f'b_{gate}' for gate in gates)} = self.bias_hh.chunk({count})"] if options.bias else []
        past = {
            gate: f"F.linear({'r * h' if gate == 'n' else 'h'}, w_{gate}{f', b_{gate}' if options.bias else ''})"
            for gate in gates
        }
    for gate in ("r", "z", "n"):
        slot = "candidate" if gate == "n" else "gate"
        lines.append(f"{gate} = {_applied(options, slot, f'x_{gate} + {past[gate]}').text}")
    return [*lines, "return z * h + (1 - z) * n"]


def _rnn(options: _Options) -> list[str]:
    return [f"return {_applied(options, 'candidate', f'x + {_recurrence(options)}').text}"]


__all__ = ["cell_class"]
