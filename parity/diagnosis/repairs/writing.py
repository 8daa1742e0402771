"""A repair as source code: imports, what is read, the lines of every change, what is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from parity.diagnosis.fault import TENSORS
from parity.diagnosis.repair import GateOrder
from parity.diagnosis.repairs.lines import KERAS, ONNX, TORCH, Dialect, lines_of, order_lines, right_lines, swap_lines
from parity.diagnosis.repairs.resolving import Change, Resolved, Right, Step, Swap, ends_of
from parity.diagnosis.repairs.slots import Tensors, slot_of
from parity.network import Recurrent


@dataclass(frozen=True)
class Form:
    """What kind of thing the suspect is, as code.

    Args:
        dialect: of its arrays.
        imports: that its lines need.
        before: lines that open it.
        block: a line that all changes stand under, "" for none.
        after: lines that put the mended thing into `suspect`.
    """

    dialect: Dialect
    imports: tuple[str, ...]
    before: tuple[str, ...] = ()
    block: str = ""
    after: tuple[str, ...] = ()


LIVE: dict[str, Form] = {
    "torch": Form(TORCH, ("import torch",), block="with torch.no_grad():"),
    "keras": Form(KERAS, ("import keras", "import numpy as np")),
    "onnxruntime": Form(
        ONNX,
        ("import numpy as np", "import onnx"),
        ("tensors = {tensor.name: tensor for tensor in suspect.graph.initializer}",),
    ),
}
"""Live objects, which are changed in place."""


def named(word: str = "mended") -> tuple[str, ...]:
    """Lines that name the file of what is mended, which nothing replaces unasked.

    Args:
        word: that its name ends in.
    """
    return (
        f'suspect = str(Path(suspect).with_stem(Path(suspect).stem + "-{word}"))',
        "if Path(suspect).exists():",
        "    raise FileExistsError(suspect)",
    )


_PATH = "from pathlib import Path"

FILES: dict[str, Form] = {
    ".safetensors": Form(
        TORCH,
        (
            _PATH,
            "import torch",
            "from safetensors import safe_open",
            "from safetensors.torch import load_file, save_file",
        ),
        ('with safe_open(suspect, "pt") as file:', "    metadata = file.metadata()", "tensors = load_file(suspect)"),
        after=(*named(), "save_file(tensors, suspect, metadata)"),
    ),
    ".pt": Form(
        TORCH,
        (_PATH, "import torch"),
        ('tensors = torch.load(suspect, map_location="cpu", weights_only=True)',),
        "with torch.no_grad():",
        (*named(), "torch.save(tensors, suspect)"),
    ),
    ".keras": Form(
        KERAS,
        (_PATH, "import keras", "import numpy as np"),
        ("model = keras.saving.load_model(suspect)",),
        after=(*named(), "model.save(suspect)"),
    ),
    ".onnx": Form(
        ONNX,
        (_PATH, "import numpy as np", "import onnx"),
        ("model = onnx.load(suspect)", "tensors = {tensor.name: tensor for tensor in model.graph.initializer}"),
        after=(*named(), "onnx.save(model, suspect)"),
    ),
}
FILES[".pth"] = FILES[".pt"]
FILES[".h5"] = FILES[".hdf5"] = FILES[".keras"]
"""Files, which are read, changed, and written beside themselves; `suspect` is the path."""


@dataclass(frozen=True)
class Written:
    """Source code of a repair.

    Args:
        text: all of it.
        whole: whether it mends everything; else some of it is said in comments.
        replaced: the numbers of the layers that it makes anew, with their weights.
        core: of a file, all of it but that it is written: what was opened is mended then.
    """

    text: str
    whole: bool
    replaced: frozenset[int] = frozenset()
    core: str = ""


def written(
    form: Form | None,
    resolved: Resolved,
    tensors: Mapping[int, Tensors],
    own: Sequence[Recurrent],
    around: Sequence[Written] = (),
) -> Written:
    """The source code that mends a suspect.

    Args:
        form: what kind of thing it is; None for one whose arrays no lines reach.
        resolved: what is to be done.
        tensors: of its layers, by their numbers.
        own: its recurrent layers.
        around: what is to be changed beside weights, said already.
    """
    anew = frozenset[int]().union(*(one.replaced for one in around))
    if anew:
        kept = tuple(step for step in resolved.steps if not {at[0] for at, _ in ends_of(step)} <= anew)
        resolved = replace(resolved, steps=kept, unsaid=())
    if form is not None:
        resolved = resolved.without(lambda step: _said(form.dialect, step, tensors) is None)
    body: list[str] = []
    whole = True
    for _, alike in groupby(resolved.steps, _order):
        together = list(alike)
        loop = None if form is None else _in_a_loop(form.dialect, together, tensors, own)
        if loop:
            body += loop
            continue
        for words, steps in groupby(together, lambda step: _title(step, own)):
            lines = []
            for step in steps:
                said = None if form is None else _said(form.dialect, step, tensors)
                whole = whole and said is not None
                lines += said or []
            body += [f"# {words}", *lines]
    said = [line for one in around for line in one.text.splitlines()]
    done = [line for line in said if not line.startswith(("import ", "from "))]
    needs = {line for line in said if line not in done}
    runs = any(one.whole for one in around)
    remarks = [f"# No lines mend {words} from outside." for words in resolved.unsaid if not resolved.own_code]
    remarks += [f"#     {line}" for line in resolved.own_code]
    if not whole:
        remarks.append(
            "# No lines reach these numbers; parity.transfer(reference, model) puts the right ones into a live model."
        )
    changes: list[str] = []
    if body and form is not None and whole:
        changes = [*([form.block] if form.block else []), *(f"    {line}" if form.block else line for line in body)]
    elif body:
        changes = [line for line in body if line.startswith("#")]
    changes += done
    before, after = _ends(form, changes, bool(body and whole) or runs)
    text = "\n".join([*before, *changes, *after])
    runnable = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    needs |= {name for name in form.imports if _used(name, runnable)} if form is not None else set()
    needs |= {"import parity"} if "parity." in runnable else set()
    needs |= {"from einops import rearrange"} if "rearrange(" in runnable else set()
    complete = whole and bool(body or done) and not resolved.unsaid and all(one.whole for one in around)
    head = in_order(needs)
    head += [""] if head else []
    core = "\n".join([*head, *before, *changes, ""])
    return Written("\n".join([*head, *before, *changes, *after, *remarks, ""]), complete, core=core)


def titles(resolved: Resolved, own: Sequence[Recurrent]) -> list[str]:
    """What is done to the suspect's weights, in words.

    Args:
        resolved: what is to be done.
        own: the suspect's recurrent layers.
    """
    return list(dict.fromkeys(_title(step, own) for step in resolved.steps))


def _ends(form: Form | None, changes: Sequence[str], runs: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lines that open a suspect and put the mended one away, as far as the changes need them."""
    if form is None or not runs:
        return (), ()
    used = any("tensors" in line for line in changes if not line.startswith("#")) or not form.dialect.read[
        0
    ].startswith("{array} = onnx")
    return tuple(line for line in form.before if used or not line.startswith("tensors = ")), form.after


