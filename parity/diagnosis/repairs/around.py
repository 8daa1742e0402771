"""Options of layers and code around them, as lines where they can be run, else as comments that say what to edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parity.diagnosis.repair import ROLLED_DOWN, ROLLED_UP, CallRepair, OptionRepair
from parity.diagnosis.repairs.asked import Around
from parity.diagnosis.repairs.cells import said_of_cells
from parity.diagnosis.repairs.moving import HOLDERS, moved
from parity.diagnosis.repairs.opening import opened_as, verbs
from parity.diagnosis.repairs.resolving import Resolved, alike
from parity.diagnosis.repairs.sites import Site, sites
from parity.diagnosis.repairs.slots import Tensors
from parity.diagnosis.repairs.wrapping import wrapped
from parity.diagnosis.repairs.writing import Written
from parity.errors import ParityError
from parity.sources import Opened


def said_around(
    resolved: Resolved, suspect: Opened, reference: Opened, tensors: Mapping[int, Tensors]
) -> list[Written]:
    """Options and code around layers in the suspect's framework.

    Args:
        resolved: what is to be done.
        suspect, reference: as they were opened.
        tensors: of the suspect's recurrent layers, by their numbers.
    """
    if not resolved.around:
        return []
    live, root = opened_as(suspect)
    own = (suspect.engine or "").partition(":")[0]
    engine = own if live is not None else ""
    bare = suspect.network.graph is None and suspect.network.bare
    try:
        found = sites(reference.graph_with_stubs, suspect.graph_with_stubs)
    except ParityError:
        found = {}
    given = Around(resolved, engine, live, root, bare, reference.network.recurrent, tensors, found)
    done, rest = said_of_cells(given)
    for lines in (_formulas, _numbers, _options, _calls):
        more, rest = lines(given, rest)
        done += more
    return [*done, *(in_words(one, own) for one in rest)]


Rest = list[OptionRepair | CallRepair]


def _formulas(given: Around, rest: Rest) -> tuple[list[Written], Rest]:
    """Weights of layers that are not recurrent, which are there, but turned or moved."""
    done: list[Written] = []
    kept: Rest = []
    for one in rest:
        site = given.sites.get(one.layer)
        known = isinstance(one, OptionRepair) and one.option in HOLDERS and bool(given.engine)
        if not known or site is None or not isinstance(one, OptionRepair) or _is_right(site, one.option):
            kept.append(one)
            continue
        holder = verbs(given.engine).holder_of(given.live, site.source, one.option, *_root(given))
        said = moved(given.engine, holder, one.value, np.ndim(getattr(site.right, one.option, 0))) if holder else ""
        if said:
            done.append(Written(f"# layer '{one.layer}': {_words(one)}\n{said}", True))
        else:
            kept.append(one)
    return done, kept


def _is_right(site: Site, member: str) -> bool:
    """Whether the suspect has the right numbers: then its code does what is told of them."""
    numbers = [np.asarray(getattr(one, member)) for one in (site.right, site.own) if hasattr(one, member)]
    return len(numbers) == 2 and alike(*numbers)


def _root(given: Around) -> tuple[str, ...]:
    return () if given.engine == "onnxruntime" else (given.root,)


def _numbers(given: Around, rest: Rest) -> tuple[list[Written], Rest]:
    """Weights of layers that are not recurrent, which are not the right ones."""
    lost = any(isinstance(one, OptionRepair) and one.option == "weights" for one in rest)
    short = verbs("torch").in_float32(given.live, given.root) if given.engine == "torch" and lost else []
    if given.bare and not short:
        return [], [one for one in rest if not (isinstance(one, OptionRepair) and one.option == "weights")]
    if given.engine not in ("torch", "keras") or not any(map(_of_numbers, rest)):
        return [], rest
    words = "# the weights of all layers, as they are in the reference"
    text = "\n".join(["import parity", words, *short, f"parity.transfer(reference, {given.root})"])
    return [Written(text, True, given.all_layers)], [one for one in rest if not _of_numbers(one)]


_WEIGHTS = ("kernel", "bias", "weights", "the order of the weights", "the variance")


def _of_numbers(repair: OptionRepair | CallRepair) -> bool:
    """Whether weights of a layer that is not recurrent are not the right ones."""
    if not isinstance(repair, OptionRepair):
        return False
    return (
        repair.option in _WEIGHTS or repair.value in ("loaded", "the right numbers") or repair.option.startswith("row ")
    )


def _options(given: Around, rest: Rest) -> tuple[list[Written], Rest]:
    """Options of layers that are not recurrent, and how two directions are merged."""
    done: list[Written] = []
    kept: Rest = []
    for one in rest:
        if not isinstance(one, OptionRepair) or not given.engine or not (lines := _option(given, one)):
            kept.append(one)
            continue
        done.append(Written("\n".join([f"# layer '{one.layer}': {_words(one)}", *lines, *_retraced(given)]), True))
    return done, kept


def _retraced(given: Around) -> list[str]:
    """What was traced for `predict()` of a Keras model holds the old options."""
    return [f"{given.root}.make_predict_function(force=True)"] if given.engine == "keras" and not given.bare else []


def _option(given: Around, one: OptionRepair) -> list[str]:
    verb = verbs(given.engine)
    if one.option == "merge_mode":
        own = given.tensors.get(given.places.get(one.layer, -1))
        owner = own.owner(0).removesuffix(".forward_layer.cell") if own is not None and given.engine == "keras" else ""
        return [f'{owner}.merge_mode = "{one.value}"'] if owner else []
    site = given.sites.get(one.layer)
    if site is None:
        return []
    if one.option == "the activation":
        if one.value.endswith(", once"):
            return []
        right = None if one.value == "none" else site.right
        found: list[str] = verb.activation_lines(given.live, site.source, site.behind, right, given.root)
        return found
    lines: list[str] = verb.option_lines(given.live, site.source, one.option, site.right, given.root)
    return lines


def _words(one: OptionRepair) -> str:
    """What belongs there, and what is there.

    Example:
        >>> _words(OptionRepair("head", "the activation", "softmax")), _words(OptionRepair("head", "the activation", "none", "softmax"))
        ('its activation was lost: softmax belongs there', 'softmax does not belong there: it has no activation')
        >>> _words(OptionRepair("norm", "epsilon", "0.001", "1e-05"))
        'its epsilon has to be 0.001, it is 1e-05'
    """
    if one.value in (ROLLED_UP, ROLLED_DOWN):
        by = "added to" if one.value == ROLLED_UP else "taken from"
        return f"its {one.option} is to be {one.value}; where your code changes the integers, 1 is to be {by} them"
    if one.option != "the activation":
        own = one.option if one.option.startswith(("the ", "row ")) else f"its {one.option}"
        return f"{own} has to be {one.value}" + (f", it is {one.was}" if one.was else "")
    if one.value == "none":
        return f"{one.was} does not belong there: it has no activation"
    if one.value.endswith(", once"):
        return f"{one.value.removesuffix(', once')} is applied twice: once is right"
    if one.was in ("", "none", "no activation", "linear"):
        return f"its activation was lost: {one.value} belongs there"
    return f"{one.value} belongs there, where {one.was} is"


def _calls(given: Around, rest: Rest) -> tuple[list[Written], Rest]:
    """Code around layers, changed from outside."""
    done: list[Written] = []
    kept: Rest = []
    for layer in dict.fromkeys(one.layer for one in rest):
        about = [one for one in rest if one.layer == layer]
        text = _call(given, layer, about)
        if text:
            done.append(Written(text, True))
        else:
            kept += about
    return done, kept


def _call(given: Around, layer: str, about: Sequence[OptionRepair | CallRepair]) -> str:
    """What is changed around a layer; "" where the suspect's own code has to be edited."""
    if given.engine == "onnxruntime":
        return _turned_node(given, layer, about)
    own = given.tensors.get(given.places.get(layer, -1))
    calls = [one for one in about if isinstance(one, CallRepair)]
    if given.engine == "torch" and any(isinstance(one, OptionRepair) and one.option == "batch_first" for one in about):
        others = [one for one in about if isinstance(one, OptionRepair) and one.option != "batch_first"]
        if own is None or not own.owner(0) or others:
            return ""
        first = not own.context.get("batch_first")
        words = "" if first else "# its inputs are handed over as (time, batch, features)\n"
        return f"{words}{own.owner(0)}.batch_first = {first}"
    if not calls or len(calls) < len(about):
        return ""
    if given.engine == "torch":
        modes = [_mode(given, one) for one in calls]
        if all(modes):
            return "\n".join(modes)
        return wrapped(calls, own, verbs("torch").keeps_shape)
    return _in_keras(given, layer, calls, own) if given.engine == "keras" else ""


