"""Mistakes in the code around a layer: sequences turned round, states exchanged, lengths forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mutating.cells import Array, Cell
from mutating.injections import Call, Caller, Expected, Injection, Outputs, States, Wrong, computed
from mutating.models import Recipe, built, copied
from mutating.weight_edits import apart, two_biases

Lengths = tuple[int, ...] | None


def _everywhere(recipe: Recipe) -> frozenset[tuple[int, int]]:
    return frozenset((layer, way) for layer in range(recipe.layers) for way in range(recipe.ways))


def _nowhere(_: Recipe) -> frozenset[tuple[int, int]]:
    return frozenset()


def _edit(
    name: str,
    call: Call,
    possible: Callable[[Recipe], bool] = lambda _: True,
    adjust: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    title: str = "",
    where: Callable[[Recipe], frozenset[tuple[int, int]]] = _nowhere,
) -> Injection:
    def make(made: Wrong, recipe: Recipe, _: np.random.Generator) -> Wrong:
        return replace(made, calls=(*made.calls, call), expected=(*made.expected, Expected(name, where(recipe))))

    return Injection(title or name, make, possible, adjust)


def _turned_in(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    return call(x[:, ::-1], states, lengths)


def _turned_out(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    found = call(x, states, lengths)
    return Outputs(found.sequence[:, ::-1], found.states)


def _turned_both(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    return _turned_out(lambda *given: _turned_in(call, *given), x, states, lengths)


def _features_turned(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    return call(np.ascontiguousarray(x[..., ::-1]), states, lengths)


def _later(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    return call(np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1), states, lengths)


def _back_half_turned(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    found = call(x, states, lengths)
    half = found.sequence.shape[-1] // 2
    ahead, back = found.sequence[..., :half], found.sequence[..., half:]
    return Outputs(np.concatenate([ahead, back[:, ::-1]], axis=-1), found.states)


def _halves_swapped(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    found = call(x, states, lengths)
    half = found.sequence.shape[-1] // 2
    return Outputs(np.concatenate([found.sequence[..., half:], found.sequence[..., :half]], axis=-1), found.states)


def _without_states(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    assert states is not None
    return call(x, tuple(np.zeros_like(state) for state in states), lengths)


def _without_cell_state(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    assert states is not None
    return call(x, (states[0], np.zeros_like(states[1])), lengths)


def _states_swapped(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    assert states is not None
    return call(x, states[::-1], lengths)


def _states_of_other_direction(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    assert states is not None
    return call(x, tuple(np.ascontiguousarray(state[:, ::-1]) for state in states), lengths)


def _states_of_other_layer(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    assert states is not None
    return call(x, tuple(np.ascontiguousarray(state[::-1]) for state in states), lengths)


def _final_swapped(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    found = call(x, states, lengths)
    return Outputs(found.sequence, [found.states[place ^ 1] for place in range(len(found.states))])


def _states_by_direction(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    """Four states taken as h of both directions and then c of both, which are h and c of one direction after the other."""
    assert states is not None
    h, c = states[0].copy(), states[1].copy()
    h[:, 1], c[:, 0] = states[1][:, 0], states[0][:, 1]
    return call(x, (h, c), lengths)


def _ends_of_other_direction(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    """h_n, and c_n, with its rows in the other order."""
    assert states is not None
    found, count = call(x, states, lengths), len(states)
    ends = [found.states[place : place + count] for place in range(0, len(found.states), count)]
    turned = [end for place in range(len(ends)) for end in ends[place ^ 1]]
    return Outputs(found.sequence, turned)


def _c_twice(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    found = call(x, states, lengths)
    return Outputs(found.sequence, [found.states[place | 1] for place in range(len(found.states))])


def _h_twice(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    found = call(x, states, lengths)
    return Outputs(found.sequence, [found.states[place & ~1] for place in range(len(found.states))])


def _one_way_unmasked(way: int) -> Call:
    """One direction from a call without lengths, the other one from a call with them."""

    def wrong(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
        assert states is not None
        masked, whole = call(x, states, lengths), call(x, states, None)
        half = masked.sequence.shape[-1] // 2
        both = [whole if way == 0 else masked, whole if way == 1 else masked]
        sequence = np.concatenate([both[0].sequence[..., :half], both[1].sequence[..., half:]], axis=-1)
        count = len(states)
        return Outputs(sequence, [both[place // count % 2].states[place] for place in range(len(masked.states))])

    return wrong


def _first_step_apart() -> Injection:
    """A loop by hand whose first step, which has no state yet, leaves out the product with it and the bias in there."""

    def make(made: Wrong, recipe: Recipe, _: np.random.Generator) -> Wrong:
        one = replace(recipe, layers=1, ways=1)

        def along(cell: Cell, x: Array, states: States) -> Outputs:
            assert states is not None
            bare = copied([[cell]])
            bare[0][0].c["n"] = np.zeros_like(cell.c["n"])
            first = computed(built(recipe.engine, one, bare, made.options), x[:, :1], states, None)
            if x.shape[1] == 1:
                return first
            left = (first.states[0][None, None],)
            rest = computed(built(recipe.engine, one, [[cell]], made.options), x[:, 1:], left, None)
            return Outputs(np.concatenate([first.sequence, rest.sequence], axis=1), rest.states)

        def wrong(_: Caller, x: Array, states: States, __: Lengths) -> Outputs:
            assert states is not None
            ends = []
            for number, ways in enumerate(made.cells):
                halves = []
                for way, cell in enumerate(ways):
                    own = (states[0][number : number + 1, way : way + 1],)
                    found = along(cell, np.ascontiguousarray(x[:, ::-1]) if way else x, own)
                    halves.append(found.sequence[:, ::-1] if way else found.sequence)
                    ends += found.states
                x = np.concatenate(halves, axis=-1)
            return Outputs(x, ends)

        expected = (*made.expected, Expected("first step apart", _everywhere(recipe)))
        return replace(made, calls=(*made.calls, wrong), expected=expected)

    def possible(recipe: Recipe) -> bool:
        return two_biases(recipe) and apart(recipe) and _with_states(recipe)

    return Injection("first step apart", make, possible, _whole, alone=True)


def _unmasked(call: Caller, x: Array, states: States, _: Lengths) -> Outputs:
    return call(x, states, None)


def _one_fewer(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    assert lengths is not None
    return call(x, states, tuple(length - 1 for length in lengths))


def _one_more(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    assert lengths is not None
    return call(x, states, tuple(min(length + 1, x.shape[1]) for length in lengths))


def _carried(call: Caller, x: Array, states: States, lengths: Lengths) -> Outputs:
    """A second call that begins where the first one ended."""
    assert states is not None
    first = call(x, states, lengths)
    layers, ways = states[0].shape[:2]
    rows = [np.stack(first.states[place :: len(states)]) for place in range(len(states))]
    return call(x, tuple(row.reshape(layers, ways, *row.shape[1:]) for row in rows), lengths)


def _time_first(call: Caller, x: Array, states: States, _: Lengths) -> Outputs:
    """`batch_first` mistaken: the states of a run through the samples have another shape and are not shown."""
    assert states is not None
    none = tuple(np.zeros((*state.shape[:2], x.shape[1], state.shape[3]), np.float32) for state in states)
    found = call(np.ascontiguousarray(x.swapaxes(0, 1)), none, None)
    return Outputs(found.sequence.swapaxes(0, 1), [])


def _with_states(recipe: Recipe) -> bool:
    return recipe.layers == 1 or "keras" not in (recipe.reference, recipe.engine)


def _given_states(recipe: Recipe) -> bool:
    return recipe.states and _with_states(recipe)


def _both(recipe: Recipe) -> bool:
    return recipe.ways == 2


def _filled_alike(recipe: Recipe) -> bool:
    """What a layer of Keras gives at padded steps is no zero: a step that is padded too early shows that, too."""
    return recipe.lengths is not None and (recipe.reference == "keras") == (recipe.engine == "keras")


def _whole(recipe: Recipe) -> Recipe:
    return replace(recipe, lengths=None)


def _padded(recipe: Recipe) -> Recipe:
    lengths = (recipe.time, recipe.time - 2, 2, recipe.time - 4)[: recipe.batch]
    return replace(recipe, lengths=lengths, layers=1 if "keras" in (recipe.reference, recipe.engine) else recipe.layers)


def _one_layer(recipe: Recipe) -> Recipe:
    return replace(recipe, layers=1, lengths=None)


def _two_layers(recipe: Recipe) -> Recipe:
    return replace(recipe, layers=2, lengths=None)


def _padded_both(recipe: Recipe) -> Recipe:
    return replace(_padded(recipe), layers=1)


def _from_zeros(recipe: Recipe) -> Recipe:
    return replace(recipe, states=False, lengths=None)


CALL_EDITS: tuple[Injection, ...] = (
    _edit("reversed in time", _turned_in, adjust=_whole),
    _edit("steps not turned back", _turned_out, adjust=_whole),
    _edit("other direction", _turned_both, adjust=_one_layer),
    _edit("features reversed", _features_turned, title="features reversed: input"),
    _edit("shifted by a step", _later, adjust=_whole),
    _edit("steps not turned back", _back_half_turned, _both, _whole, "steps not turned back: backward half"),
    _edit("halves swapped", _halves_swapped, _both, _whole),
    _edit("initial state dropped", _without_states, _given_states, where=_everywhere),
    _edit(
        "initial state dropped",
        _without_cell_state,
        lambda recipe: recipe.kind == "lstm" and _given_states(recipe),
        title="initial state dropped: c",
        where=_everywhere,
    ),
    _edit(
        "initial h and c exchanged",
        _states_swapped,
        lambda recipe: recipe.kind == "lstm" and _given_states(recipe),
        where=_everywhere,
    ),
    _edit(
        "initial states of the directions exchanged",
        _states_of_other_direction,
        lambda recipe: _both(recipe) and _given_states(recipe),
        where=_everywhere,
    ),
    _edit(
        "initial states of layers exchanged",
        _states_of_other_layer,
        lambda recipe: recipe.layers == 2 and _given_states(recipe),
        _two_layers,
    ),
    _edit(
        "final h and c exchanged",
        _final_swapped,
        lambda recipe: recipe.kind == "lstm" and _with_states(recipe),
        where=_everywhere,
    ),
    _edit(
        "initial states in another order",
        _states_by_direction,
        lambda recipe: recipe.kind == "lstm" and _both(recipe) and _given_states(recipe),
        where=_everywhere,
    ),
    _edit(
        "final states of the directions exchanged",
        _ends_of_other_direction,
        lambda recipe: _both(recipe) and _with_states(recipe),
        _whole,
        where=_everywhere,
    ),
    _edit(
        "c in place of h",
        _c_twice,
        lambda recipe: recipe.kind == "lstm" and _with_states(recipe),
        _whole,
        "c in place of h: final state",
        _everywhere,
    ),
    _edit(
        "h in place of c",
        _h_twice,
        lambda recipe: recipe.kind == "lstm" and _with_states(recipe),
        _whole,
        where=_everywhere,
    ),
    _first_step_apart(),
    _edit(
        "mask ignored in one direction",
        _one_way_unmasked(1),
        lambda recipe: _both(recipe) and recipe.lengths is not None,
        _padded_both,
        "mask ignored in one direction: backward",
        lambda _: frozenset({(0, 1)}),
    ),
    _edit(
        "mask ignored in one direction",
        _one_way_unmasked(0),
        lambda recipe: _both(recipe) and recipe.lengths is not None,
        _padded_both,
        "mask ignored in one direction: forward",
        lambda _: frozenset({(0, 0)}),
    ),
    _edit("mask ignored", _unmasked, lambda recipe: recipe.lengths is not None, _padded),
    _edit(
        "lengths off by one",
        _one_fewer,
        _filled_alike,
        _padded,
        "lengths off by one: fewer",
    ),
    _edit(
        "lengths off by one", _one_more, lambda recipe: recipe.lengths is not None, _padded, "lengths off by one: more"
    ),
    _edit("state carried over", _carried, _with_states, _from_zeros),
    _edit("batch and time exchanged", _time_first, _with_states, _from_zeros),
)
"""One mistake in the code that calls the layers."""
