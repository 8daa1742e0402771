"""Which unit of the source goes into which unit of the target: by what the user says, names, shapes, and order; or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from parity.errors import Problem
from parity.transferring.described import interpretations, singles
from parity.transferring.naming import Names, automatic, leading, normalised, numbers, prefix_items, repeated
from parity.transferring.tensorwise import layerwise
from parity.transferring.units import SINGLE, UNTYPED, Unit

GIVEN, NAMED, ONLY, ORDER = "given", "equal name", "the only one of its kind and shapes", "order of their numbers"
"""The ways in which two units are matched."""


@dataclass(frozen=True)
class Match:
    """Two units that belong together, and why."""

    source: Unit
    target: Unit
    how: str


@dataclass
class Matching:
    """What was found.

    Args:
        sources, targets: not matched yet.
        matches: in the order in which they were found.
        left: ("source", name) or ("target", name) of tensors that the user leaves out, or leaves as they are.
        unused, untouched: units that the user leaves out, or leaves as they are.
        problems, warnings: for people.
        guesses: names to give, where nothing decides.
        named: whether the names of the source are names; else they are places in its file.
    """

    sources: list[Unit]
    targets: list[Unit]
    matches: list[Match] = field(default_factory=list)
    left: set[tuple[str, str]] = field(default_factory=set)
    unused: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    guesses: dict[str, str | None] = field(default_factory=dict)
    named: bool = True

    def take(self, source: Unit, target: Unit, how: str) -> None:
        """Two units belong together."""
        self.sources = [unit for unit in self.sources if unit is not source]
        self.targets = [unit for unit in self.targets if unit is not target]
        self.matches.append(Match(source, target, how))

    def guess_none(self, side: str, name: str) -> None:
        """Nothing fits a unit; its side is said where its name is taken."""
        taken = self.guesses.get(name) is not None
        self.guesses[f"{side}:{name}" if taken else name] = None

    def swap(self, unit: Unit, others: Iterable[Unit], target: bool = False) -> None:
        """A unit of the source, or of the target, becomes others."""
        units = self.targets if target else self.sources
        at = next(index for index, one in enumerate(units) if one is unit)
        units[at : at + 1] = others


def matched(
    sources: Sequence[Unit], targets: Sequence[Unit], names: Names, ordered: tuple[bool, bool], named: bool = True
) -> Matching:
    """Match the units of both sides.

    Args:
        sources, targets: in the order in which their models list them.
        names: given by the user.
        ordered: for each side, whether that is the order of the data.
        named: whether the names of the source are names; else they are places in its file.
    """
    found = Matching(list(sources), list(targets), named=named)
    _given(found, names)
    _type_the_untyped(found)
    _equal_singles(found)
    for signature in dict.fromkeys(unit.signature for unit in found.sources):
        _alike(found, signature, ordered)
    _tied(found)
    _left_over(found)
    return found


# ---- what the user says


def _given(found: Matching, names: Names) -> None:
    taken: dict[str, str] = {}
    read = layerwise(found.sources, found.targets, names)
    found.problems += read.problems
    names = read.names
    for key, value in names.items():
        if value is None:
            continue
        ours = prefix_items(found.sources, key)
        theirs = prefix_items(found.targets, value)
        for side, name, items, units in (
            ("source", key, ours, found.sources),
            ("target", value, theirs, found.targets),
        ):
            if not items:
                gone = f"already given to '{taken[name]}'" if name in taken else _listed(unit.name for unit in units)
                what = f"names: the {side} has nothing called '{name}'" + (" left" if name in taken else "")
                found.problems.append(Problem(what, expected="the name of a layer, a tensor or a module", got=gone))
        if ours and theirs:
            taken[value] = key
            _pair(found, key, value, ours, theirs)
    for key, value in names.items():
        if value is None:
            _leave(found, key, names)


def _pair(found: Matching, key: str, value: str, ours: Mapping[str, Unit], theirs: Mapping[str, Unit]) -> None:
    if set(ours) != set(theirs):
        got = f"{_listed(unit.name for unit in ours.values())} -> {_listed(unit.name for unit in theirs.values())}"
        remedy = "name the layers in them one by one"
        found.problems.append(
            Problem(f"names: '{key}' and '{value}' are not alike", "", "the same inside", got, remedy)
        )
        return
    for rest, one in ours.items():
        source, target = _own(found, one, False), _own(found, theirs[rest], True)
        if source.kind == UNTYPED and target.kind != SINGLE:
            typed = next((unit for unit in interpretations(source) if unit.signature == target.signature), None)
            if typed is not None:
                found.swap(source, [typed])
                source = typed
        if source.kind != target.kind:
            source, target = _alone(found, source, target, False), _alone(found, target, source, True)
        alike = source.signature == target.signature
        if source.kind == target.kind == SINGLE:
            alike = source.leaves[0].handle.shape == target.leaves[0].handle.shape
        if alike:
            found.take(source, target, GIVEN)
            continue
        found.sources = [unit for unit in found.sources if unit is not source]
        found.targets = [unit for unit in found.targets if unit is not target]
        where, remedy = f"'{source.name}' -> '{target.name}'", ""
        if source.own_axes and target.kind == SINGLE and source.framework != target.framework:
            remedy = f"transfer into a layer of {target.framework}'s own first, and name its tensors"
        what = "these two do not fit each other"
        found.problems.append(Problem(what, where, source.described, target.described, remedy))


def _own(found: Matching, unit: Unit, target: bool) -> Unit:
    """The unit as it stands in the matching: one direction, or one tensor, is taken out of its layer first."""
    units = found.targets if target else found.sources
    if any(one is unit for one in units):
        return unit
    for one in units:
        if one.spec is not None and len(one.spec.directions) == 2 and unit.name.startswith(f"{one.name}."):
            parts = [one.direction(index) for index in range(2)]
        elif any(leaf.name == unit.name for leaf in one.leaves):
            parts = singles(one)
        else:
            continue
        found.swap(one, parts, target)
        return next(part for part in parts if part.name == unit.name)
    return unit


def _alone(found: Matching, unit: Unit, other: Unit, target: bool) -> Unit:
    """A layer's only tensor by itself, where the other side is such a tensor."""
    if unit.kind == SINGLE or other.kind != SINGLE or len(unit.leaves) != 1 or unit.leaves[0].handle is None:
        return unit
    (single,) = singles(unit)
    found.swap(unit, [single], target)
    return single


