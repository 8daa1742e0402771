"""TorchScript programs: their weights by name. Their code is data here; nothing of it runs.

    data.pkl        the root module: an object of a class `__torch__...`, its attributes tensors, values and submodules; tensors in data/N
    constants.pkl   a tuple of tensors that the code calls CONSTANTS.c0, CONSTANTS.c1, ...; tensors in constants/N
    code/           the classes, as text

Source: torch's `csrc/jit/serialization/export_module.cpp`, `pickler.cpp` and `python_print.cpp`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from parity.errors import UnsupportedError
from parity.files.archive import Archive
from parity.files.stored import Contents, in_words
from parity.files.torch.rebuild import Name, Record, View
from parity.files.torch.zipped import root_of, stored, unpickled

_MANGLED = re.compile(r"___torch_mangle_\d+\.?")
_RECURRENT = ("LSTM", "GRU", "RNN")
_PLAIN = tuple(f"torch.nn.modules.rnn.{name}" for name in _RECURRENT)
_BATCH_FIRST = re.compile(r"^  batch_first : Final\[bool\] = (True|False)$", re.MULTILINE)
_MODE = re.compile(r'^  mode : Final\[str\] = "(\w+)"$', re.MULTILINE)
_CALL = re.compile(
    r"torch\.(lstm|gru|rnn_tanh|rnn_relu)\(.*, (?:True|False), \d+, [\d.e+-]+, \w+, (?:True|False)(?:, (True|False))?\)$",
    re.M,
)
_MOST_CODE_BYTES, _MOST_MODULES, _MOST_DEPTH = 1 << 24, 20_000, 64

PROGRAM = "its forward is TorchScript code, which torch alone runs: torch.jit.load(path)"


@dataclass
class _Modules:
    """The module tree, flattened."""

    views: dict[str, View] = field(default_factory=dict)
    classes: dict[str, Name] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    lists: dict[str, list[View]] = field(default_factory=dict)


def is_script(archive: Archive) -> bool:
    """Whether a zip is a TorchScript program."""
    inner = [name.partition("/")[2] for name in archive.names]
    return any(name in ("constants.pkl", "model.json", "bytecode.pkl") or name.startswith("code/") for name in inner)


def read_script(archive: Archive) -> Contents:
    """The weights of a TorchScript program, named by the way of attributes to them as in its `state_dict()`.

    `details` has the class of the root ("module") and of each module in it that has tensors ("modules"), and what the code says of the
    recurrent ones ("options").

    Raises:
        FormatError: a damaged file, or a pickle that wants to call something.
        UnsupportedError: the layout of torch 1.0 to 1.2, big-endian numbers.
    """
    if any(name.partition("/")[2] == "model.json" for name in archive.names):
        remedy = "load it with torch.jit.load in torch 1.3 to 2.x and save it again"
        raise UnsupportedError(
            "the TorchScript layout of torch 1.0 to 1.2 is not read",
            str(archive.path),
            "data.pkl",
            "model.json",
            remedy,
        )
    root = root_of(archive)
    found = unpickled(archive, f"{root}data.pkl", scripted=True)
    if not isinstance(found, Record):
        raise archive.fault("it holds no module", "an object of a class", type(found).__name__)
    modules = _modules(found)
    tensors = stored(archive, modules.views, f"{root}data/")
    constants = unpickled(archive, f"{root}constants.pkl", True) if f"{root}constants.pkl" in archive.names else ()
    views = {
        f"CONSTANTS.c{number}": value
        for number, value in enumerate(constants if isinstance(constants, tuple) else ())
        if isinstance(value, View)
    }
    tensors |= stored(archive, views, f"{root}constants/")
    classes = {place: _class_name(name) for place, name in modules.classes.items()}
    details = {"module": classes[""].rpartition(".")[2]}
    named = ", ".join(f"{place}: {name.rpartition('.')[2]}" for place, name in classes.items() if place)
    options = _options(archive, root, modules.classes)
    if views:
        details["constants"] = f"{len(views)} tensors that the code calls CONSTANTS.c0, ..."
    texts = (("modules", named), *in_words(options).items(), ("left out", ", ".join(modules.left_out[:12])))
    details |= {key: text for key, text in texts if text}
    program = "" if classes[""] in _PLAIN and not views else PROGRAM
    return Contents(tensors, "TorchScript program", details, program=program, options=options)


def _modules(found: Record) -> _Modules:
    """The tensors of a module and its submodules by name, in the order of their attributes."""
    modules = _Modules()
    pending: list[tuple[str, Record]] = [("", found)]
    while pending:
        place, record = pending.pop()
        if len(modules.classes) + len(modules.left_out) > _MOST_MODULES:
            raise UnsupportedError("more modules than are read", "", f"at most {_MOST_MODULES}", "more")
        state = record.state if isinstance(record.state, dict) else {}
        deeper: list[tuple[str, Record]] = []
        for key, value in state.items():
            name = f"{place}.{key}" if place else str(key)
            if isinstance(value, View):
                modules.views[name] = value
            elif isinstance(value, (list, tuple)) and any(isinstance(item, View) for item in value):
                modules.lists[name] = [item for item in value if isinstance(item, View)]
            elif isinstance(value, Record) and value.name.module.startswith("__torch__.torch.classes"):
                modules.left_out.append(f"{name}: {value.name.name}")
            elif isinstance(value, Record) and name.count(".") < _MOST_DEPTH:
                deeper.append((name, value))
        if not place or any(isinstance(value, View) for value in state.values()):
            modules.classes[place] = record.name
        pending += reversed(deeper)
    known = {_identity(view) for view in modules.views.values()}
    modules.left_out += [
        f"{name}: a list of tensors"
        for name, views in modules.lists.items()
        if not known.issuperset(map(_identity, views))
    ]
    return modules


def _identity(view: View) -> tuple[object, ...]:
    """What tells tensors apart: a recurrent module has each of its weights in a list, too."""
    return view.storage.key, view.offset, view.shape, view.strides


def _class_name(name: Name) -> str:
    """The class as it is called in Python, without what TorchScript adds to tell variants apart.

    Example:
        >>> _class_name(Name("__torch__.torch.nn.modules.rnn.___torch_mangle_14", "LSTM"))
        'torch.nn.modules.rnn.LSTM'
    """
    return _MANGLED.sub("", f"{name.module}.{name.name}").removeprefix("__torch__.")


def _options(archive: Archive, root: str, classes: dict[str, Name]) -> dict[str, dict[str, str]]:
    """What the code of each recurrent module says of it: batch_first, and the nonlinearity of an RNN."""
    texts: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for place, name in classes.items():
        if _class_name(name) not in _PLAIN:
            continue
        member = f"{root}code/{name.module.replace('.', '/')}.py"
        if member not in texts:
            known = member in archive.names
            texts[member] = archive.read(member, _MOST_CODE_BYTES).decode("utf-8", "replace") if known else ""
        _, _, own = texts[member].partition(f"class {name.name}(Module):\n")
        own = re.split(r"^class ", own, maxsplit=1, flags=re.MULTILINE)[0]
        call, batch_first, mode = _CALL.search(own), _BATCH_FIRST.search(own), _MODE.search(own)
        first = batch_first[1] if batch_first else call[2] if call else None
        kind = mode[1].lower() if mode else call[1] if call else ""
        options = {"batch_first": first} if first else {}
        if kind.startswith("rnn_"):
            options["nonlinearity"] = kind.removeprefix("rnn_")
        if options:
            found[place] = options
    return found
