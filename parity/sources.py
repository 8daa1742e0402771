"""Anything a user may hand over (a path, a live layer or model, a Network), opened once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from parity.errors import ParityError, UnsupportedError
from parity.explaining import explain_layer, explain_network
from parity.files import engine_of, read_file
from parity.forms import Form
from parity.frameworks import family, framework, owner
from parity.network import Network, Recurrent
from parity.returns import Returns

if TYPE_CHECKING:
    from parity.graph import Graph

Source: TypeAlias = Any
"""A path, a live Keras layer or model, a torch module, an onnx.ModelProto, a Network or one of its recurrent layers."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A source, read.

    Args:
        label: a short name for people.
        network: its description.
        engine: the engine it belongs to, None for a bare description.
        path: where it is a file.
        live: where it is a live object.
        inside: the file that it is one layer of.
    """

    label: str
    network: Network
    engine: str | None
    path: Path | None = None
    live: Any = None
    inside: Path | None = None

    @property
    def graph(self) -> Graph:
        """The whole model as values between operations: the network's own graph, or its chain of layers.

        Raises:
            UnsupportedError: the network is partial, and has no graph, or one with layers that are not known.
        """
        found = self.graph_with_stubs
        if found.problems:
            raise UnsupportedError(list(found.problems))
        return found

    @property
    def graph_with_stubs(self) -> Graph:
        """The same, with stubs for layers that are not known.

        Raises:
            UnsupportedError: the network is partial, and has no graph.
        """
        if self.network.graph is not None:
            found: Graph = self.network.graph
            return found
        from parity.graph.chains import graph_of_chain  # a file that becomes another file needs no graph

        return graph_of_chain(self.network)

    def in_engine(self, engine: str) -> Any:
        """A live object of an engine: the source itself where it is that engine's own, else its conversion."""
        module = framework(engine)
        if family(engine) != self.engine or (self.path is None and self.live is None):
            return module.build(self.network)
        return self.live if self.path is None else module.load(self.path, self.network)


def open_source(
    source: Source, partial: bool = False, config: str | os.PathLike[str] | None = None, inputs: Any = None
) -> Opened:
    """Read a source of any form.

    Args:
        source: what was handed over.
        partial: whether a file may be described as far as it goes; else it must be one that can be run and converted as a whole.
        config: the architecture as JSON, where a file of Keras holds weights alone.
        inputs: example inputs, where a torch module has to be traced.

    Raises:
        UnsupportedError: a partial network where a whole one is needed.
        ParityError: something that is no source; and what the reader of its form raises.
    """
    opened = _opened(source, inputs) if config is None else _opened_with(source, config)
    if not partial:
        opened.network.whole()
    return opened


def _opened(source: Source, inputs: Any = None) -> Opened:
    if isinstance(source, Opened):
        return source
    if isinstance(source, Network):
        return Opened(source.name, source, None)
    if isinstance(source, Recurrent):
        return Opened(source.name, Network(source.name, (source,)), None)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return Opened(path.name, read_file(path), engine_of(path), path)
    engine = owner(source)
    if engine is None:
        raise ParityError(
            "this is not something parity can read",
            expected="a path, a live Keras layer or model, a torch module, an onnx.ModelProto, or a parity Network",
            got=f"{type(source).__module__}.{type(source).__qualname__}",
            remedy="save it, model.save('model.h5'), and give the path" if "keras" in type(source).__module__ else "",
        )
    network = framework(engine).read(source, inputs)
    return Opened(f"{type(source).__name__} '{network.name}'", network, engine, live=source)


def _opened_with(source: Source, config: str | os.PathLike[str]) -> Opened:
    if not isinstance(config, (str, os.PathLike)) or not _is_file(config):
        named = isinstance(config, (str, os.PathLike))
        got = f"no file {str(config)[:60]}" if named else type(config).__name__
        remedy = "write it to a file first: Path('model.json').write_text(model.to_json())"
        raise ParityError("the configuration is no file", "config", "the path of a JSON file", got, remedy)
    path = Path(source)
    return Opened(path.name, read_file(path, Path(config)), engine_of(path), path)


