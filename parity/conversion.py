"""A model file to a model file of another format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parity.errors import ParityError
from parity.files import read_file, weights_alone, write_file
from parity.identity import identical, same_weights
from parity.network import Network


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Args:
        path: of the file.
        proof: how it is known to compute the same, in words; "" where it was not verified.
    """

    path: Path
    proof: str


def convert(source_path: str | Path, target_path: str | Path, overwrite: bool = False, verify: bool = True) -> Path:
    """Convert a file to another format, by suffix; no framework is imported.

    Args:
        source_path: any model file that `read` opens.
        target_path: the file to write; its suffix says the format.
        overwrite: whether an existing target may be replaced.
        verify: read the new file back before it gets its name: its network must be the source's, weights bit for bit, or the float64
            reference must compute the same from both.

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
    return write_converted(read_file(source_path), source_path, target_path, overwrite, verify).path


def write_converted(
    network: Network, source_path: str | Path, target_path: str | Path, overwrite: bool = False, verify: bool = True
) -> Written:
    """The second half of `convert`: write what was read of the source, which is named in messages only."""
    target = Path(target_path)
    proof = ""

    def _check(written: Network) -> None:
        nonlocal proof
        if weights_alone(target):
            if not same_weights(network, written):
                raise ParityError(
                    "what was written has other weights", str(target), remedy="nothing was kept; please report this"
                )
            proof = "bit for bit the same weights; the format holds them alone, without the network"
            return
        if identical(network, written.whole()):
            proof = "the same layers and, bit for bit, the same weights"
            return
        from parity.comparison import compare  # slow to import, and seldom needed

        comparison = compare(network, written)
        if not comparison.ok:
            raise ParityError(
                "what was written does not compute the same",
                where=str(target),
                expected=f"the function of {source_path}",
                got=comparison.sentence,
                remedy="nothing was kept; please report this with the source file",
            )
        proof = "the float64 reference computes the same from both files"

    write_file(network, target, overwrite, _check if verify else None)
    return Written(target, proof)
