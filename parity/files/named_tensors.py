"""Files of named tensors: the network that parity described beside them, or what their names and shapes tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from parity.deferred import Blocks
from parity.errors import ParityError, Problem
from parity.files.description import describe, network_of, tensors_of
from parity.files.state_dict import network_from_state_dict
from parity.files.stored import Contents
from parity.files.unnamed import in_order
from parity.network.graph import Network

_KERAS_NAME = re.compile(r"(^|[/._])recurrent_kernel(:0)?$")
_UNNAMED = "arrays without names do not say how the layers are connected"
_BY_ITSELF = "its layers can be used one by one; or convert a file that says how they are connected"


class WriteTensors(Protocol):
    """How a format writes tensors and, beside them, parity's description."""

    def __call__(self, tensors: Mapping[str, Blocks], file: BinaryIO, description: str | None = None, /) -> None:
        """Write to an open binary file."""


def read_network(contents: Contents, path: Path) -> Network:
    """The network of a file of named tensors; partial where they do not say it.

    Args:
        contents: of the file.
        path: of the file, for messages and as a name.

    Raises:
        FormatError: no tensors, or a description that does not fit them.
        ShapeError: tensors of one recurrent module that do not fit each other.
    """
    if contents.description is not None:
        return network_of(contents.description, contents.tensors, str(path))
    try:
        network = _from_names(contents, path.stem)
    except ParityError as error:
        problems = [Problem(p.what, f"{p.where} of {path}", p.expected, p.got, p.remedy) for p in error.problems]
        raise type(error)(problems) from error
    program = Problem("it holds a program", str(path), "tensors alone", contents.form, contents.program)
    found = [*([program] if contents.program else ()), *network.problems]
    details = {"file": contents.form, **contents.details, **network.details}
    return replace(network, details=details, problems=tuple(found))


def write_network(network: Network, file: BinaryIO, write: WriteTensors) -> None:
    """Write the tensors of a network, and its description."""
    write(tensors_of(network), file, describe(network))


def _from_names(contents: Contents, name: str) -> Network:
    """Recurrent layers by the names that torch gives their weights, or else by those of Keras, or by order and shapes."""
    groups = in_order(contents.tensors)
    unnamed = groups is not None
    if groups is None and not any(_KERAS_NAME.search(key) for key in contents.tensors):
        return network_from_state_dict(contents.tensors, name, contents.options)
    # Only for weights of Keras outside its own files: neither room is needed for anything else here.
    from parity.files.tensorflow.saved_model import groups as by_scope
    from parity.network.keras.recognition import recognised

    if groups is None:
        groups = by_scope(Contents({key.replace(".", "/"): one for key, one in contents.tensors.items()}, ""))
    network = recognised(groups, None, name)
    if unnamed and len(groups) > 1 and not network.problems:
        # Two layers of one size may follow each other or be the directions of one.
        network = replace(
            network, problems=(Problem(_UNNAMED, f"arrays '{name}'", "one recurrent layer", f"{len(groups)} layers"),)
        )
    return replace(network, problems=tuple(replace(problem, remedy=_BY_ITSELF) for problem in network.problems))
