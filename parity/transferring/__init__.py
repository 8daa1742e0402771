"""Weights into a model that the user has written by hand: matched, checked, written, read back, accounted for tensor by tensor."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from parity.errors import ParityError, Problem, UnsupportedError
from parity.frameworks import framework, owner
from parity.sources import Opened, Source, open_source
from parity.transferring.answer import Row, Transfer
from parity.transferring.described import units_of
from parity.transferring.matching import Matching, matched
from parity.transferring.naming import distinct
from parity.transferring.planning import Plan, planned, written
from parity.transferring.units import Unit

_LIVE = ("torch", "keras")


def transfer(source: Source, target: Any, names: Mapping[str, str | None] | None = None) -> Transfer:
    """Put the weights of a source into a live model that has its own code, in place.

    Both sides are taken apart into layers that have weights; those are matched by what `names` says, by equal names, because they are the
    only ones of their kind and sizes, or by their numbers (lstm, lstm_1 -> rnn1, rnn2). What nothing decides is an error that prints the
    `names` to give. Axes, gate orders and biases become the target's; nothing is rounded but the sum of two biases where the target
    has one. Everything is computed and checked before the first tensor is written, and read back after it.

    Args:
        source: a path, a live Keras layer or model, a torch module, an onnx.ModelProto, or a Network.
        target: a live torch module or a built Keras layer or model; its own values change.
        names: layer, module or tensor of the source -> that of the target, as the error or the answer shows them. "layer.forward" and
            "layer.backward" are the directions of a bidirectional layer. None instead of a name leaves a layer or tensor of the source
            out, or one of the target as it is; where both sides have that name, "source:layer" or "target:layer" says which.

    Returns:
        Every tensor of the target with where it came from and a hash; what was left; options that change the numbers and differ.

    Raises:
        ParityError: an ambiguous or incomplete match, shapes that differ, numbers that would be rounded; all problems at once, and
            the target is as it was.
        UnsupportedError: a layer whose weights mean something else in the target, such as a GRU with reset_after=False in nn.GRU.
        FormatError: a file that is not what it claims.

    Example:
        >>> import keras, torch
        >>> source = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(2, name="gru"), keras.layers.Dense(1, name="out")])
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.head = torch.nn.Linear(2, 1)
        ...         self.rnn = torch.nn.GRU(3, 2, batch_first=True)
        >>> done = transfer(source, Model())
        >>> [(row.source, row.transform, row.target) for row in done.rows][0]
        ('gru/kernel', 'transposed, gates z r h -> r z n', 'rnn.weight_ih_l0')
        >>> done.how
        {'rnn': 'the only one of its kind and shapes', 'head': 'the only one of its kind and shapes'}
    """
    names = _checked(names)
    engine = owner(target)
    if engine not in _LIVE:
        kind = f"{type(target).__module__}.{type(target).__qualname__}"
        remedy = "open the file with its framework first; parity.convert writes files"
        raise ParityError(
            "the target is no live model", "transfer", "a torch module or a built Keras layer", kind, remedy
        )
    tensors = _tensors(engine)
    given = given_units(source)
    theirs = distinct(tensors.units(target))
    found = matched(given.units, theirs, names, (given.ordered, tensors.in_order(target)), given.named)
    plan = planned(found.matches, found.left)
    problems = [*found.problems, *plan.problems]
    if problems:
        raise _refused(problems, names, found, plan)
    if not plan.writes:
        raise ParityError("there is nothing to transfer", "transfer", "layers with weights on both sides", "none")
    hashes = written(plan.writes, lambda raw: hashlib.sha256(raw).hexdigest())
    rows = tuple(
        Row(write.source, write.transform, write.leaf.name, tuple(write.leaf.handle.shape), hashes[at], write.how)
        for at, write in enumerate(plan.writes)
    )
    return Transfer(
        rows,
        (*found.unused, *plan.unused),
        (*found.untouched, *plan.untouched),
        tuple(dict.fromkeys((*given.warnings, *found.warnings, *plan.warnings))),
        {match.target.name: match.how for match in found.matches},
    )


def _tensors(engine: str) -> ModuleType:
    """The verbs of a framework that list and write the tensors of a live model."""
    return importlib.import_module(f"{framework(engine).__name__}.tensors")


def _checked(names: Any) -> dict[str, str | None]:
    if names is None:
        return {}
    if not isinstance(names, Mapping):
        raise ParityError("names= is no mapping", "transfer", "{source: target or None}", f"{names!r}"[:80])
    strange = [
        f"{key!r}: {value!r}"
        for key, value in names.items()
        if not isinstance(key, str) or not isinstance(value, (str, type(None)))
    ]
    given = [value for value in names.values() if isinstance(value, str)]
    problems = [Problem("names= takes names", expected="{source: target or None}", got=one) for one in strange]
    problems += [
        Problem("names= gives one target twice", expected="each once", got=value)
        for value in dict.fromkeys(given)
        if given.count(value) > 1
    ]
    if problems:
        raise ParityError(problems)
    return dict(names)


@dataclass(frozen=True)
class Given:
    """A source: its units, whether they stand in the order of the data, whether their names are names, and what it does not say."""

    units: list[Unit]
    ordered: bool
    named: bool = True
    warnings: tuple[str, ...] = ()


def given_units(source: Source) -> Given:
    """What the weights of a source are: of a live object its own layers and tensors, of a file those that it says.

    Args:
        source: anything that `parity.read` takes.

    Example:
        >>> import torch
        >>> [(unit.name, unit.described) for unit in given_units(torch.nn.GRU(3, 2)).units]
        [('gru', 'gru 3->2')]
    """
    live = source.live if isinstance(source, Opened) else source
    if live is not None and not isinstance(live, (str, os.PathLike)) and owner(live) in _LIVE:
        tensors = _tensors(str(owner(live)))
        return Given(distinct(tensors.units(live, reading=True)), tensors.in_order(live))
    network = open_source(source, partial=True).network
    assumed = network.details.get("assumed")
    configured = "producer" in network.details and not assumed and all(one.class_name for one in network.opaque)
    return Given(
        distinct(units_of(network)),
        bool(network.outputs) or (network.origin == "keras" and configured),
        network.details.get("names") != "positions",
        (f"the source does not say, so it is assumed: {assumed}",) if assumed else (),
    )


def _refused(problems: list[Problem], names: Mapping[str, str | None], found: Matching, plan: Plan) -> ParityError:
    fitting = found.matches or names or any(value is not None for value in found.guesses.values())
    if found.guesses and not fitting:
        what = "no layer of the source fits one of the target, in kind and sizes"
        remedy = "check that these weights were made for this model; a layer of your own takes single tensors by names="
        problems = [*problems, Problem(what, remedy=remedy)]
    elif found.guesses:
        lines = [f"    {json.dumps(key)}: {_value(value)}," for key, value in names.items()]
        lines += [
            f"    {json.dumps(key)}: {_value(value)},  # {'a guess' if value is not None else 'left out, or as it is'}"
            for key, value in found.guesses.items()
            if key not in names
        ]
        what = "nothing was written; if this is what you mean, give it"
        problems = [*problems, Problem(what, remedy="\n".join(["names={", *lines, "}"]))]
    return (UnsupportedError if plan.unsupported else ParityError)(problems)


def _value(value: str | None) -> str:
    return "None" if value is None else json.dumps(value)


__all__ = ["Given", "Row", "Transfer", "given_units", "transfer"]
