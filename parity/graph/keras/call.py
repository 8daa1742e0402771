"""One call of one layer while a model is read: what it takes, its options and weights, and the graph in the making."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from parity.deferred import Stored
from parity.errors import FormatError, Problem, ShapeError, UnsupportedError
from parity.graph.builder import PROBES, Builder
from parity.graph.graph import Wire
from parity.graph.operations import Constant, Shape, Stated
from parity.network.keras.cells import Reading
from parity.network.keras.options import DTYPES, Config, Option, shown
from parity.network.keras.stored import as_kept, held, type_name

_Operation = TypeVar("_Operation")

_MOST_AXES = 16
"""Of a shape that a configuration states."""


class MisfitError(ShapeError):
    """Weights that do not fit the configuration."""


@dataclass(eq=False)
class Kept:
    """The mask that Keras keeps at a tensor, `_keras_mask`: several names of one tensor share it."""

    mask: Wire | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the model and the mask that goes with it."""

    wire: Wire
    kept: Kept = field(default_factory=Kept)

    @property
    def mask(self) -> Wire | None:
        """Its mask; None for none."""
        return self.kept.mask


@dataclass(eq=False)
class Held:
    """A layer of the model, shared by all its calls.

    Args:
        layer: its serialized form.
        path: the names that lead to it.
        stored: gives its weights, in Keras's order.
        cache: operations and parameters that its first call has made.
    """

    layer: Config
    path: str
    stored: Callable[[], Sequence[Stored] | Mapping[str, Stored]]
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """Its options."""
        config: Config = self.layer["config"]
        return config

    @property
    def class_name(self) -> str:
        """Its class."""
        return str(self.layer["class_name"])


