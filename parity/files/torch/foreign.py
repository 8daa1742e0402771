"""What a file under torch's suffix is, where torch did not write it: said by name, with the suffix to give."""

from __future__ import annotations

import io
from pathlib import Path

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.archive import FETCH_ANEW, Archive
from parity.files.torch.rebuild import SAVE_STATE
from parity.files.torch.unpickling import Interpreter, placed

_ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
_EXPECTED = "a file of torch.save, torch.jit.save or torch.export.save"
_STARTS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them", "name it .h5"),
    (0, b"\x93NUMPY", "an array of NumPy", "name it .npy"),
    (0, b"\x1f\x8b", "compressed with gzip", "unpack it first: gunzip"),
    (0, b"\xfd7zXZ", "compressed with xz", "unpack it first: unxz"),
    (0, b"BZh", "compressed with bzip2", "unpack it first: bunzip2"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (0, b"Rar!", "a RAR archive", "unpack it first"),
    (0, b"GGUF", "a GGUF file of llama.cpp", FETCH_ANEW),
    (4, b"TFL3", "a TensorFlow Lite model", "name it .tflite"),
    (8, b'{"', "a safetensors file", "name it .safetensors"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "get the file: git lfs pull"),
    (0, b"<", "a web page or other text", "get the file anew: a page was stored in its place"),
)
_MEMBERS: tuple[tuple[str, str, str], ...] = (
    ("model.weights.h5", "a .keras file", "name it .keras"),
    ("config.json", "a .keras file", "name it .keras"),
    ("saved_model.pb", "a zipped SavedModel of TensorFlow", "unpack it first"),
    (".data/extern_modules", "a package of torch.package, which holds code", f"load it in torch and {SAVE_STATE}"),
    ("MAR-INF/MANIFEST.json", "a model archive of TorchServe", "unpack it and take the .pt in it"),
    ("[Content_Types].xml", "an office document", FETCH_ANEW),
)


def foreign_bytes(path: Path, start: bytes) -> ParityError | None:
    """What is wrong with a file that starts so and is no zip of torch; None for a zip.

    Args:
        path: of the file.
        start: its first 512 bytes.

    Example:
        >>> print(foreign_bytes(Path("a.pt"), b"\\x89HDF\\r\\n\\x1a\\n").problems[0].got)
        an HDF5 file, as Keras writes them
    """
    if start.startswith(_ZIP):
        return None
    if start[257:262] == b"ustar":
        remedy = f"if torch 0.1 wrote it, load it in torch, weights_only=False, and {SAVE_STATE}; else unpack it first"
        return UnsupportedError(
            "the tar format of torch 0.1 is not read", str(path), _EXPECTED, "a tar archive", remedy
        )
    for offset, magic, what, remedy in _STARTS:
        if start[offset:].startswith(magic):
            return _other(path, what, remedy)
    if start[:1] == b"\x08" and start[2:3] in (b"\x12", b"\x1a", b"\x22", b":"):
        return _other(path, "an ONNX model", "name it .onnx")
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return _bare_pickle(path)
    return _other(path, "of no known kind, or not a zip archive because it is cut at the front", FETCH_ANEW)


def foreign_members(archive: Archive) -> FormatError | None:
    """What is wrong with a zip that torch did not write; None where nothing is seen."""
    inner = {*archive.names, *(name.partition("/")[2] for name in archive.names)}
    if any(name.endswith("data.pkl") for name in archive.names) and ".data/extern_modules" not in inner:
        return None
    if archive.names and all(name.endswith(".npy") for name in archive.names):
        return _other(archive.path, "an .npz file of NumPy", "name it .npz")
    for member, what, remedy in _MEMBERS:
        if member in inner:
            return _other(archive.path, what, remedy)
    inside = [
        name for name in archive.names if name.endswith((".pt", ".pth", ".safetensors", ".h5", ".onnx", ".keras"))
    ]
    return _other(archive.path, f"a zip with {inside[0][:80]} in it", "unpack it first") if inside else None


def _other(path: Path, what: str, remedy: str) -> FormatError:
    return FormatError(f"{path.name} is not a file of torch", str(path), _EXPECTED, what, remedy)


def _bare_pickle(path: Path) -> ParityError:
    """A pickle that torch.save did not write: what it wants to call, if it does."""
    with path.open("rb") as file:
        content = file.read(1 << 22)
    try:
        Interpreter(io.BytesIO(content)).load()
    except UnsupportedError as error:
        return placed(error, path)
    except FormatError as error:
        if "not run" in str(error) or "not made" in str(error):
            return placed(error, path)
    return _other(path, "a pickle that torch.save did not write", f"load it in Python and {SAVE_STATE}")
