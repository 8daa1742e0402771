"""The `.pt`, `.pth`, `.jit` and `.pt2` files of torch, told apart by what is in them. Imports no framework.

A pickle is a program: `parity.files.torch.unpickling` carries out what builds tensors and refuses the rest by name.
"""

from __future__ import annotations

from pathlib import Path

from parity.files.archive import Archive
from parity.files.stored import Contents, numbers
from parity.files.torch.export import is_export, read_export
from parity.files.torch.foreign import foreign_bytes, foreign_members
from parity.files.torch.legacy import is_legacy, read_legacy
from parity.files.torch.rebuild import STORAGES
from parity.files.torch.script import is_script, read_script
from parity.files.torch.writing import write, write_tensors
from parity.files.torch.zipped import read_state_dict
from parity.recurrent import Array


def read(path: Path) -> Contents:
    """The tensors of a torch file by name: state dict, checkpoint, TorchScript program or exported program, of any age.

    Nothing in the file is run, and no number is read before it is asked for. What the file is, is seen from its bytes, not from its suffix.

    Raises:
        FormatError: a damaged file, none of torch's, or one that wants to call something; names it.
        UnsupportedError: a whole module, big-endian tensors, the tar files of torch 0.1, AOTInductor packages.

    Example:
        >>> import tempfile, numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "a.pt"
        >>> with path.open("wb") as file: write({"module.x": np.ones((2, 3), np.float32)}, file)
        >>> contents = read(path)
        >>> contents.form, contents.tensors["x"].shape
        ('torch state dict', (2, 3))
    """
    with path.open("rb") as file:
        start = file.read(512)
    if is_legacy(start):
        return read_legacy(path)
    foreign = foreign_bytes(path, start)
    if foreign is not None:
        raise foreign
    with Archive(path, "a file of torch.save") as archive:
        if is_export(archive):
            return read_export(archive)
        if is_script(archive):
            return read_script(archive)
        foreign = foreign_members(archive)
        if foreign is not None:
            raise foreign
        return read_state_dict(archive)


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a torch file by name, all of them read; raises what `read` raises.

    Example:
        >>> import tempfile, numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "a.pt"
        >>> with path.open("wb") as file: write_tensors({"x": np.ones((2, 3), np.float32)}, file)
        >>> read_tensors(path)["x"].shape
        (2, 3)
    """
    return {name: numbers(stored) for name, stored in read(path).tensors.items()}


__all__ = ["STORAGES", "read", "read_tensors", "write", "write_tensors"]
