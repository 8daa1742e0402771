"""The text of the whole module, put together from its parts."""

from __future__ import annotations

import re
from importlib import resources

from parity.graph.code import first_lines, prose, wrapped
from parity.graph.graph import GraphInput
from parity.graph.lengths import shown
from parity.graph.torch_code.checks import Check
from parity.graph.torch_code.formatting import formatted
from parity.graph.torch_code.names import PYTHON_NAMES, class_name
from parity.graph.torch_code.writer import Declared, Writer

_FILES = {
    "masked_lstm": "masked",
    "masked_rnn": "masked",
    "repeat_last": "masked",
    "pad_same": "padding",
    "group_norm": "groups",
    "read_safetensors": "load",
}
"""Which snippet file has a helper."""

_NEEDS = {"masked_lstm": ("pack_valid", "unpack_valid"), "masked_rnn": ("pack_valid", "unpack_valid")}
_PACKING = ("PackedSequence", "pack_padded_sequence", "pad_packed_sequence")


def module_text(w: Writer, outputs: dict[str, str]) -> str:
    """The source of the module.

    Args:
        w: what was written.
        outputs: the fields of `Outputs` by the names of the outputs, if there are several.
    """
    name = class_name(w.graph.name, PYTHON_NAMES | set(w.classes))
    w.helper("read_safetensors")
    parts = [
        *([_outputs(w, outputs)] if len(outputs) > 1 else []),
        *w.classes.values(),
        _class(w, name, outputs),
        _load(w, name),
        *_helpers(w),
    ]
    code = "\n\n".join(f"\n{part.strip()}" for part in parts)
    return f"{_docstring(w)}\n\n{_imports(code)}\n\n{code}\n".replace("\n\n\n\n", "\n\n\n")


def _docstring(w: Writer) -> str:
    graph = w.graph
    lines = [*first_lines(graph), "", "Inputs:"]
    lines += [f"    {w.inputs[given.name]}: {_described(given)}" for given in graph.inputs]
    lines += ["Outputs:"]
    for output, wire in graph.outputs.items():
        shape = w.shape(wire)
        lines.append(f"    {prose(output, 60)}: {'unknown shape' if shape is None else shown(shape)}")
    if w.checks:
        lines += ["Lengths:", *(f"    {one.words}" for one in w.checks)]
    arguments = ", ".join(w.inputs.values())
    return "\n".join(
        [
            *lines,
            "",
            "The weights are in model.safetensors beside this file; load() reads them:",
            "",
            "    model = load()",
            f"    y = model({arguments})",
            '"""',
        ]
    )


def _described(given: GraphInput) -> str:
    words = [shown(given.shape)]
    words += [given.dtype] if given.dtype != "float32" else []
    words += [f"below {given.below}"] if given.below else []
    return ", ".join(words)


def _outputs(w: Writer, outputs: dict[str, str]) -> str:
    lines = ["class Outputs(NamedTuple):", '    """What the model gives."""', ""]
    for output, own in outputs.items():
        comment = w.comment(w.graph.outputs[output])
        line = f"    {own}: Tensor"
        lines.append(f"{line}  # {comment}" if comment and len(line) + len(comment) <= 80 else line)
    return "\n".join(lines)


def _class(w: Writer, name: str, outputs: dict[str, str]) -> str:
    result = "Outputs" if len(outputs) > 1 else "Tensor"
    arguments = ["self", *(f"{own}: Tensor" for own in w.inputs.values())]
    lines = [
        f"class {name}(nn.Module):",
        f'    """{_summary(w)}"""',
        "",
    ]
    annotations = [f"    {one.name}: Tensor" for one in w.declared if one.buffer]
    lines += [*annotations, ""] if annotations else []
    if w.declared:
        lines += ["    def __init__(self) -> None:", "        super().__init__()"]
        lines += [line for one in w.declared for line in _declared(one)]
        lines += [""]
    lines += wrapped("def forward(", arguments, f") -> {result}:", 4)
    checks = [line for one in w.checks for line in _checked(one)]
    return "\n".join([*lines, *checks, *w.body.lines()])


def _checked(check: Check) -> list[str]:
    """A length that must not be violated silently, at the start of `forward`."""
    return [
        f"        if {check.broken}:",
        *wrapped("raise ValueError(", [f'"{check.words}"'], ")", 12),
    ]


def _summary(w: Writer) -> str:
    """What goes in and what comes out, in one line."""
    taken = [f"{w.inputs[given.name]} {shown(given.shape)}" for given in w.graph.inputs]
    given = [f"{prose(name, 40)} {w.comment(wire)}".strip() for name, wire in w.graph.outputs.items()]
    text = f"{', '.join(taken)} -> {', '.join(given)}."
    return text if len(text) <= 76 else "Inputs and outputs are described at the top of this file."


def _declared(one: Declared) -> list[str]:
    if one.buffer:
        return formatted("", f'self.register_buffer("{one.name}", {one.value})', 8)
    return formatted(f"self.{one.name} = ", one.value, 8)


def _load(w: Writer, name: str) -> str:
    double = ".double()" if w.float_type.itemsize == 8 else ""
    return f'''def load(path: str | Path | None = None) -> {name}:
    """The model with its weights: those of model.safetensors beside this file, or of path."""
    model = {name}(){double}
    path = path or Path(__file__).with_name("model.safetensors")
    model.load_state_dict(read_safetensors(path))
    return model.eval()
'''


def _helpers(w: Writer) -> list[str]:
    """The functions that are used, each as it stands in its snippet, after what it needs itself."""
    wanted: dict[str, None] = {}
    for helper in w.snippets:
        for needed in (*_NEEDS.get(helper, ()), helper):
            wanted[needed] = None
    files = {name: _functions(name) for name in dict.fromkeys(_FILES.values())}
    every = {name: text for functions in files.values() for name, text in functions.items()}
    return [every[name] for name in wanted]


def _functions(file: str) -> dict[str, str]:
    text = (resources.files("parity.graph.torch_code") / "snippets" / f"{file}.py").read_text(encoding="utf-8")
    parts = re.split(r"\n\n\n(?=def )", text)[1:]
    return {part.split("(", 1)[0].removeprefix("def "): part.strip() for part in parts}


def _imports(code: str) -> str:
    """What the code uses, in the order of isort."""

    def used(word: str) -> bool:
        return re.search(rf"(?<![\w.]){word}\b", code) is not None

    own = [f"import {name}" for name in ("json", "math") if used(rf"{name}\.")]
    own += [
        f"from {module} import {name}" for module, name in (("pathlib", "Path"), ("typing", "NamedTuple")) if used(name)
    ]
    torch = ["import torch"] if used(r"torch\.") else []
    torch += ["import torch.nn.functional as F"] if used(r"F\.") else []
    names = [name for name in ("Tensor", "nn") if used(name)]
    torch += [f"from torch import {', '.join(names)}"] if names else []
    packing = [name for name in _PACKING if used(name)]
    if packing:
        torch += wrapped("from torch.nn.utils.rnn import ", packing, "") if len(packing) < len(_PACKING) else [
            "from torch.nn.utils.rnn import (", *(f"    {name}," for name in packing), ")"
        ]  # fmt: skip
    return "\n".join([*own, "", *torch])


__all__ = ["module_text"]
