"""Random inputs, and one kernel of each framework as a function of arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Kernel: TypeAlias = Callable[..., Any]
Random: TypeAlias = np.random.Generator

SIZES = (1, 2, 3, 7, 16, 33, 64, 129)
LONG = (*SIZES, 300, 512, 1000, 3000)


@dataclass(frozen=True)
class Draw:
    """One operation on inputs.

    Args:
        operation: of a graph.
        inputs: float32.
        kernels: what computes it, by engine.
        case: its options in words.
    """

    operation: Any
    inputs: tuple[Array, ...]
    kernels: dict[str, Kernel]
    case: str


@cache
def _ops() -> Any:
    import keras

    return keras.ops


def torched(function: Kernel) -> Kernel:
    """A function of torch tensors, of arrays."""
    return lambda *arrays: function(*(torch.from_numpy(np.ascontiguousarray(x)) for x in arrays)).numpy()


def kerased(function: Kernel) -> Kernel:
    """A function of `keras.ops` and tensors, of arrays."""
    return lambda *arrays: np.asarray(function(_ops(), *(_ops().convert_to_tensor(x) for x in arrays)))


def layered(make: Callable[[Any], Any], held: Sequence[Array] = ()) -> Kernel:
    """A layer of Keras with weights, of one array."""

    def kernel(x: Array) -> Array:
        import keras

        layer = make(keras)
        layer.build(x.shape)
        layer.set_weights(list(held))
        return np.asarray(layer(x))

    return kernel


def onnxed(operator: str, constants: dict[str, Array] | None = None, **attributes: Any) -> Kernel:
    """One ONNX operator of arrays, with further inputs that are constant."""

    def kernel(*arrays: Array) -> Array:
        given = {f"x{index}": array for index, array in enumerate(arrays)} | (constants or {})
        node = helper.make_node(operator, list(given), ["y"], **attributes)
        kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        inputs = [helper.make_tensor_value_info(n, kinds[str(a.dtype)], a.shape) for n, a in given.items()]
        graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        found: Array = onnxruntime.InferenceSession(onnx.ModelProto.SerializeToString(model), options).run(None, given)[
            0
        ]
        return found

    return kernel


def numbers(random: Random, *shape: int, positive: bool = False) -> Array:
    """Random float32 of a random kind: normal, uniform, sparse, or around a large mean, of scales from 1e-2 to 1e2."""
    x = random.standard_normal(shape)
    kind = random.integers(4)
    if kind == 1:
        x = random.uniform(-1, 1, shape)
    elif kind == 2:
        x *= random.random(shape) < 0.3
    elif kind == 3:
        x += random.choice([-1, 1]) * 10.0 ** random.uniform(0, 2)
    x = x * 10.0 ** random.uniform(-2, 2)
    found: Array = (np.abs(x) + 1e-3 if positive else x).astype(np.float32)
    return found


def weights(random: Random, *shape: int) -> Array:
    """Random float32 as trained weights are."""
    terms = int(np.prod(shape[:-1])) or 1
    found: Array = (random.standard_normal(shape) * random.choice([0.1, 1, 2]) / np.sqrt(terms)).astype(np.float32)
    return found


def pick(random: Random, values: tuple[int, ...]) -> int:
    """One of some lengths."""
    return int(random.choice(values))
