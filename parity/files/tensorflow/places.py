"""Where the files of a TensorFlow model stand, whichever of them is given; and what looks like one, but is something else.

Sources: `tensorflow/python/saved_model/constants.py`, `tensorflow/python/checkpoint/checkpoint_management.py`,
`tensorflow/python/training/checkpoint_state.proto`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.tensorflow.bundle import inside
from parity.files.tensorflow.protobuf_wire import fields, part, text
from parity.files.tensorflow.sstable import MAGIC

MODEL, STATE, INDEX, METADATA = "saved_model.pb", "checkpoint", ".index", "keras_metadata.pb"

_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_STATE_LINE = re.compile(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_MOST_STATE_BYTES, _SNIFFED = 1 << 20, 1 << 16
_TENSORFLOW_1 = "tf.compat.v1.train.Saver().save(session, 'model.ckpt')"


@dataclass(frozen=True)
class Place:
    """The files of a model.

    Args:
        folder: that all of them stand in.
        prefix: the common name of the checkpoint's files, None if there are none.
        model: `saved_model.pb`, None for a checkpoint by itself.
        note: what else to know of how they were found.
    """

    folder: Path
    prefix: Path | None
    model: Path | None = None
    note: str = ""


def place_of(path: Path) -> Place | None:
    """The files that belong to a path, None if they are not TensorFlow's.

    Args:
        path: a SavedModel folder or its `saved_model.pb`, a checkpoint's prefix, `.index`, `.meta` or `.data-...` file, its `checkpoint`
            text file or the folder with that.

    Raises:
        FormatError: the text file says nothing, or leads out of its folder.
        ParityError: a folder with several checkpoints, none of them named.
    """
    folder = path.parent
    if path.is_dir():
        return _in_folder(path)
    if path.name == MODEL and path.is_file():
        return _in_folder(folder)
    if path.name == STATE and path.is_file():
        return _of_state(folder)
    shard = _SHARD.fullmatch(path.name)
    names = [shard[1]] if shard else [path.name.removesuffix(INDEX), path.name, path.name.removesuffix(".meta")]
    prefix = next((folder / name for name in names if name and _indexed(folder / name)), None)
    if prefix is None:
        return None
    if (folder.name, prefix.name) == ("variables", "variables") and (folder.parent / MODEL).is_file():
        return _in_folder(folder.parent)
    return Place(folder, prefix)


def _indexed(prefix: Path) -> bool:
    return prefix.with_name(prefix.name + INDEX).is_file()


def _in_folder(folder: Path) -> Place | None:
    if (folder / MODEL).is_file():
        prefix = folder / "variables" / "variables"
        return Place(folder, prefix if _indexed(prefix) else None, folder / MODEL)
    if (folder / STATE).is_file():
        return _of_state(folder)
    found = sorted(path for path in folder.glob(f"*{INDEX}") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:8])
        raise ParityError(
            "a folder with several checkpoints", str(folder), "one", names, f"give one of them: {found[-1]}"
        )
    if found and folder.name == "variables" and (folder.parent / MODEL).is_file():
        return _in_folder(folder.parent)
    return Place(folder, found[0].with_name(found[0].name.removesuffix(INDEX))) if found else None


def _of_state(folder: Path) -> Place:
    """The newest checkpoint by the text file beside it.

    A whole path in it is one of the computer it was saved on: the same name in this folder is meant.
    """
    file = inside(folder / STATE, folder)
    with file.open("rb") as opened:
        content = opened.read(min(file.stat().st_size, _MOST_STATE_BYTES)).decode("utf-8", "replace")
    line = _STATE_LINE.search(content)
    if line is None:
        remedy = f"give the prefix of a checkpoint: NAME where there is NAME{INDEX}"
        raise FormatError(
            "the file names no checkpoint", str(file), 'model_checkpoint_path: "..."', content[:40], remedy
        )
    named = re.sub(r"\\(.)", r"\1", line[1])
    absolute = PurePosixPath(named).is_absolute() or PureWindowsPath(named).is_absolute()
    name = PureWindowsPath(named).name if "\\" in named else PurePosixPath(named).name
    prefix = folder / (name if absolute else named)
    if ".." in PurePosixPath(named).parts or not name or "\0" in named:
        raise FormatError(
            "the file leads out of its folder",
            str(file),
            "a checkpoint beside it",
            named[:200],
            "give the prefix itself",
        )
    if not _indexed(prefix):
        remedy = "put its files beside it, or give the prefix of a checkpoint that is there"
        raise FormatError("the checkpoint is missing", str(file), prefix.name + INDEX, "no such file", remedy)
    return Place(folder, prefix, note=f"the newest by '{STATE}': {name}")


# ---- what is something else


def refusal(path: Path) -> UnsupportedError | None:
    """Why a file is not read, in one message that names what it is and who reads it; None where `saved_model.read` can.

    For `.pb`, `.pbtxt`, `.tflite`, `.ckpt` and `.meta`.

    Raises:
        FormatError: a `checkpoint` file that leads nowhere.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.tflite"
        >>> _ = path.write_bytes(b"\\x1c\\x00\\x00\\x00TFL3")
        >>> print(refusal(path).problems[0].what)
        a TensorFlow Lite model
    """
    if place_of(path) is not None:
        return None
    with path.open("rb") as file:
        head = file.read(_SNIFFED)
        file.seek(-min(8, file.seek(0, 2)), 2)
        tail = file.read(8)
    what, expected, remedy = _KINDS[_kind(path, head, tail)]
    return UnsupportedError(what, str(path), expected, path.name, remedy)


def _kind(path: Path, head: bytes, tail: bytes) -> str:
    """What a file is, by its name, its first and its last bytes: a key of `_KINDS`."""
    numbers = _numbers(head)
    tests = {
        "lfs": head.startswith(b"version https://git-lfs"),
        "lite": head[4:8] == b"TFL3" or path.suffix.lower() == ".tflite",
        "hdf5": head.startswith(b"\x89HDF\r\n\x1a\n"),
        "torch": head.startswith((b"PK\x03\x04", b"\x80\x02")),
        "shard": path.suffix == INDEX or _SHARD.fullmatch(path.name) is not None,
        "v1": tail == MAGIC.to_bytes(8, "little"),
        "meta": path.suffix == ".meta",
        "part": path.name in (METADATA, "fingerprint.pb"),
        "graph": _is_graph(numbers),
        "text": path.suffix == ".pbtxt" or head.lstrip().startswith((b"node {", b"saved_model_schema_version")),
        "program": {1, 2} <= set(numbers) or (1 in numbers and path.suffix == ".pb"),
    }
    return next((kind for kind, holds in tests.items() if holds), "unknown")


def _numbers(head: bytes) -> dict[int, int | memoryview]:
    """The first fields of what may be a message, as far as they are whole."""
    found: dict[int, int | memoryview] = {}
    try:
        for number, value in fields(head):
            found.setdefault(number, value)
    except ValueError:
        pass
    return found


def _is_graph(numbers: dict[int, int | memoryview]) -> bool:
    """A GraphDef begins with a node: its name and its operation."""
    try:
        node = dict(fields(part(numbers.get(1, 0))))
        return {1, 2} <= set(node) and text(node[2]).replace("_", "").isalnum()
    except ValueError:
        return False


_READS_WEIGHTS = "the weights: a SavedModel, a checkpoint, or a file of Keras"
_AGAIN = "load it in TensorFlow and save its variables"
_V2 = "NAME.index and NAME.data-00000-of-00001"

_KINDS = {
    "lfs": ("a pointer of Git LFS, not the file itself", "the file", "fetch it: git lfs pull"),
    "lite": (
        "a TensorFlow Lite model",
        _READS_WEIGHTS,
        "TensorFlow Lite reads it (tf.lite.Interpreter); give the Keras model or SavedModel that it was converted from",
    ),
    "hdf5": ("an HDF5 file under another name, as Keras's save_weights writes it", ".h5", "rename it to .h5"),
    "torch": (
        "a torch checkpoint (of PyTorch Lightning, perhaps), not one of TensorFlow",
        ".pt",
        "torch reads it; rename it to .pt",
    ),
    "shard": (
        "one file of a TensorFlow checkpoint without the others",
        "NAME.index and all of NAME.data-0000k-of-0000n in one folder",
        "put all its files beside it",
    ),
    "v1": (
        "a TensorFlow checkpoint of the first format (V1, before 2017, a single file)",
        f"the second format: {_V2}",
        f"TensorFlow 1 and 2 read it: restore it with tf.compat.v1.train.Saver and save it again, {_TENSORFLOW_1}",
    ),
    "meta": (
        "the graph of a TensorFlow 1 checkpoint without its variables",
        f"{_V2} beside it",
        "TensorFlow reads it; put the checkpoint's other files beside it",
    ),
    "part": ("a part of a SavedModel", "the folder with saved_model.pb", "give the folder"),
    "graph": (
        "a frozen TensorFlow graph (GraphDef): a program with its weights as constants",
        _READS_WEIGHTS,
        "TensorFlow reads it (tf.compat.v1.import_graph_def); give the checkpoint or SavedModel that it was frozen from",
    ),
    "text": ("a TensorFlow graph as text", _READS_WEIGHTS, _AGAIN),
    "program": (
        "a TensorFlow program (SavedModel or MetaGraphDef) without its variables",
        "the folder with saved_model.pb and variables/",
        _AGAIN,
    ),
    "unknown": (
        "not a file of TensorFlow that is known",
        f"a SavedModel folder, or a checkpoint: {_V2}",
        "name the file by its format, or give the folder",
    ),
}
"""What is not read: what it is, what was expected, and the nearest way."""
