"""Lines that put what parity writes from the reference in the place of a suspect: the last resort, where nothing can be patched."""

from __future__ import annotations

from collections.abc import Iterator

from parity.diagnosis.repairs.opening import file_of, form_of
from parity.diagnosis.repairs.writing import named
from parity.sources import Opened

_MAKES = {"torch": "to_torch", "keras": "to_keras", "onnxruntime": "to_onnx"}

COPY = "import copy\n\nsuspect = copy.deepcopy(reference)"

_STEPS = {"batch": 3, "time": 11}
"""Lengths of an example input by which a module of torch is traced; any other word has that of time."""


def replacements(reference: Opened, suspect: Opened, word: str) -> Iterator[str]:
    """Lines that make a suspect anew, the ones that say least first; none for a description that was read.

    Args:
        reference, suspect: as they were opened.
        word: that the name of a new file ends in.
    """
    verb = _MAKES.get((suspect.engine or "").partition(":")[0])
    inputs = _example(reference)
    further = f", inputs={inputs}" if inputs else ""
    numbers = ("import numpy as np",) if inputs else ()
    if suspect.live is not None:
        if reference.live is not None and reference.engine == suspect.engine == "torch":
            yield COPY
        elif verb is not None:
            yield _joined((*numbers, "import parity"), (f"suspect = parity.{verb}(reference{further})",))
        return
    if file_of(suspect) is None:
        return
    path = ("from pathlib import Path",)
    if reference.network.graph is None:
        converted = f"parity.convert(reference, suspect{further})"
        yield _joined((*path, *numbers, "import parity"), (*named(word), converted))
    if verb is None or verb == "to_torch" or form_of(suspect) is None:
        return
    made = f"parity.{verb}(reference{further})"
    saved = f"{made}.save(suspect)" if verb == "to_keras" else f"onnx.save({made}, suspect)"
    onnx = ("import onnx",) if verb == "to_onnx" else ()
    yield _joined((*path, *numbers, *onnx, "import parity"), (*named(word), saved))


def _joined(imports: tuple[str, ...], lines: tuple[str, ...]) -> str:
    return "\n".join([*imports, "", *lines])


def _example(reference: Opened) -> str:
    """Python for inputs by which a live module of torch is traced; "" where nothing has to be."""
    graph = reference.network.graph
    if reference.live is None or reference.engine != "torch" or graph is None:
        return ""
    shapes = [[_STEPS.get(n, _STEPS["time"]) if isinstance(n, str) else n for n in one.shape] for one in graph.inputs]
    arrays = [f'np.ones({tuple(shape)}, "{one.dtype}")' for shape, one in zip(shapes, graph.inputs, strict=True)]
    return arrays[0] if len(arrays) == 1 else f"({', '.join(arrays)})"


__all__ = ["COPY", "replacements"]
