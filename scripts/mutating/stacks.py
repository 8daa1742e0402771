"""Directions, stacks and final states in whole models, as people write them by hand in torch, Keras and ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mutating.cells import Array, Cell
from mutating.coded import Coded, Make, Parts, in_keras, in_onnx, in_torch, onnx_node
from mutating.models import keras_layer
from mutating.ports import RECORDED

Nodes = tuple[list[Any], dict[str, Array]]
Side = tuple[str, Make]

# ---- torch


def _h(states: Any) -> Any:
    return states[0] if isinstance(states, tuple) else states


def _rnn(parts: Parts) -> Any:
    return parts.torch()


def _every_step(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0])


def _last_layer(model: Any, x: Any) -> Any:
    return model.head(_h(model.rnn(x)[1])[-1])


def _first_layer(model: Any, x: Any) -> Any:
    return model.head(_h(model.rnn(x)[1])[0])


def _last_two(model: Any, x: Any) -> Any:
    import torch

    h = _h(model.rnn(x)[1])
    return model.head(torch.cat([h[-2], h[-1]], dim=-1))


def _first_two(model: Any, x: Any) -> Any:
    import torch

    h = _h(model.rnn(x)[1])
    return model.head(torch.cat([h[0], h[1]], dim=-1))


def _last_step(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0][:, -1])


def _first_step(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0][:, 0])


def _two_stacks(model: Any, x: Any) -> Any:
    """Each direction's layers above one another; put together at the end alone."""
    import torch

    ahead, back = model.ahead(x)[0], model.back(x.flip(1))[0].flip(1)
    return model.head(torch.cat([ahead, back], dim=-1))


def _halves_of_kernels(parts: Parts, way: int) -> list[Cell]:
    """The layers of one direction, each taking what its own direction below gives."""
    found, units = [parts.cells[0][way]], parts.recipe.units
    for layer in parts.cells[1:]:
        cell = layer[way]
        own = {gate: np.ascontiguousarray(block[:, way * units : (way + 1) * units]) for gate, block in cell.w.items()}
        found.append(Cell(own, cell.r, cell.b, cell.c))
    return found


def _torch_stack(way: int) -> Callable[[Parts], Any]:
    return lambda parts: replace(parts, cells=[[cell] for cell in _halves_of_kernels(parts, way)]).torch()


def _merged(mode: str) -> Side:
    def call(model: Any, x: Any) -> Any:
        ahead, back = model.rnn(x)[0].chunk(2, dim=-1)
        return model.head({"sum": ahead + back, "mul": ahead * back, "ave": (ahead + back) / 2}[mode])

    return in_torch(call, rnn=_rnn)


# ---- Keras


def _layer(**options: Any) -> Side:
    return in_keras(lambda parts, x: parts.keras(**options)(x))


def _taken(index: int) -> Side:
    return in_keras(lambda parts, x: parts.keras()(x)[:, index])


def _flipped(**options: Any) -> Side:
    def call(parts: Parts, x: Any) -> Any:
        import keras

        return keras.ops.flip(parts.keras(**options)(x), axis=1)

    return in_keras(call)


def _states(*places: int) -> Side:
    """What `return_state=True` gives at these places."""

    def call(parts: Parts, x: Any) -> Any:
        import keras

        found = parts.keras(return_sequences=False, return_state=True)(x)
        count = (len(found) - 1) // 2
        chosen = [found[1 + place * count] for place in places]
        return chosen[0] if len(chosen) == 1 else keras.ops.concatenate(chosen, axis=-1)

    return in_keras(call)


def _cell_state(parts: Parts, x: Any) -> Any:
    return parts.keras(return_sequences=False, return_state=True)(x)[2]


def _above(parts: Parts, x: Any) -> Any:
    return parts.keras(1)(parts.keras()(x))


def _keras_stacks(parts: Parts, x: Any) -> Any:
    import keras

    ends = []
    for way in range(2):
        y = keras.ops.flip(x, axis=1) if way else x
        for number, cell in enumerate(_halves_of_kernels(parts, way)):
            name = f"rnn_{number}_{way}"
            y = keras_layer(parts.recipe.kind, [cell], parts.recipe.options, name, return_state=False)(y)
        ends.append(keras.ops.flip(y, axis=1) if way else y)
    return keras.ops.concatenate(ends, axis=-1)


def _keras_joined(ahead_first: bool, turned: bool) -> Side:
    """Two layers by hand in place of `Bidirectional`."""

    def call(parts: Parts, x: Any) -> Any:
        import keras

        ahead, back = parts.keras(0, 0)(x), parts.keras(0, 1, go_backwards=True)(x)
        back = keras.ops.flip(back, axis=1) if turned else back
        return keras.ops.concatenate([ahead, back] if ahead_first else [back, ahead], axis=-1)

    return in_keras(call)


