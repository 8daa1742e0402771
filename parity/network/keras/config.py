"""Keras configurations (what `config.json` in a `.keras` file holds) -> Network. Imports no framework.

A configuration is read in steps: models inside models are laid flat (`parity.network.keras.flat`), activations behind a Dense are
taken into it (`folding`), then its chain of layers (`chain`), every layer (`planning`, into the plans of `plans`) and the weights
(`weights`) are read. All but the last collect every problem of the whole model before anything is raised. A model that is not a chain, or
that has layers which are not converted, can still be read in part (`partial`).

Source: Keras 3 `serialize_keras_object`, `Functional.get_config`, and the `get_config` of each layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from parity.deferred import Stored
from parity.errors import FormatError, Problem, UnsupportedError
from parity.network.bidirectional import Bidirectional
from parity.network.graph import Layer, Network, Output
from parity.network.keras.cells import Reading
from parity.network.keras.chain import Chain, chain_of, check_model, class_name_of, input_shape, name_of
from parity.network.keras.flat import flattened
from parity.network.keras.folding import with_activations
from parity.network.keras.masks import mask_operations
from parity.network.keras.options import Config
from parity.network.keras.partial import Part, partial_layers
from parity.network.keras.planning import plan_of
from parity.network.keras.plans import EmbeddingPlan, Plan, StackPlan, masking_problems, rank_problems
from parity.network.keras.weight_tree import weight_paths
from parity.network.keras.weights import Weighted, features, misbuilt, sizes_in_chain, with_weights
from parity.network.recurrent import Recurrent


def network_from_keras(
    serialized: Config,
    arrays: Weighted,
    name: str | None = None,
    hard_sigmoid_of_keras_2: bool = False,
    partial: bool = False,
) -> Network:
    """Read a Sequential or Functional model.

    Args:
        serialized: what `keras.saving.serialize_keras_object(model)` gives and `config.json` holds; for Keras 1 and 2 see
            `parity.network.keras.history.modernised`.
        arrays: the weights of a layer by its name, in the order of `layer.get_weights()`; that of a layer inside a nested model by its
            path, `encoder/lstm`. They are read only after all their shapes have been checked.
        name: of the network; the model's own by default.
        hard_sigmoid_of_keras_2: whether "hard_sigmoid" means 0.2 x + 0.5, as it did before Keras 3.
        partial: whether a model that is not kept exactly gives a partial network instead of an error. Then `arrays` may give the tensors
            of a layer that is not converted as a mapping by name, or none.

    Returns:
        A network with the model's outputs, named after their layers (`lstm`, or `lstm.state_h` for a state). A layer of a nested model has
        its own name, or its path where another has that name, too. Weights of float16 and bfloat16 become float32;
        `details["stored as"]` says so. A partial network has every layer that could be read, in the order of the configuration,
        the others in `opaque`, the reasons in `problems`.

    Raises:
        UnsupportedError: anything that is not kept exactly; all problems of the model at once. If partial: not a model of layers.
        ShapeError: weights that do not fit the configuration; all at once.
        FormatError: not a configuration of a Keras model.

    Example:
        >>> import numpy as np
        >>> config = {"units": 1, "use_bias": False, "name": "lstm"}
        >>> layer = {"module": "keras.layers", "class_name": "LSTM", "config": config, "registered_name": None}
        >>> model = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
        >>> kernel, recurrent_kernel = np.ones((2, 4), np.float32), np.ones((1, 4), np.float32)
        >>> network_from_keras(model, lambda name: [kernel, recurrent_kernel]).specs["lstm"].input_size
        2
    """
    problems: list[Problem] = []
    reading = Reading(problems, hard_sigmoid_of_keras_2)
    model = as_model(serialized, problems) if partial else serialized
    check_model(model)
    flat = flattened(model, problems)
    model, homes = with_activations(flat.serialized)
    chain = chain_of(model, problems)
    plans = [plan for plan in (plan_of(layer, reading) for layer in chain.layers) if plan]
    complete = len(plans) == len(chain.layers)
    by_name = {plan.name: plan for plan in plans}
    problems += masking_problems(plans)
    problems += _wiring_problems(chain, by_name)
    if complete and not problems:
        problems += rank_problems(plans, len(chain.input_shape) if chain.input_shape else None)
    if complete and not problems:
        problems += misbuilt(plans, [arrays(flat.paths[plan.name]) for plan in plans])
    outputs = _outputs(chain, plans, problems, {home: gone for gone, home in homes.items()})
    title = name or str(serialized["config"].get("name") or "model")
    if problems and not partial:
        raise UnsupportedError(problems)
    shape = chain.input_shape
    size = shape[-1] if shape and isinstance(shape[-1], int) else None
    time = shape[1] if shape and len(shape) > 1 and isinstance(shape[1], int) else None
    if problems:
        parts = list(_parts(model, flat.paths, hard_sigmoid_of_keras_2))
        sources = {layer: source for layer, (source, _) in chain.sources.items()}
        found, opaque, details, missing = partial_layers(parts, arrays, sources, dict(_input_sizes(model)))
        names = {layer.name for layer in found}
        kept = tuple(output for output in outputs if output.layer in names)
        said = {**details, **_meanings(found, hard_sigmoid_of_keras_2)}
        return Network(title, found, kept, "keras", said, time, opaque, (*problems, *missing))
    stored = [arrays(flat.paths[plan.name]) for plan in plans]
    size = None if plans and isinstance(plans[0], EmbeddingPlan) else size
    nodes, details = with_weights(plans, stored, sizes_in_chain(plans, stored, size))
    layers = tuple(layer for group in nodes for layer in group)
    said = {**details, **_meanings(layers, hard_sigmoid_of_keras_2)}
    return Network(title, layers, outputs, "keras", said, time, input_name=chain.input_name)


def chain_paths(serialized: Config) -> list[tuple[str, ...]]:
    """The layers of a model that `network_from_keras` reads as a whole, in the order of the data, by their paths.

    A layer that is called twice stands there twice; an activation that goes into the Dense before it stands beside that.
    """
    flat = flattened(serialized, [])
    model, homes = with_activations(flat.serialized)
    taken = {home: (flat.paths[gone],) for gone, home in homes.items()}
    names = [name_of(layer) for layer in chain_of(model, []).layers]
    return [(flat.paths[name], *taken.get(name, ())) for name in names]


def layers_from_keras(
    serialized_layer: Config, arrays: Sequence[Stored], hard_sigmoid_of_keras_2: bool = False
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Read a single layer or cell.

    Args:
        serialized_layer: what `keras.saving.serialize_keras_object(layer)` gives.
        arrays: the layer's weights, as `layer.get_weights()` gives them.
        hard_sigmoid_of_keras_2: as `network_from_keras`.

    Returns:
        The nodes that say it, several for `RNN` around a list of cells; and what `Network.details` says of its weights.

    Raises:
        UnsupportedError: another class, or options that are not kept exactly; all problems at once.
        ShapeError: weights that do not fit the configuration.
    """
    reading = Reading([], hard_sigmoid_of_keras_2)
    plan = plan_of(serialized_layer, reading)
    if plan is None or reading.problems:
        raise UnsupportedError(reading.problems)
    nodes, details = with_weights([plan], [arrays], [features(plan, arrays) if arrays else 1])
    return nodes[0], details


