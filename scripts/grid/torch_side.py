"""torch: builds a configuration and calls it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from grid.cases import BATCH, FEATURES, LENGTHS, TIME, UNITS, VOCABULARY, Config
from grid.live import GAIN, Array, Live, Shown, Values, ends_of, given_inputs, given_tokens, mask_of, rows_of, uniform

_OF_THE_CALL = ("layer", "states", "call", "dtype", "lengths", "front")
_WIDTH = 5
"""What a Linear in front makes of the features."""


def live(config: Config) -> Live:
    """Build a configuration with random weights, and let torch compute it."""
    random = np.random.default_rng(config.seed)
    with _quiet():
        return {"cell": _cell, "model": _model}.get(config.family, _layer)(config, random)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without gradients, and without torch's word that a projection takes its slower kernel."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections")
        yield


def _options(config: Config) -> dict[str, Any]:
    return {name: value for name, value in config.options if name not in _OF_THE_CALL}


def _filled(module: nn.Module, random: np.random.Generator, dtype: str | None = None) -> nn.Module:
    if dtype == "float64":
        module = module.double()
    for parameter in module.parameters():
        parameter.copy_(torch.from_numpy(uniform(random, parameter.shape, GAIN, "float64")))
    return module.eval()


def _in_dtype(module: nn.Module, dtype: str | None) -> tuple[nn.Module, nn.Module, str]:
    """The module as it is stored; one that computes its function without the roundings of half precision; in which dtype it does."""
    if dtype is None:
        return module, module, "float32"
    if dtype.startswith("float64"):
        stored = module.double()
        return stored, stored, "float64"
    stored = module.to(getattr(torch, dtype))
    return stored, copy.deepcopy(stored).float(), "float32"


def _tensors(arrays: tuple[Array, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in arrays)


def _hx(states: tuple[torch.Tensor, ...]) -> Any:
    return states[0] if len(states) == 1 else states


def _initial(module: Any, random: np.random.Generator, dtype: str) -> tuple[Array, ...]:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or UNITS, UNITS] if module.mode == "LSTM" else [UNITS]
    return tuple(uniform(random, (rows, BATCH, size), 1.0, dtype) for size in sizes)


def _layer(config: Config, random: np.random.Generator) -> Live:
    module: Any = _filled(
        getattr(nn, config["layer"])(FEATURES, UNITS, **_options(config)), random, config.get("dtype")
    )
    stored, module, dtype = _in_dtype(module, config.get("dtype"))
    x = given_inputs(random, dtype=dtype)
    states = _initial(module, random, dtype) if config.get("states") == "given" else None
    lengths = LENGTHS[config["lengths"]] if config.get("lengths") else None
    if config.get("call") == "unbatched":
        output, final = _unbatched(module, x, states)
    else:
        output, final = _batched(module, x, states, lengths)
    initial = None
    if states is not None:
        initial = tuple(tuple(state[row] for state in states) for row in range(len(states[0])))
    mask = None if lengths is None else mask_of(lengths)
    return Live(stored, x, (Shown(output),), rows_of(final), initial, mask, dtype)


def _batched(
    module: Any, x: Array, states: tuple[Array, ...] | None, lengths: tuple[int, ...] | None
) -> tuple[Array, tuple[Array, ...]]:
    given = torch.from_numpy(x if module.batch_first else np.ascontiguousarray(x.swapaxes(0, 1)))
    hx = None if states is None else _hx(_tensors(states))
    if lengths is not None:
        ordered = list(lengths) == sorted(lengths, reverse=True)
        packed = pack_padded_sequence(given, torch.tensor(lengths), module.batch_first, enforce_sorted=ordered)
        output, final = module(packed, hx)
        output, _ = pad_packed_sequence(output, module.batch_first, total_length=TIME)
    else:
        output, final = module(given, hx)
    arrays = tuple(state.numpy() for state in (final if isinstance(final, tuple) else (final,)))
    return output.numpy() if module.batch_first else output.numpy().swapaxes(0, 1), arrays


def _unbatched(module: Any, x: Array, states: tuple[Array, ...] | None) -> tuple[Array, tuple[Array, ...]]:
    """Every sample by itself, without a batch axis."""
    outputs, finals = [], []
    for index, sample in enumerate(x):
        hx = None if states is None else _hx(tuple(torch.from_numpy(state[:, index]) for state in states))
        output, final = module(torch.from_numpy(sample), hx)
        outputs.append(output.numpy())
        finals.append([state.numpy() for state in (final if isinstance(final, tuple) else (final,))])
    return np.stack(outputs), tuple(np.stack(parts, axis=1) for parts in zip(*finals, strict=True))


def _cell(config: Config, random: np.random.Generator) -> Live:
    """One step of a cell by itself."""
    cell = _filled(getattr(nn, config["layer"])(FEATURES, UNITS, **_options(config)), random, config.get("dtype"))
    stored, cell, dtype = _in_dtype(cell, config.get("dtype"))
    x = given_inputs(random, 1, dtype)
    count = 2 if config["layer"] == "LSTMCell" else 1
    initial = None
    if config.get("states") == "given":
        initial = (tuple(uniform(random, (BATCH, UNITS), 1.0, dtype) for _ in range(count)),)
    returned = cell(torch.from_numpy(x[:, 0]), None if initial is None else _hx(_tensors(initial[0])))
    final = tuple(state.numpy() for state in (returned if isinstance(returned, tuple) else (returned,)))
    return Live(stored, x, (), final, initial, None, dtype)


def _model(config: Config, random: np.random.Generator) -> Live:
    front: dict[str, list[nn.Module]] = {
        "Embedding": [nn.Embedding(VOCABULARY, _WIDTH)],
        "Linear": [nn.Linear(FEATURES, _WIDTH)],
        "Linear ReLU": [nn.Linear(FEATURES, _WIDTH), nn.ReLU()],
    }
    recurrent = getattr(nn, config["layer"])(_WIDTH, UNITS, batch_first=True, **_options(config))
    module = _filled(nn.Sequential(*front[config["front"]], recurrent), random)
    x = given_tokens(random) if config["front"] == "Embedding" else given_inputs(random)
    output, final = module(torch.from_numpy(x))
    states = tuple(state.numpy() for state in (final if isinstance(final, tuple) else (final,)))
    return Live(module, x, (Shown(output.numpy()),), rows_of(states))


# ---- conversions to torch, called as a user would


def called(converted: Any, live: Live, bare: bool) -> Values | None:
    """What a converted module returns; None where it cannot be called so: under a mask, which torch's own layers take as lengths.

    Args:
        converted: what `parity.to_torch` gave.
        live: the source it was made of.
        bare: whether that is a recurrent layer by itself, and no model with outputs of its own.
    """
    if live.mask is not None:
        return None
    x = torch.from_numpy(live.inputs.astype(live.dtype) if live.inputs.dtype.kind == "f" else live.inputs)
    with _quiet():
        if "Cell" in type(converted).__name__:
            states = _cell_states(converted, x[:, 0], live)
            return Values((states[0],), states)
        returned = converted(x) if not bare or live.initial is None else converted(x, _given(converted, live))
    if not bare:
        many = returned if isinstance(returned, (list, tuple)) else (returned,)
        return Values(tuple(value.numpy() for value in many), ())
    output, final = returned
    outputs = tuple(value.numpy() for value in (output if isinstance(output, tuple) else (output,)))
    states = _final(final)
    if live.outputs and live.outputs[0].array.ndim == 2 and outputs[0].ndim == 3:
        count = len(_final(final[-1] if isinstance(final, list) else final)) // _rows(final)
        both = getattr(converted, "bidirectional", len(getattr(converted, "directions", ())) == 2)
        outputs = (ends_of(states, 2 if both else 1, count),)
    if live.outputs and live.outputs[0].reverse:
        # A module made of Keras's go_backwards gives its steps in Keras's order, too.
        outputs = tuple(value[:, ::-1] for value in outputs)
    return Values(outputs, states)


def _rows(final: Any) -> int:
    """Layers times directions in a stacked state."""
    last = final[-1] if isinstance(final, list) else final
    return len(last[0] if isinstance(last, tuple) else last)


def _cell_states(cell: Any, x: torch.Tensor, live: Live) -> tuple[Array, ...]:
    hx = None if live.initial is None else _hx(_tensors(live.initial[0]))
    returned = cell(x) if hx is None else cell(x, hx)
    return tuple(state.numpy() for state in (returned if isinstance(returned, tuple) else (returned,)))


def _given(converted: Any, live: Live) -> Any:
    """The initial states: stacked as torch stacks them, or one by one for layers that differ in size."""
    assert live.initial is not None
    shapes = {tuple(state.shape for state in row) for row in live.initial}
    if len(shapes) == 1 and type(converted).__name__ != "Bidirectional":
        return _hx(tuple(torch.from_numpy(np.stack(parts)) for parts in zip(*live.initial, strict=True)))
    return [_hx(tuple(torch.from_numpy(state[None]) for state in row)) for row in live.initial]


def _final(final: Any) -> tuple[Array, ...]:
    if isinstance(final, list):
        return tuple(state for one in final for state in _final(one))
    return rows_of([state.numpy() for state in (final if isinstance(final, tuple) else (final,))])