# ---- ONNX


def _shaped(perm: list[int], value: str, shape: tuple[int, ...], into: str = "taken") -> Nodes:
    from onnx import helper

    return (
        [
            helper.make_node("Transpose", [value], [f"{into}_turned"], perm=perm),
            helper.make_node("Reshape", [f"{into}_turned", f"{into}_shape"], [into]),
        ],
        {f"{into}_shape": np.array(shape, np.int64)},
    )


def _onnx(take: Callable[[str], Nodes], direction: str = "", steps: bool = False) -> Side:
    """One node, and what is taken of it."""

    def nodes(parts: Parts) -> Nodes:
        way = direction or ("bidirectional" if parts.recipe.ways == 2 else "forward")
        node, arrays = onnx_node(parts, parts.cells[0], "steps", "rnn", way)
        more, shapes = take("rnn")
        return [node, *more], {**arrays, **shapes}

    return in_onnx(nodes, steps)


def _onnx_steps(name: str) -> Nodes:
    return _shaped([2, 0, 1, 3], f"{name}_Y", (0, 0, -1))


def _onnx_ends(name: str) -> Nodes:
    return _shaped([1, 0, 2], f"{name}_H", (0, -1))


def _onnx_ends_viewed(name: str) -> Nodes:
    from onnx import helper

    node = helper.make_node("Reshape", [f"{name}_H", "taken_shape"], ["taken"])
    return [node], {"taken_shape": np.array([4, -1], np.int64)}


def _onnx_step(index: int) -> Callable[[str], Nodes]:
    def take(name: str) -> Nodes:
        from onnx import helper

        node = helper.make_node("Gather", [f"{name}_Y", "index"], ["step"], axis=0)
        more, arrays = _shaped([1, 0, 2], "step", (0, -1))
        return [node, *more], {**arrays, "index": np.array(index, np.int64)}

    return take


def _onnx_cell(name: str) -> Nodes:
    return _shaped([1, 0, 2], f"{name}_C", (0, -1))


def _onnx_merged(mode: str) -> Side:
    def take(name: str) -> Nodes:
        from onnx import helper

        made, arrays = _shaped([2, 0, 1, 3], f"{name}_Y", (0, 0, -1), "both")
        made.append(helper.make_node("Split", ["both"], ["ahead", "back"], axis=2))
        function = {"sum": "Sum", "mul": "Mul", "ave": "Mean"}[mode]
        return [*made, helper.make_node(function, ["ahead", "back"], ["taken"])], arrays

    return _onnx(take, steps=True)


def _onnx_stacks(parts: Parts) -> Nodes:
    from onnx import helper

    nodes: list[Any] = []
    arrays: dict[str, Any] = {}
    for way, direction in enumerate(("forward", "reverse")):
        value = "steps"
        for number, cell in enumerate(_halves_of_kernels(parts, way)):
            node, more = onnx_node(parts, [cell], value, f"rnn_{number}_{way}", direction)
            value = f"squeezed_{number}_{way}"
            squeeze = helper.make_node("Squeeze", [f"rnn_{number}_{way}_Y", "axes"], [value])
            nodes += [node, squeeze]
            arrays |= more
    last = len(parts.cells) - 1
    nodes.append(helper.make_node("Concat", [f"squeezed_{last}_0", f"squeezed_{last}_1"], ["joined"], axis=2))
    nodes.append(helper.make_node("Transpose", ["joined"], ["taken"], perm=[1, 0, 2]))
    return nodes, {**arrays, "axes": np.array([1], np.int64)}


def _onnx_above(parts: Parts) -> Nodes:
    nodes: list[Any] = []
    arrays: dict[str, Any] = {}
    value = "steps"
    for number, cells in enumerate(parts.cells):
        node, more = onnx_node(parts, cells, value, f"rnn_{number}", "bidirectional")
        last = number == len(parts.cells) - 1
        value = "taken" if last else f"steps_{number}"
        shaped, shapes = _shaped([2, 0, 1, 3] if last else [0, 2, 1, 3], f"rnn_{number}_Y", (0, 0, -1), value)
        nodes += [node, *shaped]
        arrays |= {**more, **shapes}
    return nodes, arrays


