"""Opens `.onnx` files: checked before memory is taken, read as a whole or as far as it goes."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from parity.errors import FormatError, ParityError, Problem, UnsupportedError
from parity.frameworks.onnx.checking import check, unchecked
from parity.frameworks.onnx.graph import read_graph
from parity.frameworks.onnx.own import is_described, network_of
from parity.frameworks.onnx.partial import partial_network
from parity.frameworks.onnx.running import first_line
from parity.frameworks.onnx.tensors import Tensors, open_model, tensors_in
from parity.frameworks.onnx.whole.reading import graph_of
from parity.graph import Graph
from parity.network import Network
from parity.network.attaching import network_with_graph

LARGEST = 2**31 - 1
"""Bytes that protobuf, and so ONNX Runtime, takes in one piece."""


def read(source: onnx.ModelProto, inputs: object = None) -> Network:
    """Describe a model; one whose graph is no chain around LSTM, GRU and RNN nodes has a graph. See `read_graph` and `whole.reading`."""
    return network_with_graph(lambda: _chain(source), lambda: graph_of(source, source.graph.name))


def _chain(source: onnx.ModelProto) -> Network:
    where = "the onnx.ModelProto"
    outside = [tensor.name for tensor in source.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    if outside:
        raise UnsupportedError(
            "weights that stand in another file are not read",
            where=where,
            got=", ".join(outside),
            remedy="load it with onnx.load and its weights beside it and give the model itself, or save it in one piece",
        )
    check(source, where)
    known = network_of(source)
    try:
        return read_graph(source, known)
    except UnsupportedError as error:
        if known is not None or not is_described(source):
            raise
        raise UnsupportedError([_changed(source), *error.problems]) from error


def read_file(path: Path) -> Network:
    """Describe a `.onnx` file.

    Returns:
        The network; a partial one, with every LSTM, GRU and RNN node of the file, where the graph is no chain around them. See
        `parity.frameworks.onnx.partial.partial_network`.

    Raises:
        FormatError: not an ONNX model, a damaged one, or one whose weights stand in files that are missing or outside its folder.
    """
    model, tensors = open_model(path)
    unknown = unchecked(model, tensors)
    problems = [unknown] if unknown is not None else []
    changed = []
    if is_described(model):
        known = network_of(_filled(model, tensors))
        if known is not None:
            return read_graph(model, known)
        changed = [_changed(model)]
    try:
        if problems:
            raise UnsupportedError(problems)
        return read_graph(model, None, tensors)
    except ParityError as error:
        problems = [*changed, *error.problems]
    stored = (tensors.place(tensor) for tensor in tensors_in(model))
    size = model.ByteSize() + sum(place.length for place in stored if place is not None)
    try:
        return network_with_graph(
            lambda: partial_network(model, tensors, size, problems),
            lambda: graph_of(model, model.graph.name, partial=True, tensors=tensors),
        )
    except ParityError:
        raise
    except Exception as error:  # a model that the checker could not judge may lack whatever is looked up in it
        raise FormatError(
            "the graph cannot be followed",
            f"graph '{model.graph.name}' of {path}",
            "nodes with the inputs and attributes of the ONNX operator specification",
            f"{type(error).__name__}: {first_line(error)}",
            "export it anew",
        ) from error


def whole_graph(source: onnx.ModelProto | Path) -> Graph | None:
    """The graph of a model that is a chain of layers, with the inputs and outputs that the model itself has.

    A chain around recurrent nodes knows what its layers give, not how the model calls and joins it, and no initial states.

    Args:
        source: a model, or the path of one.

    Returns:
        The graph, with stubs for operators that are not known; None for a model whose layers parity itself composed of other operators:
        only as a chain are they layers.

    Raises:
        UnsupportedError: an operator or option that is not converted, and of which there is no stub.
        FormatError: not an ONNX model, or a damaged one.
    """
    model, tensors = (source, Tensors()) if isinstance(source, onnx.ModelProto) else open_model(source)
    if is_described(model) and network_of(_filled(model, tensors)) is not None:
        return None
    return graph_of(model, model.graph.name, partial=True, tensors=tensors)


def load(path: Path, network: Network | None = None) -> onnx.ModelProto:
    """Load a `.onnx` file with all its weights in it, those that stand in other files of its folder, too.

    Raises:
        FormatError: not an ONNX model, or a damaged one; weights that are missing or outside the model's folder.
        UnsupportedError: a model of more than 2 GiB, which protobuf does not hold in one piece.
    """
    model, tensors = open_model(path)
    unknown = unchecked(model, tensors)
    if unknown is not None:
        raise UnsupportedError([unknown])
    return _filled(model, tensors)


def _filled(model: onnx.ModelProto, tensors: Tensors) -> onnx.ModelProto:
    """The model, in place, with the contents of all its tensors."""
    places = [(tensor, tensors.place(tensor)) for tensor in tensors_in(model)]
    size = model.ByteSize() + sum(place.length for _, place in places if place is not None)
    if size > LARGEST:
        raise UnsupportedError(
            "a model of more than 2 GiB is not run or rebuilt as a whole",
            tensors.where,
            f"at most {LARGEST} bytes, which is what protobuf holds in one piece",
            f"{size} bytes",
            "use its recurrent layers one by one",
        )
    for tensor, place in places:
        if place is not None:
            tensor.raw_data = tensors.filled(tensor).raw_data
    return model


def _changed(model: onnx.ModelProto) -> Problem:
    return Problem(
        "parity composed this model, but it is not any more what parity wrote",
        f"graph '{model.graph.name}'",
        "the very nodes, initializers, inputs and outputs that were written",
        "others, changed since or written by another version of parity; the graph itself was followed as far as it goes",
        "convert the source anew",
    )
