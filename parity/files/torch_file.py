"""The `.pt` and `.pth` file: a zip of a pickle and one raw record for each storage. Imports no framework.

A pickle is a program. Here it may call three functions of this module's own and nothing else: no class of the file's
choosing is ever imported. Source: torch's `serialization.py`, `_utils.py` and `inline_container.h`.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.archive import Archive
from parity.files.bfloat16 import from_bfloat16
from parity.layouts import CHECKPOINT_KEYS
from parity.recurrent import Array

_BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""Stands for a type that NumPy does not have, of the same size."""

STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "BFloat16Storage": _BFLOAT16,
}
"""torch's storages and NumPy's types for them."""

_SAVE_STATE = "save the numbers only: torch.save(module.state_dict(), path)"
_ALIGNMENT, _HEADER_BYTES, _ZIP64_BYTES, _ZIP_DATE = 64, 30, 20, (1980, 1, 1, 0, 0, 0)
_MOST_PICKLE_BYTES, _MOST_REUSE = 1 << 26, 16


class _Mapping(dict[Any, Any]):
    """Stands in for collections.OrderedDict; what torch hangs on it (`_metadata`) is dropped."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


class _NewMapping:
    __slots__ = ()

    def __call__(self, *items: Any) -> _Mapping:
        return _Mapping(*items)


class _StorageType:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Storage:
    __slots__ = ("dtype", "key", "length")

    def __init__(self, dtype: np.dtype[Any], key: str, length: int) -> None:
        self.dtype, self.key, self.length = dtype, key, length


class _View:
    """A tensor: where it stands in a storage. Nothing is read before all of them have been checked."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class _NewView:
    """Stands in for torch._utils._rebuild_tensor_v2."""

    __slots__ = ()

    def __call__(self, storage: object, offset: object, shape: object, strides: object, *_: object) -> _View:
        numbers = [offset, *_sizes(shape), *_sizes(strides)]
        if not isinstance(storage, _Storage) or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("a tensor without a storage, or with sizes that are no numbers")
        view = _View(storage, int(str(offset)), _sizes(shape), _sizes(strides))
        count = math.prod(view.shape)
        if len(view.shape) != len(view.strides) or len(view.shape) > 32:
            raise ValueError("a tensor whose sizes and strides do not fit each other")
        last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
        if count and (last >= storage.length or count > storage.length):
            raise ValueError(f"a tensor of shape {view.shape} reaches beyond its storage of {storage.length} numbers")
        return view


class _NewParameter:
    """Stands in for torch._utils._rebuild_parameter: the tensor itself."""

    __slots__ = ()

    def __call__(self, view: object, *_: object) -> object:
        return view


