"""What every engine returns for a recurrent layer, and where the same numbers stand in the others."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from parity.conventions import (
    MERGE_MODES,
    MergeMode,
    Value,
    keras_returns,
    onnx_returns,
    torch_returns,
)
from parity.errors import ParityError
from parity.network import Network
from parity.recurrent import DIRECTIONS, RecurrentSpec

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Explained:
    """One value of Keras's return, and where it is in the other frameworks.

    Args:
        name: what it is.
        shape: with numbers where they are known.
        meaning: in a sentence.
        torch: an expression over `output`, `h_n` and `c_n` of the batch-first torch layer.
        onnx: an expression over `Y`, `Y_h` and `Y_c` as NumPy arrays.
    """

    name: str
    shape: Shape
    meaning: str
    torch: str
    onnx: str


@dataclass(frozen=True)
class Returns:
    """What a recurrent layer returns in each framework.

    Args:
        layer: the Keras layer in words.
        keras: Keras's values in order, each with its equivalents.
        torch: torch's values by name and shape, from `(output, (h_n, c_n))`.
        onnx: ONNX's values by name and shape.
        notes: what people trip over here.
    """

    layer: str
    keras: tuple[Explained, ...]
    torch: tuple[tuple[str, Shape], ...]
    onnx: tuple[tuple[str, Shape], ...]
    notes: tuple[str, ...]

    @property
    def shapes(self) -> str:
        """Keras's return as one would see it: a shape, or a list of them.

        Example:
            >>> explain_layer(RecurrentSpec("lstm", 20, 64), batch=32, time=10).shapes
            '(32, 64)'
        """
        shapes = [shape_text(value.shape) for value in self.keras]
        return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"

    def __str__(self) -> str:
        count = len(self.keras)
        lines = [f"{self.layer} returns {count} value{'s' if count > 1 else ''}: {self.shapes}", ""]
        for index, value in enumerate(self.keras):
            lines += [
                f"  [{index}] {value.name} {shape_text(value.shape)}: {value.meaning}",
                f"      torch  {value.torch}",
                f"      onnx   {value.onnx}",
            ]
        for name, rows in (("torch, batch_first=True", self.torch), ("onnx", self.onnx)):
            lines += ["", f"{name} returns " + ", ".join(f"{label} {shape_text(shape)}" for label, shape in rows)]
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{index}</td>"
            + "".join(
                f"<td>{html.escape(text)}</td>"
                for text in (value.name, shape_text(value.shape), value.meaning, value.torch, value.onnx)
            )
            + "</tr>"
            for index, value in enumerate(self.keras)
        )
        head = "".join(f"<th>{title}</th>" for title in ("", "value", "shape", "meaning", "in torch", "in ONNX"))
        caption = f"{html.escape(self.layer)} returns {html.escape(self.shapes)}"
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def explain_layer(
    spec: RecurrentSpec,
    return_sequences: bool = False,
    return_state: bool = False,
    merge_mode: MergeMode | None = "concat",
    batch: int | str = "batch",
    time: int | str = "time",
) -> Returns:
    """Explain a layer by its sizes and options.

    Args:
        spec: kind, sizes, and one or two directions.
        return_sequences, return_state, merge_mode: the options of the Keras layer.
        batch, time: numbers, or names to print in their place.

    Raises:
        ParityError: an unknown merge mode.

    Example:
        >>> returns = explain_layer(RecurrentSpec("lstm", 20, 64), True, True, batch=32, time=10)
        >>> returns.shapes
        '[(32, 10, 64), (32, 64), (32, 64)]'
        >>> returns.keras[1].torch
        'h_n[0]'
    """
    if merge_mode not in MERGE_MODES:
        raise ParityError("unknown merge_mode", expected=", ".join(map(repr, MERGE_MODES)), got=repr(merge_mode))
    bidirectional = len(spec.directions) == 2
    sizes: dict[str, int | str] = {**spec.sizes, "layer": 1, "batch": batch, "time": time}
    values = keras_returns(spec.kind, bidirectional, return_sequences, return_state, merge_mode)
    explained = tuple(
        Explained(v.name, v.shape(sizes), _meaning(v, bidirectional), _torch(v, spec), _onnx(v, spec)) for v in values
    )
    return Returns(
        _in_words(spec, return_sequences, return_state, merge_mode),
        explained,
        _shapes(torch_returns(spec.kind), sizes),
        _shapes(onnx_returns(spec.kind), sizes),
        tuple(_notes(spec, return_sequences, return_state)),
    )


def explain_network(network: Network, batch: int | str = "batch", time: int | str = "time") -> Iterator[Returns]:
    """Explain every recurrent layer of a network, as the Keras layer that it is or would be.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> [returns.shapes for returns in explain_network(read(torch.nn.GRU(20, 64)))]
        ['[(batch, time, 64), (batch, 64)]']
    """
    for layer in network.recurrent:
        # Outside Keras a recurrent layer always hands over its states.
        state = layer.return_state or network.origin != "keras"
        yield explain_layer(layer.spec, layer.return_sequences, state, batch=batch, time=time)


def merge_mode_named(name: str) -> MergeMode | None:
    """A merge mode by the word a user types, "none" being None.

    Raises:
        ParityError: an unknown word.

    Example:
        >>> merge_mode_named("none") is None, merge_mode_named("sum")
        (True, 'sum')
    """
    modes = {str(mode).lower(): mode for mode in MERGE_MODES}
    if name.lower() not in modes:
        raise ParityError("unknown merge mode", expected=", ".join(modes), got=name)
    return modes[name.lower()]


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as Python prints it, names unquoted.

    Example:
        >>> shape_text(("batch", 10, 64))
        '(batch, 10, 64)'
    """
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _shapes(values: Sequence[Value], sizes: Mapping[str, int | str]) -> tuple[tuple[str, Shape], ...]:
    return tuple((value.name, value.shape(sizes)) for value in values)


