"""A model to a model file of a format."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.errors import ParityError, UnsupportedError
from parity.files import read_file, weights_alone, write_file
from parity.files.target import plain_errors, unfinished
from parity.forms import form_in
from parity.frameworks import framework
from parity.identity import identical, same_weights
from parity.network import Network
from parity.sources import Opened, Source, open_source

if TYPE_CHECKING:
    from parity.findings import Findings
    from parity.graph.code_files import CodeTarget


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Args:
        path: of the file.
        proof: how it is known to compute the same, in words; "" where it was not verified.
    """

    path: Path
    proof: str


def convert(
    source_path: Source,
    target_path: str | Path,
    overwrite: bool = False,
    verify: bool = True,
    to: CodeTarget | None = None,
    inputs: Any = None,
    partial: bool = False,
) -> Path:
    """Convert a source to a file, by its suffix; from a file to a file no framework is imported. Or any source to code: a folder.

    Args:
        source_path: a model file, a live model or module, or a `Network`, which `read` and `Diagnosis.repaired` give.
        target_path: the file to write; its suffix says the format. With `to`, the folder to write.
        overwrite: whether an existing target may be replaced; in a folder, the files of the same names.
        verify: read the new file back before it gets its name: its network must be the source's, weights bit for bit, or the float64
            reference must compute the same from both. Code is run beside the source, and the report is written beside it.
        to: "torch", "keras" or "onnx": write the whole model as source code and weights.
        inputs: example inputs, where a torch module has to be traced.
        partial: with `to`: whether layers that are not known become stubs, to be filled in.

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
        >>> convert(torch.nn.LSTM(3, 5), os.path.join(folder, "lstm.keras")).name
        'lstm.keras'
    """
    if to is None:
        network, label = _described(source_path, inputs)
        return write_converted(network, label, target_path, overwrite, verify).path
    from parity.graph.folder import write_code  # the writers of code are not needed for files

    opened = open_source(source_path, partial=True, inputs=inputs)
    return write_code(opened, to, Path(target_path), partial, overwrite, verify).folder


def _described(source: Source, inputs: Any) -> tuple[Network, str | Path]:
    """What is written, and what it is called."""
    if isinstance(source, (str, os.PathLike)):
        return read_file(Path(source)), Path(source)
    opened = open_source(source, partial=True, inputs=inputs)
    return opened.network, opened.path or opened.label


def write_converted(
    network: Network, source_path: str | Path, target_path: str | Path, overwrite: bool = False, verify: bool = True
) -> Written:
    """The second half of `convert`: write what was read of the source, which is named in messages only."""
    target = Path(target_path)
    if target.exists() and Path(source_path).exists() and target.samefile(source_path):
        remedy = "give the new file another name"
        raise ParityError("the target is the source itself", str(target), "another file", "the same one", remedy)
    if network.graph is not None and target.suffix.lower() == ".onnx":
        return _write_whole(network, source_path, target, overwrite, verify)
    if weights_alone(target):
        _check_plain(network, target)
    proof = ""

    def _check(written: Network, part: Path) -> None:
        nonlocal proof
        proof = _proof(network, written, part, source_path, target)

    write_file(network, target, overwrite, _check if verify else None)
    return Written(target, proof)


def _write_whole(network: Network, source_path: str | Path, target: Path, overwrite: bool, verify: bool) -> Written:
    """A model that is more than a chain of layers, as the one file that holds such: `.onnx`.

    Raises:
        UnsupportedError: layers that are not known, or what ONNX cannot say.
        ParityError: the target is there already, or does not compute the same.
    """
    source = Opened(str(source_path), network, None)
    onnx = framework("onnxruntime")
    with plain_errors(target, "written"), unfinished(target, overwrite) as part:
        part.write_bytes(onnx.build_whole(source.graph).SerializeToString())
        proof = ""
        if verify and importlib.util.find_spec("onnxruntime") is None:
            proof = "not run, for ONNX Runtime is not installed"
        elif verify:
            written = Opened(target.name, network, "onnxruntime", live=onnx.load(part))
            _check_agreement("ONNX Runtime", _compared(source, written), source_path, target)
            proof = "ONNX Runtime computes from it what the float64 reference computes from the source"
    return Written(target, proof)


def _check_plain(network: Network, target: Path) -> None:
    """Weights alone fit a model that someone else builds: of layers that Keras has itself."""
    composed = form_in(network, "keras").composed
    if composed:
        got, remedy = "; ".join(composed), "write .keras, which holds the layers, too"
        raise UnsupportedError("weights alone cannot say these layers", str(target), "Keras's own layers", got, remedy)


def _proof(network: Network, written: Network, part: Path, source_path: str | Path, target: Path) -> str:
    """How it is known that a file computes what the network does, in words.

    Raises:
        ParityError: it does not.
    """
    if weights_alone(target):
        if not same_weights(network, written):
            remedy = "nothing was kept; please report this with the source file"
            raise ParityError("what was written has other weights", str(target), remedy=remedy)
        return "the same weights; the format holds them alone, without the network"
    same = identical(network, written.whole())
    if not same:
        _check_agreement("the float64 reference", _compared(network, written), source_path, target)
    if target.suffix.lower() == ".onnx" and form_in(network, "onnx").composed:
        # Of a composition parity reads its own description: only a run can tell what its nodes compute.
        if importlib.util.find_spec("onnxruntime") is None:
            return "parity's description of the network is the same; its nodes were not run, for ONNX Runtime is not installed"
        model = framework("onnxruntime").load(part)
        _check_agreement("ONNX Runtime", _compared(model, engines=["onnxruntime"]), source_path, target)
        return "ONNX Runtime computes from it what the float64 reference computes from the source"
    if same:
        return "the same layers and, bit for bit, the same weights"
    return "the float64 reference computes the same from both files"


def _check_agreement(who: str, comparison: Findings, source_path: str | Path, target: Path) -> None:
    if not comparison.ok:
        raise ParityError(
            f"what was written does not compute the same: {who} says so",
            where=str(target),
            expected=f"the function of {source_path}",
            got=comparison.sentence,
            remedy="nothing was kept; please report this with the source file",
        )


def _compared(*sources: Any, **options: Any) -> Findings:
    """`parity.compare`, imported when it is needed: which is seldom, and takes as long as the rest of a conversion."""
    from parity.comparison import compare

    return compare(*sources, **options)