_ALLOWED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _NewMapping(),
    ("torch._utils", "_rebuild_tensor_v2"): _NewView(),
    ("torch._utils", "_rebuild_parameter"): _NewParameter(),
    **{("torch", name): _StorageType(name) for name in STORAGES},
}
"""All that a pickle may name, and what stands in for it here."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global that the pickle names; any other name is refused before anything is called."""
        stand_in = _ALLOWED.get((module, name))
        if stand_in is not None:
            return stand_in
        if module.startswith("torch.nn.modules"):
            raise UnsupportedError(
                "the file holds a whole module, not a state dict", got=f"{module}.{name}", remedy=_SAVE_STATE
            )
        raise FormatError(
            "the file wants to call something that no tensor needs; it was not run",
            expected="tensors in dicts",
            got=f"{module}.{name}",
            remedy=f"if you trust it, open it in torch and {_SAVE_STATE}",
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """The description of a storage that the pickle refers to; its bytes are read later."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not isinstance(pid[1], _StorageType):
            raise ValueError("a reference that is not to a storage")
        _, kind, key, _, length = pid
        if type(key) is not str or type(length) is not int or length < 0:
            raise ValueError("a storage without a name or a length")
        dtype = STORAGES[kind.name]
        return _Storage(dtype, key, length)


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a `.pt` file by name: a state dict, alone or under "state_dict" in a checkpoint.

    Nothing in the file is run, and no record is read before all sizes are known to fit it.

    Raises:
        FormatError: a damaged file, none of this format, or one that wants to call something; names it.
        UnsupportedError: a whole module, TorchScript, the format before torch 1.6, big-endian tensors.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.pt"
        >>> with path.open("wb") as file: write_tensors({"x": np.ones((2, 3), np.float32)}, file)
        >>> read_tensors(path)["x"].shape
        (2, 3)
    """
    with path.open("rb") as file:
        start = file.read(64)
    if b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in start:
        remedy = "load it in torch and save it again: torch.save(state_dict, path)"
        raise UnsupportedError(
            "the format that torch wrote before 1.6 is not read", str(path), "a zip archive", "a bare pickle", remedy
        )
    with Archive(path, "a file of torch.save") as archive:
        root = _root(archive)
        content = archive.read(f"{root}data.pkl", _MOST_PICKLE_BYTES)
        try:
            _check_memo(content)
            found = _Unpickler(io.BytesIO(content)).load()
        except ParityError as error:
            problem = error.problems[0]
            raise type(error)(problem.what, str(path), problem.expected, problem.got, problem.remedy) from error
        except Exception as error:  # a broken pickle may raise anything
            raise archive.fault(
                "its pickle is damaged", "a pickle of tensors", str(error) or type(error).__name__
            ) from error
        return _read_views(archive, root, _views(archive, found))


def _root(archive: Archive) -> str:
    """The folder that every member stands in, with its slash."""
    pickles = [name for name in archive.names if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1]
    if len(pickles) != 1:
        raise archive.fault(
            "it has no data.pkl", "one folder with data.pkl and data/", ", ".join(archive.names[:8]) or "nothing"
        )
    root = pickles[0][: -len("data.pkl")]
    if f"{root}constants.pkl" in archive.names or any(name.startswith(f"{root}code/") for name in archive.names):
        remedy = "load it with torch.jit.load and torch.save(module.state_dict(), path)"
        raise UnsupportedError("a TorchScript program is not read", str(archive.path), "a state dict", "code/", remedy)
    if f"{root}byteorder" in archive.names and archive.read(f"{root}byteorder", 64) != b"little":
        remedy = "load it in torch and save it on a little-endian machine"
        raise UnsupportedError("the byte order is not little", str(archive.path), "little", "big", remedy)
    return root


def _check_memo(content: bytes) -> None:
    """Let no pickle ask for a memo larger than itself (the unpickler would take the memory), and none be cut short."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise ValueError(f"memo index {argument} in a pickle of {len(content)} bytes")


def _views(archive: Archive, found: object) -> dict[str, _View]:
    if isinstance(found, dict) and not any(isinstance(value, _View) for value in found.values()):
        nested = [key for key in CHECKPOINT_KEYS if isinstance(found.get(key), dict)]
        if len(nested) > 1:
            raise archive.fault("it has several state dicts", "one", ", ".join(nested), _SAVE_STATE)
        found = found[nested[0]] if nested else found
    if not isinstance(found, dict) or not found:
        raise archive.fault("it does not hold a state dict", "tensors by name", type(found).__name__, _SAVE_STATE)
    views: dict[str, _View] = {}
    for key, value in found.items():
        if type(key) is not str or not isinstance(value, _View):
            got = f"{str(key)[:80]}: {type(value).__name__.strip('_')}"
            raise archive.fault("it holds something else than tensors by name", "tensors by name", got, _SAVE_STATE)
        views[key] = value
    return views


def _read_views(archive: Archive, root: str, views: Mapping[str, _View]) -> dict[str, Array]:
    total = sum(math.prod(view.shape) * view.storage.dtype.itemsize for view in views.values())
    most = _MOST_REUSE * archive.path.stat().st_size
    if total > most:
        raise archive.fault("its tensors claim more than the file can hold", f"at most {most} bytes", f"{total} bytes")
    for name, view in views.items():
        size, stored = view.storage.length * view.storage.dtype.itemsize, archive.size(f"{root}data/{view.storage.key}")
        if size != stored:
            raise archive.fault(f"the storage of '{name[:80]}' has another length", f"{size} bytes", f"{stored} bytes")
    records: dict[str, bytes] = {}
    arrays: dict[str, Array] = {}
    for name, view in views.items():
        key, dtype = view.storage.key, view.storage.dtype
        if key not in records:
            records[key] = archive.read(f"{root}data/{key}")
        if not math.prod(view.shape):
            arrays[name] = np.empty(view.shape, dtype)
            continue
        numbers = np.frombuffer(records[key], dtype)[view.offset :]
        strides = [stride * dtype.itemsize for stride in view.strides]
        whole = np.lib.stride_tricks.as_strided(numbers, view.shape, strides, writeable=False).copy(order="C")
        arrays[name] = from_bfloat16(whole["bfloat16"]) if dtype == _BFLOAT16 else whole
    return arrays


def _sizes(value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise TypeError("sizes that are not a tuple")
    return value


# ---- writing


def write_tensors(arrays: Mapping[str, Array], file: BinaryIO) -> None:
    """Write a file that `torch.load(weights_only=True)` opens as a state dict; the same bytes for the same arrays.

    Raises:
        UnsupportedError: arrays of a type that torch has no storage for.
    """
    names = {dtype: name for name, dtype in STORAGES.items() if dtype != _BFLOAT16}
    stored = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    unknown = [f"{name}: {array.dtype}" for name, array in stored.items() if array.dtype not in names]
    if unknown:
        raise UnsupportedError(
            "torch has no storage for this type",
            expected="float32",
            got=", ".join(unknown),
            remedy="convert them to float32",
        )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write_record(archive, "archive/data.pkl", memoryview(_pickled(stored, names)))
        _write_record(archive, "archive/byteorder", memoryview(b"little"))
        for number, array in enumerate(stored.values()):
            _write_record(archive, f"archive/data/{number}", memoryview(array.reshape(-1).view(np.uint8).data))
        _write_record(archive, "archive/version", memoryview(b"3\n"))


def _write_record(archive: zipfile.ZipFile, name: str, content: memoryview) -> None:
    """A stored member whose bytes start at a multiple of 64, as torch maps them into memory."""
    info = zipfile.ZipInfo(name, _ZIP_DATE)
    info.file_size = content.nbytes
    large = content.nbytes >= zipfile.ZIP64_LIMIT // 2
    start = archive.start_dir + _HEADER_BYTES + len(name) + 4 + (_ZIP64_BYTES if large else 0)
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=large) as member:
        member.write(content)


def _pickled(arrays: Mapping[str, Array], storages: Mapping[np.dtype[Any], str]) -> bytes:
    """A protocol 2 pickle of an OrderedDict of tensors, storage N for the Nth."""
    empty = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    items = []
    for number, (name, array) in enumerate(arrays.items()):
        storage = pickle.MARK + _text("storage") + _global("torch", storages[array.dtype])
        storage += _text(str(number)) + _text("cpu") + _whole(array.size) + pickle.TUPLE + pickle.BINPERSID
        strides = [stride // array.itemsize for stride in array.strides]
        tensor = _global("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + storage + _whole(0)
        tensor += _tuple(array.shape) + _tuple(strides) + pickle.NEWFALSE + empty + pickle.TUPLE + pickle.REDUCE
        items.append(_text(name) + tensor)
    return pickle.PROTO + b"\x02" + empty + pickle.MARK + b"".join(items) + pickle.SETITEMS + pickle.STOP


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _whole(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def _tuple(values: Any) -> bytes:
    return pickle.MARK + b"".join(_whole(value) for value in values) + pickle.TUPLE
