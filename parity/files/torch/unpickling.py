"""The pickles that torch writes, interpreted here: data is built, nothing is imported and nothing is called.

A pickle is a program. `pickle` is not used: the opcodes that build numbers, texts, lists and dicts are carried out by this module, a
name of the file's choosing stays a name, and a call is carried out by a stand-in from `rebuild.CALLS` or refused by the name of
what was to be called. Source of the opcodes: Python's `Lib/pickletools.py`.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from parity.errors import FormatError, ParityError
from parity.files.torch.rebuild import (
    BESIDE,
    CALLS,
    SCRIPT_CALLS,
    SCRIPT_MODULES,
    Mapped,
    Name,
    Record,
    Storage,
    View,
    filled,
    refusal,
    storage_of,
)

MOST_PICKLE_BYTES, _MOST_OPCODES = 1 << 26, 2_000_000


class Source(Protocol):
    """Where a pickle is read from; a `read` never gives more than is there."""

    def read(self, size: int, /) -> bytes:
        """As many bytes, fewer at the end."""

    def readline(self) -> bytes:
        """A line with its end."""

    def tell(self) -> int:
        """The position."""


def placed(error: ParityError, path: Path) -> ParityError:
    """The same error, about a file."""
    problem = error.problems[0]
    return type(error)(problem.what, str(path), problem.expected, problem.got, problem.remedy)


class Interpreter:
    """Carries out one pickle.

    Args:
        source: stands at its first byte, and behind its last one afterwards.
        scripted: whether objects of the classes of a TorchScript program may occur; they become `Record`.

    `storages` has all that it refers to, by key.

    Example:
        >>> import io, pickle
        >>> Interpreter(io.BytesIO(pickle.dumps({"epoch": 3, "loss": [0.5, None]}, 2))).load()
        {'epoch': 3, 'loss': [0.5, None]}
    """

    def __init__(self, source: Source, scripted: bool = False) -> None:
        self._source, self._scripted = source, scripted
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def load(self) -> Any:
        """What the pickle builds.

        Raises:
            FormatError: a damaged pickle, or one that wants to call something; it has no `where`.
            UnsupportedError: a whole module, or a tensor of a kind that is not read.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python's, on odd escapes in a text of the file
                return self._carried_out()
        except ParityError:
            raise
        except (
            *(ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error),
            *(OverflowError, RecursionError, MemoryError),
        ) as error:
            raise FormatError(
                "its pickle is damaged",
                "",
                "a pickle of tensors",
                (str(error) or type(error).__name__)[:200],
                "get the file anew, or save the model again",
            ) from error

    def _carried_out(self) -> Any:
        opcodes = pickletools.genops(self._source)  # type: ignore[arg-type]  # it needs no more than a Source
        for count, (opcode, argument, _) in enumerate(opcodes):
            if count >= _MOST_OPCODES:
                raise ValueError(f"more than {_MOST_OPCODES} opcodes")
            if opcode.name == "STOP":
                (value,) = self._stack
                return value
            self._run(opcode.name, argument)
        raise ValueError("no STOP")

    def _run(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _ARGUMENTS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[int(argument)])
        elif name == "MARK":
            self._below.append(stack)
            self._stack = []
        elif name not in ("PROTO", "FRAME"):
            action = _ACTIONS.get(name)
            if action is None:
                raise ValueError(f"the opcode {name}, which no tensor needs")
            action(self, argument)

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _tuple(self, size: int) -> None:
        items = tuple(self._stack[-size:])
        if len(items) != size:
            raise ValueError("a tuple of more than there is")
        self._stack[-size:] = [items]

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _mark_tuple(self, _: Any) -> None:
        items = tuple(self._marked())
        self._stack.append(items)

    def _mark_list(self, _: Any) -> None:
        items = self._marked()
        self._stack.append(items)

    def _mark_dict(self, _: Any) -> None:
        items = self._marked()
        self._stack.append(filled({}, items))

    def _append(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise TypeError("items for what is not a list")
        self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise TypeError("entries for what is not a dict")
        filled(self._stack[-1], items)

    def _pair(self) -> list[Any]:
        value, key = self._stack.pop(), self._stack.pop()
        return [key, value]

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Name(module, name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._pair()
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a global whose name is no text")
        self._stack.append(Name(module, name))

    def _inst(self, argument: str) -> None:
        arguments = tuple(self._marked())
        module, _, name = argument.partition(" ")
        self._stack.append(self._called(Name(module, name), arguments))

    def _obj(self, _: Any) -> None:
        name, *arguments = self._marked()
        self._stack.append(self._called(name, tuple(arguments)))

    def _reduce(self, _: Any) -> None:
        name, arguments = self._pair()
        self._stack.append(self._called(name, arguments))

    def _new(self, _: Any) -> None:
        name, arguments = self._pair()
        self._stack.append(self._called(name, arguments, new=True))

    def _new_with_names(self, _: Any) -> None:
        named = self._stack.pop()
        name, arguments = self._pair()
        if named:
            raise refusal(name) if isinstance(name, Name) else TypeError("a call of what is not a global")
        self._stack.append(self._called(name, arguments, new=True))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Mapped):
            target.metadata = state.get("_metadata") if isinstance(state, dict) else None
        elif isinstance(target, Record):
            target.state = state
        elif not isinstance(target, View):  # what a tensor of torch 0.3 carries: requires_grad, volatile, hooks
            raise TypeError("a state for what has none")

    def _persistent(self, _: Any) -> None:
        storage = storage_of(self._stack.pop())
        self.storages.setdefault(storage.key, storage)
        self._stack.append(storage)

    def _called(self, name: object, arguments: object, new: bool = False) -> Any:
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is not a global")
        full = str(name)
        call = CALLS.get(full)
        if call is not None:
            return call(*arguments)
        if self._scripted and name.module in SCRIPT_MODULES and name.name in SCRIPT_CALLS:
            return arguments[0]
        if full in BESIDE or (self._scripted and name.module.partition(".")[0] == "__torch__"):
            return Record(name, arguments)
        raise refusal(name, new)


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ARGUMENTS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)
_ACTIONS: dict[str, Callable[[Interpreter, Any], None]] = {
    "EMPTY_LIST": lambda run, _: run._stack.append([]),
    "EMPTY_SET": lambda run, _: run._stack.append([]),
    "EMPTY_DICT": lambda run, _: run._stack.append({}),
    "POP": Interpreter._pop,
    "POP_MARK": Interpreter._pop_mark,
    "DUP": lambda run, _: run._stack.append(run._stack[-1]),
    "APPEND": lambda run, _: run._append([run._stack.pop()]),
    "APPENDS": lambda run, _: run._append(run._marked()),
    "ADDITEMS": lambda run, _: run._append(run._marked()),
    "SETITEM": lambda run, _: run._set(run._pair()),
    "SETITEMS": lambda run, _: run._set(run._marked()),
    "TUPLE1": lambda run, _: run._tuple(1),
    "TUPLE2": lambda run, _: run._tuple(2),
    "TUPLE3": lambda run, _: run._tuple(3),
    "TUPLE": Interpreter._mark_tuple,
    "LIST": Interpreter._mark_list,
    "FROZENSET": Interpreter._mark_list,
    "DICT": Interpreter._mark_dict,
    "GLOBAL": Interpreter._global,
    "STACK_GLOBAL": Interpreter._stack_global,
    "INST": Interpreter._inst,
    "OBJ": Interpreter._obj,
    "REDUCE": Interpreter._reduce,
    "NEWOBJ": Interpreter._new,
    "NEWOBJ_EX": Interpreter._new_with_names,
    "BUILD": Interpreter._build,
    "BINPERSID": Interpreter._persistent,
}
