"""The shapes of every operation of a graph are those of what it computes, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity.errors import ShapeError
from parity.functions import Function
from parity.graph import computed, shapes_of
from parity.graph.noise import Float32Noise
from parity.graph.operations import (
    ELEMENTWISE,
    Activation,
    BatchNormalization,
    Cast,
    Concatenate,
    Constant,
    Convolution,
    Einsum,
    Elementwise,
    Expand,
    ExpandDims,
    Flip,
    GroupNormalization,
    LayerNormalization,
    Length,
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
    Take,
    Transpose,
    UnitNormalization,
)
from parity.network import Dense, Dropout, Embedding, Masking, Recurrent
from parity.recurrent import Array, RecurrentSpec, Weights
from parity.reference import Exact


def run(operation: Any, *values: Any) -> Array:
    """Its first value; the shape is what `shapes` said."""
    return run_all(operation, *values)[0]


def run_all(operation: Any, *values: Any) -> tuple[Array, ...]:
    found = computed(operation, values, Exact())
    said = shapes_of(operation, [None if value is None else value.shape for value in values])
    assert said == tuple(value.shape for value in found)
    return found


LENGTH = st.integers(0, 4)
SHAPE = st.lists(LENGTH, max_size=4).map(tuple)
AXIS = st.integers(-5, 4)
AXES = st.lists(AXIS, max_size=4).map(tuple)
SMALL = st.integers(0, 3)
LENGTHS_OF = st.one_of(st.integers(-2, 4), st.builds(Length, st.integers(-1, 2), st.integers(-1, 4), st.integers(0, 2)))


def weight(*shape: int) -> Array:
    return np.ones(shape)


def spatial(axes: int) -> st.SearchStrategy[tuple[Any, ...]]:
    many = st.lists(SMALL, min_size=axes, max_size=axes).map(tuple)
    pads = st.one_of(
        st.just("same"), st.lists(st.tuples(st.integers(-1, 2), SMALL), min_size=axes, max_size=2).map(tuple)
    )
    return st.tuples(many, many, many, pads, st.booleans())


def lstm(sequences: bool) -> Recurrent:
    return Recurrent(
        "x", RecurrentSpec("lstm", 2, 3), (Weights(weight(4, 3, 2), weight(4, 3, 3)),), return_sequences=sequences
    )


# Their options come as a tuple.
POOLING: Any = Pooling
CONVOLUTION: Any = Convolution

OPERATIONS: dict[str, st.SearchStrategy[Any]] = {
    "Transpose": st.builds(Transpose, st.just("x"), AXES),
    "Reshape": st.builds(Reshape, st.just("x"), st.lists(LENGTHS_OF, max_size=4).map(tuple)),
    "Expand": st.builds(Expand, st.just("x"), st.lists(LENGTHS_OF, max_size=4).map(tuple)),
    "ExpandDims": st.builds(ExpandDims, st.just("x"), AXES),
    "Squeeze": st.builds(Squeeze, st.just("x"), AXES),
    "Concatenate": st.builds(Concatenate, st.just("x"), AXIS),
    "Stack": st.builds(Stack, st.just("x"), AXIS),
    "Slice": st.builds(
        Slice,
        st.just("x"),
        st.lists(st.tuples(AXIS, st.none() | AXIS, st.none() | AXIS, st.integers(-2, 2)), max_size=2).map(tuple),
    ),
    "Select": st.builds(Select, st.just("x"), AXIS, AXIS),
    "Flip": st.builds(Flip, st.just("x"), AXES),
    "Pad": st.builds(
        Pad,
        st.just("x"),
        st.lists(st.tuples(st.integers(-1, 3), SMALL), max_size=4).map(tuple),
        st.just(0.5),
        st.sampled_from(["constant", "reflect", "edge"]),
    ),
    "Repeat": st.builds(Repeat, st.just("x"), AXIS, st.integers(-1, 3)),
    "Range": st.builds(Range, st.just("x"), st.builds(Length, st.integers(-1, 2), st.integers(-1, 4))),
    "Constant": st.just(Constant("x", np.ones((2, 3)))),
    "Reduction": st.builds(
        Reduction,
        st.just("x"),
        st.sampled_from(["sum", "mean", "max", "min", "prod", "any", "all", "argmax", "logsumexp", "norm"]),
        AXES,
        st.booleans(),
    ),
    "Softmax": st.builds(Softmax, st.just("x"), AXIS, st.booleans()),
    "Activation": st.just(Activation("x", Function("relu"))),
    "Cast": st.builds(Cast, st.just("x"), st.sampled_from(["float32", "int64", "bool"])),
    "Elementwise": st.builds(
        Elementwise, st.just("x"), st.sampled_from(sorted(set(ELEMENTWISE) - {"log", "sqrt", "rsqrt"}))
    ),
    "MatMul": st.just(MatMul("x")),
    "Einsum": st.builds(
        Einsum,
        st.just("x"),
        st.sampled_from(["ab,bc->ac", "ab->ba", "aab->b", "ab,ab->", "a,b->abc", "ab->aa", "a,b,c->abc"]),
    ),
    "UnitNormalization": st.builds(UnitNormalization, st.just("x"), AXES),
    "BatchNormalization": st.builds(
        lambda n, m, axis: BatchNormalization("x", weight(n), weight(n), weight(m), None, 1e-3, axis),
        SMALL,
        SMALL,
        AXIS,
    ),
    "LayerNormalization": st.builds(
        lambda shape, axes, rms: LayerNormalization("x", weight(*shape), None, 1e-3, axes, rms),
        SHAPE,
        st.integers(0, 3),
        st.booleans(),
    ),
    "GroupNormalization": st.builds(
        lambda n, groups, axis: GroupNormalization("x", weight(n), None, 1e-3, groups, axis),
        LENGTH,
        st.integers(0, 2),
        st.sampled_from([1, -1, 0, 2]),
    ),
    "Pooling": st.builds(
        lambda options, function, counts: POOLING("x", function, *options, counts),
        st.one_of(spatial(1), spatial(2)),
        st.sampled_from(["max", "average"]),
        st.just(True),
    ),
    "Convolution": st.builds(
        lambda options, taken, groups, given, bias: CONVOLUTION(
            "x", weight(*options[0], taken, given), weight(bias), *options[1:4], groups, options[4]
        ),
        st.one_of(spatial(1), spatial(2)),
        st.integers(0, 2),
        st.integers(1, 2),
        st.sampled_from([2, 4, 3]),
        st.sampled_from([2, 4, 3]),
    ),
    "Dense": st.just(Dense("x", weight(2, 3), weight(3))),
    "Masking": st.just(Masking("x", 2)),
    "Dropout": st.just(Dropout("x", 2, 0.5)),
    "Recurrent": st.sampled_from([True, False]).map(lstm),
}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_shapes_say_what_is_computed_or_refuse_it(name: str, data: Any) -> None:
    operation = data.draw(OPERATIONS[name])
    count = data.draw(st.sampled_from([1, 1, 1, 2, 2, 3, 0]))
    first = data.draw(SHAPE)
    shapes: list[tuple[int, ...]] = [first if data.draw(st.booleans()) else data.draw(SHAPE) for _ in range(count)]
    if name == "Recurrent" and data.draw(st.booleans()):
        shapes = [(2, 3, 2), (2, 3), (2, 3), (2, 3)][: count if count < 3 else 4]
    taken = [None if data.draw(st.integers(0, 9)) == 0 else shape for shape in shapes]
    values: list[Any] = [None if shape is None else np.ones(shape) for shape in taken]
    if name == "Recurrent" and len(values) > 1 and values[1] is not None:
        values[1] = values[1] > 0
    try:
        said = shapes_of(operation, taken)
    except ShapeError:
        with pytest.raises(ShapeError) as error:
            computed(operation, values, Exact())
        assert [problem.where for problem in error.value.problems] == ["x"]
        return
    with np.errstate(all="ignore"):
        assert tuple(value.shape for value in computed(operation, values, Exact())) == said


def test_integers_beyond_the_axis_are_refused() -> None:
    with pytest.raises(ShapeError, match="no such places"):
        run(Take("take", 1), np.ones((2, 3)), np.array([0, 3]))
    with pytest.raises(ShapeError, match="no such places"):
        run(Take("take", 1), np.ones((2, 3)), np.array([0.0]))
    for bad in ([7], [-1], [0.5]):
        with pytest.raises(ShapeError, match="no such rows"):
            run(Embedding("embedding", np.ones((7, 2))), np.array(bad))


def test_integers_have_no_noise(random: np.random.Generator) -> None:
    counts = random.integers(1, 9, (3, 3))
    for operation, values in (
        (Elementwise("x", "add"), (counts, counts)),
        (MatMul("x"), (counts, counts)),
        (Einsum("x", "ab,bc->ac"), (counts, counts)),
        (Reduction("x", "prod", (1,)), (counts,)),
        (Reduction("x", "sum", (1,)), (counts,)),
        (Reduction("x", "argmax", (1,)), (counts,)),
    ):
        found = computed(operation, values, Float32Noise(0))[0]
        assert found.dtype.kind == "i"
        assert np.array_equal(found, run(operation, *values))