def _meanings(layers: Sequence[Layer], hard_sigmoid_of_keras_2: bool) -> dict[str, str]:
    """What words of the configuration mean that mean something else in today's Keras."""
    inner = (layer.recurrent if isinstance(layer, Bidirectional) else (layer,) for layer in layers)
    cells = [cell for group in inner for layer in group if isinstance(layer, Recurrent) for cell in layer.cells]
    used = hard_sigmoid_of_keras_2 and any(
        function.name == "hard_sigmoid" for cell in cells for function in cell.functions
    )
    return {"hard_sigmoid": "0.2 x + 0.5, as Keras 2 means it"} if used else {}


def as_model(serialized: Config, problems: list[Problem]) -> Config:
    """A model of a class of somebody's own, read as the Sequential or Functional model whose configuration it has."""
    class_name, config = class_name_of(serialized), serialized.get("config")
    own = {"module": "keras.models", "registered_name": None}
    if str(serialized.get("module")).split(".")[0] == "keras" and serialized.get("registered_name") in (
        None,
        class_name,
    ):
        own = {}
    known = class_name in ("Sequential", "Functional")
    if not isinstance(config, Mapping) or not isinstance(config.get("layers"), (list, tuple)) or (known and not own):
        return serialized
    got = f"{class_name} of module {serialized.get('module')}"
    remedy = "rebuild it as keras.Model(inputs, outputs): an own call() is not read"
    problems.append(Problem("a model of a class of its own", "the model", "Sequential or Functional", got, remedy))
    kind = class_name if known else "Functional" if "input_layers" in config else "Sequential"
    return {**serialized, **own, "class_name": kind}