def _in_words(spec: RecurrentSpec, return_sequences: bool, return_state: bool, merge_mode: MergeMode | None) -> str:
    flags = "".join(
        f", {name}=True" for name, on in (("return_sequences", return_sequences), ("return_state", return_state)) if on
    )
    layer = f"{spec.kind.upper()}({spec.hidden_size}{flags})"
    return f"Bidirectional({layer}, merge_mode={merge_mode!r})" if len(spec.directions) == 2 else layer


_QUANTITIES = {
    "sequence": "h of every step",
    "h": "h after the last step",
    "c": "c (the cell state) after the last step",
}
_MERGED = {"sum": "added", "mul": "multiplied", "ave": "averaged"}


def _meaning(value: Value, bidirectional: bool) -> str:
    text = _QUANTITIES[value.quantity]
    if not bidirectional:
        return text
    if value.select in DIRECTIONS:
        last = (
            ""
            if value.quantity == "sequence" or value.select == "forward"
            else ", which is the first step of the input"
        )
        return f"{value.select} {text}{last}"
    how = _MERGED.get(value.select, "side by side")
    ends = "" if value.quantity == "sequence" else " each processes: input step T-1 forward, step 0 backward"
    return f"{text}{ends}, both directions {how}"


_TORCH_PIECES = {"sequence": "output[..., {start}:{stop}]", "h": "h_n[{index}]", "c": "c_n[{index}]"}
_ONNX_PIECES = {"sequence": "Y[:, {index}].transpose(1, 0, 2)", "h": "Y_h[{index}]", "c": "Y_c[{index}]"}


def _torch(value: Value, spec: RecurrentSpec) -> str:
    if value.quantity == "sequence" and len(spec.directions) * spec.hidden_size == _width(value, spec):
        return "output"
    return _expression(value, spec, _TORCH_PIECES, "torch.cat([{}, {}], dim=-1)")


def _onnx(value: Value, spec: RecurrentSpec) -> str:
    return _expression(value, spec, _ONNX_PIECES, "np.concatenate([{}, {}], axis=-1)")


def _width(value: Value, spec: RecurrentSpec) -> int:
    return spec.output_size if value.select == "all" else spec.hidden_size


def _expression(value: Value, spec: RecurrentSpec, pieces: Mapping[str, str], joined: str) -> str:
    units = spec.hidden_size
    parts = [
        pieces[value.quantity].format(index=i, start=i * units, stop=(i + 1) * units)
        for i in range(len(spec.directions))
    ]
    if value.select in DIRECTIONS:
        return parts[DIRECTIONS.index(value.select)]
    if len(parts) == 1:
        return parts[0]
    forms = {"all": joined, "sum": "{} + {}", "mul": "{} * {}", "ave": "({} + {}) / 2"}
    return forms[value.select].format(*parts)


def _notes(spec: RecurrentSpec, return_sequences: bool, return_state: bool) -> list[str]:
    bidirectional = len(spec.directions) == 2
    notes = []
    if return_state and not bidirectional:
        where = "the last step of the first value" if return_sequences else "the first value"
        notes.append(
            f"state_h equals {where}" + ("; state_c is never part of the output." if "c" in spec.states else ".")
        )
    if bidirectional:
        notes.append(
            "The backward direction ends at step 0: its final h is its half of the output at [:, 0], not at [:, -1]."
        )
        if return_state:
            notes.append(
                "Keras lists the states direction by direction; torch stacks h_n and c_n with one row per direction."
            )
    return notes