@dataclass(eq=False)
class Call:
    """One call of a layer.

    Args:
        build: the graph in the making.
        reading: what readers of cells share: problems, and what "hard_sigmoid" means.
        held: the layer.
        name: of the call, unique.
        arguments: by the names of the layer's `call`; tensors as `Tensor`.
        mask: the one that Keras hands to the layer's `call`: a wire, a list of them, or None.
        previous: the one that Keras hands to its `compute_mask`.
        outputs: how many values of it are used, as far as anybody knows.
        model: reads layers and models inside this one.
        nodes: how the configuration describes this call.
    """

    build: Builder
    reading: Reading
    held: Held
    name: str
    arguments: dict[str, Any]
    mask: Any = None
    previous: Any = None
    outputs: int = 1
    model: Any = None
    nodes: Any = None

    # ---- what it is

    @property
    def config(self) -> Config:
        """The options of the layer."""
        return self.held.config

    @property
    def where(self) -> str:
        """The layer in the words of a message."""
        return f"layer '{self.held.path}' ({self.held.class_name})"

    @property
    def old(self) -> bool:
        """Whether a Keras before 3 is to be followed."""
        return self.reading.hard_sigmoid_of_keras_2

    def refused(self, what: str, expected: str = "", got: str = "", remedy: str = "") -> UnsupportedError:
        """Something that is not kept exactly."""
        return UnsupportedError(what, self.where, expected, got, remedy)

    def part(self, name: str) -> str:
        """A name for something inside the layer."""
        return f"{self.name}_{name}"

    # ---- options

    def number(self, key: str, usual: float | None = None) -> float:
        """An option that is a number.

        Raises:
            FormatError: it is none.
        """
        value = self.config.get(key, usual)
        if isinstance(value, Mapping) and "config" in value:
            value = value["config"].get("value", value) if isinstance(value["config"], Mapping) else value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise FormatError(f"{key} is not a number", self.where, "a number", shown(value))
        return float(value)

    def whole(self, key: str, usual: int | None = None) -> int:
        """An option that is a whole number.

        Raises:
            FormatError: it is none.
        """
        value = self.config.get(key, usual)
        if not isinstance(value, int) or isinstance(value, bool):
            raise FormatError(f"{key} is not a whole number", self.where, "a whole number", shown(value))
        return value

    def wholes(self, key: str, count: int, usual: object = None) -> tuple[int, ...]:
        """An option that is one whole number for each of some axes, or one for all.

        Raises:
            FormatError: it is neither.
        """
        value = self.config.get(key, usual)
        value = usual if value is None else value
        found = [value] * count if isinstance(value, int) else value
        if (
            not isinstance(found, (list, tuple))
            or len(found) != count
            or not all(isinstance(one, int) and not isinstance(one, bool) for one in found)
        ):
            raise FormatError(f"{key} is not {count} whole numbers", self.where, f"{count} numbers", shown(value))
        return tuple(found)

    @property
    def channels_last(self) -> bool:
        """What `data_format` says.

        Raises:
            FormatError: another word.
        """
        value = self.config.get("data_format") or "channels_last"
        if value not in ("channels_last", "channels_first"):
            raise FormatError("unknown data_format", self.where, "channels_last or channels_first", shown(value))
        return bool(value == "channels_last")

    # ---- what it takes

    def tensors(self, key: str | None = None) -> list[Tensor]:
        """The tensors of an argument, by default the first, in order."""
        return flat(next(iter(self.arguments.values()), None) if key is None else self.arguments.get(key))

    def wires(self, key: str | None = None) -> list[Wire]:
        """The values of an argument, in order."""
        return [tensor.wire for tensor in self.tensors(key)]

    def wire(self, key: str | None = None) -> Wire:
        """The one value of an argument.

        Raises:
            UnsupportedError: none, or several.
        """
        found = self.wires(key)
        if len(found) != 1:
            raise self.refused("the layer does not take exactly one tensor", "one", str(len(found)))
        return found[0]

    def shape(self, wire: Wire | None = None) -> Shape:
        """The shape of a value at the probed lengths, by default of the layer's input; behind a stub, what the layer was built for.

        Raises:
            UnsupportedError: nobody knows it.
        """
        asked = self.wire() if wire is None else wire
        try:
            return self.build.shape(asked)
        except ShapeError:
            built = self._built_for(asked)
        if built is None:
            what, expected = "the shape of what the layer takes is not known", "layers that parity knows before it"
            raise self.refused(what, expected, str(asked))
        return built

    def _built_for(self, wire: Wire) -> Shape | None:
        """The shape for which Keras has built the layer, where the configuration says it of the layer or of the tensors it takes."""
        built, nodes = self.held.layer.get("build_config"), self.nodes
        stated = built.get("input_shape") if isinstance(built, Mapping) else None
        several = isinstance(stated, (list, tuple)) and bool(stated) and isinstance(stated[0], (list, tuple))
        shapes = list(stated) if several and stated else [stated] if stated else list(_stated(nodes, "shape"))
        wires = self.wires()
        if wire not in wires or wires.index(wire) >= len(shapes):
            return None
        shape = shapes[wires.index(wire)]
        if not isinstance(shape, (list, tuple)) or not all(one is None or isinstance(one, int) for one in shape):
            return None
        usual = tuple(PROBES.values())
        return tuple(usual[min(place, 1)] if one is None else one for place, one in enumerate(shape))

    def stated(self, key: str) -> Any:
        """The shape or dtype that the configuration states of the first tensor that the layer takes; None if it does not."""
        return next(_stated(self.nodes, key), None)

    def stated_values(self, tensors: Sequence[Tensor]) -> Iterator[tuple[Wire, Stated]]:
        """What the configuration states of the tensors that the layer takes, of those of which it states anything."""
        built = self.held.layer.get("build_config")
        shapes, dtypes = list(_stated(self.nodes, "shape")), list(_stated(self.nodes, "dtype"))
        if not any(shapes) and isinstance(built, Mapping):
            shapes, dtypes = [built.get("input_shape")], ["float32"]
        if len(shapes) != len(tensors):
            return
        for tensor, shape, dtype in zip(tensors, shapes, dtypes, strict=True):
            plain = isinstance(shape, (list, tuple)) and len(shape) <= _MOST_AXES
            if plain and all(one is None or (type(one) is int and one >= 0) for one in shape):
                yield tensor.wire, Stated(tuple(shape), _kind(str(dtype)))

    def stated_dtypes(self, argument: str) -> set[str]:
        """The dtypes that the configuration states of the tensors in an argument given by name."""
        nodes = self.nodes if isinstance(self.nodes, (list, tuple)) else ()
        named = [node.get("kwargs") for node in nodes if isinstance(node, Mapping)]
        values = [each.get(argument) for each in named if isinstance(each, Mapping)]
        return {str(dtype) for dtype in _stated(values, "dtype") if dtype is not None}

    def rank(self, wire: Wire | None = None) -> int:
        """How many axes a value has, by default the layer's input."""
        return len(self.shape(wire))

    # ---- weights

    def weights(self, *expected: tuple[str, tuple[int | None, ...]]) -> list[Any]:
        """The layer's weights in Keras's order, checked.

        Args:
            expected: name and shape of each; None for a length that may be any.

        Raises:
            MisfitError: others; all at once.
            UnsupportedError: there are none.
        """
        if "weights" not in self.held.cache:
            stored = self.held.stored()
            self.held.cache["weights"] = list(stored.values()) if isinstance(stored, Mapping) else list(stored)
        found = self.held.cache["weights"]
        if expected and not found:
            raise self.refused(
                "the weights of the layer are not there", "its weights", "none", "give the file with the weights"
            )
        problems = _misfits(expected, found, self.where)
        if problems:
            raise MisfitError(problems)
        if "held" not in self.held.cache:
            self.held.cache["held"] = [held(as_kept(one), self.where) for one in found]
            self.model.types.update(type_name(one) for one in found)
        return list(self.held.cache["held"])

    def weight_shapes(self) -> list[Shape]:
        """The shapes of the layer's weights, unchecked."""
        stored = self.held.stored()
        return [tuple(one.shape) for one in (stored.values() if isinstance(stored, Mapping) else stored)]

    def once(self, key: str, make: Callable[[], _Operation]) -> _Operation:
        """An operation that all calls of the layer share."""
        if key not in self.held.cache:
            self.held.cache[key] = make()
        found: _Operation = self.held.cache[key]
        return found

    def parameter(self, key: str, value: Any) -> Wire:
        """A weight as a value, one for all calls of the layer."""

        def make() -> Wire:
            return self.build.call(Constant(self.build.unique(self.part(key)), value, trained=True))

        return self.once(f"parameter {key}", make)