def _turned_node(given: Around, layer: str, about: Sequence[OptionRepair | CallRepair]) -> str:
    """Lines that let a node run in the other direction, where its inputs and its outputs are both to be turned."""
    turned = [(one.at, one.torch) for one in about if isinstance(one, CallRepair)]
    if len(turned) < len(about) or turned != [("input", "x = x.flip(1)"), ("output", "y = y.flip(1)")]:
        return ""
    lines = verbs(given.engine).turned_lines(given.live, given.node(layer), given.root)
    return "\n".join(["import onnx", f"# layer '{layer}': its direction", *lines]) if lines else ""


def _mode(given: Around, call: CallRepair) -> str:
    """Lines that set the mode in which a torch module computes."""
    if call.at != "mode":
        return ""
    if call.torch.startswith("torch.backends"):
        return f"import torch\n{call.torch}"
    if call.torch.startswith("model.eval()"):
        return f"{given.root}.eval()"
    lines = (
        verbs("torch").in_float32(given.live, given.root) if call.torch.startswith("module = module.float()") else []
    )
    return "\n".join(["import parity", *lines, f"parity.transfer(reference, {given.root})"]) if lines else ""


def _in_keras(given: Around, layer: str, calls: Sequence[CallRepair], own: Tensors | None) -> str:
    """Lines around a layer of a Keras model."""
    verb = verbs("keras")
    owner = own.owner(0).removesuffix(".forward_layer.cell").removesuffix(".cell") if own is not None else ""
    stateful = all("stateful=False" in one.keras for one in calls)
    if stateful:
        owners = [owner] if layer else [one.owner(0).removesuffix(".cell") for one in given.tensors.values()]
        return "\n".join([*(f"{one}.stateful = False" for one in owners if one), *_retraced(given)])
    if "zero_output_for_mask" in calls[0].keras and len(calls) == 1 and owner:
        right = next(one for one in given.right if one.name == layer)
        return "\n".join([f"{owner}.zero_output_for_mask = {right.fill == 'zero'}", *_retraced(given)])
    names = {"input": "x", "output": "y"}
    plain = all(
        one.at in names and one.keras and "#" not in one.keras and verb.keeps_shape(one.keras, names[one.at])
        for one in calls
    )
    name = owner.partition("get_layer(")[2].rstrip(")").strip("'\"")
    if not plain or (layer and not name):
        return ""
    before, after = ([line for one in calls if one.at == at for line in one.keras.splitlines()] for at in names)
    lines: list[str] = verb.called_otherwise(given.live, name if layer else "", before, after, given.root)
    return "\n".join(["import keras", *lines]) if lines else ""


_NO_RESET_BEFORE = "torch.nn.GRU has no reset_after=False; parity.to_torch(reference) writes a cell that has"


def in_words(repair: OptionRepair | CallRepair, engine: str) -> Written:
    """What is to be edited, as a comment.

    Args:
        repair: an option, or code around a layer.
        engine: the suspect's; "" for one that no code opens.
    """
    where = f"layer '{repair.layer}'" if repair.layer else "the model"
    if isinstance(repair, OptionRepair):
        way = f", {repair.direction} direction" if repair.direction else ""
        if engine == "torch" and (repair.option, repair.value) == ("reset_after", "False"):
            return Written(f"# {where}{way}: {_NO_RESET_BEFORE}", False)
        return Written(f"# {where}{way}: {_words(repair)}", False)
    lines = repair.keras if engine == "keras" else repair.torch
    head = f"# In the code around {where}, its {repair.at}:"
    return Written("\n".join([head, *(f"#     {line}" for line in lines.splitlines())]), False)


__all__ = ["in_words", "said_around"]
