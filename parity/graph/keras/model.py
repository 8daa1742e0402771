"""Reads the calls of a model's layers one after the other, with the masks that go along, as Keras's `Layer.__call__` does.

Source: Keras 3 `Layer.__call__`, steps 6 to 8, and `Layer._set_mask_metadata`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from parity.deferred import Stored
from parity.errors import FormatError, Problem, ShapeError, UnsupportedError
from parity.graph.custom import Reads, registered
from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Held, Kept, MisfitError, Reader, Tensor, flat, is_tensors, mapped, masks_in
from parity.graph.keras.layers import reader_of
from parity.graph.keras.masks import MaskMaker
from parity.graph.keras.naming import NamingBuilder
from parity.graph.keras.old import kernels_today, today
from parity.graph.keras.operations import is_operation
from parity.graph.keras.tokens import as_tokens
from parity.graph.keras.users import FaultyRegistrationError, read_users
from parity.graph.operations import Stated, Stub
from parity.network.keras.cells import Reading
from parity.network.keras.known import weight_names
from parity.network.keras.options import CELLS, CLASSES, COMMON, Config, check_options, plain, shown
from parity.network.keras.stored import as_kept, held

_SETTINGS = ("name", "trainable", "dtype", "batch_input_shape", "activity_regularizer", "seed")
_TRAINING = ("_initializer", "_regularizer", "_constraint")
"""How options end that say something of training alone."""

_OF_PLANS = {**CLASSES, **CELLS}

Weights = Callable[[], "Sequence[Stored] | Mapping[str, Stored]"]


@dataclass(eq=False)
class Model:
    """A model being read.

    Args:
        build: the graph in the making.
        reading: the problems found so far, and what "hard_sigmoid" means.
        misfits: weights that do not fit.
        faults: what is wrong with functions that users have registered.
        types: of the weights read so far.
        inside: reads a model inside a wrapper: (call, layer, weights, what it takes) -> what it gives.
        layers: those called so far, by path.
        stated: what the configuration says of values, where a layer takes them.
    """

    build: NamingBuilder
    reading: Reading
    inside: Callable[[Call, Config, Sequence[Stored], Tensor], list[Tensor]]
    misfits: list[Problem] = field(default_factory=list)
    faults: list[Problem] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    layers: dict[str, Held] = field(default_factory=dict)
    stated: dict[Wire, list[Stated]] = field(default_factory=dict)
    masks: MaskMaker = field(init=False)

    def __post_init__(self) -> None:
        self.masks = MaskMaker(self.build)

    def tokens(self, wire: Wire, below: int) -> Wire:
        """A value as the integers that an Embedding takes; an input that it leads back to becomes one of them."""
        return as_tokens(self.build, wire, below)

    def takes_mask(self, layer: Config) -> bool:
        """Whether the `call` of a layer has an argument `mask`."""
        return _is_known(layer) and reader_of(layer, "").takes_mask

    def call(
        self,
        layer: Config,
        path: str,
        name: str,
        stored: Weights,
        given: Sequence[Any],
        named: Mapping[str, Any],
        outputs: int,
    ) -> list[Tensor]:
        """The values that a call of a layer gives.

        Args:
            layer: its serialized form.
            path: the names that lead to it.
            name: of the call.
            stored: its weights.
            given: the arguments by position; tensors as `Tensor`.
            named: the arguments by name.
            outputs: how many values of it are used.
        """
        if self.reading.hard_sigmoid_of_keras_2:
            layer = today(layer)
            stored = kernels_today(layer, stored)
        own = self.layers.setdefault(path, Held(layer, path, stored))
        call = Call(
            self.build, self.reading, own, name, {}, outputs=outputs, model=self, nodes=layer.get("inbound_nodes")
        )
        for wire, one in call.stated_values(flat([*given, *named.values()])):
            self.stated.setdefault(wire, []).append(one)
        before, outside = len(self.build.nodes), self.build.inside
        self.build.inside = name
        found: list[Tensor] | None = None
        try:
            function = _users(own)
            reader = None if function else reader_of(own.layer, call.where)
            if reader is not None:
                found = self._guarded(call, reader, given, named)
            elif function is not None:
                found = read_users(call, function, given, named)
        except MisfitError as error:
            self.misfits += error.problems
        except (UnsupportedError, ShapeError, FormatError) as error:
            self._refuse(call, error.problems)
            if isinstance(error, FaultyRegistrationError):
                self.faults += [one for one in error.problems if one not in self.faults]
        if found is None:
            tensors = flat([*given, *(value for key, value in named.items() if key != "mask")])
            found = self._stub(call, tensors, _mask_of_stub(named.get("mask"), tensors))
        self.build.inside = outside
        self._mark(found, name, before)
        return found

    def _guarded(self, call: Call, reader: Reader, given: Sequence[Any], named: Mapping[str, Any]) -> list[Tensor]:
        """What a reader makes of a call; options of other types than Keras writes are its user's, not its own, faults."""
        self._check(call, reader)
        try:
            return self._read(call, reader, given, named)
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            got = f"{type(error).__name__}: {error}"[:200]
            raise FormatError(
                "options that contradict each other", call.where, "options as Keras writes them", got
            ) from error

    def _refuse(self, call: Call, problems: Sequence[Problem]) -> None:
        for problem in problems:
            own = problem if call.held.path in problem.where else replace(problem, where=_placed(call, problem))
            if own not in self.reading.problems:
                self.reading.problems.append(own)

    def _check(self, call: Call, reader: Reader) -> None:
        """Refuse options that are unknown or not kept exactly; those of recurrent layers are checked by their plan."""
        if "checked" in call.held.cache:
            if call.held.cache["checked"]:
                raise UnsupportedError(call.held.cache["checked"])
            return
        problems: list[Problem] = []
        options = reader.options or _OF_PLANS.get(call.held.class_name, {})
        config = {key: value for key, value in call.config.items() if not key.endswith(_TRAINING)}
        check_options(config, {**COMMON, **options}, call.where, problems)
        call.held.cache["checked"] = problems
        if problems:
            raise UnsupportedError(problems)

    def _read(self, call: Call, reader: Reader, given: Sequence[Any], named: Mapping[str, Any]) -> list[Tensor]:
        bound = _bound(call, reader, given, named)
        call.arguments = bound
        first = next(iter(bound.values()), None)
        call.mask = _handed_mask(call, reader, bound)
        call.previous = mapped(first, lambda tensor: tensor.mask) if call.mask is None else call.mask
        own = reader.read(call)
        values = [own] if isinstance(own, (Wire, Tensor)) else list(own)
        shared = flat(first)[0].kept if reader.same and flat(first) else None
        found = [one if isinstance(one, Tensor) else Tensor(one, shared or Kept()) for one in values]
        if reader.masks is not None and any(tensor.mask is None for tensor in found):
            masks = masks_in(reader.masks(call, found))
            for tensor, mask in zip(found, masks, strict=False):
                if tensor.mask is None:
                    tensor.kept.mask = mask
        return found

    def _stub(self, call: Call, tensors: Sequence[Tensor], mask: Wire | None) -> list[Tensor]:
        """In the place of a layer that is not read."""

        def make() -> Stub:
            arrays = {name: held(as_kept(one), call.where) for name, one in _named(call.held).items()}
            options = {key: plain(value) for key, value in call.config.items() if key not in _SETTINGS}
            shown_options = {key: value for key, value in options.items() if not key.endswith(_TRAINING)}
            name = self.build.unique(call.name)
            return Stub(name, call.held.class_name, shown_options, arrays, call.outputs, masked=mask is not None)

        stub = call.once("stub", make)
        masks = [mask] if stub.masked and mask is not None else []
        node = self.build.call(stub, *(tensor.wire for tensor in tensors), *masks)
        return [Tensor(Wire(node.node, index)) for index in range(stub.outputs)]

    def _mark(self, found: Sequence[Tensor], source: str, before: int) -> None:
        """Say at the node that gives a layer's first value whose it is."""
        nodes = self.build.nodes
        for place in range(len(nodes) - 1, before - 1, -1):
            if found and nodes[place].name == found[0].wire.node:
                nodes[place] = replace(nodes[place], source=source)