def _leave(found: Matching, key: str, names: Names) -> None:
    """A layer or tensor of the source is left out, or one of the target as it is; "source:" or "target:" before its name says which."""
    used = {value for value in names.values() if value is not None}
    side, _, rest = key.partition(":")
    name = rest if side in ("source", "target") else key
    seen = False
    for own, units, kept in (("source", found.sources, found.unused), ("target", found.targets, found.untouched)):
        if (name != key and side != own) or (name == key and own == "target" and key in used):
            continue
        _parted(found, name, own == "target")
        whole = list(prefix_items(units, name, whole=True).values())
        leaves = [leaf.name for unit in units for leaf in unit.leaves if leaf.name == name]
        if whole:
            kept.extend(leaf.name for unit in whole for leaf in unit.leaves)
            units[:] = [unit for unit in units if not any(unit is one for one in whole)]
        elif leaves:
            kept.extend(leaves)
            found.left.add((own, name))
        seen = seen or bool(whole or leaves)
    if not seen:
        got = f"{_listed(unit.name for unit in found.sources)} -> {_listed(unit.name for unit in found.targets)}"
        what = f"names: neither side has anything called '{name}' left"
        found.problems.append(Problem(what, expected="the name of a layer, a tensor or a module", got=got))


def _parted(found: Matching, name: str, target: bool) -> None:
    """Where a name is that of one direction of a layer, the layer becomes its two directions."""
    for unit in list(found.targets if target else found.sources):
        if unit.spec is not None and len(unit.spec.directions) == 2:
            parts = [unit.direction(index) for index in range(2)]
            if name.replace("/", ".") in [part.name.replace("/", ".") for part in parts]:
                found.swap(unit, parts, target)


# ---- what the units say


