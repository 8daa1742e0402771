"""Weights of another place: single tensors of two layers or directions exchanged, or one in several places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.putting import direction_of, in_words, parts_of, place_of, putting, right_put, told_in, way_of
from parity.diagnosis.repair import Repair, SwapRepair
from parity.diagnosis.told import Key, alike, told_of
from parity.diagnosis.turns import Turn, turn_between
from parity.layouts import GATES
from parity.network import Recurrent

Found: TypeAlias = tuple[Key, Turn]
"""Whose weight it is, and what was done to it on its way."""

_RANK, _SHOWS = 45, "needs inputs and states that are not zero"

At: TypeAlias = tuple[str, str]
"""A layer and one of its directions, "" for a layer that has none."""


def borrowed(
    case: Case, right: Mapping[Key, Any], theirs: Mapping[Key, Any], differing: frozenset[Key]
) -> Iterator[Fault]:
    """The mistakes by which weights come from another place of the right model; found in the suspect's weights, not replayed one by one.

    Args:
        case: the right model.
        right: its weights and options.
        theirs: the suspect's.
        differing: those that are not the right ones.
    """
    found: dict[Key, Found] = {}
    for key in right:
        if key in differing and isinstance(theirs.get(key), np.ndarray):
            one = _source(case, right, key, theirs[key])
            if one is not None:
                found[key] = one
    found |= dict(_of_two_biases(case, theirs, [key for key in differing if key not in found]))
    swapped = {key: source for key, (source, turn) in found.items() if not turn.name and _returns(found, key, source)}
    done: set[Key] = set()
    for keys in _by_places(swapped).values():
        if done.isdisjoint(keys):
            done |= {*keys, *(swapped[key] for key in keys)}
            yield _exchanged(case, right, {key: swapped[key] for key in keys})
    for key, (source, turn) in found.items():
        if turn.name:
            yield _taken(case, right, {key: (source, turn)})
    plain = {key: source for key, (source, turn) in found.items() if not turn.name and key not in done}
    for keys in _by_places(plain).values():
        yield _taken(case, right, {key: found[key] for key in keys})
        if len(keys) > 1:
            for key in keys:
                yield _taken(case, right, {key: found[key]})


def _source(case: Case, right: Mapping[Key, Any], key: Key, theirs: Any) -> Found | None:
    """Another weight of the right model that a weight comes from, the likeliest one: unchanged, of the same name, of the same layer."""
    kind = _gates(case, key, theirs)
    found: list[tuple[tuple[bool, ...], Key, Turn]] = []
    for other, array in right.items():
        if other == key or not isinstance(array, np.ndarray) or array.size != theirs.size:
            continue
        if _gates(case, other, array) != kind or (kind and array.ndim != theirs.ndim):
            continue
        turn = turn_between(array, theirs, kind)
        if turn is None or turn.name in ("rounded", "scaled", "reordered", "reversed"):
            continue
        unlike = (bool(turn.name), _member(other) != _member(key), other[0] != key[0])
        found.append((unlike, other, turn))
    if not found:
        return None
    _, source, turn = min(found, key=lambda one: one[0])
    # Its own numbers in another order are no one else's.
    if turn.name and turn_between(right[key], theirs, kind) is not None:
        return None
    return source, turn


def _of_two_biases(case: Case, theirs: Mapping[Key, Any], wanted: Sequence[Key]) -> Iterator[tuple[Key, Found]]:
    """Of layers that have two biases, one of them that is another place's."""
    held = {
        (layer.name, f"{way}.{member}"): (layer, index, array)
        for layer in case.recurrent()
        for index, (way, weights) in enumerate(zip(layer.spec.directions, layer.weights, strict=True))
        for member in ("bias_input", "bias_recurrent")
        if (array := weights.member(member)) is not None and array.any()
    }
    for key, (layer, index, own) in held.items():
        if not any(_at(one) == _at(key) and _member(one).startswith("bias") for one in wanted):
            continue
        for source, (_, _, array) in held.items():
            if source == key or array.shape != own.shape or alike(array, own):
                continue
            weights = list(layer.weights)
            weights[index] = weights[index].with_held(**{_member(key): array})
            told = told_of(replace(layer, weights=tuple(weights)))
            if all(alike(told[name], theirs[layer.name, name]) for name in told if _biased(key, name)):
                yield key, (source, Turn("", "", lambda one: one))
                break


def _biased(key: Key, name: str) -> bool:
    """Whether a weight is told of the biases of one place."""
    return name.startswith(f"{_at(key)[1]}.bias")


def _returns(found: Mapping[Key, Found], key: Key, source: Key) -> bool:
    """Whether the other place has this one's weight."""
    back = found.get(source)
    return back is not None and back[0] == key and not back[1].name


def _by_places(sources: Mapping[Key, Key]) -> dict[tuple[At, At], list[Key]]:
    """Weights that come from one place to another, those of one name together."""
    places: dict[tuple[At, At], list[Key]] = {}
    odd: dict[tuple[At, At], list[Key]] = {}
    for key, source in sources.items():
        if _member(key) == _member(source):
            places.setdefault((_at(key), _at(source)), []).append(key)
        else:
            odd[(key[0], key[1]), (source[0], source[1])] = [key]
    return places | odd