def _mask_of_stub(given: Any, tensors: Sequence[Tensor]) -> Wire | None:
    """The mask that Keras hands to a layer that takes one: the argument itself, else the mask of the first tensor."""
    named = flat(given)
    if named:
        return named[0].wire if len(named) == 1 else None
    return tensors[0].mask if tensors and given is None else None


def _users(own: Held) -> Reads | None:
    """What a user has said of the class, if it is none of Keras's own."""
    module = str(own.layer.get("module"))
    class_name = own.class_name.rpartition(">")[2]
    ours = module.startswith("keras.") and own.layer.get("registered_name") in (None, own.class_name)
    function = registered(class_name)
    return function if function is not None and not (ours and _is_known(own.layer)) else None


def _is_known(layer: Config) -> bool:
    try:
        reader_of(layer, "")
    except UnsupportedError:
        return False
    return True


def _placed(call: Call, problem: Problem) -> str:
    return f"{call.where}, {problem.where}" if problem.where else call.where


def _bound(call: Call, reader: Reader, given: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, in the order of the layer's `call`.

    Raises:
        UnsupportedError: arguments that change what the layer computes.
    """
    names = reader.arguments
    own = dict(zip(names, given, strict=False))
    extra = {f"argument {place}": value for place, value in enumerate(given[len(names) :], len(names) + 1)}
    renamed = {("inputs" if key in ("inputs", "sequences", "sequence") else key): value for key, value in named.items()}
    if "inputs" in renamed and "inputs" not in names:
        renamed[names[0]] = renamed.pop("inputs")
    own |= {key: value for key, value in renamed.items() if key in names}
    extra |= {key: value for key, value in renamed.items() if key not in names}
    own.pop("training", None)
    if renamed.get("training"):
        raise call.refused("the layer is called as in training", "training=False", "training=True", "leave it out")
    for key, value in extra.items():
        if value is not None and key != "training":
            what, remedy = "an argument that is not kept exactly", "call the layer without it"
            raise call.refused(what, ", ".join(names), f"{key}={shown(value)}", remedy)
    return {name: own[name] for name in names if name in own}


def _handed_mask(call: Call, reader: Reader, bound: Mapping[str, Any]) -> Any:
    """The mask that the layer's `call` gets: one given to it, or that of its input where the input is its only argument of tensors.

    Keras before 3 hands it on beside states, too.
    """
    explicit = bound.get("mask")
    if explicit is not None and flat(explicit):
        numbers = call.stated_dtypes("mask") - {"bool"}
        return mapped(explicit, lambda tensor: _as_bool(call, reader, tensor.wire, numbers) if numbers else tensor.wire)
    tensors = [value for value in bound.values() if is_tensors(value)]
    if not reader.takes_mask or not tensors or (len(tensors) > 1 and not (call.old and "initial_state" in bound)):
        return None
    return mapped(tensors[0], lambda tensor: tensor.mask)


def _as_bool(call: Call, reader: Reader, mask: Wire, dtypes: set[str]) -> Wire:
    """A mask of numbers as truth values: recurrent layers cast it, `Softmax` compares it with 0.5.

    Raises:
        UnsupportedError: another layer, which may take it for weights.
    """
    if call.held.class_name == "Softmax":
        return call.build.elementwise("greater", mask, 0.5)
    if "initial_state" in reader.arguments:
        return call.build.cast(mask, "bool")
    what, remedy = "a mask of numbers is not kept exactly", "make it a comparison, such as mask > 0.5"
    raise call.refused(what, "truth values, bool", ", ".join(sorted(dtypes)), remedy)


def _named(own: Held) -> dict[str, Stored]:
    """The weights of a layer that is not read, by Keras's names where they are known; none where the file does not have them."""
    if is_operation(own.layer):
        return {}
    try:
        stored = own.stored()
    except FormatError:
        return {}
    if isinstance(stored, Mapping):
        return dict(stored)
    try:
        names = weight_names(own.layer)
    except (AttributeError, FormatError, TypeError, KeyError):
        names = None
    known = names if names and len(names) == len(stored) else [str(number) for number in range(len(stored))]
    return dict(zip(known, stored, strict=True))


__all__ = ["Model", "Weights"]