def _final(both: int) -> Iterator[Coded]:
    """Final states and steps."""
    keras_last = _layer(return_sequences=False)
    rights = (
        [keras_last, _onnx(_onnx_ends)]
        if both == 2
        else [keras_last, _onnx(_onnx_ends), in_torch(_last_layer, rnn=_rnn)]
    )
    name = "step in place of the final state"
    for right in rights:
        for index in (0, -1) if both == 2 else (0,):
            yield Coded(name, f"onnx Y[{index}], {both} ways", right, _onnx(_onnx_step(index)), ways=both)
            yield Coded(name, f"keras [:, {index}], {both} ways", right, _taken(index), ways=both)
        if both == 2:
            port = _onnx(_onnx_ends_viewed)
            yield Coded("states reshaped", "onnx Y_h, 2 ways", right, port, ways=2, handed=(RECORDED,))
            yield Coded("halves swapped", "keras states", right, _states(1, 0), ways=2, kinds=("gru", "rnn"))
            yield Coded("c in place of h", "onnx Y_c, 2 ways", right, _onnx(_onnx_cell), ways=2, kinds=("lstm",))
        else:
            yield Coded("c in place of h", "onnx Y_c", right, _onnx(_onnx_cell), kinds=("lstm",))
            yield Coded("c in place of h", "keras state", right, in_keras(_cell_state), kinds=("lstm",))
    for one, two in ((0, -1), (-1, 0)):
        ports: list[Side] = [_taken(two), _onnx(_onnx_step(two)), in_torch((_first_step, _last_step)[two], rnn=_rnn)]
        for port in ports:
            for right in (_taken(one), _onnx(_onnx_step(one))):
                yield Coded("wrong step", f"step {two} for {one}, {both} ways", right, port, ways=both)
    if both == 2:
        for index in (0, -1):
            for port in (_onnx(_onnx_ends), keras_last):
                right = _onnx(_onnx_step(index))
                yield Coded("final states in place of a step", f"step {index}", right, port, ways=2)


def _cases() -> Iterator[Coded]:
    for both in (1, 2):
        yield from _final(both)
        code, wrong = (_last_layer, _first_layer) if both == 1 else (_last_two, _first_two)
        right, port = in_torch(code, rnn=_rnn), in_torch(wrong, rnn=_rnn)
        for layers in (2, 3):
            yield Coded(
                "final state of another layer", f"{layers} layers, {both} ways", right, port, ways=both, layers=layers
            )
    stacks: list[Side] = [
        in_torch(_two_stacks, ahead=_torch_stack(0), back=_torch_stack(1)),
        in_keras(_keras_stacks),
        in_onnx(_onnx_stacks, True),
    ]
    for right in (in_torch(_every_step, rnn=_rnn), in_keras(_above), in_onnx(_onnx_above, True)):
        for port in stacks:
            yield Coded("independent stacks", "joined at the end", right, port, ways=2, layers=2, handed=(RECORDED,))
    right = in_torch(_every_step, rnn=_rnn)
    yield Coded("independent stacks", "three layers", right, stacks[0], ways=2, layers=3, handed=(RECORDED,))
    for mode in ("sum", "mul", "ave"):
        for other in ("sum", "mul", "ave"):
            if mode != other:
                for side in (_layer(merge_mode=mode), _onnx_merged(mode), _merged(mode)):
                    for port in (_layer(merge_mode=other), _onnx_merged(other), _merged(other)):
                        yield Coded("merge mode", f"{other} for {mode}", side, port, ways=2, width=1)
    backwards = _layer(go_backwards=True)
    yield Coded(
        "steps not turned back", "onnx reverse for go_backwards", backwards, _onnx(_onnx_steps, "reverse", True)
    )
    yield Coded(
        "steps not turned back", "go_backwards for onnx reverse", _onnx(_onnx_steps, "reverse", True), backwards
    )
    yield Coded("steps not turned back", "go_backwards not flipped", _flipped(go_backwards=True), backwards)
    yield Coded(
        "other direction",
        "onnx forward for reverse",
        _onnx(_onnx_steps, "reverse", True),
        _onnx(_onnx_steps, steps=True),
    )
    yield Coded("other direction", "forward for flipped go_backwards", _flipped(go_backwards=True), _layer())
    yield Coded("other direction", "onnx reverse for forward", _layer(), _onnx(_onnx_steps, "reverse", True))
    whole: Side = _layer()
    for right in (whole, _onnx(_onnx_steps, steps=True)):
        by_hand = _keras_joined(True, False)
        yield Coded("steps not turned back", "by hand", right, by_hand, ways=2, direction="backward")
        yield Coded("halves swapped", "by hand", right, _keras_joined(False, True), ways=2)


STACKS: tuple[Coded, ...] = tuple(_cases())
"""Every mistake with directions, layers and ends of sequences in code."""
