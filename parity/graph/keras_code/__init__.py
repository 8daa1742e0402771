"""Writes a graph as source code for Keras 3, with the weights that it loads. Imports no Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from parity.errors import Problem, UnsupportedError
from parity.files.hdf5.writing import Tree, write_hdf5
from parity.files.keras.writing import of_type
from parity.graph.code import Code
from parity.graph.graph import Graph, Node
from parity.graph.keras_code import arithmetic, attention, recurrent, shaping, spatial, weighted
from parity.graph.keras_code.folding import constants_folded, fused
from parity.graph.keras_code.functions import activation_argument
from parity.graph.keras_code.module import add_checks, inputs_of, module, odd_batches
from parity.graph.keras_code.stubs import write_stub
from parity.graph.keras_code.text import text
from parity.graph.keras_code.writing import Value, Writing
from parity.graph.operations import (
    Activation,
    BatchNormalization,
    Cast,
    Concatenate,
    Convolution,
    Einsum,
    Elementwise,
    Expand,
    ExpandDims,
    Flip,
    GroupNormalization,
    LayerNormalization,
    MatMul,
    Pad,
    Pooling,
    Range,
    Reduction,
    Repeat,
    Reshape,
    Select,
    Slice,
    Softmax,
    Squeeze,
    Stack,
    Stub,
    Take,
    Transpose,
    UnitNormalization,
)
from parity.graph.reading_notes import reading_notes
from parity.graph.simplify import channels_last, simplified
from parity.network import Bidirectional, Dense, Dropout, Embedding, Masking, Recurrent

_WRITERS: Mapping[type, Callable[[Writing, Node], None]] = {
    Recurrent: recurrent.write_recurrent,
    Bidirectional: recurrent.write_bidirectional,
    Dense: weighted.write_dense,
    Embedding: weighted.write_embedding,
    Masking: weighted.write_masking,
    Dropout: weighted.write_dropout,
    BatchNormalization: weighted.write_batch_normalization,
    LayerNormalization: weighted.write_layer_normalization,
    GroupNormalization: weighted.write_group_normalization,
    UnitNormalization: weighted.write_unit_normalization,
    Convolution: spatial.write_convolution,
    Pooling: spatial.write_pooling,
    Activation: arithmetic.write_activation,
    Softmax: arithmetic.write_softmax,
    Elementwise: arithmetic.write_elementwise,
    Cast: arithmetic.write_cast,
    MatMul: arithmetic.write_matmul,
    Einsum: arithmetic.write_einsum,
    Reduction: arithmetic.write_reduction,
    Transpose: shaping.write_transpose,
    Reshape: shaping.write_reshape,
    ExpandDims: shaping.write_expand_dims,
    Squeeze: shaping.write_squeeze,
    Expand: shaping.write_expand,
    Range: shaping.write_range,
    Concatenate: shaping.write_concatenate,
    Stack: shaping.write_stack,
    Slice: shaping.write_slice,
    Select: shaping.write_select,
    Take: shaping.write_take,
    Flip: shaping.write_flip,
    Pad: shaping.write_pad,
    Repeat: shaping.write_repeat,
    attention.MultiHeadAttention: attention.write_multi_head_attention,
    attention.SingleAttention: attention.write_single_attention,
    Stub: write_stub,
}
"""What writes a node, by the type of its operation."""


def keras_code(graph: Graph) -> Code:
    """A module for Keras 3 that builds the model, as a person would write it with the functional API, and its weights.

    Args:
        graph: of any origin.

    Returns:
        The module `model.py`, with `build()` and `load()`, and the arrays of `model.weights.h5` by their places there
        (`write_weights` writes the file).

    Raises:
        UnsupportedError: what Keras cannot say exactly; all problems at once.

    Example:
        >>> import numpy as np
        >>> from parity.graph.builder import Builder
        >>> from parity.network import Dense
        >>> build = Builder("tagger")
        >>> x = build.input("x", ("batch", "time", 3))
        >>> y = build.call(Dense("classes", np.ones((3, 2), np.float32), np.ones(2, np.float32)), x, source="classes")
        >>> code = keras_code(build.graph({"y": y}))
        >>> print(code.source.partition("build()")[2].partition("def load")[0].rstrip())
         -> keras.Model:
            \"\"\"The model, its weights not loaded.\"\"\"
            inputs = keras.Input((None, 3), name="x")
            x = layers.Dense(2, name="classes")(inputs)  # (batch, time, 2)
            return keras.Model(inputs, x, name="tagger")
        >>> {name: blocks.shape for name, blocks in code.weights.items()}
        {'layers/dense/vars/0': (3, 2), 'layers/dense/vars/1': (2,)}
    """
    tidy = constants_folded(simplified(channels_last(attention.attending(simplified(graph)))))
    writing, outputs = _written(tidy, frozenset())
    if writing.clashes:
        writing, outputs = _written(tidy, writing.clashes)
    if writing.problems:
        raise UnsupportedError(writing.problems)
    weights = {name: of_type(blocks, _dtype(writing)) for name, blocks in writing.finished(outputs).items()}
    notes = list(dict.fromkeys((*writing.notes, *reading_notes(graph))))
    odd = odd_batches(tidy, writing)
    notes += [f"{odd} Call the model with whole batches, not predict()"] if odd else []
    source = module(writing, writing.lines, outputs)
    return Code(source, weights, tuple(notes), tuple(stub.name for stub in tidy.stubs))


def write_weights(code: Code, path: Path) -> None:
    """Write the `.weights.h5` file that the module's `load()` reads.

    Args:
        code: from `keras_code`.
        path: of the file; one that is there is overwritten.
    """
    tree = Tree()
    tree.group("vars")
    for name, blocks in code.weights.items():
        tree.put(name, blocks)
    with path.open("wb") as file:
        write_hdf5(tree, file)


def _written(graph: Graph, avoided: frozenset[str]) -> tuple[Writing, list[Value]]:
    """The statements of the body, and the outputs."""
    writing = Writing(graph, fused(graph), avoided)
    writing.lines += inputs_of(writing)
    add_checks(writing)
    for node in writing.steps:
        write = _WRITERS.get(type(node.operation))
        if write is None:
            got = type(node.operation).__name__
            writing.problems.append(Problem("this operation is not written for Keras", f"'{node.name}'", got=got))
        elif node.name in writing.activations:
            _write_fused(writing, node, graph.node(writing.activations[node.name]))
        else:
            write(writing, node)
        writing.fill(node)
    outputs = [] if writing.problems else [writing.value(wire, tensor=True) for wire in graph.outputs.values()]
    return writing, outputs


def _write_fused(writing: Writing, node: Node, activation: Node) -> None:
    """A layer with the activation that follows it, under the name of both."""
    operation = activation.operation
    if isinstance(operation, Softmax):
        word = text("log_softmax" if operation.log else "softmax")
    else:
        assert isinstance(operation, Activation)
        word = activation_argument(writing, operation.function)
    both = replace(node, name=activation.name, source=activation.source or node.source)
    write = weighted.write_dense if isinstance(node.operation, Dense) else spatial.write_convolution
    write(writing, both, word)


def _dtype(writing: Writing) -> np.dtype[np.generic]:
    return np.dtype(writing.dtype)


__all__ = ["keras_code", "write_weights"]
