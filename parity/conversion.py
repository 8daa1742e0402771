"""A model file to a model file of another format."""

from __future__ import annotations

from pathlib import Path

from parity.comparison import compare
from parity.errors import ParityError
from parity.files import read_file, write_file
from parity.network import Network


def convert(source_path: str | Path, target_path: str | Path, overwrite: bool = False, verify: bool = True) -> Path:
    """Convert a file to another format, by suffix; no framework is imported unless a file is `.onnx`.

    Args:
        source_path: a `.keras`, `.safetensors`, `.pt`, `.pth` or `.onnx` file.
        target_path: the file to write. `.safetensors`, `.pt` and `.pth` take a bare recurrent stack alone.
        overwrite: whether an existing target may be replaced.
        verify: read the new file back before it gets its name, and let the float64 reference compute both.

    Returns:
        The target's path. It appears whole or not at all.

    Raises:
        UnsupportedError: an unknown suffix, or a model that is not kept exactly.
        FormatError: a source that is not what it claims.
        ParityError: the target exists, or does not compute the same.

    Example:
        >>> import os, tempfile, torch
        >>> folder = tempfile.mkdtemp()
        >>> torch.save(torch.nn.GRU(3, 5).state_dict(), os.path.join(folder, "gru.pt"))
        >>> convert(os.path.join(folder, "gru.pt"), os.path.join(folder, "gru.safetensors")).name
        'gru.safetensors'
    """
    target = Path(target_path)
    network = read_file(source_path)

    def _check(written: Network) -> None:
        comparison = compare(network, written)
        if not comparison.ok:
            raise ParityError(
                "what was written does not compute the same",
                where=str(target),
                expected=f"the function of {source_path}",
                got=comparison.sentence,
                remedy="nothing was kept; please report this with the source file",
            )

    write_file(network, target, overwrite, _check if verify else None)
    return target
