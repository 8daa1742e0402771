"""What a file is by its bytes, where its name says something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.errors import FormatError
from parity.files.archive import FETCH_ANEW, Archive

ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
"""How zip archives start."""

_START_BYTES = 512
_TEXT = frozenset(b"\t\n\r" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)))
"""What stands in text of any encoding that extends ASCII."""


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Args:
        what: in words.
        remedy: what to do with such a file.
        suffixes: under which parity reads it.
    """

    what: str
    remedy: str
    suffixes: tuple[str, ...] = ()


_HDF5 = Kind("an HDF5 file, as Keras writes them", "name it .h5", (".h5", ".hdf5", ".keras"))
_KERAS = Kind("a .keras file", "name it .keras", (".keras", ".h5", ".hdf5"))
_TORCH = Kind("a file of torch", "name it .pt", (".pt", ".pth", ".jit", ".pt2"))
_NPZ = Kind("an .npz file of NumPy", "name it .npz", (".npz",))
_ONNX = Kind("an ONNX model", "name it .onnx", (".onnx",))
PACKAGE = Kind(
    "a package of torch.package, which holds code",
    "load it in torch and save the numbers only: torch.save(module.state_dict(), path)",
)
"""Holds a data.pkl as torch's own files do."""

_HDF5_START = b"\x89HDF\r\n\x1a\n"
_STARTS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, _HDF5_START, _HDF5),
    (0, b"\x93NUMPY", Kind("an array of NumPy", "name it .npy: it is taken for inputs, not for a model")),
    (0, b"\x1f\x8b\x08", Kind("compressed with gzip", "unpack it first: gunzip")),
    (0, b"\xfd7zXZ", Kind("compressed with xz", "unpack it first: unxz")),
    (0, b"BZh", Kind("compressed with bzip2", "unpack it first: bunzip2")),
    (0, b"7z\xbc\xaf", Kind("a 7z archive", "unpack it first")),
    (0, b"Rar!", Kind("a RAR archive", "unpack it first")),
    (0, b"GGUF", Kind("a GGUF file of llama.cpp", FETCH_ANEW)),
    (4, b"TFL3", Kind("a TensorFlow Lite model", "name it .tflite")),
    (8, b'{"', Kind("a safetensors file", "name it .safetensors", (".safetensors",))),
    (0, b"version https://git-lfs", Kind("a pointer of Git LFS, not the file itself", "get the file: git lfs pull")),
    (0, b"<ir_version", Kind("an ONNX model as text", "onnx.save(onnx.parser.parse_model(text), 'model.onnx')")),
)
_PAGE = Kind("a web page or other text", "get the file anew: a page was stored in its place")
_MEMBERS: tuple[tuple[str, Kind], ...] = (
    (".data/extern_modules", PACKAGE),
    ("archive_format", _TORCH),
    ("serialized_exported_program.json", _TORCH),
    ("model.weights.h5", _KERAS),
    ("saved_model.pb", Kind("a zipped SavedModel of TensorFlow", "unpack it first")),
    ("MAR-INF/MANIFEST.json", Kind("a model archive of TorchServe", "unpack it and take the .pt in it")),
    ("[Content_Types].xml", Kind("an office document", FETCH_ANEW)),
    ("config.json", _KERAS),
)
_MODELS = (".pt", ".pth", ".safetensors", ".h5", ".onnx", ".keras")


def kind_of_start(start: bytes) -> Kind | None:
    """What a file is that starts so; None for a zip, whose members say it, and where nothing is seen.

    Example:
        >>> kind_of_start(b"\\x89HDF\\r\\n\\x1a\\n").what
        'an HDF5 file, as Keras writes them'
    """
    if start.startswith(ZIP):
        return None
    for offset, magic, kind in _STARTS:
        if start[offset:].startswith(magic):
            return kind
    if start.startswith(b"<") and all(byte in _TEXT for byte in start):
        return _PAGE
    return _ONNX if start[:1] == b"\x08" and start[2:3] in (b"\x12", b"\x1a", b"\x22", b":") else None


def kind_of_members(names: Sequence[str]) -> Kind | None:
    """What a zip archive of these members is; None where nothing is seen.

    Example:
        >>> kind_of_members(["kernel.npy", "bias.npy"]).what
        'an .npz file of NumPy'
    """
    inner = {*names, *(name.partition("/")[2] for name in names)}
    if any(name.endswith("data.pkl") for name in names):
        return PACKAGE if ".data/extern_modules" in inner else _TORCH
    for member, kind in _MEMBERS:
        if member in inner:
            return kind
    if any(name.endswith(".npy") for name in names):
        return _NPZ
    inside = [name for name in names if name.endswith(_MODELS)]
    return Kind(f"a zip with {inside[0][:80]} in it", "unpack it first") if inside else None


def _fits(path: Path, start: bytes) -> bool:
    """Whether the bytes are what the name promises, damaged or not: then what is wrong with them is what is to be said."""
    name = path.name.lower()
    if name.endswith(_HDF5.suffixes):
        with path.open("rb") as file:  # a block of the user's own may stand before it
            places = [0, *(512 << power for power in range(12))]
            return any(file.seek(place) == place and file.read(len(_HDF5_START)) == _HDF5_START for place in places)
    if name.endswith(".safetensors"):
        return start[8:].lstrip().startswith(b"{")
    return name.endswith(".onnx") and start[:1] == b"\x08"


def other_kind(path: Path) -> Kind | None:
    """What a file is whose name promises something else; None where it is what it is called, or where nothing is seen.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.onnx"
        >>> _ = path.write_text("version https://git-lfs.github.com/spec/v1")
        >>> other_kind(path).remedy
        'get the file: git lfs pull'
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
        if _fits(path, start):
            return None
        if start.startswith(ZIP):
            with Archive(path, "a zip archive") as archive:
                if path.suffix.lower() == ".npz" and any(name.endswith(".npy") for name in archive.names):
                    return None
                kind = kind_of_members(archive.names)
        else:
            kind = kind_of_start(start)
    except (OSError, FormatError):
        return None
    return None if kind is None or path.name.lower().endswith(kind.suffixes or ("/",)) else kind
