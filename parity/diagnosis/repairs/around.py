"""Options of layers and code around them, as lines where they can be run, else as comments that say what to edit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from parity.cell import Cell
from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.diagnosis.repairs.opening import verbs
from parity.diagnosis.repairs.resolving import Resolved
from parity.diagnosis.repairs.slots import Tensors
from parity.diagnosis.repairs.wrapping import wrapped
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


def of_cell(option: OptionRepair) -> bool:
    """Whether an option says what a cell computes."""
    return option.option in OF_CELL or option.option.endswith(" function")


def said_around(
    resolved: Resolved, engine: str, tensors: Mapping[int, Tensors], right: Sequence[Recurrent], bare: bool
) -> list[Written]:
    """Options and code around layers in the suspect's framework.

    Args:
        resolved: what is to be done.
        engine: the suspect's.
        tensors: of its layers, by their numbers.
        right: the recurrent layers of the reference.
        bare: whether the suspect is a layer or stack by itself.
    """
    options = [one for one in resolved.around if isinstance(one, OptionRepair)]
    numbers = {layer.name: number for number, layer in enumerate(right)}
    cells = dict.fromkeys(one.layer for one in options if of_cell(one) and one.layer in numbers)
    alone = bool(cells) and bare and len(options) == len(resolved.around) and all(map(of_cell, options))
    if (
        alone
        and engine in _WHOLE
        and not (engine == "keras" and all(one.option.endswith(" function") for one in options))
    ):
        lines = ("import parity", "# the layer anew, with the options and weights of the reference")
        text = "\n".join([*lines, f"suspect = {_WHOLE[engine]}(reference)"])
        return [Written(text, True, frozenset(resolved.pairs.values()))]
    found, done = [], set()
    for layer in cells:
        number = numbers[layer]
        place = resolved.pairs.get(number, -1)
        own = tensors.get(place)
        named = [one for one in options if one.layer == layer]
        if engine == "torch" and (lines_ := list(_torch_lines(own, number))):
            found.append(Written("\n".join(lines_), True, frozenset([place])))
            done.add(layer)
        elif engine == "keras" and (lines_ := list(_keras_lines(own, right[number], named))):
            # What was traced for predict() holds the old functions.
            traced = [] if bare else ["suspect.make_predict_function(force=True)"]
            found.append(Written("\n".join([*lines_, *traced]), True))
            done.add(layer)
    rest = [
        one for one in resolved.around if not (isinstance(one, OptionRepair) and of_cell(one) and one.layer in done)
    ]
    if engine and any(map(_of_numbers, rest)):
        rest = [one for one in rest if not _of_numbers(one)]
        found.append(
            Written("import parity\nparity.transfer(reference, suspect)", True, frozenset(resolved.pairs.values()))
        )
    places = {layer: resolved.pairs.get(number, -1) for layer, number in numbers.items()}
    for layer in dict.fromkeys(one.layer for one in rest) if engine == "torch" else ():
        about = [one for one in rest if one.layer == layer]
        text = _torch_call(about, tensors.get(places.get(layer, -1)))
        if text:
            found.append(Written(text, True))
            rest = [one for one in rest if one.layer != layer]
    return [*found, *(_comment(one, engine) for one in rest)]


def _of_numbers(repair: OptionRepair | CallRepair) -> bool:
    """Whether weights of a layer that is not recurrent are not the right ones."""
    return isinstance(repair, OptionRepair) and (
        repair.option in ("kernel", "bias") or repair.option.startswith("row ")
    )


def _torch_call(repairs: Sequence[OptionRepair | CallRepair], own: Tensors | None) -> str:
    """What is changed around a module; "" where its own code has to be edited."""
    if any(isinstance(one, OptionRepair) and one.option == "batch_first" for one in repairs):
        others = [one for one in repairs if isinstance(one, OptionRepair) and one.option != "batch_first"]
        turned = own is not None and own.owner(0) and own.context.get("batch_first") is False and not others
        return f"{own.owner(0)}.batch_first = True" if turned and own is not None else ""
    calls = [one for one in repairs if isinstance(one, CallRepair)]
    return wrapped(calls, own, verbs("torch").keeps_shape) if len(calls) == len(repairs) else ""


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
    if own is None or not all(one.option.endswith(" function") for one in options if of_cell(one)):
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
    named: dict[str, str] = {}
    for slot in SLOTS[right.spec.kind]:
        option = "recurrent_activation" if slot == "gate" else "activation"
        known = [name for name in _KERAS_FUNCTIONS if function_from_keras(name) == cell.function(right.spec.kind, slot)]
        if not known or not owner or named.setdefault(option, known[0]) != known[0]:
            return
    wanted = {"recurrent_activation" if slot == "gate" else "activation" for slot in changed}
    for option, name in named.items():
        if option in wanted:
            yield f'{owner}.{option} = keras.activations.get("{name}")'


def _comment(repair: OptionRepair | CallRepair, engine: str) -> Written:
    where = f"layer '{repair.layer}'" if repair.layer else "the model"
    if isinstance(repair, OptionRepair):
        was = f", it is {repair.was}" if repair.was else ""
        way = f", {repair.direction} direction" if repair.direction else ""
        return Written(f"# {where}{way}: {repair.option} has to be {repair.value}{was}.", False)
    lines = repair.keras if engine == "keras" else repair.torch
    head = f"# In the code around {where}, its {repair.at}:"
    return Written("\n".join([head, *(f"#     {line}" for line in lines.splitlines())]), False)


__all__ = ["OF_CELL", "of_cell", "said_around"]