Outputs: TypeAlias = "Wire | Tensor | Sequence[Wire | Tensor]"
Masks: TypeAlias = "Callable[[Call, list[Tensor]], Any]"


@dataclass(frozen=True)
class Reader:
    """How the layers of a class are read.

    Args:
        read: adds the nodes of a call; gives the values of the layer, flattened as Keras does it.
        options: what its configuration may hold, beside what all layers have.
        arguments: of its `call`, in order.
        takes_mask: whether its `call` has an argument `mask`.
        masks: what its `compute_mask` gives for its values, where `supports_masking` is set; None where it is not.
        same: whether Keras gives back the very tensor that it takes.
    """

    read: Callable[[Call], Outputs]
    options: Mapping[str, Option] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("inputs",)
    takes_mask: bool = False
    masks: Masks | None = None
    same: bool = False


def passed(call: Call, outputs: list[Tensor]) -> Any:  # noqa: ARG001  the signature all of them share
    """The `compute_mask` of most layers: the mask of what they take."""
    return call.previous


def flat(value: Any) -> list[Tensor]:
    """The tensors in an argument, in order.

    Example:
        >>> len(flat([Tensor(Wire("a")), [None, Tensor(Wire("b"))], 3]))
        2
    """
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in flat(item)]


def is_tensors(value: Any) -> bool:
    """Whether Keras counts an argument as one of tensors: one, or several nested, among which None may stand."""
    if isinstance(value, Tensor):
        return True
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return bool(items) and all(item is None or is_tensors(item) for item in items)


def mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """An argument with something in the place of every tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, function) for key, item in value.items()}
    return [mapped(item, function) for item in value] if isinstance(value, (list, tuple)) else value


def masks_in(value: Any) -> list[Wire | None]:
    """The masks in a nested list of them, in order."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [mask for item in value for mask in masks_in(item)]
    return [value if isinstance(value, Wire) else None]


def _stated(value: Any, key: str) -> Iterator[Any]:
    """The shapes or dtypes that the serialized tensors in a call state, in order."""
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        config = value.get("config")
        yield config.get(key) if isinstance(config, Mapping) else None
        return
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _stated(item, key)


def _kind(dtype: str) -> str:
    return "bool" if dtype == "bool" else "int64" if dtype.startswith(("int", "uint")) else "float32"


def _misfits(
    expected: Sequence[tuple[str, tuple[int | None, ...]]], found: Sequence[Stored], where: str
) -> list[Problem]:
    if len(found) != len(expected):
        names = ", ".join(name for name, _ in expected)
        return [Problem("wrong number of weights", where, f"{len(expected)}: {names}", str(len(found)))]
    problems = []
    for (name, shape), weight in zip(expected, found, strict=True):
        own = tuple(weight.shape)
        if len(own) != len(shape) or any(a is not None and a != b for a, b in zip(shape, own, strict=True)):
            wanted = ", ".join("any" if one is None else str(one) for one in shape)
            problems.append(Problem(f"weight '{name}' has the wrong shape", where, f"({wanted})", str(own)))
        if type_name(weight) not in (*DTYPES, "int32", "int64"):
            expected_types = ", ".join(DTYPES)
            problems.append(
                Problem(f"weight '{name}' is not a floating point array", where, expected_types, type_name(weight))
            )
    return problems


__all__ = [
    "Call",
    "Held",
    "Kept",
    "Masks",
    "MisfitError",
    "Outputs",
    "Reader",
    "Tensor",
    "flat",
    "is_tensors",
    "mapped",
    "masks_in",
    "passed",
]
