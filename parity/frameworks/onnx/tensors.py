"""The tensors of an ONNX model: in the model itself, still in its file, or in a file beside it."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from parity.deferred import Array, Stored
from parity.errors import FormatError, Problem
from parity.files.stored import BFLOAT16, Raw
from parity.frameworks.onnx.wire import Place, Places, read_without_tensors

_BITS = {
    getattr(TensorProto, name): bits
    for bits, names in {
        2: ("INT2", "UINT2"),
        4: ("INT4", "UINT4", "FLOAT4E2M1"),
        6: ("FLOAT6E2M3", "FLOAT6E3M2"),
    }.items()
    for name in names
    if hasattr(TensorProto, name)
}
"""Types whose numbers are packed in less than a byte each."""

_SHOWN = 20


@dataclass(frozen=True)
class Lazy:
    """A tensor that is read when it is asked for.

    Args:
        shape: lengths of its axes.
        dtype: of what is read.
        read: gives all of it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]

    def __getitem__(self, rows: Any) -> Array:
        """A slice along the first axis, or everything for `()`."""
        found: Array = self.read()[rows]
        return found


class Tensors:
    """Gives the tensors of one model.

    Args:
        places: where the contents of its large tensors stand; without, all of them are in the model.
        where: the model, in messages.
    """

    def __init__(self, places: Places | None = None, where: str = "the onnx.ModelProto") -> None:
        self._places, self.where = places, where

    def stored(self, tensor: TensorProto) -> Stored:
        """A tensor, its sizes checked. What stands in a file is read when it is asked for; bfloat16 is `BFLOAT16` there.

        Raises:
            FormatError: sizes that do not fit the contents, or an unknown type.
        """
        shape = tuple(tensor.dims)
        place = self.place(tensor)
        if place is None:
            array = self._parsed(tensor)
            return array.view(BFLOAT16) if array.dtype.name == "bfloat16" else array
        size = _size(tensor)
        if min(shape, default=0) < 0 or size != place.length:
            raise self._wrong(tensor, f"{list(shape)}: {size} bytes", f"{place.length} bytes")
        dtype = self._dtype(tensor)
        if dtype.name == "bfloat16":
            return Raw(place.path, place.offset, shape, BFLOAT16)
        if tensor.data_type in _BITS:
            return Lazy(shape, dtype, lambda: numpy_helper.to_array(self.filled(tensor)))
        return Raw(place.path, place.offset, shape, dtype.newbyteorder("<"))

    def array(self, tensor: TensorProto) -> Array:
        """All numbers of a tensor, bfloat16 in the type of that name."""
        found = self.stored(tensor)
        array = np.asarray(found[()])
        return array.view(self._dtype(tensor)) if found.dtype == BFLOAT16 else array

    def place(self, tensor: TensorProto) -> Place | None:
        """Where the contents stand if not in the model."""
        return self._places.place(tensor.raw_data) if self._places is not None else None

    def filled(self, tensor: TensorProto) -> TensorProto:
        """A copy with its contents in it."""
        whole = TensorProto()
        whole.CopyFrom(tensor)
        place = self.place(tensor)
        if place is not None:
            whole.raw_data = np.fromfile(place.path, np.uint8, place.length, offset=place.offset).tobytes()
            if len(whole.raw_data) != place.length:
                raise self._wrong(tensor, f"{place.length} bytes", "the file has become shorter")
        return whole

    def _parsed(self, tensor: TensorProto) -> Array:
        if min(tensor.dims, default=0) < 0:
            raise self._wrong(tensor, "sizes of 0 and more", str(list(tensor.dims)))
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except Exception as error:  # whatever onnx meets in a tensor that holds less than it says
            raise self._wrong(tensor, f"numbers for {list(tensor.dims)}", str(error)) from error

    def _dtype(self, tensor: TensorProto) -> np.dtype[Any]:
        try:
            return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        except (KeyError, ValueError, TypeError) as error:
            raise self._wrong(tensor, "a type that onnx knows", f"type {tensor.data_type}") from error

    def _wrong(self, tensor: TensorProto, expected: str, got: str) -> FormatError:
        what = "a tensor whose contents do not fit its sizes"
        return FormatError(what, f"tensor '{tensor.name}' of {self.where}", expected, got, "export the model anew")