def _used(line: str, text: str) -> bool:
    """Whether the names that a line imports are used."""
    names = line.partition("import ")[2].split(", ")
    return any(re.search(rf"\b{name.rpartition(' as ')[2]}[.(]", text) for name in names)


def in_order(imports: set[str]) -> list[str]:
    """Imports as ruff and isort order them, all in one block."""
    return sorted(imports, key=lambda line: (not line.startswith("from pathlib"), line.split()[1]))


def _title(step: Step, own: Sequence[Recurrent]) -> str:
    """What a step is about."""
    if isinstance(step, Swap):
        ends = [f"{TENSORS[member]} of '{_place(at, own)}'" for at, member in (step.first, step.second)]
        return f"{ends[0]} and {ends[1]}: they stand in each other's place"
    what = "the right numbers" if isinstance(step, Right) else type(step.formula).__name__
    return f"{_place(step.at, own)}, {TENSORS[step.member]}: {_WORDS.get(what, what)}"


_WORDS = {
    "GateOrder": "the gates put into their own order",
    "BlockTranspose": "the block of each gate transposed",
    "Reread": "transposed, where it was reshaped",
    "CudnnOrder": "the block of each gate from cuDNN's order",
    "FeaturesReversed": "the features put the other way round",
    "PeepholeOrder": "the peepholes put into their own order",
    "Scale": "scaled back",
    "Shift": "shifted back",
}


def _place(at: tuple[int, int], own: Sequence[Recurrent]) -> str:
    layer = own[at[0]]
    return f"{layer.name}, {layer.spec.directions[at[1]]}" if layer.bidirectional else layer.name


def _order(step: Step) -> tuple[int, ...] | None:
    """The order into which the gates are put, if that is what a step does."""
    return step.formula.order if isinstance(step, Change) and isinstance(step.formula, GateOrder) else None


def _in_a_loop(
    dialect: Dialect, steps: Sequence[Step], tensors: Mapping[int, Tensors], own: Sequence[Recurrent]
) -> list[str] | None:
    """The lines of several steps that put gates into one order; None where they cannot be said in a loop."""
    changes = [step for step in steps if isinstance(step, Change) and isinstance(step.formula, GateOrder)]
    slots = [slot_of(tensors, step.at, step.member) for step in changes]
    found = [slot for slot in slots if slot is not None]
    if len(changes) < max(2, len(steps)) or len(found) < len(changes):
        return None
    formula = changes[0].formula
    assert isinstance(formula, GateOrder)
    try:
        lines = order_lines(dialect, found, formula)
    except ValueError:
        return None
    where = ", and ".join(dict.fromkeys(_place(step.at, own) for step in changes))
    members = list(dict.fromkeys(TENSORS[step.member] for step in changes))
    what = "weights" if len(members) > 2 else " and ".join(members)
    return [f"# {where}: the gates of the {what} put into their own order", *lines]


def _said(dialect: Dialect, step: Step, tensors: Mapping[int, Tensors]) -> list[str] | None:
    """The lines of one step; None where there are none."""
    slots = [slot_of(tensors, at, member) for at, member in ends_of(step)]
    found = [slot for slot in slots if slot is not None]
    if len(found) < len(slots):
        return None
    try:
        if isinstance(step, Swap):
            return swap_lines(dialect, found[0], found[1])
        if isinstance(step, Change):
            return lines_of(dialect, found[0], step.formula)
        number, direction = step.source
        weights = f"parity.read(reference).recurrent[{number}].weights[{direction}]"
        return right_lines(dialect, found[0], weights, step.members)
    except ValueError:
        return None


__all__ = ["FILES", "LIVE", "Form", "Written", "in_order", "named", "titles", "written"]
