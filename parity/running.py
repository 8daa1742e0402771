"""Runs a source in an engine: inputs checked first, one `Result` whatever the framework's convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parity.engines import runner_here
from parity.errors import ParityError, Problem, ShapeError
from parity.frameworks import KERAS_BACKENDS, Runner, Settings, call, framework
from parity.graph.inputs import check_graph_inputs, pad_at_end
from parity.graph.running import graph_runner
from parity.judge import REFERENCE
from parity.network import Masking, Network
from parity.network.embedding import Embedding
from parity.recurrent import Array
from parity.result import Inputs, Result, as_numbers, check_states
from parity.sources import Opened, Source, open_source
from parity.worker import warm


def run(
    source: Source,
    inputs: Inputs,
    engine: str | None = None,
    initial_state: object = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    tf32: bool = False,
) -> Result:
    """Run a source on inputs in one engine.

    The engines "keras:tensorflow", "keras:torch" and "keras:jax" each run in a process of their own, which stays alive for the next call.

    Args:
        source: a path, a live layer or model, an onnx.ModelProto, a Network or one of its recurrent layers.
        inputs: (batch, time, features), or (batch, time) integers for an Embedding: always batch first, whatever the
            framework's own order. One array, a list of one, or a dict of one by name; rounded to `dtype` for every engine. A torch
            layer by itself also takes what it takes in torch: one sample without a batch axis, (time, features), or a
            `PackedSequence`, whose lengths are then the lengths.
        engine: "keras" (on the backend of this process), "keras:tensorflow", "keras:torch", "keras:jax", "torch", "onnxruntime" or
            "reference"; by default the source's own.
        initial_state: None for zeros; h_0 or (h_0, c_0), each (layer, direction, batch, hidden); or a dict by layer.
        lengths: (batch,) integers from 0 to time: how many steps of each sample are valid, the rest being padding on the right.
        mask: (batch, time) of bool, True where a step is valid, in place of `lengths`.
        device: "cpu" or "cuda".
        dtype: "float32" or "float64"; the reference always computes in float64.
        tf32: on CUDA, whether products may be truncated to TF32. Off unless asked for; the result's settings say so.

    Returns:
        Outputs, sequence and final states in canonical axes, and what the framework itself returned.

    Raises:
        ShapeError: inputs, states, lengths or a mask that do not fit, or are not finite.
        MissingFrameworkError: the engine or the device is not there; says what it would need.
        UnsupportedError: the source cannot be converted exactly, or the engine lacks the dtype.

    Example:
        >>> import torch
        >>> result = run(torch.nn.LSTM(3, 5), np.ones((2, 7, 3)), engine="reference")
        >>> result.sequence.shape, result.h_n.shape
        ((2, 7, 5), (1, 1, 2, 5))
    """
    opened = open_source(source, partial=True, inputs=inputs)
    settings = Settings(device, dtype, tf32)
    if opened.network.graph is not None:
        chains_only = {"initial_state": initial_state, "lengths": lengths, "mask": mask}
        more = [name for name, value in chains_only.items() if value is not None]
        return run_graph(opened, inputs, engine, settings, more)
    opened.network.whole()
    given, lengths, unbatched = as_torch_takes_it(opened.network, inputs, lengths)
    x = check_inputs(opened.network, given, dtype)
    chosen = engine or opened.engine or REFERENCE
    state_dtype = "float64" if chosen == REFERENCE else dtype
    states = check_states(opened.network.specs, initial_state, x.shape[0], state_dtype)
    valid = check_mask(lengths, mask, x.shape[0], x.shape[1])
    made = runner(opened, chosen, settings)
    if unbatched:
        call_without_batch(made)
    return call(made, x, states, valid)


def run_graph(opened: Opened, inputs: Inputs, engine: str | None, settings: Settings, more: Sequence[str]) -> Result:
    """Run a model that is more than a chain of layers.

    Args:
        opened: the source.
        inputs: of all its inputs.
        engine: by default the source's own.
        settings: where and how precisely.
        more: options that are for chains of layers alone, and were given.

    Raises:
        ParityError: such options.
        UnsupportedError: the model has layers that are not known, or cannot be converted exactly.
    """
    check_no_more(more)
    graph = opened.graph
    dtype = "float64" if (engine or opened.engine or REFERENCE) == REFERENCE else settings.dtype
    return graph_runner(opened, engine or opened.engine or REFERENCE, settings)(
        check_graph_inputs(graph, inputs, dtype)
    )


def check_no_more(more: Sequence[str]) -> None:
    """Of a whole model, states, lengths and masks are inputs of its own, or made by its layers.

    Raises:
        ParityError: any of them is given beside the inputs.
    """
    if more:
        remedy = "give them as inputs of the model, if it has such; a mask that a layer makes comes from the inputs"
        raise ParityError("these are for chains of recurrent layers", ", ".join(more), "inputs alone", remedy=remedy)


def call_without_batch(made: Runner) -> None:
    """Have a runner call its source without a batch axis, where its framework can: the other half of `as_torch_takes_it`."""
    if hasattr(made, "unbatched"):
        made.unbatched = True


def as_torch_takes_it(
    network: Network, inputs: Inputs, lengths: ArrayLike | None = None
) -> tuple[Inputs, ArrayLike | None, bool]:
    """What a torch layer by itself takes, as (batch, time, features) and lengths; anything else as it is.

    Args:
        network: of the source.
        inputs: perhaps (time, features), or a `torch.nn.utils.rnn.PackedSequence`.
        lengths: given beside them.

    Returns:
        Inputs, lengths, and whether the batch axis was added.

    Raises:
        ShapeError: lengths beside a packed sequence.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> inputs, _, unbatched = as_torch_takes_it(read(torch.nn.GRU(3, 5)), np.ones((7, 3)))
        >>> inputs.shape, unbatched
        ((1, 7, 3), True)
    """
    if type(inputs).__name__ == "PackedSequence" and network.origin == "torch":
        if lengths is not None:
            raise ShapeError("a packed sequence has lengths of its own", "lengths", "None", "lengths beside it")
        return *framework("torch").unpacked(inputs), False
    alone = network.origin == "torch" and network.bare and not network.tokens
    if alone and not isinstance(inputs, (list, tuple, Mapping)):
        array = as_numbers(inputs, f"inputs of '{network.name}'")
        if array.ndim == 2:
            return array[None], lengths, True
    return inputs, lengths, False


def runner(opened: Opened, engine: str, settings: Settings) -> Runner:
    """Something that runs an opened source in an engine: in this process, or in the one that the engine needs for itself."""
    if engine in KERAS_BACKENDS:
        return warm(engine, settings).load(opened)
    return runner_here(opened, engine, settings)


def check_mask(lengths: ArrayLike | None, mask: ArrayLike | None, batch: int, time: int) -> NDArray[np.bool_] | None:
    """Which steps are valid, as users say it, as the one mask every engine gets.

    Args:
        lengths: (batch,) integers from 0 to time, for padding on the right; or None.
        mask: (batch, time) of bool, or of the numbers 0 and 1; or None. At most one of the two.
        batch, time: of the inputs.

    Returns:
        (batch, time), True where a step is valid; None where all are.

    Raises:
        ShapeError: both given, or of another shape, type or range; all at once.

    Example:
        >>> check_mask([3, 1], None, batch=2, time=3).tolist()
        [[True, True, True], [True, False, False]]
        >>> check_mask([3, 3], None, batch=2, time=3) is None
        True
    """
    problems: list[Problem] = []
    if lengths is not None and mask is not None:
        remedy = "lengths for padding on the right, a mask for any other"
        problems.append(Problem("lengths and a mask are both given", "lengths, mask", "one of the two", "both", remedy))
    valid: Array = np.ones((batch, time), bool)
    if lengths is not None and not _length_problems(lengths, batch, time, problems):
        valid = np.arange(time) < as_numbers(lengths, "lengths")[:, None]
    if mask is not None and not _mask_problems(mask, batch, time, problems):
        valid = as_numbers(mask, "mask").astype(bool)
    if problems:
        raise ShapeError(problems)
    return None if valid.all() else valid


def _length_problems(lengths: ArrayLike, batch: int, time: int, problems: list[Problem]) -> bool:
    """Add what is wrong with lengths; whether anything is."""
    known = len(problems)
    array = as_numbers(lengths, "lengths")
    if array.shape != (batch,):
        problems.append(
            Problem(
                "the lengths have the wrong shape", "lengths", f"({batch},)", str(array.shape), "one for each sample"
            )
        )
    if array.dtype.kind not in "iu":
        problems.append(Problem("the lengths are no integers", "lengths", "integers", f"dtype {array.dtype}"))
    outside = array[~((array >= 0) & (array <= time))]
    if outside.size:
        expected = f"0 to {time}, the number of steps"
        problems.append(
            Problem("lengths outside the inputs", "lengths", expected, ", ".join(map(str, outside[:5].tolist())))
        )
    return len(problems) > known


def _mask_problems(mask: ArrayLike, batch: int, time: int, problems: list[Problem]) -> bool:
    """Add what is wrong with a mask; whether anything is."""
    known = len(problems)
    array = as_numbers(mask, "mask")
    if array.shape != (batch, time):
        remedy = "batch first, one value for every step: True where it is valid"
        problems.append(Problem("the mask has the wrong shape", "mask", f"({batch}, {time})", str(array.shape), remedy))
    strange = array[(array != 0) & (array != 1)]
    if strange.size:
        problems.append(Problem("the mask is not of True and False", "mask", "bool, or 0 and 1", str(strange.flat[0])))
    return len(problems) > known


def check_inputs(network: Network, inputs: Inputs, dtype: str = "float32") -> Array:
    """Inputs as users give them, as the one array every engine gets.

    Returns:
        (batch, time, features) in `dtype`, or (batch, time) int64 for an Embedding.

    Raises:
        ShapeError: wrong number, axes or sizes, empty, not finite, or not in the vocabulary; all at once.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> check_inputs(read(torch.nn.GRU(3, 5)), [[[1, 2, 3], [4, 5, 6]]]).shape
        (1, 2, 3)
    """
    array = as_numbers(_only(inputs), f"inputs of '{network.name}'")
    problems: list[Problem] = []
    first = network.layers[0]
    where = f"inputs of '{network.name}'"
    expected = "(batch, time) integers" if isinstance(first, Embedding) else f"(batch, time, {first.input_size})"
    rank = 2 if isinstance(first, Embedding) else 3
    if array.ndim != rank or (rank == 3 and array.shape[2] != first.input_size):
        remedy = "parity takes batch first, also for batch_first=False and ONNX: transpose the first two axes if yours is time first"
        problems.append(Problem("the inputs have the wrong shape", where, expected, str(array.shape), remedy))
    elif network.time not in (None, array.shape[1]):
        remedy = "the model was built for this length; build it with Input((None, ...)) for any"
        expected = f"{network.time} steps"
        problems.append(
            Problem("another number of steps than the model's", where, expected, str(array.shape[1]), remedy)
        )
    if array.dtype.kind == "f" and not isinstance(first, Embedding):
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    if 0 in array.shape:
        problems.append(Problem("the inputs are empty", where, "at least one sample and one step", str(array.shape)))
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        count = int((~np.isfinite(array)).sum())
        got = f"{array[index]} at {index} in {dtype}, {count} such value{'s' if count > 1 else ''} in all"
        problems.append(
            Problem(
                "the inputs are not finite",
                where,
                "finite numbers",
                got,
                "replace or drop them: every engine would spread them differently",
            )
        )
    elif isinstance(first, Embedding) and array.size:
        outside = array[(array != np.trunc(array)) | (array < 0) | (array >= first.input_size)]
        if outside.size:
            problems.append(
                Problem(
                    "tokens outside the vocabulary", where, f"integers 0 to {first.input_size - 1}", str(outside[0])
                )
            )
    if problems:
        raise ShapeError(problems)
    return array.astype(np.int64 if isinstance(first, Embedding) else dtype)


def random_inputs(network: Network, batch: int, time: int, seed: int, masked: Sequence[float] = ()) -> Array:
    """Standard normal inputs, or uniform tokens, for a network.

    Args:
        network: of the source.
        batch, time: samples and steps.
        seed: of the numbers.
        masked: values that mark steps to leave out; see `mask_values`. Samples then have such steps at the end, at the start, in the
            middle, and everywhere, one after the other; of tokens they end in them, at lengths of their own. The first sample has none.

    Raises:
        ShapeError: no sample or no step.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> random_inputs(read(torch.nn.GRU(3, 5)), batch=2, time=7, seed=0).shape
        (2, 7, 3)
    """
    time = network.time or time
    if batch < 1 or time < 1:
        raise ShapeError("empty inputs", expected="at least one sample and one step", got=f"batch={batch}, time={time}")
    random = np.random.default_rng(seed)
    if network.tokens:
        tokens = random.integers(0, network.tokens, (batch, time))
        if masked:
            pad_at_end(tokens, masked[0], network.tokens, random)
        return tokens
    inputs = random.standard_normal((batch, time, network.layers[0].input_size)).astype(np.float32)
    third = -(-time // 3)
    holes = (
        slice(0, 0),
        slice(time - third, None),
        slice(0, third),
        slice(third, max(2 * third, third + 1)),
        slice(None),
    )
    for sample in range(batch if masked else 0):
        inputs[sample, holes[sample % len(holes)]] = masked[sample % len(masked)]
    return inputs


def mask_values(*networks: Network) -> list[float]:
    """What marks a step to leave out, in the networks whose first layer makes a mask of it: random inputs would hardly ever have it.

    Example:
        >>> import torch
        >>> from dataclasses import replace
        >>> lstm = open_source(torch.nn.LSTM(3, 4)).network
        >>> mask_values(replace(lstm, layers=(Masking("masking", 3, -1.0), *lstm.layers)))
        [-1.0]
    """
    firsts = [network.layers[0] for network in networks]
    marks = [layer.mask_value for layer in firsts if isinstance(layer, Masking)]
    marks += [0.0 for layer in firsts if isinstance(layer, Embedding) and layer.mask_zero]
    return list(dict.fromkeys(marks))


def _only(inputs: Inputs) -> Any:
    """The one array of a dict, or of a list that holds a whole array."""
    if isinstance(inputs, Mapping):
        values = list(inputs.values())
    elif isinstance(inputs, (list, tuple)) and any(hasattr(item, "__array__") for item in inputs):
        values = list(inputs)
    else:
        return inputs
    if len(values) != 1:
        got = ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else f"{len(values)} arrays"
        raise ShapeError("the model has one input", "inputs", "one array", got or "none", "give that one array alone")
    return values[0]