def _type_the_untyped(found: Matching) -> None:
    """Tensors whose class the file does not say take that of the one unit of the target that they can go to, or stand alone."""
    names = _by_name(found.targets)
    prefix = leading(found.sources)
    readings = {id(unit): interpretations(unit) for unit in found.sources if unit.kind == UNTYPED}
    for unit in [unit for unit in found.sources if unit.kind == UNTYPED]:
        fitting = {one.signature: one for one in readings[id(unit)]}
        same = names.get(normalised(unit.name)) or names.get(normalised(unit.name[len(prefix) :]))
        possible = [sign for sign in fitting if any(target.signature == sign for target in found.targets)]
        if same is not None and same.signature in fitting:
            possible = [same.signature]
        if len(possible) > 1:
            _several_readings(found, unit, possible)
        elif len(possible) == 1:
            typed = fitting[possible[0]]
            found.swap(unit, [typed])
            said = f"the source does not say what '{unit.name}' is: taken as {typed.described}"
            found.warnings.append(
                f"{said}; what else the layer says (stride, padding, groups, eps, activation) is not compared"
            )
        else:
            found.swap(unit, singles(unit))


def _several_readings(found: Matching, unit: Unit, possible: Sequence[object]) -> None:
    """Tensors that may be a layer of several kinds, each of which the target has."""
    theirs = [target for target in found.targets if target.signature in possible]
    shown = ", ".join(f"'{target.name}', {target.described}" for target in theirs)
    what = f"ambiguous: the source does not say what '{unit.name}' is"
    found.problems.append(Problem(what, unit.described, "one thing that it can be", shown, "give names=, as below"))
    found.sources = [one for one in found.sources if one is not unit]
    guess = next((target for target in theirs if target.name not in found.guesses.values()), None)
    found.guesses[unit.name] = guess.name if guess else None
    found.targets = [one for one in found.targets if one is not guess]


def _by_name(units: Sequence[Unit]) -> dict[str, Unit]:
    prefix = leading(units)
    return {normalised(unit.name[len(prefix) :]): unit for unit in units} | {
        normalised(unit.name): unit for unit in units
    }


def _equal_singles(found: Matching) -> None:
    """Tensors of layers that are in no table: exactly the same name and shape in the same framework."""
    prefixes = leading(found.sources), leading(found.targets)
    theirs = [unit for unit in found.targets if unit.kind == SINGLE and not repeated(unit.name)]
    by_name = {unit.name: unit for unit in theirs}
    by_name |= {unit.name[len(prefixes[1]) :]: unit for unit in theirs}
    for unit in [unit for unit in found.sources if unit.kind == SINGLE and not repeated(unit.name)]:
        other = by_name.get(unit.name) or by_name.get(unit.name[len(prefixes[0]) :])
        if other is None or unit.framework != other.framework or not any(one is other for one in found.targets):
            continue
        if unit.leaves[0].handle.shape == other.leaves[0].handle.shape:
            found.take(unit, other, NAMED)


def _alike(found: Matching, signature: object, ordered: tuple[bool, bool]) -> None:
    """Match the units of one kind and shapes, if something decides which is which."""
    ours = [unit for unit in found.sources if unit.signature == signature]
    theirs = [unit for unit in found.targets if unit.signature == signature]
    if not ours or not theirs or ours[0].kind == SINGLE:
        return
    cut = leading(found.sources), leading(found.targets)
    for shorten in ((0, 0), (len(cut[0]), len(cut[1])), (len(cut[0]), 0), (0, len(cut[1]))):
        left = {normalised(unit.name[shorten[0] :]): unit for unit in ours}
        right = {normalised(unit.name[shorten[1] :]): unit for unit in theirs}
        once = len(left) == len(ours) and len(right) == len(theirs) and not any(map(repeated, left))
        if found.named and once and set(left) == set(right):
            for name, unit in left.items():
                found.take(unit, right[name], NAMED)
            return
    crossing = _crossing(found, ours, theirs)
    if len(ours) == len(theirs) == 1 and not crossing:
        found.take(ours[0], theirs[0], ONLY)
        return
    contrary = bool(crossing)
    crossing |= {normalised(unit.name) for unit in ours} & {normalised(unit.name) for unit in theirs}
    first, second = _in_order(ours, ordered[0]), _in_order(theirs, ordered[1])
    if len(ours) == len(theirs) and not crossing and first and second:
        for source, target in zip(first, second, strict=True):
            found.take(source, target, ORDER)
        return
    _ambiguous(found, first or ours, second or theirs, contrary)


