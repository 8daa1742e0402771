"""The `.pt` file of torch before 1.6: pickles one after the other, then the numbers of every storage.

    pickle: magic number · pickle: 1001 · pickle: {"protocol_version", "little_endian", "type_sizes"} · pickle: the tensors, their storages
    by key · pickle: the keys in order · for each key: how many numbers (int64, little endian), then the numbers

Source: torch's `serialization.py`, `_legacy_save` and `_legacy_load`; `csrc/generic/serialization.cpp`, THPStorage_writeFileRaw.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.archive import FETCH_ANEW
from parity.files.stored import Contents
from parity.files.torch.checkpoint import choose
from parity.files.torch.rebuild import Storage
from parity.files.torch.storage import Place, placed_tensors
from parity.files.torch.unpickling import MOST_PICKLE_BYTES, Interpreter, placed

MAGIC = 0x1950A86A20F9469CFC6C
WHAT = "a file of torch.save before 1.6"
_MAGIC_BYTES, _PROTOCOL = MAGIC.to_bytes(10, "little"), 1001
_COUNT = struct.Struct("<q")


def is_legacy(start: bytes) -> bool:
    """Whether a file that starts so is one: the magic number stands in its first pickle, of any protocol.

    Example:
        >>> import pickle
        >>> is_legacy(pickle.dumps(MAGIC, 2)), is_legacy(pickle.dumps(MAGIC, 0)), is_legacy(b"PK")
        (True, True, False)
    """
    return start[:1] in (b"\x80", b"L") and (_MAGIC_BYTES in start[:64] or str(MAGIC).encode() in start[:64])


class _Bounded:
    """A file whose `read` never asks for more memory than the file has bytes, nor a pickle may have."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._most = file.tell() + MOST_PICKLE_BYTES

    def read(self, size: int, /) -> bytes:
        left = min(self._size, self._most) - self._file.tell()
        if size > left:
            raise ValueError(f"{size} bytes wanted, {left} are there")
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline(1 << 16)

    def tell(self) -> int:
        return self._file.tell()


def read_legacy(path: Path) -> Contents:
    """The tensors of a file of torch before 1.6; nothing in it is run, no number is read before it is asked for.

    Raises:
        FormatError: a damaged file, or one that wants to call something.
        UnsupportedError: a whole module, big-endian numbers, tensors of kinds that are not read.
    """
    with path.open("rb") as file:
        source = _Bounded(file, path.stat().st_size)
        try:
            magic, protocol, system = (Interpreter(source).load() for _ in range(3))
            if magic != MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
                raise FormatError(
                    f"{path.name} is not {WHAT}", "", f"the numbers {MAGIC:#x} and {_PROTOCOL}", "others", FETCH_ANEW
                )
            if system.get("little_endian") is not True:
                remedy = "load it in torch and save it again on a little-endian machine"
                raise UnsupportedError("the byte order is not little", "", "little", "big", remedy)
            tensors = Interpreter(source)
            chosen = choose(tensors.load())
            keys = Interpreter(source).load()
            places = _places(file, path, keys, tensors.storages)
        except ParityError as error:
            raise placed(error, path) from error
    details = {"saved": "in the format of torch before 1.6", **chosen.details}
    found = placed_tensors(chosen.views, lambda storage: places[storage.key], path, WHAT)
    return Contents(found, "torch state dict", details, chosen.description)


def _places(file: BinaryIO, path: Path, keys: object, storages: Mapping[str, Storage]) -> dict[str, Place]:
    """Where every storage stands, the file being at the first one's count."""
    if not isinstance(keys, list) or any(type(key) is not str for key in keys) or set(keys) != set(storages):
        got = ", ".join(sorted(storages)[:8]) or "none"
        raise FormatError(
            f"{path.name} is not {WHAT}: its storages are not listed", "", "every storage", got, FETCH_ANEW
        )
    size, at = path.stat().st_size, file.tell()
    places: dict[str, Place] = {}
    for key in keys:
        storage = storages[key]
        if storage.dtype is None:
            remedy = "in torch, save module.float().state_dict()"
            raise UnsupportedError(f"numbers of the type of {storage.kind} are not read", "", "floats", key, remedy)
        file.seek(at)
        count = file.read(_COUNT.size)
        nbytes = storage.whole * storage.itemsize
        at += _COUNT.size
        if len(count) != _COUNT.size or _COUNT.unpack(count)[0] != storage.whole or at + nbytes > size:
            got = (
                f"{_COUNT.unpack(count)[0]}, {size - at} bytes" if len(count) == _COUNT.size else "the end of the file"
            )
            what = f"{path.name} is not {WHAT}: storage '{key[:40]}' is cut short"
            raise FormatError(what, "", f"{storage.whole} numbers, {nbytes} bytes", got, FETCH_ANEW)
        places[key] = Place(path, at, nbytes)
        at += nbytes
    return places
