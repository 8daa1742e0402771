"""What the pickles of torch are made of: storages, views of them, and the stand-ins for the functions that rebuild tensors.

Sources: torch's `_utils.py`, `_tensor.py`, `nn/parameter.py`, `serialization.py` (what it writes and calls);
`csrc/jit/serialization/pickler.cpp` (what TorchScript adds).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.stored import BFLOAT16

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
    "BFloat16Storage": BFLOAT16,
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
}
"""torch's storages and NumPy's types for them."""

SAVE_STATE = "save the numbers only: torch.save(module.state_dict(), path)"
_MOST_AXES, _MOST_NUMBER, _MOST_COUNT = 32, 1 << 60, 1 << 56

_UNTYPED: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4"), "uint64": np.dtype("<u8")}
"""Types that have no storage of their own: `_rebuild_tensor_v3` names them beside a storage of bytes."""

BESIDE = frozenset(
    f"{module}.{name}"
    for modules, names in (
        (("torch",), ("device",)),
        (("torch.serialization",), ("_get_layout",)),
        (("numpy",), ("dtype", "ndarray")),
        (("numpy.core.multiarray", "numpy._core.multiarray"), ("scalar", "_reconstruct")),
        (("builtins", "__builtin__"), ("set", "frozenset", "complex", "bytearray", "range", "slice")),
        (("_codecs",), ("encode",)),
        (("argparse",), ("Namespace",)),
        (("pathlib",), ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
        (("datetime",), ("datetime", "date", "timedelta")),
    )
    for module in modules
    for name in names
)
"""Plain data that people keep beside the tensors of a checkpoint: it is noted as a `Record`, not built."""


@dataclass(frozen=True, eq=False)
class Name:
    """A global that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:200]


@dataclass(eq=False)
class Record:
    """An object that the pickle describes: its class, what it would be called with, and its state."""

    name: Name
    arguments: object = ()
    state: object = None