def _exchanged(case: Case, right: Mapping[Key, Any], keys: Mapping[Key, Key]) -> Fault:
    """Weights of two places, each in the other's."""
    both = {**keys, **{other: key for key, other in keys.items()}}
    (key, other), *_ = keys.items()
    if _member(key) == _member(other):
        what = _named(right, keys)
        cause = f"has {what} of {_where(_at(key), _at(other))} in the place of its own, and its own there"
    else:
        what = (
            f"its {_spoken(other)}"
            if _at(key) == _at(other)
            else f"the {_spoken(other)} of {_where(_at(key), _at(other))}"
        )
        cause = f"has {what} in the place of its {_spoken(key)}, and that one there"
    whole = _is_whole(right, keys)
    name = "tensors swapped" if not whole else "layers swapped" if key[0] != other[0] else "directions swapped"
    return Fault(
        name,
        cause,
        _place(case, keys),
        putting({one: partial(told_in, key=two) for one, two in both.items()}),
        tuple(step for one, two in keys.items() for step in _swapped_back(case, one, two)),
        rank=_RANK,
        shows=_SHOWS,
    )


def _swapped_back(case: Case, one: Key, two: Key) -> Repair:
    if all(isinstance(case.layer(key[0]), Recurrent) for key in (one, two)):
        ends = [[(key[0], direction_of(_at(key)[1]), part) for part in parts_of(_member(key))] for key in (one, two)]
        return tuple(SwapRepair(first, second) for first, second in zip(*ends, strict=True))
    return (*_right(case, one, two), *_right(case, two, one))


def _right(case: Case, key: Key, source: Key) -> Repair:
    return right_put(case.layer(key[0]), *_direction_and_member(key), f"those of {_whole_name(source)}")


def _taken(case: Case, right: Mapping[Key, Any], keys: Mapping[Key, Found]) -> Fault:
    """Weights of another place, which are there too."""
    (key, (source, turn)), *_ = keys.items()
    if _member(key) == _member(source):
        what = _named(right, keys)
        cause = f"has {what} of {_where(_at(key), _at(source))} in the place of its own"
    else:
        whose = "its" if _at(key) == _at(source) else "the"
        of = "" if _at(key) == _at(source) else f" of {_where(_at(key), _at(source))}"
        cause = f"has {whose} {_spoken(source)}{of} in the place of its {_spoken(key)}"
    whole = _is_whole(right, keys)
    return Fault(
        "one layer in several"
        if whole and key[0] != source[0]
        else "one direction in both"
        if whole
        else "tensor of another place",
        f"{cause}, {turn.words}" if turn.words else cause,
        _place(case, keys),
        putting({one: partial(_turned, key=two, turn=turned) for one, (two, turned) in keys.items()}),
        tuple(step for one, (two, _) in keys.items() for step in _right(case, one, two)),
        rank=_RANK + 5,
        shows=_SHOWS,
    )


def _turned(case: Case, key: Key, turn: Turn) -> Any:
    return turn.formula(np.asarray(told_in(case, key)))


def _gates(case: Case, key: Key, array: Any) -> tuple[str, ...]:
    """The gates along the first axis of a weight; none where that is another axis."""
    operation = case.layer(key[0])
    gated = isinstance(operation, Recurrent) and array.ndim > 1 and _member(key) in ("kernel", "recurrent", "bias")
    return GATES[operation.spec.kind] if gated and isinstance(operation, Recurrent) else ()


def _direction_and_member(key: Key) -> tuple[str, str]:
    direction, _, member = key[1].rpartition(".")
    return direction, member


def _member(key: Key) -> str:
    return _direction_and_member(key)[1]


def _at(key: Key) -> At:
    return key[0], _direction_and_member(key)[0]


def _spoken(key: Key) -> str:
    return in_words(key)


def _whole_name(key: Key) -> str:
    layer, direction = _at(key)
    way = f"the {direction} direction of " if direction else ""
    return f"the {_spoken(key)} of {way}layer '{layer}'"


def _where(own: At, other: At) -> str:
    """Another place, as seen from one."""
    if own[0] == other[0]:
        return f"its {other[1]} direction"
    return f"layer '{other[0]}'" if own[1] == other[1] else f"the {other[1]} direction of layer '{other[0]}'"


def _named(right: Mapping[Key, Any], keys: Iterable[Key]) -> str:
    """Weights of one place together."""
    members = [_member(key) for key in keys]
    if _is_whole(right, keys):
        return "the weights"
    if all(member.startswith("bias") for member in members) and len(members) > 1:
        return "the biases"
    return f"the {' and '.join(in_words(key) for key in keys)}"


def _is_whole(right: Mapping[Key, Any], keys: Iterable[Key]) -> bool:
    """Whether these are all weights of their place."""
    given = set(keys)
    at = _at(next(iter(given)))
    return all(key in given for key, array in right.items() if _at(key) == at and isinstance(array, np.ndarray))


def _place(case: Case, keys: Iterable[Key]) -> Place:
    first, *others = keys
    operation = case.layer(first[0])
    if not others:
        return place_of(operation, first)
    biased = all(_member(key).startswith("bias") for key in (first, *others))
    return Place(first[0], way_of(operation, _at(first)[1]), "bias" if biased else "")


__all__ = ["borrowed"]
