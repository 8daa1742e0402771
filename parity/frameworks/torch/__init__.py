"""PyTorch: read live modules, build them, run them."""

from __future__ import annotations

import importlib
import itertools
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.forms import Form
from parity.frameworks import Settings
from parity.frameworks.torch import building, reading, running
from parity.frameworks.torch.running import ENGINE, TorchRunner
from parity.frameworks.torch.whole import graph_of
from parity.frameworks.torch.whole import running as wholes
from parity.frameworks.written import built, bytes_of, loaded, remembered
from parity.graph.graph import Graph
from parity.graph.judging import Running
from parity.network import Network
from parity.network.attaching import network_with_graph
from parity.recurrent import Array


def owns(source: object) -> bool:
    """Whether this is a live torch module."""
    return isinstance(source, nn.Module)


def read(source: nn.Module, inputs: Any = None) -> Network:
    """Describe a live `nn.LSTM`, `nn.GRU`, `nn.RNN` or a cell of them, a converted model, or an `nn.Sequential` that ends in one.

    float16 and bfloat16 weights are read as float32, which holds them exactly; float64 stays float64.

    Raises:
        UnsupportedError: any other module, or an option that is not converted; all problems at once.

    Example:
        >>> network = read(nn.LSTM(3, 5, num_layers=2, dropout=0.3, proj_size=2))
        >>> [layer.name for layer in network.layers], network.recurrent[1].output_size
        (['lstm_l0', 'lstm_l0_dropout', 'lstm_l1'], 2)
    """
    return network_with_graph(lambda: reading.read(source), lambda: _graph(source, inputs))


def _graph(source: nn.Module, inputs: Any) -> Graph:
    """The graph of a module; where it does not run, why, if parity knows that.

    Raises:
        UnsupportedError: weights on the meta device; and what `graph_of` raises.
    """
    if any(tensor.is_meta for tensor in itertools.chain(source.parameters(), source.buffers())):
        raise UnsupportedError(reading.why_it_does_not_run(source))
    try:
        return remembered(source, _state) or graph_of(source, inputs)
    except UnsupportedError:
        raise
    except ParityError as error:
        problems = reading.why_it_does_not_run(source)
        if problems:
            raise UnsupportedError(problems) from error
        raise


def build(network: Network) -> nn.Module:
    """The network as a torch module: `nn.LSTM`, `nn.GRU`, `nn.RNN` or a cell of them itself for a bare stack that one can hold.

    Other layers and models become a composition, in which torch's own layers stand wherever they say a layer: a `RecurrentLayer`
    or `Bidirectional` for a bare layer, a `Chain` for the rest. `form` says why.

    Example:
        >>> from dataclasses import replace
        >>> from parity.cell import plain_cell
        >>> network = read(nn.GRU(3, 5))
        >>> cell = replace(plain_cell("gru"), reset_after=False)
        >>> layer = build(replace(network, layers=(replace(network.recurrent[0], cells=(cell,)),)))
        >>> output, h_n = layer(torch.ones(2, 7, 3))
        >>> tuple(output.shape), str(form(layer))
        ((2, 7, 5), "composed: layer 'gru': torch.nn.GRU has no reset_after=False")
    """
    return building.build(network)


def build_whole(graph: Graph) -> nn.Module:
    """A whole model as the module that parity writes for it, with its weights.

    Raises:
        UnsupportedError: what torch cannot say, or layers that are stubs.
    """
    module: nn.Module = built(graph, "torch", _state)
    return module


def _state(module: nn.Module) -> Iterator[bytes]:
    """All that decides what a module computes: weights, options of every module inside, hooks, and a forward that was replaced."""
    for name, tensor in module.state_dict().items():
        yield name.encode()
        plain = tensor.detach().cpu()
        # NumPy has no bfloat16.
        yield bytes_of((plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain).numpy())
    for path, inner in module.named_modules():
        own = {key: value for key, value in vars(inner).items() if _is_option(key, value)}
        hooks = [len(value) for key, value in vars(inner).items() if key.endswith("_hooks")]
        code = getattr(getattr(inner.forward, "__func__", inner.forward), "__code__", None)
        yield repr(
            (path, type(inner).__qualname__, sorted(own.items()), hooks, None if code is None else code.co_code)
        ).encode()


def _is_option(name: str, value: object) -> bool:
    """Whether an attribute is one of a module's options; whether it trains or evaluates is none here."""
    return name != "training" and isinstance(value, (bool, int, float, str, tuple, list, type(None)))


def load_written(folder: Path) -> nn.Module:
    """What parity wrote into a folder, with its weights."""
    module: nn.Module = loaded(folder)
    return module


def load_whole(path: Path, graph: Graph) -> nn.Module:
    """A file of torch holds no code that could be run: the model is built from its graph."""
    return build_whole(graph)


def whole_runner(source: nn.Module, graph: Graph, settings: Settings) -> Running:
    """Something that runs a whole model, the live one or one that parity wrote.

    Raises:
        MissingFrameworkError: device "cuda" where torch sees none.
    """
    return wholes.runner(source, graph, settings)


def form(source: nn.Module) -> Form | None:
    """How parity built a module; None for any other module."""
    return getattr(source, "parity_form", None)


def load(path: Path, network: Network) -> nn.Module:
    """Open a state dict with torch's own loaders and put it into the module that `network` describes.

    A network that no single module of torch says is built from its description, which was read from the same file.

    Raises:
        FormatError: torch cannot open it, or not every tensor finds its place.
    """
    module = build(network)
    if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return module
    try:
        if path.suffix.lower() == ".safetensors":
            tensors = importlib.import_module("safetensors.torch").load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(_flat(tensors))
        module.load_state_dict({name: found[_only(name, found)] for name in module.state_dict()}, strict=True)
    except (RuntimeError, ValueError, KeyError, AttributeError, OSError, pickle.UnpicklingError) as error:
        raise FormatError(
            "torch cannot open this state dict",
            where=str(path),
            expected=f"tensors that torch {torch.__version__} loads with weights_only=True",
            got=str(error).strip().split("\n")[0],
        ) from error
    return module


def _flat(value: object, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of nested dicts, their names joined by dots."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))


def _only(name: str, found: Mapping[str, torch.Tensor]) -> str:
    """The one tensor of this name, whatever module it stands in."""
    names = [key for key in found if key == name or key.endswith(f".{name}")]
    if len(names) != 1:
        raise KeyError(f"{len(names)} tensors named {name}")
    return names[0]


def runner(source: nn.Module, network: Network, settings: Settings) -> TorchRunner:
    """Something that runs the module: the live one itself on the CPU in its own precision, else a copy moved there.

    A module whose weights are float64 runs in float64; one of float16 or bfloat16 runs in float32, with the same weights.

    Raises:
        MissingFrameworkError: device "cuda" where torch sees none.
    """
    return running.runner(source, network, settings)


__all__ = ["ENGINE", "TorchRunner", "build", "form", "load", "owns", "read", "runner"]


def unpacked(inputs: PackedSequence) -> tuple[Array, Array]:
    """A packed sequence as a padded array, (batch, time, features) in the order of the samples, and their lengths.

    Example:
        >>> from torch.nn.utils.rnn import pack_sequence
        >>> x, lengths = unpacked(pack_sequence([torch.ones(2, 3), torch.ones(4, 3)], enforce_sorted=False))
        >>> x.shape, lengths.tolist()
        ((2, 4, 3), [2, 4])
    """
    padded, lengths = pad_packed_sequence(inputs, batch_first=True)
    return padded.detach().cpu().numpy(), lengths.numpy()
