"""One small model for every operator that is read: nodes, inputs and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
_random = np.random.default_rng(7)


def normal(*shape: int, scale: float = 1.0) -> Any:
    """Numbers that are not round."""
    return (scale * _random.normal(size=shape)).astype(np.float32)


def integers(*values: int) -> Any:
    return np.asarray(values, np.int64)


@dataclass(frozen=True)
class Case:
    """A model of a few nodes.

    Args:
        nodes: them.
        weights: initializers.
        shapes: of the inputs; words for lengths that differ.
        opset: of the model.
        make: gives an input from its shape, by name.
        types, gives: of inputs and outputs that are no floats.
        finds: operations that the graph must have, by class name.
    """

    nodes: Sequence[onnx.NodeProto]
    weights: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int | str | None]] = field(default_factory=lambda: {"x": ("batch", "time", 6)})
    opset: int = 17
    make: Mapping[str, Callable[[tuple[int, ...]], Any]] = field(default_factory=dict)
    types: Mapping[str, int] = field(default_factory=dict)
    gives: Mapping[str, int] = field(default_factory=dict)
    finds: Sequence[str] = ()


def node(op: str, *inputs: str, y: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [y], **attributes)


def one(op: str, *, opset: int = 17, weights: Mapping[str, Any] | None = None, **attributes: Any) -> Case:
    """One node on x, and on the weights."""
    return Case([node(op, "x", *(weights or {}), **attributes)], weights or {}, opset=opset)


def positive(shape: tuple[int, ...]) -> Any:
    return np.abs(normal(*shape)) + np.float32(0.1)


def whole(shape: tuple[int, ...]) -> Any:
    return _random.integers(-5, 9, shape)


def truth(shape: tuple[int, ...]) -> Any:
    return _random.integers(0, 2, shape).astype(bool)


IMAGE = {"x": ("batch", 4, "height", "width")}
STEPS = {"x": ("batch", 4, "time")}
TWO = {"x": ("batch", "time", 6), "z": ("batch", "time", 6)}

CASES: dict[str, Case] = {
    # activations
    **{op: one(op) for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Selu", "Elu", "Celu", "LeakyRelu")},
    **{op: one(op) for op in ("HardSigmoid", "HardSwish", "ThresholdedRelu", "Abs", "Neg", "Sign", "Floor", "Ceil")},
    **{op: one(op) for op in ("Exp", "Erf", "Sin", "Cos", "Identity")},
    "Mish": one("Mish", opset=18),
    "Gelu": one("Gelu", opset=20),
    "Gelu tanh": one("Gelu", opset=20, approximate="tanh"),
    "Elu alpha": one("Elu", alpha=0.3),
    "Celu alpha": one("Celu", alpha=0.3),
    "Selu alpha": one("Selu", alpha=1.2, gamma=0.7),
    "LeakyRelu alpha": one("LeakyRelu", alpha=0.3),
    "HardSigmoid alpha": one("HardSigmoid", alpha=0.3, beta=0.4),
    "ThresholdedRelu alpha": one("ThresholdedRelu", alpha=0.3),
    "PRelu": one("PRelu", weights={"slope": normal(6)}),
    "PRelu of one": one("PRelu", weights={"slope": normal(1)}),
    "Clip": one("Clip", weights={"low": np.float32(-0.3), "high": np.float32(0.4)}),
    "Clip 6": one("Clip", weights={"low": np.float32(0), "high": np.float32(6)}),
    "Clip of old": one("Clip", opset=10, min=-0.3, max=0.4),
    "Clip high alone": Case([node("Clip", "x", "", "high")], {"high": np.float32(0.4)}),
    "Softmax": one("Softmax"),
    "Softmax axis": one("Softmax", axis=1),
    "Softmax of old": one("Softmax", opset=11),
    "Softmax of old, last": one("Softmax", opset=11, axis=-1),
    "LogSoftmax": one("LogSoftmax"),
    "LogSoftmax of old": one("LogSoftmax", opset=12),
    # arithmetic
    **{op: Case([node(op, "x", "z")], shapes=TWO) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")},
    "Sum of three": Case([node("Sum", "x", "z", "w")], {"w": normal(6)}, TWO),
    "Max of three": Case([node("Max", "x", "z", "w")], {"w": normal(6)}, TWO),
    "Add of words": Case([node("Add", "x", "z")], shapes={"x": (None, None, 6), "z": (None, 1, 6)}),
    "Div of integers": Case(
        [node("Div", "x", "n")],
        {"n": integers(3)},
        {"x": ("batch", "time")},
        make={"x": whole},
        types={"x": INT64},
        gives={"y": INT64},
    ),
    "Pow": Case([node("Pow", "x", "p")], {"p": np.float32(2.5)}, make={"x": positive}),
    "Pow 2": one("Pow", weights={"p": np.float32(2)}),
    "Pow of values": Case([node("Pow", "x", "z")], shapes=TWO, make={"x": positive}),
    "Sqrt": Case([node("Sqrt", "x")], make={"x": positive}),
    "Reciprocal": Case([node("Reciprocal", "x")], make={"x": positive}),
    "Log": Case([node("Log", "x")], make={"x": positive}),
    **{
        op: Case(
            [node(op, "x", "z")],
            shapes=TWO,
            gives={"y": BOOL},
            make={"x": whole, "z": whole},
            types={"x": INT64, "z": INT64},
        )
        for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    },
    **{
        op: Case(
            [node(op, "x", "z")],
            shapes=TWO,
            gives={"y": BOOL},
            make={"x": truth, "z": truth},
            types={"x": BOOL, "z": BOOL},
        )
        for op in ("And", "Or", "Xor")
    },
    "Not": Case([node("Not", "x")], gives={"y": BOOL}, make={"x": truth}, types={"x": BOOL}),
    "Where": Case([node("Greater", "x", "o", y="g"), node("Where", "g", "x", "z")], {"o": np.float32(0.1)}, TWO),
    "Cast": Case([node("Cast", "x", to=INT64)], gives={"y": INT64}),
    "Cast and back": Case([node("Cast", "x", y="i", to=6), node("Cast", "i", to=1)]),
    "Cast to bool": Case([node("Cast", "x", to=BOOL)], gives={"y": BOOL}),
    # products
    "MatMul": one("MatMul", weights={"head.weight": normal(6, 5)}),
    "MatMul and Add": Case(
        [node("MatMul", "x", "w", y="h"), node("Add", "b", "h")], {"w": normal(6, 5), "b": normal(5)}, finds=["Dense"]
    ),
    "MatMul of values": Case([node("Transpose", "z", y="t", perm=[0, 2, 1]), node("MatMul", "x", "t")], shapes=TWO),
    "MatMul by a weight": Case([node("MatMul", "w", "x")], {"w": normal(5, 4)}, STEPS),
    "MatMul twice": Case(
        [node("MatMul", "x", "w", y="h"), node("Add", "h", "b", y="k"), node("Sub", "k", "h")],
        {"w": normal(6, 5), "b": normal(5)},
    ),
    "Gemm": Case(
        [node("Gemm", "x", "w", "b", transB=1)],
        {"w": normal(5, 6), "b": normal(5)},
        {"x": ("batch", 6)},
        finds=["Dense"],
    ),
    "Gemm alpha": Case(
        [node("Gemm", "x", "w", "b", alpha=0.5, beta=0.25)], {"w": normal(6, 5), "b": normal(1, 5)}, {"x": ("batch", 6)}
    ),
    "Gemm of values": Case([node("Gemm", "x", "z", transA=1)], shapes={"x": ("batch", 6), "z": ("batch", 5)}),
    "Gemm without bias": Case([node("Gemm", "x", "w")], {"w": normal(6, 5)}, {"x": ("batch", 6)}),
    "Einsum": Case([node("Einsum", "x", "z", equation="btd, bsd -> bts")], shapes={**TWO, "z": ("batch", "other", 6)}),
    "Einsum implicit": Case([node("Einsum", "x", "w", equation="bij,jk")], {"w": normal(6, 3)}),
    # convolutions and pooling
    "Conv 1D": Case(
        [node("Conv", "x", "w", "b", pads=[2, 1], dilations=[2])], {"w": normal(5, 4, 3), "b": normal(5)}, STEPS
    ),
    "Conv 1D groups": Case([node("Conv", "x", "w", group=2, strides=[2])], {"w": normal(6, 2, 3)}, STEPS),
    "Conv 2D": Case(
        [node("Conv", "x", "w", "b", pads=[1, 0, 2, 1], strides=[1, 2])],
        {"w": normal(5, 4, 3, 2), "b": normal(5)},
        IMAGE,
    ),
    "Conv same": Case([node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2])], {"w": normal(5, 4, 4)}, STEPS),
    "Conv same, lower": Case([node("Conv", "x", "w", auto_pad="SAME_LOWER")], {"w": normal(5, 4, 4)}, STEPS),
    "Conv valid": Case([node("Conv", "x", "w", auto_pad="VALID")], {"w": normal(5, 4, 3)}, STEPS),
    "MaxPool": Case([node("MaxPool", "x", kernel_shape=[3], strides=[2], pads=[1, 1])], shapes=STEPS),
    "MaxPool 2D": Case([node("MaxPool", "x", kernel_shape=[2, 3], dilations=[1, 2])], shapes=IMAGE),
    "AveragePool": Case([node("AveragePool", "x", kernel_shape=[3], pads=[1, 1])], shapes=STEPS),
    "AveragePool counted": Case(
        [node("AveragePool", "x", kernel_shape=[3], pads=[1, 1], count_include_pad=1)], shapes=STEPS
    ),
    "AveragePool same": Case([node("AveragePool", "x", kernel_shape=[2, 2], auto_pad="SAME_UPPER")], shapes=IMAGE),
    "GlobalAveragePool": Case([node("GlobalAveragePool", "x")], shapes=IMAGE),
    "GlobalMaxPool": Case([node("GlobalMaxPool", "x")], shapes=STEPS),
    # normalizations
    "BatchNormalization": Case(
        [node("BatchNormalization", "x", "s", "b", "m", "v", epsilon=0.01)],
        {"s": normal(4), "b": normal(4), "m": normal(4), "v": positive((4,))},
        STEPS,
    ),
    "LayerNormalization": one("LayerNormalization", weights={"s": normal(6), "b": normal(6)}, epsilon=0.01),
    "LayerNormalization of two axes": Case(
        [node("LayerNormalization", "x", "s", axis=1)], {"s": normal(4, 5)}, {"x": ("batch", 4, 5)}
    ),
    "RMSNormalization": one("RMSNormalization", opset=23, weights={"s": normal(6)}),
    "GroupNormalization": Case(
        [node("GroupNormalization", "x", "s", "b", num_groups=2)], {"s": normal(4), "b": normal(4)}, STEPS, opset=21
    ),
    "InstanceNormalization": Case(
        [node("InstanceNormalization", "x", "s", "b")], {"s": normal(4), "b": normal(4)}, STEPS
    ),
    "LpNormalization": one("LpNormalization"),
    "LpNormalization axis": one("LpNormalization", axis=1, p=1),
    # moves
    "Transpose": one("Transpose", perm=[1, 2, 0]),
    "Transpose all": one("Transpose"),
    "Reshape": one("Reshape", weights={"s": integers(0, -1, 2, 3)}),
    "Reshape by Shape": Case(
        [
            node("Shape", "x", y="s"),
            node("Gather", "s", "zero", y="batch", axis=0),
            node("Unsqueeze", "batch", "zeros", y="first"),
            node("Concat", "first", "rest", y="t", axis=0),
            node("Reshape", "x", "t"),
        ],
        {"zero": np.int64(0), "zeros": integers(0), "rest": integers(-1, 3)},
    ),
    "Reshape of a product": Case(
        [
            node("Shape", "x", y="s", end=2),
            node("ReduceProd", "s", y="p", keepdims=1),
            node("Concat", "p", "rest", y="t", axis=0),
            node("Reshape", "x", "t"),
        ],
        {"rest": integers(6)},
    ),
    "Flatten": one("Flatten"),
    "Flatten 2": one("Flatten", axis=2),
    "Flatten 0": Case([node("Flatten", "x", axis=0)], shapes={"x": ("batch", 6)}),
    "Squeeze": Case([node("Squeeze", "x", "a")], {"a": integers(1)}, {"x": ("batch", 1, 6)}),
    "Squeeze of old": Case([node("Squeeze", "x", axes=[-2])], {}, {"x": ("batch", 1, 6)}, opset=11),
    "Unsqueeze": one("Unsqueeze", weights={"a": integers(1, -1)}),
    "Unsqueeze of old": one("Unsqueeze", opset=11, axes=[1, 2]),
    "Concat": Case([node("Concat", "x", "z", "w", axis=-1)], {"w": normal(1, 1, 6)}, {"x": (1, 1, 6), "z": (1, 1, 3)}),
    "Concat in time": Case(
        [node("Concat", "x", "z", axis=1)], shapes={"x": ("batch", "time", 6), "z": ("batch", "other", 6)}
    ),
    "Split": Case(
        [helper.make_node("Split", ["x", "s"], ["a", "b"], axis=2), node("Concat", "b", "a", axis=2)],
        {"s": integers(2, 4)},
    ),
    "Split equal": Case([helper.make_node("Split", ["x"], ["a", "b"], axis=-1), node("Sub", "b", "a")]),
    "Split of old": Case(
        [helper.make_node("Split", ["x"], ["a", "b"], axis=2, split=[5, 1]), node("Mul", "b", "a")], opset=11
    ),
    "Split of 18": Case(
        [helper.make_node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2), node("Sub", "b", "a")], opset=18
    ),
    "Slice": one(
        "Slice", weights={"s": integers(1, 0), "e": integers(-1, 2**63 - 1), "a": integers(1, 2), "t": integers(1, 2)}
    ),
    "Slice of old": one("Slice", opset=9, starts=[1, -2], ends=[100, 6], axes=[1, 2]),
    "Slice backwards": one(
        "Slice", weights={"s": integers(-1), "e": integers(-(2**63)), "a": integers(1), "t": integers(-1)}
    ),
    "Slice to the length less one": Case(
        [
            node("Shape", "x", y="s"),
            node("Gather", "s", "i", y="n"),
            node("Sub", "n", "i", y="m"),
            node("Slice", "x", "zero", "m", "i"),
        ],
        {"i": integers(1), "zero": integers(0)},
    ),
    "Gather": one("Gather", weights={"i": np.int64(-1)}, axis=1),
    "Gather several": one("Gather", weights={"i": integers(4, 0, 2)}, axis=2),
    "Gather in order": one("Gather", weights={"i": integers(1, 3, 5)}, axis=2),
    "Gather by values": Case(
        [node("Gather", "x", "n", axis=2)],
        {},
        {"x": ("batch", "time", 6), "n": ("count",)},
        make={"n": lambda shape: _random.integers(0, 6, shape)},
        types={"n": INT64},
    ),
    "Embedding": Case(
        [node("Gather", "emb.weight", "x")],
        {"emb.weight": normal(9, 5)},
        {"x": ("batch", "time")},
        make={"x": lambda shape: _random.integers(0, 9, shape)},
        types={"x": INT64},
        finds=["Embedding"],
    ),
    "Expand": Case([node("Expand", "x", "s")], {"s": integers(2, 1, 7, 6)}, {"x": ("batch", 1, 6)}),
    "Expand by Shape": Case(
        [node("Shape", "z", y="s"), node("Expand", "x", "s")], {}, {"x": ("batch", 1, 6), "z": ("batch", "time", 6)}
    ),
    "Tile": Case([node("Tile", "x", "r")], {"r": integers(1, 4, 3)}, {"x": ("batch", 1, 6)}),
    "Pad": one("Pad", weights={"p": integers(0, 2, 0, 0, 1, 0), "v": np.float32(0.5)}),
    "Pad of old": one("Pad", opset=10, pads=[0, 1, 2, 0, 0, 1], value=0.5),
    "Pad reflect": one("Pad", weights={"p": integers(0, 2, 0, 0, 1, 0)}, mode="reflect"),
    "Pad edge": one("Pad", weights={"p": integers(0, 2, 0, 0, 1, 0)}, mode="edge"),
    "Pad off": one("Pad", weights={"p": integers(0, -1, 0, 0, 1, 0)}),
    "Pad axes": Case([node("Pad", "x", "p", "", "a")], {"p": integers(2, 1), "a": integers(1)}, opset=18),
    "Dropout": one("Dropout"),
    "Resize": Case([node("Resize", "x", "", "s", mode="nearest")], {"s": np.array([1, 1, 3], np.float32)}, STEPS),
    "Resize floor": Case(
        [
            node(
                "Resize",
                "x",
                "",
                "s",
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        ],
        {"s": np.array([1, 1, 2], np.float32)},
        STEPS,
    ),
    "Upsample": Case([node("Upsample", "x", "s")], {"s": np.array([1, 1, 2], np.float32)}, STEPS, opset=9),
    "ConstantOfShape": Case(
        [
            node("Shape", "x", y="s"),
            node("ConstantOfShape", "s", y="c", value=helper.make_tensor("v", 1, [1], [1.5])),
            node("Sub", "x", "c"),
        ]
    ),
    "Range": Case(
        [
            node("Shape", "x", y="s"),
            node("Gather", "s", "one", y="n"),
            node("Range", "zero", "n", "one", y="r"),
            node("Cast", "r", y="f", to=1),
            node("Unsqueeze", "f", "ones", y="u"),
            node("Mul", "x", "u"),
        ],
        {"one": np.int64(1), "zero": np.int64(0), "ones": integers(1)},
    ),
    "Where of lengths": Case(
        [
            node("Shape", "x", y="s"),
            node("Equal", "wanted", "minus", y="e"),
            node("Where", "e", "ones", "wanted", y="t"),
            node("Expand", "z", "t"),
        ],
        {"wanted": integers(-1, 4, 6), "minus": integers(-1, -1, -1), "ones": integers(1, 1, 1)},
        {"x": ("batch", "time", 6), "z": ("batch", 1, 6)},
    ),
    # reductions
    **{
        op: one(op, axes=[1], keepdims=0)
        for op in (
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSumExp",
            "ReduceSumSquare",
        )
    },
    "ReduceSum": one("ReduceSum", weights={"a": integers(-1)}),
    "ReduceSum of all": one("ReduceSum", keepdims=0),
    "ReduceSum of none": one("ReduceSum", noop_with_empty_axes=1),
    "ReduceMean of 18": one("ReduceMean", opset=18, weights={"a": integers(0, 2)}, keepdims=0),
    "ReduceLogSum": Case([node("ReduceLogSum", "x", axes=[2])], make={"x": positive}),
    "ArgMax": Case([node("ArgMax", "x", axis=-1, keepdims=0)], gives={"y": INT64}),
    "ArgMin": Case([node("ArgMin", "x", axis=1)], gives={"y": INT64}),
}