def _crossing(found: Matching, ours: Sequence[Unit], theirs: Sequence[Unit]) -> set[str]:
    """Names of these units that a unit of another kind or sizes has on the other side. Numbers are no names: they count something else."""
    crossing = set()
    for units, others in ((ours, found.targets), (theirs, found.sources)):
        elsewhere = {normalised(unit.name): unit for unit in others if unit.signature != units[0].signature}
        names = {normalised(unit.name) for unit in units if not re.search(r"\d", unit.name)}
        crossing |= {name for name in names & set(elsewhere) if not automatic(name)}
    return crossing


def _in_order(units: Sequence[Unit], ordered: bool) -> list[Unit]:
    """The units by their numbers; none where they have none, or where the order of the data says otherwise."""
    names = [unit.name for unit in units]
    found = numbers(names)
    if found is None or any(map(repeated, names)) or (not ordered and _counted(units, found)):
        return []
    by_number = [unit for _, unit in sorted(zip(found, units, strict=True), key=lambda pair: pair[0])]
    return [] if ordered and by_number != list(units) else by_number


def _counted(units: Sequence[Unit], found: Sequence[int]) -> bool:
    """Whether Keras numbered them, as the layers were made: that is no order of the data."""
    keras = all(unit.framework == "keras" for unit in units)
    return keras and (-1 in found or all(automatic(unit.name) for unit in units))


def _ambiguous(found: Matching, ours: Sequence[Unit], theirs: Sequence[Unit], crossing: bool = False) -> None:
    why = "kind and sizes say something else than the names;" if crossing else "nothing decides"
    found.problems.append(
        Problem(
            f"ambiguous: {why} which {ours[0].described} is which",
            expected=f"one for each of {_listed(unit.name for unit in theirs)} in the target",
            got=f"{_listed(unit.name for unit in ours)} in the source",
            remedy="give names=, as below; the order of registration, and the alphabet, are no order",
        )
    )
    guessed = dict(zip((unit.name for unit in ours), (unit.name for unit in theirs), strict=False))
    found.guesses |= guessed
    for side, extras in (("source", ours[len(theirs) :]), ("target", theirs[len(ours) :])):
        for extra in extras:
            found.guess_none(side, extra.name)
    found.sources = [unit for unit in found.sources if not any(unit is one for one in ours)]
    found.targets = [unit for unit in found.targets if not any(unit is one for one in theirs)]


def _tied(found: Matching) -> None:
    """A unit all of whose tensors are those of a matched one is done with it; one with some of them still needs the others."""
    for target, units in ((True, found.targets), (False, found.sources)):
        done = {
            leaf.handle.key
            for match in found.matches
            for leaf in (match.target if target else match.source).leaves
            if leaf.handle is not None
        }
        for unit in list(units):
            shared = [leaf.name for leaf in unit.leaves if leaf.handle is not None and leaf.handle.key in done]
            if not shared:
                continue
            words = (
                "is one tensor with another that is written" if target else "is one tensor with another that is used"
            )
            found.warnings += [f"{name} {words}" for name in shared]
            rest = [single for single in singles(unit) if single.name not in shared]
            found.swap(unit, rest, target)
    _equal_singles(found)


def _left_over(found: Matching) -> None:
    theirs, ours = _by_name(found.targets), _by_name(found.sources)
    for unit in found.sources:
        other = theirs.get(normalised(unit.name))
        hint = f"the target's '{other.name}' is {other.described}" if other else "no unit of the target takes it"
        found.problems.append(Problem(f"unused: '{unit.name}' of the source", unit.described, "a place", hint))
        found.guess_none("source", unit.name)
    for unit in found.targets:
        other = ours.get(normalised(unit.name))
        hint = f"the source's '{other.name}' is {other.described}" if other else "no unit of the source fits"
        found.problems.append(Problem(f"untouched: '{unit.name}' of the target", unit.described, "weights", hint))
        found.guess_none("target", unit.name)


def _listed(names: Iterable[str], most: int = 12) -> str:
    every = [f"'{name}'" for name in names]
    return (", ".join(every[:most]) or "nothing") + (f" and {len(every) - most} more" if len(every) > most else "")
