"""The zip archives of torch: one folder with a pickle `data.pkl` and a record `data/N` for each storage.

Source: torch's `serialization.py`, `_save`; `caffe2/serialize/inline_container.h`, which gives the layout of the zip.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from parity.errors import ParityError, UnsupportedError
from parity.files.archive import Archive
from parity.files.stored import Contents, Stored
from parity.files.torch.checkpoint import choose
from parity.files.torch.rebuild import View
from parity.files.torch.storage import placed_tensors, record
from parity.files.torch.unpickling import MOST_PICKLE_BYTES, Interpreter, placed

STATE_DICT = "torch state dict"


def root_of(archive: Archive) -> str:
    """The folder that every member stands in, with its slash.

    Raises:
        FormatError: there is no `data.pkl`, or there are several.
        UnsupportedError: a big-endian file.
    """
    pickles = [name for name in archive.names if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1]
    if len(pickles) != 1:
        got = ", ".join(archive.names[:8]) or "nothing"
        raise archive.fault("it has no data.pkl", "one folder with data.pkl and data/", got)
    root = pickles[0][: -len("data.pkl")]
    check_byte_order(archive, root)
    return root


def check_byte_order(archive: Archive, root: str) -> None:
    """Refuse a file whose numbers are big-endian; files before torch 2.1 do not say it and are little-endian."""
    if f"{root}byteorder" in archive.names and archive.read(f"{root}byteorder", 64).strip() != b"little":
        remedy = "load it in torch and save it on a little-endian machine"
        raise UnsupportedError("the byte order is not little", str(archive.path), "little", "big", remedy)


def unpickled(archive: Archive, name: str, scripted: bool = False) -> object:
    """What the pickle in a member builds."""
    content = io.BytesIO(archive.read(name, MOST_PICKLE_BYTES))
    try:
        return Interpreter(content, scripted).load()
    except ParityError as error:
        raise placed(error, archive.path) from error


def stored(archive: Archive, views: Mapping[str, View], folder: str) -> dict[str, Stored]:
    """The tensors of a zip whose records stand in a folder, none of them read."""
    return placed_tensors(views, lambda storage: record(archive, f"{folder}{storage.key}"), archive.path, archive.what)


def read_state_dict(archive: Archive, bare: str = "") -> Contents:
    """What `torch.save` wrote, a state dict or a checkpoint.

    Args:
        archive: opened.
        bare: name for the tensor of a file that holds one tensor and no dict; refused where there is none.
    """
    root = root_of(archive)
    found = unpickled(archive, f"{root}data.pkl")
    try:
        chosen = choose({bare: found} if bare and isinstance(found, View) else found)
    except ParityError as error:
        raise placed(error, archive.path) from error
    tensors = stored(archive, chosen.views, f"{root}data/")
    return Contents(tensors, STATE_DICT, chosen.details, chosen.description)