class Mapped(dict[Any, Any]):
    """Stands in for `collections.OrderedDict`; `metadata` is what torch hangs on it as `_metadata`."""

    metadata: object = None


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers of one type, one after the other; a view of a storage begins at its number `start`."""

    kind: str
    key: str
    whole: int
    start: int
    length: int

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """NumPy's type, None where it has none."""
        return np.dtype("u1") if self.kind == "UntypedStorage" else STORAGES.get(self.kind)

    @property
    def itemsize(self) -> int:
        """Bytes of a number; 1 where the type is not known."""
        return 1 if self.dtype is None else self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class View:
    """A tensor: where it stands in a storage. `odd` says why it cannot be read, where it cannot."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    odd: str = ""

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class _Key:
    """A dict key that is neither text nor a number: kept, compared with nothing."""

    value: object = field(repr=False)


def refusal(name: Name, new: bool = False) -> ParityError:
    """Why a call is not carried out, to be raised; without a `where`.

    Args:
        name: what was to be called.
        new: whether an object of a class was to be made.

    Example:
        >>> print(refusal(Name("os", "system")).problems[0].got)
        os.system
    """
    if name.module.startswith("torch.nn.modules"):
        return UnsupportedError(
            "the file holds a whole module, not a state dict", got=str(name), remedy=f"in torch, {SAVE_STATE}"
        )
    if name.module == "torch._utils" and name.name in _ODD_TENSORS:
        kind = _ODD_TENSORS[name.name]
        return UnsupportedError(
            f"the file holds {kind}", expected="dense tensors", got=str(name), remedy="save dense tensors of floats"
        )
    what = (
        "make an object of a class, as a whole module does; it was not made"
        if new
        else "call something that no tensor needs; it was not run"
    )
    return FormatError(
        f"the file wants to {what}",
        expected="tensors in dicts",
        got=str(name),
        remedy=f"if you trust it, open it in torch and {SAVE_STATE}",
    )


def filled(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """A dict with more entries: keys and values in turn. Keys other than texts and whole numbers are never compared.

    Raises:
        ValueError: a key without a value.

    Example:
        >>> filled({}, ["epoch", 3])
        {'epoch': 3}
    """
    if len(items) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        plain = isinstance(key, str) or (isinstance(key, int) and abs(key) < _MOST_NUMBER)
        target[key if plain else _Key(key)] = value
    return target


def storage_of(pid: object) -> Storage:
    """The storage that a persistent id refers to: (storage, type, key, location, length), before torch 1.6 with a view, too."""
    if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], Name):
        raise UnsupportedError(
            "the file holds a whole module, not a state dict", got=str(pid[1]), remedy=f"in torch, {SAVE_STATE}"
        )
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or not isinstance(pid[1], Name):
        raise ValueError("a reference that is not to a storage")
    _, kind, key, _, length, *views = pid
    if kind.module not in _STORAGE_MODULES or not kind.name.endswith("Storage"):
        raise refusal(kind)
    start, visible = 0, length
    if views and views[0] is not None:
        _, start, visible = views[0]
    if type(key) is not str or not all(type(n) is int and 0 <= n < _MOST_NUMBER for n in (length, start, visible)):
        raise ValueError("a storage without a name or a length")
    if start + visible > length:
        raise ValueError("a view that reaches beyond its storage")
    return Storage(kind.name, key, length, start, visible)


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple):
        raise TypeError("sizes that are not a tuple")
    if len(value) > _MOST_AXES:
        raise ValueError("a tensor with more axes than there can be")
    if any(type(number) is not int or not 0 <= number < _MOST_NUMBER for number in value):
        raise ValueError("a tensor with sizes that are no numbers")
    return value


def _odd_bits(metadata: object) -> str:
    bits = [key for key, value in metadata.items() if value] if isinstance(metadata, dict) else []
    return f"a tensor with the bits {', '.join(map(str, bits))[:80]} set" if bits else ""


def _tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> View:
    """Stands in for `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`."""
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    if storage.dtype is None:
        odd = f"numbers of {storage.kind.removesuffix('Storage')[:40]}"
        return _view(storage, offset, shape, strides, np.dtype("u1"), odd, 1)
    odd = _odd_bits(rest[2]) if len(rest) > 2 else ""
    return _view(storage, offset, shape, strides, storage.dtype, odd, 1)


def _typed_tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> View:
    """Stands in for `torch._utils._rebuild_tensor_v3`, whose storage counts bytes."""
    dtype, more = rest[2], rest[3:]  # the others, requires_grad and hooks, are for training
    if not isinstance(storage, Storage) or not isinstance(dtype, Name):
        raise TypeError("a tensor without a storage or a type")
    known = _UNTYPED.get(dtype.name) if dtype.module == "torch" and storage.kind == "UntypedStorage" else None
    if known is None:
        return _view(storage, offset, shape, strides, np.dtype("u1"), f"numbers of {dtype}", 1)
    odd = _odd_bits(more[0]) if more else ""
    return _view(storage, offset, shape, strides, known, odd, known.itemsize)


def _view(
    storage: Storage, offset: object, shape: object, strides: object, dtype: np.dtype[Any], odd: str, size: int
) -> View:
    (first,) = _sizes((offset,))
    view = View(storage, first, _sizes(shape), _sizes(strides), dtype, odd)
    if len(view.shape) != len(view.strides):
        raise ValueError("a tensor whose sizes and strides do not fit each other")
    if math.prod(max(length, 1) for length in view.shape) >= _MOST_COUNT:
        raise ValueError("a tensor with more numbers than there can be")
    last = first + sum((length - 1) * stride for length, stride in zip(view.shape, view.strides, strict=True))
    if view.count and (last + 1) * size > storage.length:
        raise ValueError(
            f"a tensor of shape {view.shape} reaches beyond its storage of {storage.length // size} numbers"
        )
    return view


def _itself(data: object, *_: object) -> object:
    """Stands in for what wraps a tensor: a parameter."""
    if not isinstance(data, View):
        raise TypeError("a parameter without a tensor")
    return data


def _subclass(function: object, kind: object, arguments: object, *_: object) -> object:
    """Stands in for `torch._tensor._rebuild_from_type_v2`: a tensor with attributes of its own, which are dropped."""
    if not isinstance(function, Name) or not isinstance(kind, Name) or not isinstance(arguments, tuple):
        raise TypeError("a tensor without a way to make it")
    if str(kind) not in _TENSOR_CLASSES or str(function) not in _TENSOR_CALLS:
        raise refusal(function if str(function) not in _TENSOR_CALLS else kind)
    return CALLS[str(function)](*arguments)


def _mapping(*items: Any) -> Mapped:
    """Stands in for `collections.OrderedDict`; Python 2 gives it its pairs at once."""
    (pairs,) = items or ([],)
    if not isinstance(pairs, (dict, list)):
        raise TypeError("a dict of what are no pairs")
    given = pairs.items() if isinstance(pairs, dict) else pairs
    made = Mapped()
    filled(made, [part for key, value in given for part in (key.value if isinstance(key, _Key) else key, value)])
    pairs.clear()  # so that a pickle cannot have one long list copied again and again
    return made


def _size(sizes: object = ()) -> tuple[int, ...]:
    """Stands in for `torch.Size`."""
    return _sizes(tuple(sizes) if isinstance(sizes, list) else sizes)


_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
SCRIPT_MODULES = ("torch.jit._pickle",)
SCRIPT_CALLS = ("restore_type_tag", "build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
_TENSOR_CLASSES = ("torch.Tensor", "torch._tensor.Tensor", "torch.tensor.Tensor", "torch.nn.parameter.Parameter")
_ODD_TENSORS = {
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor on the meta device, which has no numbers",
    "_rebuild_device_tensor_from_numpy": "a tensor of a device that saves it as a NumPy array",
    "_rebuild_wrapper_subclass": "a tensor of a wrapper class",
}

CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": lambda *_: Mapped(),
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _itself,
    "torch._utils._rebuild_parameter_with_state": _itself,
    "torch.nn.parameter.Parameter": _itself,
    "torch.autograd.variable.Variable": _itself,
    "torch._tensor._rebuild_from_type": _subclass,
    "torch._tensor._rebuild_from_type_v2": _subclass,
}
"""All that is carried out when a pickle calls it, and what does it here."""

_TENSOR_CALLS = tuple(name for name, call in CALLS.items() if call in (_tensor, _typed_tensor, _itself))