def layer_named(opened: Opened, name: str) -> Opened:
    """One recurrent layer of a source, by its name or its number from 0 on; all layers of an nn.LSTM by the module's name.

    Raises:
        ParityError: no such layer, or several whose names end so; says which there are.
    """
    layers = opened.network.recurrent
    found = [layer for layer in layers if layer.name == name]
    if not found and name.isdecimal() and int(name) < len(layers):
        found = [layers[int(name)]]
    if not found:
        found = [layer for layer in layers if layer.name.endswith((f".{name}", f"/{name}"))]
    stack = [layer for layer in layers if layer.name in {f"{name}_l{depth}" for depth in range(len(layers))}]
    if not found and stack and opened.network.origin == "torch":
        found = stack  # the layers of one nn.LSTM of several
    elif len(found) != 1:
        raise ParityError(
            f"{'no' if not found else 'more than one'} recurrent layer '{name}'",
            opened.label,
            f"one of {', '.join(layer.name for layer in layers)}" if layers else "a recurrent layer",
            ", ".join(layer.name for layer in found) or repr(name),
        )
    title = name if len(found) > 1 else found[0].name
    network = Network(title, tuple(found), (), opened.network.origin, _details_of(opened.network, found[0]))
    return Opened(f"{opened.label}: {title}", network, opened.engine, inside=opened.path or opened.inside)


