"""Cautions about sequences, states and what a layer hands over: one small rule each.

The sizes of errors were measured on an LSTM or GRU of 32 units on 16 inputs over 60 steps, with random weights and biases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from parity.cautions.caution import FRAMEWORKS, Caution, Subject, names_of
from parity.conventions import Value, keras_returns, onnx_returns, torch_cell_returns, torch_returns
from parity.explaining import explain_layer
from parity.layouts import STATES, axis_groups
from parity.network import Dropout, Embedding, Masking
from parity.recurrent import DIRECTIONS

_PADDING = "parity explain FILE lists what each framework leaves at padded steps; compare with parity compare FILE --lengths 7,3,1."


def padded_rows(subject: Subject) -> Iterator[Caution]:
    """A mask made in the model, or lengths given to an ONNX node."""
    makers = (*_masking(subject), *_masking_embeddings(subject))
    lengths = _given_lengths(subject)
    unused = subject.unmasked if makers else ()
    if unused:
        yield Caution(
            "Keras gives these layers no mask, though the model makes one",
            unused,
            "The mask ends before them: at a layer that hands none on, or at a call with initial states. Keras computes their padded steps "
            "like any other; a port that packs the sequence is off.",
            f"Do not pack the sequence for them; parity convert does as Keras does. {_PADDING}",
            "P19",
        )
    if (makers or lengths) and not (unused and len(unused) == len(subject.network.recurrent)):
        what = "steps are masked" if makers else "the layers are given lengths (sequence_lens)"
        yield Caution(
            f"{what}, and frameworks leave different things at padded steps",
            (*makers, *lengths),
            "Keras repeats the last output there (a Bidirectional that gives every step has zeros), torch's packed sequences and ONNX's "
            "sequence_lens give zeros, and without either the layer goes on computing: then its final state is off by up to 0.23.",
            f"Give torch a packed sequence, ONNX sequence_lens. {_PADDING}",
            "P19",
        )


def padded_directions(subject: Subject) -> Iterator[Caution]:
    """Both directions over padded sequences."""
    unused = subject.unmasked
    both = tuple(
        name
        for name in (*subject.recurrent(lambda layer: layer.bidirectional), *names_of(subject.unlike))
        if name not in unused
    )
    if both and (_masking(subject) or _masking_embeddings(subject) or _given_lengths(subject)):
        yield Caution(
            "both directions run over padded sequences",
            both,
            "Without the mask the backward direction begins in the padding: it is off by up to 0.1 at valid steps too, the forward half is "
            "exact. torch and ONNX can only leave out steps at the end, not in the middle or at the start.",
            _PADDING,
            "P20",
        )


def mask_by_value(subject: Subject) -> Iterator[Caution]:
    """`Masking`."""
    found = _masking(subject)
    if found:
        yield Caution(
            "Masking leaves out every step whose features all equal its mask_value",
            found,
            "So a real step that happens to be so is left out, too: with lengths instead, the outputs are off by up to 0.08 from there.",
            "Make the lengths of the same test in torch and ONNX; parity's conversions do.",
            "P21",
        )


def mask_zero(subject: Subject) -> Iterator[Caution]:
    """`Embedding(mask_zero=True)`."""
    found = _masking_embeddings(subject)
    if found:
        yield Caution(
            "this Embedding masks the index 0 (mask_zero)",
            found,
            "torch's padding_idx is no mask: it only makes that row zero at first, and the recurrent layer goes on computing.",
            "Make the lengths of the indices that are not 0; parity's conversions do.",
            "P43",
        )


def _masking(subject: Subject) -> tuple[str, ...]:
    known = (layer.name for layer in subject.network.layers if isinstance(layer, Masking))
    return (*known, *names_of(subject.opaque("Masking")))


def _masking_embeddings(subject: Subject) -> tuple[str, ...]:
    known = (layer.name for layer in subject.network.layers if isinstance(layer, Embedding) and layer.mask_zero)
    return (*known, *(layer.name for layer in subject.opaque("Embedding") if layer.facts.get("mask_zero") is True))


def _given_lengths(subject: Subject) -> tuple[str, ...]:
    if subject.framework != "onnx":
        return ()
    if "sequence_lens" in subject.details:
        return tuple(layer.name for layer in subject.network.recurrent)
    return subject.recurrent(lambda layer: "sequence_lens" in subject.details.get(f"layer {layer.name}", ""))


def go_backwards(subject: Subject) -> Iterator[Caution]:
    """One direction that runs backwards, or whose output stands in the opposite order."""
    reversed_ = subject.alone(lambda layer: layer.reverse and layer.return_sequences)
    if reversed_:
        yield Caution(
            "its output stands in the opposite order of its input: the last step first",
            names_of(reversed_),
            "Keras's go_backwards=True leaves it so; torch and ONNX put a backward direction in the order of the input. Not turned "
            "over, the outputs are off by up to 0.85.",
            "Flip the time axis of the output, or let parity convert do it.",
            "P16",
        )
    aligned = subject.alone(
        lambda layer: layer.spec.directions == DIRECTIONS[1:] and layer.return_sequences and not layer.reverse
    )
    if aligned:
        yield Caution(
            "it runs backwards and gives its output in the order of the input",
            names_of(aligned),
            "Keras's go_backwards=True would leave it in the opposite order, off by up to 0.85, and torch has no backward direction alone.",
            "In Keras flip the time axis of the output, or let parity convert do it.",
            "P16",
        )


def last_step_of_both(subject: Subject) -> Iterator[Caution]:
    """A bidirectional layer that gives on its last state, or a bare one, of which people take the last step."""
    alone = subject.alone(
        lambda layer: layer.bidirectional and (not layer.return_sequences or subject.network.bare) and not layer.merges
    )
    if alone:
        network = subject.network
        stacked = network.bare and not network.problems and len(alone) == len(network.recurrent) > 1
        found = alone[-1:] if stacked else alone
        taken = explain_layer([layer.spec for layer in alone] if stacked else alone[0].spec).keras[0].torch
        gives = any(not layer.return_sequences for layer in alone)
        yield Caution(
            "it gives on the final state of both directions"
            if gives
            else "the last step of both directions is not output[:, -1]",
            names_of(found),
            "The backward direction ends at the first step: output[:, -1] has its half after one step only, off by up to 0.65, the forward "
            "half exact.",
            f"In torch take {taken}; parity convert does.",
            "P14",
        )


def merge_modes(subject: Subject) -> Iterator[Caution]:
    """Two directions that are added, multiplied, averaged or handed over one by one."""
    merged = subject.alone(lambda layer: layer.merges)
    if merged:
        modes = ", ".join(dict.fromkeys(repr(layer.merge_mode) for layer in merged))
        yield Caution(
            f"merge_mode is {modes}",
            names_of(merged),
            "torch and ONNX always put the two directions side by side: twice the features, or the wrong numbers for the next layer.",
            "Take the halves apart and merge them; parity convert does.",
            "P17",
        )
    if subject.unlike:
        yield Caution(
            "the two directions of this Bidirectional are unlike",
            names_of(subject.unlike),
            "They differ in kind, size, depth or the order of their outputs; torch and ONNX have no such layer.",
            "parity convert makes two layers of it and joins them exactly.",
            "P17",
        )


def first_axis(subject: Subject) -> Iterator[Caution]:
    """Every layer over a sequence."""
    found = subject.recurrent(lambda layer: not layer.single_step)
    if found:
        axes = {"keras": keras_returns("gru", return_sequences=True), "torch": torch_returns("gru", batch_first=False)}
        own = [f"({_axes(values[0])}) in {FRAMEWORKS[name]}" for name, values in axes.items()]
        own[-1] += " unless batch_first=True"
        own.append(f"({_axes(onnx_returns('gru')[0])}) in ONNX")
        weights = subject.framework == "torch" and "file" in subject.details
        unsaid = (
            " Weights do not say it." if weights and "batch_first" not in subject.details.get("options", "") else ""
        )
        yield Caution(
            "batch first or time first?",
            found,
            f"Inputs begin with {', '.join(own)}.{unsaid} With the wrong one every shape fits, and the outputs are off by up to 1.1.",
            "Test with a batch and a number of steps that differ; parity explain FILE has the shapes in each framework.",
            "P18",
        )


def _axes(value: Value) -> str:
    return ", ".join([axis for (axis, *_) in axis_groups(value.axes) if axis in ("batch", "time")] + ["features"])


def stateful(subject: Subject) -> Iterator[Caution]:
    """stateful=True."""
    found = subject.recurrent(lambda layer: layer.stateful)
    if found:
        yield Caution(
            "stateful=True: the states are carried from one call to the next",
            found,
            "torch and ONNX begin every call with zeros. The first call agrees, the second does not; the file does not hold the states.",
            "Hand the final states of each call to the next one, and compare two calls in a row.",
            "P22",
        )


def initial_states(subject: Subject) -> Iterator[Caution]:
    """An ONNX node that is given an initial state."""
    given = re.compile(r"initial_[hc] (?!zeros)")
    found = subject.recurrent(lambda layer: bool(given.search(subject.details.get(f"layer {layer.name}", ""))))
    if found:
        yield Caution(
            "the graph gives this layer an initial state",
            found,
            "Taken alone the layer begins with zeros: off by up to 1.05 at first.",
            "Hand the same initial state to the converted layer in every call.",
            "P24",
        )


def state_order(subject: Subject) -> Iterator[Caution]:
    """Final states of an LSTM of two directions, of a cell, or of a cell of TensorFlow 1."""
    old = tuple(
        layer for layer in subject.network.opaque if "LSTM" in layer.class_name and "gates in the kernel" in layer.facts
    )
    order = ", ".join(STATES["lstm"])
    if old:
        yield Caution(
            f"TensorFlow 1 keeps an LSTM's states the other way round than ({order})",
            names_of(old),
            "Exchanged, the outputs are off by up to 1.3 at first; the error fades, so the last step of a long sequence does not show it.",
            "Compare the first steps, with initial states that are not zero.",
            "P23",
        )
    lstm = subject.recurrent(lambda layer: layer.spec.kind == "lstm" and (layer.bidirectional or layer.single_step))
    if lstm and subject.returns_states:
        cells = not any(layer.bidirectional for layer in subject.network.recurrent)
        keras = [value.name for value in keras_returns("lstm", bidirectional=not cells, return_state=True)[1:]]
        given = [value.name for value in (torch_cell_returns("lstm") if cells else torch_returns("lstm")[1:])]
        in_torch = " and ".join(given) + ("" if cells else " with a row for each direction")
        yield Caution(
            f"its states are handed over: which is {order.replace(', ', ' and which is ')}?",
            lstm,
            f"Keras lists them as {', '.join(keras)}; torch gives {in_torch}. Exchanged, the outputs of the next call are off by up to 1.3 "
            "at first; the error fades.",
            "parity explain FILE says which is which.",
            "P23",
        )


def state_rows(subject: Subject) -> Iterator[Caution]:
    """Several rows in torch's h_n."""
    rows = sum(len(layer.spec.directions) for layer in subject.network.recurrent)
    if subject.framework == "torch" and rows > 1 and not subject.network.problems:
        h = torch_returns("gru")[1]
        yield Caution(
            f"{h.name} holds {rows} rows, one for each layer and direction, before the batch",
            tuple(layer.name for layer in subject.network.recurrent),
            f"It is {' * '.join(axis_groups(h.axes)[0])} first, then batch. Reshaped to the batch with view(batch, -1) it mixes samples: "
            "off by up to 0.46, and exact for a batch of one.",
            f"Swap the axes before reshaping: {h.name}.transpose(0, 1).reshape(batch, -1).",
            "P15",
        )


def dropout(subject: Subject) -> Iterator[Caution]:
    """Dropout of any kind."""
    known = [layer.name for layer in subject.network.layers if isinstance(layer, Dropout)]
    inside = subject.recurrent(lambda layer: bool(layer.dropout or layer.recurrent_dropout))
    unknown = [layer.name for layer in subject.network.opaque if "Dropout" in layer.class_name]
    found = (*known, *inside, *unknown)
    if found:
        yield Caution(
            "it has dropout, which acts in training only",
            found,
            "A torch module begins in training mode: two calls with one input then differ (by 0.07 where it was measured).",
            "Call module.eval() before comparing, and training=False in Keras.",
            "P42",
        )