def _input_sizes(model: Config) -> Iterator[tuple[str, int]]:
    """The features of a flat model's inputs, where it states them."""
    for layer in model["config"]["layers"]:
        shape = input_shape(layer) if class_name_of(layer) == "InputLayer" else None
        if shape and isinstance(shape[-1], int):
            yield name_of(layer), shape[-1]


def _parts(model: Config, paths: Mapping[str, str], hard_sigmoid_of_keras_2: bool) -> Iterator[Part]:
    """Every layer of a flat model but its inputs and its masks; a plan only for those that are kept exactly."""
    layers = model["config"]["layers"]
    masks = mask_operations(layers) if class_name_of(model) == "Functional" else {}
    for layer in layers:
        if class_name_of(layer) == "InputLayer" or name_of(layer) in masks:
            continue
        alone = Reading([], hard_sigmoid_of_keras_2)
        plan = plan_of(layer, alone)
        yield Part(layer, None if alone.problems else plan, paths[name_of(layer)])


def _wiring_problems(chain: Chain, plans: Mapping[str, Plan]) -> Iterator[Problem]:
    for name, (source, index) in chain.sources.items():
        plan = plans.get(source)
        if index and name in plans and not (isinstance(plan, StackPlan) and _same_as_output(plan, index)):
            got = f"value {index} of layer '{source}'"
            remedy = "take the layer's first value; with return_sequences=False that is the final h"
            yield Problem("the layer takes a state instead of the output", plans[name].where, "value 0", got, remedy)


def _same_as_output(plan: StackPlan, index: int) -> bool:
    """Whether it is the final h of a layer that gives just that; zeros at masked steps would be something else."""
    single = len(plan.cells) == 1 and plan.fill == "repeat"
    return index == 1 and single and plan.return_state and not plan.return_sequences


def _outputs(
    chain: Chain, plans: Sequence[Plan], problems: list[Problem], gone: Mapping[str, str]
) -> tuple[Output, ...]:
    """The model's outputs; one of a layer that has become another has the name of the layer that is gone."""
    where = "the model's outputs"
    by_name = {plan.name: plan for plan in plans}
    names = {name_of(layer) for layer in chain.layers}
    references = chain.outputs
    if references is None:
        last = plans[-1] if plans and len(plans) == len(chain.layers) else None
        references = [(last.name, index) for index in range(len(last.values))] if last else []
    outputs: list[Output] = []
    for name, index in references:
        plan = by_name.get(name)
        if plan is None:
            if name not in names:
                problems.append(
                    Problem("an output is the input itself", where, "values of layers", name, "leave it out")
                )
            continue
        if index >= len(plan.values):
            expected = f"an index below {len(plan.values)}"
            raise FormatError("an output that its layer does not give", plan.where, expected, str(index))
        output = Output(*plan.values[index])
        outputs.append(replace(output, name=gone.get(name, output.name)))
    for name, count in Counter(output.name for output in outputs).items():
        if count > 1:
            got = f"{count} times '{name}'"
            problems.append(Problem("an output appears several times", where, "once", got, "give it once"))
    return tuple(outputs)


__all__ = ["Stored", "chain_paths", "layers_from_keras", "network_from_keras", "weight_paths"]
