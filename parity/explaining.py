"""Explains recurrent layers: what every engine returns for them, and where the same numbers stand in the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from parity.conventions import (
    MERGE_MODES,
    PADDING,
    MergeMode,
    Value,
    keras_returns,
    onnx_returns,
    torch_cell_returns,
    torch_returns,
)
from parity.correspondence import (
    MERGED,
    ONNX_JOIN,
    QUANTITIES,
    TORCH_JOIN,
    Call,
    Stack,
    meaning,
    merged,
    one_layer,
    onnx_call,
    onnx_expression,
    torch_call,
    torch_expression,
)
from parity.errors import ParityError, Problem
from parity.layouts import Kind
from parity.network import Bidirectional, Dropout, Masking, Network, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec
from parity.returns import Explained, Returned, Returns, Way


def explain_layer(
    spec: RecurrentSpec | Sequence[RecurrentSpec],
    return_sequences: bool = False,
    return_state: bool = False,
    merge_mode: MergeMode | None = "concat",
    batch: int | str = "batch",
    time: int | str = "time",
    call: Call = "batched",
) -> Returns:
    """Explain a layer, or a stack of layers, by its sizes and options.

    Args:
        spec: kind, sizes, and one or two directions; the backward direction alone is Keras's `go_backwards=True`. Several are a stack:
            `keras.layers.RNN` of a list of cells, or stacked `Bidirectional` layers; torch's `num_layers` where they are alike.
        return_sequences, return_state, merge_mode: the options of the Keras layer.
        batch, time: numbers, or names to print in their place.
        call: how the torch layer is called; "packed" gives Keras a mask and ONNX lengths, "unbatched" takes the first sample.

    Raises:
        ParityError: an unknown merge mode, or options that no framework has together; all problems at once.

    Example:
        >>> returns = explain_layer(RecurrentSpec("lstm", 20, 64), True, True, batch=32, time=10)
        >>> returns.shapes
        '[(32, 10, 64), (32, 64), (32, 64)]'
        >>> returns.keras[1].torch
        'h_n[0]'
        >>> backwards = RecurrentSpec("gru", 20, 64, ("backward",))
        >>> explain_layer(backwards, return_sequences=True).keras[0].torch
        'output.flip(1)'
    """
    stack = Stack((spec,) if isinstance(spec, RecurrentSpec) else tuple(spec), isinstance(spec, RecurrentSpec), call)
    if call == "unbatched" and isinstance(batch, str):
        batch = 1
    problems = [*_problems(stack, return_sequences, merge_mode, batch)]
    if problems:
        raise ParityError(problems)
    sizes: dict[str, int | str] = {"layer": len(stack.specs), "batch": batch, "time": time, "packed": "valid steps"}
    values = stack.keras(return_sequences, return_state, merge_mode)
    explained = tuple(
        Explained(
            value.name,
            value.shape({**stack.specs[value.layer].sizes, **sizes}),
            meaning(value, stack),
            torch_expression(value, stack),
            onnx_expression(value, stack),
            stack.group(value),
        )
        for value in values
    )
    return Returns(
        stack.words(return_sequences, return_state, merge_mode),
        explained,
        _in_torch(stack, sizes, call),
        _in_onnx(stack, sizes),
        (*_notes(stack, return_sequences, return_state), *_converted(stack, return_sequences, merge_mode)),
        tuple(torch_call(stack)) if stack.alike else (),
        tuple(onnx_call(stack)) if stack.alike and stack.in_onnx else (),
        stack.rows,
        tuple(_ways(stack, sizes)),
        () if call == "single step" else PADDING,
    )


def explain_network(network: Network, batch: int | str = "batch", time: int | str = "time") -> Iterator[Returns]:
    """Explain every recurrent layer of a network, as the Keras layer that it is or would be; a bare stack as a whole.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> [returns.shapes for returns in explain_network(read(torch.nn.GRU(20, 64, num_layers=2)))]
        ['[(batch, time, 64), [(batch, 64)], [(batch, 64)]]']
    """
    stack = [layer for layer in network.layers if not isinstance(layer, (Dropout, Masking))]
    apart = network.problems or not network.bare  # of a partial network nobody knows how its layers are connected
    whole = not apart and len(stack) > 1 and all(isinstance(layer, Recurrent) for layer in stack)
    if whole and len({len(layer.spec.directions) for layer in network.recurrent}) == 1:
        layers = network.recurrent
        state = network.origin != "keras" or any(layer.return_state for layer in layers)
        specs = [layer.spec for layer in layers]
        yield explain_layer(specs, layers[-1].return_sequences, state, layers[-1].merge_mode, batch, time)
        return
    for layer in network.layers:
        if isinstance(layer, Bidirectional):
            yield explain_unlike(layer, batch, time)
        elif isinstance(layer, Recurrent):
            # Outside Keras a recurrent layer always hands over its states.
            state = layer.return_state or layer.single_step or network.origin != "keras"
            call: Call = "single step" if layer.single_step else "batched"
            steps = layer.return_sequences and not layer.single_step
            yield explain_layer(layer.spec, steps, state, layer.merge_mode, batch, time, call)


def explain_unlike(layer: Bidirectional, batch: int | str = "batch", time: int | str = "time") -> Returns:
    """Explain a `Bidirectional` whose two directions are unlike: two layers, or two stacks, in torch and ONNX.

    The expressions are over lists: output and Y have an entry for each direction, h_n, c_n, Y_h and Y_c for each layer.
    """
    sizes: dict[str, int | str] = {"batch": batch, "time": time}
    ends = [stack[-1].given[0] for stack in layer.stacks]
    lasts = (len(layer.forward) - 1, len(layer.recurrent) - 1)
    quantity, merge = QUANTITIES[ends[0].quantity], layer.merge_mode
    torch, onnx = [], []
    for side, (value, last) in enumerate(zip(ends, lasts, strict=True)):
        steps = value.quantity == "sequence"
        turned, order = (".flip(1)", "::-1") if value.reverse else ("", ":")
        torch.append(f"output[{side}]{turned}" if steps else f"h_n[{last}][0]")
        onnx.append(f"Y[{side}][{order}, 0].transpose(1, 0, 2)" if steps else f"Y_h[{last}][0]")
    shapes = [end.shape({**stack[-1].spec.sizes, **sizes}) for end, stack in zip(ends, layer.stacks, strict=True)]
    if merge is None:
        outputs = [
            Explained(f"{side}_output", shapes[index], f"{side} {quantity}", torch[index], onnx[index])
            for index, side in enumerate(DIRECTIONS)
        ]
    else:
        shape = (*shapes[0][:-1], layer.output_size)
        both, elsewhere = merged(torch, merge, TORCH_JOIN), merged(onnx, merge, ONNX_JOIN)
        outputs = [Explained("output", shape, f"{quantity}, both directions {MERGED[merge]}", both, elsewhere)]
    sides = [side for side, stack in zip(DIRECTIONS, layer.stacks, strict=True) for _ in stack]
    states = [
        Explained(
            f"{side}_{value.name}",
            value.shape({**inner.spec.sizes, **sizes}),
            f"{side} {QUANTITIES[value.quantity]}",
            f"{value.quantity}_n[{index}][0]",
            f"Y_{value.quantity}[{index}][0]",
        )
        for index, (side, inner) in enumerate(zip(sides, layer.recurrent, strict=True))
        for value in keras_returns(inner.spec.kind, return_state=True)[1:]
    ]
    words = [" and ".join(one_layer(inner.spec, ()) for inner in stack) for stack in layer.stacks]
    return Returns(
        f"Bidirectional({words[0]}, backward_layer={words[1]}, merge_mode={merge!r})",
        (*outputs, *(states if layer.return_state else ())),
        (),
        (),
        (
            f"In torch and ONNX these are {len(sides)} layers: output and Y stand for a list with the sequence of each direction, "
            "aligned with the input; h_n, c_n, Y_h and Y_c for lists with the states of each layer, the forward ones first.",
        ),
    )


def specs_of(
    kind: Kind,
    features: int,
    units: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    go_backwards: bool = False,
    projection: int | None = None,
) -> RecurrentSpec | tuple[RecurrentSpec, ...]:
    """A layer as `explain_layer` takes it, or a stack of like ones.

    Raises:
        ParityError: two directions that both run backwards.

    Example:
        >>> [spec.input_size for spec in specs_of("gru", 20, 64, num_layers=2, bidirectional=True)]
        [20, 128]
    """
    if bidirectional and go_backwards:
        remedy = "Bidirectional adds the backward direction to a layer that runs forward"
        raise ParityError("both directions would run backwards", "bidirectional and go_backwards", remedy=remedy)
    directions = DIRECTIONS if bidirectional else DIRECTIONS[1:] if go_backwards else DIRECTIONS[:1]
    first = RecurrentSpec(kind, features, units, directions, projection)
    return (first, *[replace(first, input_size=first.output_size)] * (num_layers - 1)) if num_layers > 1 else first


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


def _problems(
    stack: Stack, return_sequences: bool, merge_mode: MergeMode | None, batch: int | str
) -> Iterator[Problem]:
    """What cannot be had together."""
    call = stack.call
    if merge_mode not in MERGE_MODES:
        yield Problem("unknown merge_mode", expected=", ".join(map(repr, MERGE_MODES)), got=repr(merge_mode))
    if merge_mode != "concat" and not stack.single:
        remedy = "stacked layers hand on both directions side by side"
        yield Problem("merge_mode of a stack", expected="'concat'", got=repr(merge_mode), remedy=remedy)
    if len({spec.directions for spec in stack.specs}) > 1:
        got = ", ".join(" and ".join(spec.directions) for spec in stack.specs)
        yield Problem("layers of a stack with different directions", got=got, remedy="explain them one by one")
    for spec in dict.fromkeys(replace(spec, input_size=1) for spec in stack.specs):
        projection = spec.projection_size
        if projection and (spec.kind != "lstm" or projection >= spec.hidden_size):
            got = f"{spec.kind} with {spec.hidden_size} units and a projection to {projection}"
            yield Problem(
                "no framework has this projection", expected="an LSTM, projected to fewer than its units", got=got
            )
    if call == "unbatched" and batch != 1:
        yield Problem("unbatched input is one sample", expected="batch 1", got=f"batch {batch}")
    if call == "packed" and stack.backward:
        remedy = "take the backward half of a bidirectional layer"
        yield Problem("packed sequences run forward in torch", got="the backward direction alone", remedy=remedy)
    if call == "single step" and (not stack.single or stack.last.directions != DIRECTIONS[:1] or return_sequences):
        yield Problem("a cell takes one step", expected="one layer, forward, without return_sequences")
    if call == "single step" and stack.last.projection_size:
        yield Problem("torch.nn.LSTMCell has no projection", got=f"proj_size={stack.last.projection_size}")


def _shapes(values: Sequence[Value], stack: Stack, sizes: Mapping[str, int | str]) -> Returned:
    return tuple((value.name, value.shape({**stack.last.sizes, **sizes})) for value in values)


def _in_torch(stack: Stack, sizes: Mapping[str, int | str], call: Call) -> Returned:
    """What torch itself hands over, called in some way; none where the stack is several torch layers."""
    if not stack.alike:
        return ()
    if call == "single step":
        return _shapes(torch_cell_returns(stack.kind), stack, sizes)
    if call == "unbatched":
        return _shapes(torch_returns(stack.kind, batched=False), stack, {**sizes, "batch": 1})
    return _shapes(torch_returns(stack.kind, packed=call == "packed"), stack, sizes)


def _in_onnx(stack: Stack, sizes: Mapping[str, int | str], layout: int = 0) -> Returned:
    """What ONNX hands over; the states of stacked nodes stand along the first axis."""
    if not stack.in_onnx or not stack.alike:
        return ()
    values = onnx_returns(stack.kind, layout)
    if stack.call == "single step":
        sizes = {**sizes, "time": 1}
    output, *states = _shapes(values, stack, sizes)
    if len(stack.specs) == 1 or layout:
        return (output, *states)
    rows = len(stack.specs) * len(stack.last.directions)
    return (output, *((name, (rows, *shape[1:])) for name, shape in states))


def _ways(stack: Stack, sizes: Mapping[str, int | str]) -> Iterator[Way]:
    """How else the layer may be called."""
    if stack.call == "single step" or not stack.alike:
        return
    sizes = {**sizes, "batch": "batch"} if stack.call == "unbatched" else sizes
    yield Way("torch", "batch_first=False", _shapes(torch_returns(stack.kind, batch_first=False), stack, sizes))
    cell = stack.single and stack.last.directions == DIRECTIONS[:1] and stack.in_onnx
    possible = {"packed": not stack.backward, "single step": cell}
    for call, words, note in _CALLS:
        if call != stack.call and possible.get(call, True):
            name = words.format(torch=stack.kind.upper())
            yield Way("torch", name, _in_torch(stack, sizes, call), note)
    if stack.in_onnx and len(stack.specs) == 1:
        yield Way("onnx", "layout=1", _in_onnx(stack, sizes, layout=1), "ONNX Runtime refuses it")


_CALLS: tuple[tuple[Call, str, str], ...] = (
    ("batched", "batch_first=True", ""),
    ("unbatched", "(time, features), one sample", ""),
    ("packed", "PackedSequence", "pad_packed_sequence puts 0 where padded"),
    ("single step", "{torch}Cell, one step", ""),
)


def _notes(stack: Stack, return_sequences: bool, return_state: bool) -> Iterator[str]:
    states = [value.quantity for value in torch_returns(stack.kind)[1:]]
    if stack.call == "single step":
        yield "Keras hands the states over as a list, ready for the next step; torch returns them alone."
        return
    if return_state and stack.single and not stack.bidirectional:
        where = "the last step of the first value" if return_sequences else "the first value"
        if return_sequences and stack.call == "packed":
            where = "the first value at each sample's last valid step (its last step, [:, -1], is 0 where padded)"
        yield f"state_h equals {where}" + ("; state_c is never part of the output." if "c" in states else ".")
    if stack.backward and return_sequences:
        yield "Keras leaves the output of go_backwards=True in the order of processing; torch and ONNX align it with the input."
    if stack.bidirectional:
        yield "The backward direction ends at step 0: its final h is its half of the output at [:, 0], not at [:, -1]."
        if return_state:
            yield "Keras lists the states direction by direction; torch stacks h_n and c_n with one row per direction."
    if not stack.single and not stack.bidirectional and return_state:
        yield "Keras nests the states of a list of cells: one list for each cell."
    if not stack.alike:
        yield (
            f"In torch and ONNX these are {len(stack.specs)} layers one after the other: h_n[k], c_n[k], Y_h[k] and Y_c[k] are the states "
            "of layer k, output and Y those of the last."
        )
    if any(spec.projection_size for spec in stack.specs):
        yield (
            f"The projection makes h, and so the output, {stack.last.state_size} wide; c keeps {stack.last.hidden_size}. "
            "Only torch has such a layer."
        )
    if stack.call == "packed":
        yield "The mask is True at the first lengths[i] steps of sample i." + (
            " Without zero_output_for_mask Keras repeats the last output at padded steps."
            if return_sequences and not stack.bidirectional
            else ""
        )


def _converted(stack: Stack, return_sequences: bool, merge_mode: MergeMode | None) -> Iterator[str]:
    """What a conversion of the Keras layer returns where that is not what the torch.nn layer of the expressions does."""
    if not stack.in_onnx:
        return  # nor does Keras have it: there is no such layer to convert
    if stack.backward:
        own = "gives its output in Keras's order" if return_sequences else "has Keras's value in h_n"
        found = f"takes x unturned and {own}"
    elif stack.bidirectional and merge_mode != "concat":
        found = "already returns " + ("one output for each direction" if merge_mode is None else "the merged output")
    else:
        return
    yield f"The torch expressions are over a plain torch.nn layer; parity.to_torch of this Keras layer is a composition that {found}."
