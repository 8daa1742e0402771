"""Options of the cells of recurrent layers: functions, the place of the reset gate, clips; as lines of the suspect's framework."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from parity.cell import Cell
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.diagnosis.repairs.asked import Around
from parity.diagnosis.repairs.opening import verbs
from parity.diagnosis.repairs.slots import Tensors
from parity.diagnosis.repairs.writing import Written
from parity.functions import function_from_keras
from parity.layouts import SLOTS
from parity.network import Recurrent

OF_CELL = ("reset_after", "clip", "input_forget")
"""Options that say what a cell computes, beside its functions."""

_WHOLE = {"torch": "parity.to_torch", "keras": "parity.to_keras", "onnxruntime": "parity.to_onnx"}
"""What makes a layer by itself anew."""

_KERAS_FUNCTIONS = ("sigmoid", "tanh", "relu", "hard_sigmoid", "linear", "softsign", "softplus", "selu", "elu")
"""Functions that Keras knows by a name, tried in this order."""

_TORCH_RNN = ("tanh", "relu")


def of_cell(option: OptionRepair) -> bool:
    """Whether an option says what a cell computes."""
    return option.option in OF_CELL or option.option.endswith(" function")


def said_of_cells(given: Around) -> tuple[list[Written], list[OptionRepair | CallRepair]]:
    """Options of cells, layer by layer, and what is left to be said.

    Args:
        given: what is to be changed, and in what.
    """
    options = [one for one in given.resolved.around if isinstance(one, OptionRepair)]
    cells = dict.fromkeys(one.layer for one in options if of_cell(one) and one.layer in given.places)
    found: list[Written] = []
    done: set[str] = set()
    for layer in cells:
        number = next(number for number, one in enumerate(given.right) if one.name == layer)
        named = [one for one in options if one.layer == layer and of_cell(one)]
        made = _of_layer(given, number, named)
        if made is not None:
            found.append(made)
            done.add(layer)
    if cells and not done.issuperset(cells) and _alone(given, options):
        lines = ("import parity", "# the layer anew, with the options and weights of the reference")
        text = "\n".join([*lines, f"suspect = {_WHOLE[given.engine]}(reference)"])
        return [Written(text, True, given.all_layers)], []
    rest = [
        one
        for one in given.resolved.around
        if not (isinstance(one, OptionRepair) and of_cell(one) and one.layer in done)
    ]
    return found, rest


def _alone(given: Around, options: Sequence[OptionRepair]) -> bool:
    """Whether the suspect is a live layer by itself of whose cells alone something is wrong."""
    only = len(options) == len(given.resolved.around) and all(map(of_cell, options))
    return only and given.bare and given.engine in _WHOLE and given.root == "suspect"


def _of_layer(given: Around, number: int, named: Sequence[OptionRepair]) -> Written | None:
    """The lines for one layer; None where there are none."""
    right = given.right[number]
    place = given.places[right.name]
    own = given.tensors.get(place)
    if given.engine == "torch":
        lines = list(_torch_functions(own, right, named))
        if lines:
            return Written("\n".join(lines), True)
        lines = [] if given.bare else list(_torch_lines(own, number))
        return Written("\n".join(lines), True, frozenset([place])) if lines else None
    if given.engine == "keras":
        return _of_keras(given, number, own, named)
    if given.engine == "onnxruntime" and (source := given.node(right.name)):
        lines = verbs(given.engine).cell_lines(given.live, source, right, given.root)
        words = f"# {right.name}: the options of its cells"
        return Written("\n".join(["import onnx", words, *lines]), True) if lines else None
    return None


def _of_keras(given: Around, number: int, own: Tensors | None, named: Sequence[OptionRepair]) -> Written | None:
    """Functions are set; for anything else the layer is made anew with another configuration."""
    right = given.right[number]
    lines = list(_keras_lines(own, right, named))
    if lines:
        # What was traced for predict() holds the old functions.
        traced = [] if given.bare else [f"{given.root}.make_predict_function(force=True)"]
        return Written("\n".join([*lines, *traced]), True)
    owner = "" if own is None else own.owner(0).removesuffix(".forward_layer.cell").removesuffix(".cell")
    options = _keras_options(right, named)
    if not owner or options is None:
        return None
    name = (
        getattr(given.live, "name", "")
        if owner == given.root
        else owner.partition("get_layer(")[2].rstrip(")").strip("'\"")
    )
    made: list[str] = verbs("keras").rebuilt(given.live, name, options, number, given.root)
    head = [
        "import keras",
        "import parity",
        f"# {right.name}: the layer with other options, and the weights of the reference",
    ]
    return Written("\n".join([*head, *made]), True, frozenset([given.places[right.name]])) if made else None


def _torch_functions(own: Tensors | None, right: Recurrent, named: Sequence[OptionRepair]) -> Iterator[str]:
    """`nn.RNN` has two functions to choose from."""
    names = {cell.functions[0].name for cell in right.cells}
    functions = all(one.option.endswith(" function") for one in named) and right.spec.kind == "rnn"
    if own is None or not functions or not own.owner(0) or len(names) > 1 or not names <= set(_TORCH_RNN):
        return
    if all(name.endswith("_l0") for name in _names(own)):
        (name,) = names
        yield f"# {own.owner(0)}: its function"
        yield f'{own.owner(0)}.nonlinearity = "{name}"'
        yield f'{own.owner(0)}.mode = "RNN_{name.upper()}"'


def _torch_lines(own: Tensors | None, number: int) -> Iterator[str]:
    """Lines that put a layer with the options and weights of the reference's in the place of a module; none where it is one of several."""
    owner = "" if own is None else own.owner(0)
    if (
        own is not None
        and owner
        and own.context.get("batch_first")
        and all(name.endswith("_l0") for name in _names(own))
    ):
        yield from ("import parity", f"# {owner}: the layer anew, with the options and weights of the reference")
        yield f"{owner} = parity.to_torch(parity.read(reference).recurrent[{number}])"