def _is_file(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _details_of(network: Network, layer: Recurrent) -> dict[str, str]:
    """What a file says that concerns one of its layers."""
    own = {key: words for key, words in network.details.items() if not key.startswith("layer ") and key != "assumed"}
    said = network.details.get("assumed", "").split("; ")
    assumed = "; ".join(words for words in said if words.partition(":")[0] in (layer.name, ""))
    place = network.details.get(f"layer {layer.name}")
    return {**own, **({"assumed": assumed} if assumed else {}), **({"in the file": place} if place else {})}


def read(source: Source, inputs: Any = None, config: str | os.PathLike[str] | None = None) -> Network:
    """Describe a source without any framework's own objects.

    Args:
        source: a path (`.keras`, `.h5`, `.pt`, `.safetensors`, `.npz`, `.onnx`, the folder of a SavedModel, ...), a live Keras layer or
            model, a torch module, or an onnx.ModelProto.
        config: the architecture as JSON (Keras's `model.to_json()`), where a file of Keras holds weights alone.
        inputs: example inputs, where a torch module has to be traced: an array, several in order, or a dict by name.

    Returns:
        The description; `.recurrent` are its recurrent layers, each of which is accepted wherever a source is. A file that holds more
        than parity converts is described as far as it goes: `.problems` says why it cannot be used as a whole.

    Raises:
        UnsupportedError: a live object that cannot be kept exactly; says what, where and the nearest exact way, all problems at once.
        FormatError: a file that is not what it claims.

    Example:
        >>> import torch
        >>> read(torch.nn.GRU(3, 5, num_layers=2)).recurrent[1].spec
        RecurrentSpec(kind='gru', input_size=5, hidden_size=5, directions=('forward',), projection_size=None)
    """
    return open_source(source, partial=True, config=config, inputs=inputs).network


def _converted(source: Source, inputs: Any, engine: str, *options: Any) -> Any:
    """A source as a live object of an engine: a chain of layers, or a whole model as the code that parity writes for it."""
    opened = open_source(source, partial=True, inputs=inputs)
    module = framework(engine)
    if opened.network.graph is None and (opened.network.whole().bare or engine == "onnxruntime"):
        return module.build(opened.network, *options)
    if engine == "onnxruntime":
        return module.build_whole(opened.graph, *options)
    from parity.graph.code import named_for_code  # most sources never become code

    return module.build_whole(named_for_code(opened.graph, opened.path), *options)


def to_torch(source: Source, inputs: Any = None) -> Any:
    """Convert to torch: a live layer gives `torch.nn.LSTM` or `GRU` (batch_first=True), a model a module with the same outputs.

    Args:
        source: a path or a live object.
        inputs: example inputs, where a torch module has to be traced.

    Raises:
        UnsupportedError: it cannot be kept exactly.
        MissingFrameworkError: torch is not installed.

    Example:
        >>> import keras
        >>> layer = keras.layers.GRU(5); layer.build((None, None, 3))
        >>> to_torch(layer)
        GRU(3, 5, batch_first=True)
    """
    return _converted(source, inputs, "torch")


def to_keras(source: Source, inputs: Any = None) -> Any:
    """Convert to Keras: a live layer gives `keras.layers.LSTM`, `GRU` or `Bidirectional`, returning what torch or ONNX returned, in
    Keras's order; a stack or a model gives a functional model.

    torch keeps two biases for an LSTM, Keras one: it gets their sum, taken in float64 and rounded once. The function stays the same to
    that last rounding; the two cannot be told apart again.

    Args:
        source: a path or a live object.
        inputs: example inputs, where a torch module has to be traced.

    Raises:
        UnsupportedError: it cannot be kept exactly.
        MissingFrameworkError: Keras is not installed.

    Example:
        >>> import torch
        >>> layer = to_keras(torch.nn.LSTM(3, 5))
        >>> [tuple(value.shape) for value in layer(torch.ones(2, 7, 3).numpy())]
        [(2, 7, 5), (2, 5), (2, 5)]
    """
    return _converted(source, inputs, "keras")


def to_onnx(source: Source, inputs: Any = None, opset: int | None = None) -> Any:
    """Convert to an `onnx.ModelProto` of native LSTM and GRU nodes with batch and time left open.

    A layer keeps ONNX's own convention, X (time, batch, features) in and Y, Y_h, Y_c out; a model has the inputs and outputs it had.

    Args:
        source: a path or a live object.
        inputs: example inputs, where a torch module has to be traced.
        opset: of the model.

    Raises:
        UnsupportedError: it cannot be kept exactly, or an opset outside 7 to 22.
        MissingFrameworkError: onnx is not installed.

    Example:
        >>> import torch
        >>> [node.op_type for node in to_onnx(torch.nn.LSTM(3, 5)).graph.node]
        ['LSTM', 'Identity', 'Identity', 'Identity']
    """
    return _converted(source, inputs, "onnxruntime", opset)


def form_of(converted: Any) -> Form:
    """Whether what `to_torch`, `to_keras` or `to_onnx` gave is the framework's own layers (native) or a composition, and why.

    Args:
        converted: a torch module, a Keras layer or model, or an onnx.ModelProto that parity made.

    Raises:
        ParityError: parity did not make it.

    Example:
        >>> import keras
        >>> layer = keras.layers.GRU(5, reset_after=False); layer.build((None, None, 3))
        >>> form_of(to_torch(layer)).native
        False
    """
    engine = owner(converted)
    form: Form | None = None if engine is None else framework(engine).form(converted)
    if form is None:
        raise ParityError(
            "parity did not make this, so it cannot say how",
            expected="what to_torch, to_keras or to_onnx gave",
            got=f"{type(converted).__module__}.{type(converted).__qualname__}",
        )
    return form


def explain(source: Source) -> Returns:
    """What Keras, torch and ONNX return for a recurrent layer, or for one stack of them, and how the values correspond.

    Args:
        source: anything with exactly one recurrent layer or bare stack (torch's `num_layers`, Keras's `RNN` of a list of cells);
            `read(model).recurrent[k]` picks one layer of a model. A live Keras layer need not be built, nor be one that is converted.

    Raises:
        UnsupportedError: a model with several recurrent layers.

    Example:
        >>> import torch
        >>> explain(torch.nn.LSTM(20, 64)).shapes
        '[(batch, time, 64), (batch, 64), (batch, 64)]'
    """
    if not isinstance(source, (str, os.PathLike, Opened, Network, Recurrent)) and owner(source) == "keras":
        asked = framework("keras").returned_by(source)
        if asked is not None:
            return explain_layer(**asked)
    opened = open_source(source, partial=True)
    explained = list(explain_network(opened.network))
    if len(explained) != 1:
        raise UnsupportedError(
            "several recurrent layers: which one?",
            where=opened.label,
            got=", ".join(layer.name for layer in opened.network.recurrent),
            remedy="explain(read(source).recurrent[k])",
        )
    return explained[0]


__all__ = ["Opened", "Source", "explain", "form_of", "open_source", "read", "to_keras", "to_onnx", "to_torch"]
