"""What a suspect is, as code: a live object whose tensors are reached by expressions, or a file that is opened and written anew."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from parity.deferred import Stored
from parity.diagnosis.repairs.slots import Tensors, holders_of
from parity.diagnosis.repairs.writing import FILES, LIVE, Form
from parity.errors import ParityError
from parity.files import safetensors_file
from parity.files.stored import Contents, numbers
from parity.frameworks import family, framework
from parity.layouts import LAYOUTS
from parity.network import Recurrent
from parity.recurrent import pack
from parity.sources import Opened


def verbs(engine: str) -> ModuleType:
    """What a framework has for mending: `copied` and `addressed`."""
    return importlib.import_module(f"{framework(engine).__name__}.mending")


def with_engine(suspect: Opened) -> Opened:
    """The same; an `.h5` file, which no engine of parity's runs by itself, belongs to Keras, which opens it in code."""
    legacy = suspect.live is None and suspect.path is not None and suspect.path.suffix.lower() in (".h5", ".hdf5")
    return replace(suspect, engine="keras") if legacy and suspect.engine is None else suspect


def file_of(suspect: Opened) -> Path | None:
    """The file that a suspect is, or is one layer of."""
    return suspect.path or suspect.inside


def form_of(suspect: Opened) -> Form | None:
    """What kind of thing a suspect is; None where no code opens it."""
    if suspect.live is not None and suspect.engine is not None:
        return LIVE[family(suspect.engine)]
    path = file_of(suspect)
    return FILES.get(path.suffix.lower()) if path is not None else None


def opened_as(suspect: Opened) -> tuple[Any, str]:
    """What code changes: the live suspect, or what its file is opened as, and Python for it; None for a file of tensors alone."""
    if suspect.live is not None and suspect.engine is not None:
        return suspect.live, "suspect"
    form, path = form_of(suspect), file_of(suspect)
    if path is None or form is None or suspect.engine in (None, "torch"):
        return None, ""
    try:
        return framework(str(suspect.engine)).load(path, suspect.network), "model"
    except ParityError:
        return None, ""


def tensors_in(suspect: Opened) -> dict[int, Tensors]:
    """The tensors of every recurrent layer of a suspect that code can reach, by the layer's number."""
    own = suspect.network.recurrent
    if suspect.live is not None and suspect.engine is not None:
        return holders_of(verbs(suspect.engine).addressed(suspect.live), own)
    form, path = form_of(suspect), file_of(suspect)
    if path is None or form is None or suspect.engine is None:
        return {}
    if suspect.engine == "torch":
        return _in_state(path, own)
    try:
        live = framework(suspect.engine).load(path, suspect.network)
        root = {"root": "model"} if suspect.engine == "keras" else {}
        return holders_of(verbs(suspect.engine).addressed(live, **root), own)
    except ParityError:
        return {}


def _in_state(path: Path, own: Sequence[Recurrent]) -> dict[int, Tensors]:
    """The tensors of a state dict, told by their numbers, and by the ends of their names where several are equal."""
    contents = _contents(path)
    if contents.program:
        return {}
    root = "tensors" + "".join(f"[{key!r}]" for key in contents.details.get("taken from", "").split(".") if key)
    prefix = contents.details.get("prefix", "").partition(" before ")[0].strip("'")
    found: dict[int, Tensors] = {}
    for number, layer in enumerate(own):
        layout = LAYOUTS["torch", layer.spec.kind]
        holders = {}
        for direction, weights in enumerate(layer.weights):
            single = replace(layer.spec, directions=layer.spec.directions[:1])
            for name, array in pack(layout, single, [weights]).items():
                keys = list(_keys(contents.tensors, name, array, direction == 1))
                if len(keys) == 1:
                    holders[direction, name] = f"{root}[{prefix + keys[0]!r}]"
        if holders:
            found[number] = Tensors(layout, layer.spec, holders)
    return found


def _contents(path: Path) -> Contents:
    if path.suffix.lower() == ".safetensors":
        return safetensors_file.read(path)
    found: Contents = importlib.import_module("parity.files.torch").read(path)
    return found


def _keys(tensors: Mapping[str, Stored], name: str, array: np.ndarray[Any, Any], backward: bool) -> Iterator[str]:
    for key, stored in tensors.items():
        last = key.rpartition(".")[2]
        ends = last == name or last.startswith(f"{name}_l")
        fits = ends and last.endswith("_reverse") == backward and tuple(stored.shape) == array.shape
        if fits and np.array_equal(numbers(stored), array):
            yield key


__all__ = ["file_of", "form_of", "opened_as", "tensors_in", "verbs", "with_engine"]