def _keras_lines(own: Tensors | None, right: Recurrent, options: Sequence[OptionRepair]) -> Iterator[str]:
    """Lines that give the cells of a layer their functions; none where more is to be changed."""
    if own is None or not all(one.option.endswith(" function") for one in options):
        return
    slots = {one.option.removesuffix(" function") for one in options}
    made = [list(_functions(own.owner(way), right, cell, slots)) for way, cell in enumerate(right.cells)]
    if all(made):
        yield from ("import keras", f"# {own.owner(0)}: the functions of its cells")
        yield from (line for lines in made for line in lines)


def _names(own: Tensors) -> list[str]:
    return [holder.removesuffix("_reverse") for holder in own.holders.values()]


def _functions(owner: str, right: Recurrent, cell: Cell, changed: Collection[str]) -> Iterator[str]:
    """Lines that give a cell of Keras the functions of some slots; none where Keras has no name for one."""
    named = _named(right, cell) if owner else None
    for option, name in (named or {}).items():
        if option in _options_of(changed):
            yield f'{owner}.{option} = keras.activations.get("{name}")'


def _options_of(slots: Collection[str]) -> set[str]:
    """What Keras calls the functions of slots."""
    return {"recurrent_activation" if slot == "gate" else "activation" for slot in slots}


def _named(right: Recurrent, cell: Cell) -> dict[str, str] | None:
    """Keras's names for the functions of a cell, by its options; None where it has none, or two for one option."""
    named: dict[str, str] = {}
    for slot in SLOTS[right.spec.kind]:
        option = "recurrent_activation" if slot == "gate" else "activation"
        known = [name for name in _KERAS_FUNCTIONS if function_from_keras(name) == cell.function(right.spec.kind, slot)]
        if not known or named.setdefault(option, known[0]) != known[0]:
            return None
    return named


def _keras_options(right: Recurrent, options: Sequence[OptionRepair]) -> dict[str, object] | None:
    """Options of a layer of Keras that has the right cells; None where no such layer has them."""
    named = _named(right, right.cells[0])
    if named is None or len(set(right.cells)) > 1 or any(one.option in ("clip", "input_forget") for one in options):
        return None
    slots = {one.option.removesuffix(" function") for one in options if one.option.endswith(" function")}
    found: dict[str, object] = {option: name for option, name in named.items() if option in _options_of(slots)}
    if any(one.option == "reset_after" for one in options):
        found["reset_after"] = right.cells[0].reset_after
    return found


__all__ = ["OF_CELL", "of_cell", "said_of_cells"]