def _size(tensor: TensorProto) -> int:
    """Bytes that the contents of a tensor take in a file; -1 for a type of no fixed size."""
    count = math.prod(int(size) for size in tensor.dims)
    if tensor.data_type in _BITS:
        return -(-count * _BITS[tensor.data_type] // 8)
    if tensor.data_type == TensorProto.STRING:
        return -1
    try:
        dtype: np.dtype[Any] = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        return count * dtype.itemsize
    except (KeyError, ValueError, TypeError):
        return -1


def tensors_in(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: initializers and attributes, at any depth."""
    yield from _in_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _in_node(node)
    for training in model.training_info:
        yield from _in_graph(training.initialization)
        yield from _in_graph(training.algorithm)


def _in_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _in_node(node)


def _in_node(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            *attribute.sparse_tensors,
        ):
            yield from (sparse.values, sparse.indices)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _in_graph(graph)


# ---- external data


def open_model(path: Path) -> tuple[onnx.ModelProto, Tensors]:
    """The model in a file, with what gives its tensors: none of the large ones is read, nor what stands in files beside it.

    Raises:
        FormatError: not an ONNX model, a damaged one, or one whose weights stand in files that are missing, too short or outside
            its folder; all of them.
    """
    model, places = read_without_tensors(path)
    problems: list[Problem] = []
    for tensor in tensors_in(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        try:
            place = _external(tensor, path)
        except FormatError as error:
            problems += error.problems
            continue
        tensor.ClearField("data_location")
        del tensor.external_data[:]
        tensor.raw_data = places.note(place)
    if problems:
        raise FormatError(problems[:_SHOWN])
    return model, Tensors(places, str(path))


def _external(tensor: TensorProto, path: Path) -> Place:
    """Where the contents of a tensor stand, checked to be in a regular file in the model's folder.

    Source: onnx, docs/ExternalData.md: `location` is relative to the model's folder, `offset` and `length` are bytes.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    location, where = said.get("location", ""), f"tensor '{tensor.name}' of {path}"
    remedy = f"put the file it names beside {path.name}, or save the model in one piece"
    inner = PurePosixPath(location)
    outside = inner.is_absolute() or PureWindowsPath(location).anchor or ".." in PureWindowsPath(location).parts
    if not location or outside or "\0" in location or not inner.parts:
        expected = "the name of a file in the model's folder"
        raise FormatError("weights outside the model's folder are not read", where, expected, repr(location), remedy)
    folder = path.parent.resolve()
    try:
        target = (path.parent / inner).resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError, ValueError) as error:
        raise FormatError("a file with weights is missing", where, location, str(error), remedy) from error
    if not target.is_relative_to(folder):
        raise FormatError("a link leads out of the model's folder", where, str(folder), location, remedy)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError("weights stand in something that is no file", where, "a regular file", location, remedy)
    return Place(target, *_checked_range(tensor, said, status.st_size, location, where))


def _checked_range(tensor: TensorProto, said: dict[str, str], size: int, location: str, where: str) -> tuple[int, int]:
    """Offset and length, inside the file and as long as the tensor's sizes say."""
    needed = _size(tensor) if min(tensor.dims, default=0) >= 0 else -1
    try:
        offset, length = int(said.get("offset") or 0), int(said.get("length") or needed)
    except ValueError:
        offset, length = -1, -1
    if not 0 <= offset <= offset + length <= size or length != needed or needed < 0:
        got = f"offset {said.get('offset', '0')[:40]}, length {said.get('length', 'not given')[:40]}"
        expected = f"{needed} bytes for {list(tensor.dims)} inside the {size} of {location}"
        if needed < 0:
            expected = "sizes of 0 and more and a type of fixed size"
            got = f"{list(tensor.dims)}, type {tensor.data_type}"
        raise FormatError(
            "weights that do not fit the file they stand in",
            where,
            expected,
            got,
            "get the file anew, or export it again",
        )
    return offset, length
