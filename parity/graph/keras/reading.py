"""Keras configurations (what `config.json` in a `.keras` file holds) and weights -> Graph. Imports no framework.

Models inside models are laid flat (`parity.network.keras.flat`), then the calls of the layers are read in the order of the configuration
(`walk`), with masks as values (`model`), each class of layer as its table says (`layers`). Every problem of the whole model is collected.

Source: Keras 3 `serialize_keras_object`, `Functional.get_config`, `Sequential.get_config`.
"""

from __future__ import annotations

from collections.abc import Sequence

from parity.deferred import Stored
from parity.errors import ShapeError, UnsupportedError
from parity.graph.graph import Graph
from parity.graph.keras.call import Call, Tensor
from parity.graph.keras.counting import weights_inside
from parity.graph.keras.model import Model
from parity.graph.keras.naming import NamingBuilder
from parity.graph.keras.stated import with_stated
from parity.graph.keras.walk import Walk
from parity.graph.operations import Activation
from parity.graph.words import with_words_apart
from parity.network import Bidirectional, Recurrent
from parity.network.keras.cells import Reading
from parity.network.keras.chain import check_model, layers_in
from parity.network.keras.config import as_model
from parity.network.keras.flat import flattened
from parity.network.keras.history import modernised
from parity.network.keras.options import Config
from parity.network.keras.weights import Weighted


def graph_from_keras(
    serialized: Config,
    arrays: Weighted,
    name: str | None = None,
    hard_sigmoid_of_keras_2: bool = False,
    partial: bool = False,
) -> Graph:
    """Read a whole Sequential or Functional model, with any wiring.

    Args:
        serialized: what `keras.saving.serialize_keras_object(model)` gives and `config.json` holds; for Keras 1 and 2 see
            `parity.network.keras.history.modernised`.
        arrays: the weights of a layer by its path, `lstm` or `encoder/lstm`, in the order of `layer.get_weights()`.
        name: of the graph; the model's own by default.
        hard_sigmoid_of_keras_2: whether a Keras before 3 wrote the model: "hard_sigmoid" means 0.2 x + 0.5, masks are merged as it did.
        partial: whether a layer that is not kept exactly gives a `Stub` instead of an error. Then `arrays` may give the tensors of such a
            layer as a mapping by name, or none.

    Returns:
        The graph: inputs named as the InputLayers, outputs by the layers that give them (`lstm`, or `lstm.state_h` for a state) or by
        their names in a dict, in the model's order. `Node.source` is the path of the layer whose value it gives.

    Raises:
        UnsupportedError: anything that is not kept exactly; all problems of the model at once. If partial: not a model of layers, or
            functions given to `parity.register` that raise errors.
        ShapeError: weights that do not fit the configuration; all at once. If partial, their layers are stubs.
        FormatError: not a configuration of a Keras model.

    Example:
        >>> import numpy as np
        >>> shape = {"name": "x", "batch_shape": [None, None, 2], "dtype": "float32"}
        >>> layers = [{"class_name": "InputLayer", "config": shape},
        ...           {"class_name": "Dense", "config": {"name": "scores", "units": 1, "use_bias": False}}]
        >>> layers = [{"module": "keras.layers", "registered_name": None, **layer} for layer in layers]
        >>> model = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": layers}}
        >>> graph = graph_from_keras(model, lambda path: [np.ones((2, 1), np.float32)])
        >>> graph.run({"x": np.ones((1, 3, 2))})["scores"].ravel().tolist()
        [2.0, 2.0, 2.0]
    """
    reading = Reading([], hard_sigmoid_of_keras_2)
    whole = as_model(serialized, reading.problems) if partial else serialized
    check_model(whole)
    flat = flattened(whole, reading.problems)
    build = NamingBuilder(name or str(whole["config"].get("name") or "model"), "keras")
    model = Model(build, reading, model_inside)
    walk = Walk(model, flat, arrays)
    outputs = walk.outputs()
    if model.misfits and not partial:
        raise ShapeError(model.misfits)
    if reading.problems and not partial:
        raise UnsupportedError(reading.problems)
    if model.faults:
        raise UnsupportedError(model.faults)
    build.problems += [*reading.problems, *model.misfits]
    build.nodes[:] = with_stated(build.nodes, model.stated)
    build.details.update(_details(model))
    return with_words_apart(build.graph(outputs))


def model_inside(call: Call, layer: Config, weights: Sequence[Stored], given: Tensor) -> list[Tensor]:
    """What a model inside a wrapper gives for one value.

    Args:
        call: of the wrapper.
        layer: the model.
        weights: of the wrapper, as `get_weights()` gives them.
        given: what the model takes.

    Raises:
        UnsupportedError: weights that cannot be told apart; several outputs.
    """
    if not all("module" in one for one in layers_in(layer["config"], call.where)):
        layer = modernised(layer, "2.6" if call.old else "3.0")
    inner = flattened(layer, call.reading.problems)
    own = weights_inside(layer, weights)
    if own is None:
        what, expected = "the weights of a model inside are not told apart", "layers whose weights are known"
        raise call.refused(what, expected, f"{len(weights)} weights", "use the layers of the model one by one")
    walk = Walk(call.model, inner, lambda path: own.get(path, []), [given], f"{call.held.path}/", f"{call.name}/")
    found = walk.values_given()
    if len(found) != 1:
        raise call.refused("a model inside with several outputs", "one", str(len(found)))
    return found


def _details(model: Model) -> dict[str, str]:
    """What to say of the weights, and of words that mean something else in today's Keras."""
    small = model.types - {"float32", "float64", "int32", "int64"}
    said = {"stored as": ", ".join(sorted(small))} if small else {}
    if model.reading.hard_sigmoid_of_keras_2 and any(_uses_hard_sigmoid(node.operation) for node in model.build.nodes):
        said["hard_sigmoid"] = "0.2 x + 0.5, as Keras 2 means it"
    return said


def _uses_hard_sigmoid(operation: object) -> bool:
    if isinstance(operation, Activation):
        return operation.function.name == "hard_sigmoid"
    layers = operation.recurrent if isinstance(operation, Bidirectional) else (operation,)
    return any(
        function.name == "hard_sigmoid"
        for layer in layers
        if isinstance(layer, Recurrent)
        for cell in layer.cells
        for function in cell.functions
    )


__all__ = ["graph_from_keras", "model_inside"]
