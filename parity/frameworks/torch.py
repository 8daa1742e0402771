"""PyTorch: read live modules, build them, run them."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import nn

from parity.conventions import CANONICAL_AXES, Value, to_canonical, torch_returns
from parity.errors import FormatError, MissingFrameworkError, Problem, UnsupportedError
from parity.frameworks import Settings
from parity.layouts import CHECKPOINT_KEYS, LAYOUTS, Kind
from parity.network import Dense, Embedding, Layer, Network, Output, Recurrent
from parity.network.activations import ACTIVATIONS
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, pack, unpack
from parity.result import LayerRun, Result, Returned, State

ENGINE = "torch"

_MODULES: dict[Kind, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
_SUFFIXES: dict[Direction, str] = {"forward": "", "backward": "_reverse"}
_ACTIVATIONS: dict[type[nn.Module], str] = {getattr(nn, row.torch): name for name, row in ACTIVATIONS.items()}


class Reversed(nn.Module):
    """A recurrent layer that runs from the last step to the first, its output aligned with its input (ONNX direction=reverse).

    Takes and returns what the batch-first `nn.LSTM` or `nn.GRU` inside does.
    """

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, hx: Any = None) -> Any:
        """x: (batch, time, features)."""
        output, state = self.layer(x.flip(1), hx)
        return output.flip(1), state


class Chain(nn.Module):
    """A converted model: its layers under the user's names, called one after the other.

    `forward` takes (batch, time, features), or (batch, time) integers, and returns what the source model returns: one
    tensor, or a list of them in the model's order; or, for a bare recurrent stack, `(output, (h_n, c_n))` as `nn.LSTM` does.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._title = network.name
        self._outputs: tuple[Output, ...] = network.outputs
        self._values: dict[str, tuple[Value, ...]] = {layer.name: layer.values for layer in network.recurrent}
        self._names: dict[str, tuple[str, ...]] = {}
        for layer in network.layers:
            names = []
            for suffix, module in zip(("", "_activation"), _build_layer(layer), strict=False):
                names.append(self._free_name(layer.name + suffix))
                self.add_module(names[-1], module)
            self._names[layer.name] = tuple(names)

    def _free_name(self, wanted: str) -> str:
        """The user's name, changed only where torch allows it no module: dots, and names an attribute already has."""
        name = wanted.replace(".", "_") or "layer"
        while hasattr(self, name):
            name += "_"
        return name

    def forward(self, x: torch.Tensor) -> Any:
        """The model's outputs."""
        outputs, returned = self.steps(x, {})
        if self._outputs:
            return outputs[0] if len(outputs) == 1 else outputs
        last = list(returned.values())[-1]
        states = [torch.cat(parts) for parts in zip(*(flat[1:] for flat in returned.values()), strict=True)]
        return last[0], tuple(states) if len(states) > 1 else states[0]

    def steps(
        self, x: torch.Tensor, states: Mapping[str, Any]
    ) -> tuple[list[torch.Tensor], dict[str, tuple[torch.Tensor, ...]]]:
        """The outputs, and every recurrent layer's flat return (output, h_n, c_n), from the given initial states."""
        value = x
        given: dict[str, torch.Tensor] = {}
        returned: dict[str, tuple[torch.Tensor, ...]] = {}
        for layer, names in self._names.items():
            for name in names:
                module = self.get_submodule(name)
                if layer in self._values:
                    returned[layer] = _flat(module(value, states.get(layer)))
                    value = _shown(self._values[layer][0], returned[layer])
                else:
                    value = module(value)
            given[layer] = value
        outputs = [
            given[out.layer] if out.value is None else _shown(out.value, returned[out.layer]) for out in self._outputs
        ]
        return outputs, returned


def owns(source: object) -> bool:
    """Whether this is a live torch module."""
    return isinstance(source, nn.Module)


def read(source: nn.Module) -> Network:
    """Describe a live `nn.LSTM`, `nn.GRU`, a converted model, or an `nn.Sequential` that ends in a recurrent layer.

    Raises:
        UnsupportedError: any other module, or an option that is not converted; all problems at once.
    """
    details = {"torch": str(torch.__version__)}
    if isinstance(source, Chain):
        return Network(source._title, tuple(_read_chain(source)), source._outputs, ENGINE, details)
    problems: list[Problem] = []
    layers: list[Layer] = []
    # Not named_children(): that names a module which is used twice only once.
    children = list(source._modules.items()) if type(source) is nn.Sequential else [("", source)]
    for position, (name, module) in enumerate(children):
        if module is None:
            continue
        problems += _altered(name, module)
        following = layers[-1] if layers else None
        if type(module) in _ACTIVATIONS and isinstance(following, Dense) and following.activation == "linear":
            layers[-1] = Dense(following.name, following.kernel, following.bias, _ACTIVATIONS[type(module)])
        elif isinstance(module, (nn.LSTM, nn.GRU, Reversed)) and position < len(children) - 1:
            problems.append(
                _refused(
                    f"'{name}' hands its tuple (output, state) to the next module", module, "make it the last module"
                )
            )
        else:
            layers += _read_module(name, module, problems)
    if problems:
        raise UnsupportedError(problems)
    title = layers[-1].name.rpartition("_l")[0] or layers[-1].name
    return Network(title, tuple(layers), (), ENGINE, details)


def build(network: Network) -> nn.Module:
    """The network as a torch module: `nn.LSTM`/`nn.GRU` itself for a bare stack that one can hold, else a `Chain`.

    Raises:
        UnsupportedError: a bare stack of layers of different sizes, whose final states torch cannot stack.
    """
    if network.bare and len(network.layers) == len(network.recurrent):
        specs = [layer.spec for layer in network.recurrent]
        alike = {(s.kind, s.hidden_size, s.directions) for s in specs}
        if len(alike) == 1 and len({layer.has_bias for layer in network.recurrent}) == 1:
            if "forward" in specs[0].directions:
                return _build_stack(network.recurrent)
            if len(specs) == 1:
                return _build_layer(network.layers[0])[0]
    if network.bare and len({(s.kind, s.hidden_size) for s in network.specs.values()}) > 1:
        raise UnsupportedError(
            "layers of different kinds or sizes have no common (output, (h_n, c_n))",
            where=network.name,
            got=", ".join(f"{name}: {spec.kind} of {spec.hidden_size}" for name, spec in network.specs.items()),
            remedy="convert the layers one by one: read(source).recurrent",
        )
    return Chain(network).eval()


def load(path: Path, network: Network) -> nn.Module:
    """Open a state dict with torch's own loaders and put it into the module that `network` describes.

    Raises:
        FormatError: torch cannot open it, or not every tensor finds its place.
    """
    module = build(network)
    try:
        if path.suffix.lower() == ".safetensors":
            tensors = importlib.import_module("safetensors.torch").load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        tensors = next((tensors[key] for key in CHECKPOINT_KEYS if key in tensors), tensors)
        prefix = next((name.partition("weight_ih_l0")[0] for name in tensors if "weight_ih_l0" in name), "")
        module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, strict=True)
    except (RuntimeError, ValueError, KeyError, AttributeError, OSError, pickle.UnpicklingError) as error:
        raise FormatError(
            "torch cannot open this state dict",
            where=str(path),
            expected=f"tensors that torch {torch.__version__} loads with weights_only=True",
            got=str(error).strip().split("\n")[0],
        ) from error
    return module


def runner(source: nn.Module, network: Network, settings: Settings) -> TorchRunner:
    """Something that runs the module: the live one itself on the CPU in float32, else a copy moved there.

    Raises:
        MissingFrameworkError: device "cuda" where torch sees none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MissingFrameworkError(
            "the engine 'torch' has no CUDA device",
            expected="an NVIDIA GPU, its driver, and a CUDA build of torch",
            got=f"torch {torch.__version__}, torch.cuda.is_available() is False",
            remedy="use device='cpu', or install the CUDA build from pytorch.org on a machine with a GPU",
        )
    if (settings.device, settings.dtype) != ("cpu", "float32"):
        source = copy.deepcopy(source).to(settings.device, getattr(torch, settings.dtype))
    return TorchRunner(source, network, settings)


class TorchRunner:
    """Runs a live module; see `parity.frameworks.Runner`."""

    engine = ENGINE

    def __init__(self, module: nn.Module, network: Network, settings: Settings) -> None:
        self._module, self._network, self._settings = module, network, settings
        recurrent = module[-1] if isinstance(module, nn.Sequential) else module
        self._time_major = isinstance(recurrent, (nn.LSTM, nn.GRU)) and not recurrent.batch_first

    def __call__(self, inputs: Array, states: Mapping[str, State]) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers."""
        x = self._tensor(inputs)
        plain = torch.autocast(self._settings.device, enabled=False)
        with torch.no_grad(), plain, _products(self._settings.tf32):
            if isinstance(self._module, Chain):
                hx = {name: _hx([self._tensor(a) for a in state.arrays()]) for name, state in states.items()}
                tensors, flat = self._module.steps(x, hx)
                runs = {name: self._run(name, arrays) for name, arrays in flat.items()}
                named = zip([output.name for output in self._network.outputs], tensors, strict=True)
                outputs = {name: tensor.cpu().numpy() for name, tensor in named}
                returned = tensors or list(next(iter(flat.values())))
            else:
                returned = list(self._run_bare(x, states))
                runs, outputs = self._stack_runs(returned), {}
        names = [output.name for output in self._network.outputs] or _names(self._kind)
        return Result(
            ENGINE,
            outputs,
            runs,
            tuple(
                Returned(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
                for name, tensor in zip(names, returned, strict=False)
            ),
            self._describe(),
        )

    @property
    def _kind(self) -> Kind:
        return self._network.recurrent[-1].spec.kind

    def _tensor(self, array: Array) -> torch.Tensor:
        array = array if np.issubdtype(array.dtype, np.integer) else array.astype(self._settings.dtype)
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._settings.device)

    def _run_bare(self, x: torch.Tensor, states: Mapping[str, State]) -> tuple[torch.Tensor, ...]:
        per_state = zip(*(states[layer.name].arrays() for layer in self._network.recurrent), strict=True)
        hx = _hx([self._tensor(np.concatenate(arrays)) for arrays in per_state])
        if self._time_major:
            x = x.swapaxes(0, 1)
        if isinstance(self._module, nn.Sequential):
            *before, last = self._module._modules.values()
            for module in before:
                x = module(x)
            return _flat(last(x, hx))
        return _flat(self._module(x, hx))

    def _stack_runs(self, returned: Sequence[torch.Tensor]) -> dict[str, LayerRun]:
        values = torch_returns(self._kind, batch_first=not self._time_major)
        spec = self._network.recurrent[-1].spec
        found = to_canonical(values, [tensor.cpu().numpy() for tensor in returned], len(spec.directions))
        states = [found[key] for key in ("h", "c") if key in found]
        last = len(self._network.recurrent) - 1
        return {
            layer.name: LayerRun(State(*(a[index] for a in states)), found["sequence"] if index == last else None)
            for index, layer in enumerate(self._network.recurrent)
        }

    def _run(self, name: str, flat: Sequence[torch.Tensor]) -> LayerRun:
        spec = self._network.specs[name]
        found = to_canonical(torch_returns(spec.kind), [tensor.cpu().numpy() for tensor in flat], len(spec.directions))
        return LayerRun(State(*(found[key][0] for key in ("h", "c") if key in found)), found["sequence"])

    def _describe(self) -> dict[str, str]:
        facts = {
            "torch": str(torch.__version__),
            "module": type(self._module).__name__,
            "device": self._settings.device,
            "dtype": self._settings.dtype,
            "threads": str(torch.get_num_threads()),
        }
        if self._settings.device == "cuda":
            facts |= {"gpu": torch.cuda.get_device_name(), "TF32": "on, asked for" if self._settings.tf32 else "off"}
        return facts


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """float32 products in float32: 'medium' precision turns them into bfloat16 even on a CPU, and cuDNN takes TF32 by default.

    torch has had two ways to say so and refuses the older one once the newer was used; the newer is taken where it is there.
    """
    on_cuda = "tf32" if tf32 else "ieee"
    backends: Any = torch.backends
    if hasattr(backends, "fp32_precision"):
        wanted: list[tuple[Any, str, Any]] = [
            *((part, "fp32_precision", on_cuda) for part in (backends.cuda.matmul, backends.cudnn.rnn)),
            *((part, "fp32_precision", "ieee") for part in (backends.mkldnn.matmul, backends.mkldnn.rnn)),
        ]
    else:
        wanted = [(part, "allow_tf32", tf32) for part in (backends.cuda.matmul, backends.cudnn)]
    kept = [(part, name, getattr(part, name)) for part, name, _ in wanted]
    for part, name, value in wanted:
        setattr(part, name, value)
    try:
        yield
    finally:
        for part, name, value in kept:
            setattr(part, name, value)


def _hx(states: Sequence[torch.Tensor]) -> Any:
    return states[0] if len(states) == 1 else tuple(states)


def _flat(returned: Any) -> tuple[torch.Tensor, ...]:
    output, state = returned
    return (output, *(state if isinstance(state, tuple) else (state,)))


def _names(kind: Kind) -> list[str]:
    return [value.name for value in torch_returns(kind)]


def _shown(value: Value, flat: Sequence[torch.Tensor]) -> torch.Tensor:
    """One of a layer's values out of the flat return (output, h_n, c_n) of its batch-first module."""
    if value.quantity == "sequence":
        directions = flat[1].shape[0]
        tensor = rearrange(
            flat[0], f"batch time (direction hidden) -> {CANONICAL_AXES['sequence']}", direction=directions
        )
        axes = CANONICAL_AXES["sequence"]
    else:
        tensor, axes = flat[("h", "c").index(value.quantity) + 1], CANONICAL_AXES[value.quantity].removeprefix("layer ")
    if value.select in DIRECTIONS:
        tensor = tensor.select(axes.split().index("direction"), DIRECTIONS.index(value.select))
        axes = axes.replace("direction ", "")
    shown: torch.Tensor = rearrange(tensor, f"{axes} -> {value.axes}")
    return shown


def _build_layer(layer: Layer) -> list[nn.Module]:
    """The modules of one layer, to be called in order."""
    if isinstance(layer, Recurrent):
        module = _build_stack((layer,))
        return [module if "forward" in layer.spec.directions else Reversed(module)]
    if isinstance(layer, Embedding):
        embedding = nn.Embedding(layer.input_size, layer.output_size, dtype=torch.float32)
        with torch.no_grad():
            embedding.weight.copy_(torch.from_numpy(layer.table.copy()))
        return [embedding]
    linear = nn.Linear(layer.input_size, layer.output_size, bias=layer.bias is not None, dtype=torch.float32)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(layer.kernel.T.copy()))
        if layer.bias is not None:
            linear.bias.copy_(torch.from_numpy(layer.bias.copy()))
    if layer.activation == "linear":
        return [linear]
    kind = getattr(nn, ACTIVATIONS[layer.activation].torch)
    return [linear, kind(dim=-1) if kind is nn.Softmax else kind()]


def _build_stack(layers: Sequence[Recurrent]) -> nn.LSTM | nn.GRU:
    first = layers[0]
    module = _MODULES[first.spec.kind](
        first.spec.input_size,
        first.spec.hidden_size,
        num_layers=len(layers),
        bias=first.has_bias,
        batch_first=True,
        bidirectional=first.bidirectional,
        dtype=torch.float32,
    )
    layout = LAYOUTS["torch", first.spec.kind]
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        # Where one direction alone has no bias, torch has a place for it all the same, filled with random numbers.
        for parameter in parameters.values():
            parameter.zero_()
        for depth, layer in enumerate(layers):
            for weights, suffix in zip(layer.weights, _SUFFIXES.values(), strict=False):
                for name, array in pack(layout, layer.spec, [weights]).items():
                    parameters[f"{name}_l{depth}{suffix}"].copy_(torch.from_numpy(array))
    return module.eval()


def _read_chain(chain: Chain) -> Iterator[Layer]:
    for name, module_names in chain._names.items():
        modules = [chain.get_submodule(module_name) for module_name in module_names]
        problems = [problem for module in modules for problem in _altered(name, module)]
        layers = _read_module(name, modules[0], problems)
        if problems or len(layers) != 1:
            raise UnsupportedError(
                problems or [_refused(f"'{name}' was replaced", modules[0], "convert the model again")]
            )
        layer = layers[0]
        if isinstance(layer, Recurrent):
            sequences = chain._values[name][0].quantity == "sequence"
            yield Recurrent(name, layer.spec, layer.weights, return_sequences=sequences)
        elif isinstance(layer, Dense) and len(modules) > 1:
            yield Dense(name, layer.kernel, layer.bias, _ACTIVATIONS[type(modules[1])])
        else:
            yield layer


def _read_module(name: str, module: nn.Module, problems: list[Problem]) -> list[Layer]:
    """One module as layers; what cannot be kept goes to `problems`."""
    where = f"module '{name}'" if name else "the module"
    meta = [key for key, tensor in module.named_parameters() if tensor.is_meta]
    if meta:
        remedy = "load the weights first: module.to_empty(device='cpu'), then load_state_dict"
        problems.append(Problem("weights that are not there (meta device)", where, "numbers", ", ".join(meta), remedy))
        return []
    doubtful = [key for key, tensor in module.named_parameters() if tensor.dtype != torch.float32]
    if doubtful:
        got = ", ".join(f"{key}: {module.get_parameter(key).dtype}" for key in doubtful)
        problems.append(
            Problem("weights that are not float32", where, "float32", got, "convert them first: module.float()")
        )
        return []
    if type(module) is Reversed:
        inner = _read_module(name, module.layer, problems)
        return [
            Recurrent(layer.name, _with_directions(layer.spec, ("backward",)), layer.weights)
            for layer in inner
            if isinstance(layer, Recurrent)
        ]
    if type(module) in _MODULES.values():
        return list(_read_recurrent(name, module, where, problems))
    if type(module) is nn.Linear:
        bias = None if module.bias is None else _array(module.bias)
        return [Dense(name or "linear", _array(module.weight).T.copy(), bias)]
    if type(module) is nn.Embedding:
        if module.padding_idx is not None or module.max_norm is not None:
            problems.append(
                _refused(
                    "padding_idx and max_norm are not converted",
                    module,
                    "set both to None: they matter in training only",
                )
            )
        return [Embedding(name or "embedding", _array(module.weight))]
    remedy = "give the nn.LSTM or nn.GRU inside it; an own forward() is not read"
    problems.append(_refused(f"{where} is a {type(module).__qualname__}", module, remedy))
    return []


def _altered(name: str, module: nn.Module) -> Iterator[Problem]:
    """What makes a module compute something else than its class says: hooks (weight_norm and pruning are hooks too), an own
    forward, a Softmax along another axis than the last."""
    where = f"module '{name}' ({type(module).__name__})" if name else type(module).__name__
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        remedy = "remove the hooks (torch.nn.utils.remove_weight_norm, prune.remove, handle.remove()) before converting"
        yield Problem("hooks or a forward of its own change what the module computes", where, "none", remedy=remedy)
    if isinstance(module, nn.Softmax) and module.dim not in (-1, 2):
        yield Problem("this Softmax is not along the features", where, "dim=-1", f"dim={module.dim}", "set dim=-1")


def _refused(what: str, module: nn.Module, remedy: str) -> Problem:
    expected = "nn.LSTM, nn.GRU, or nn.Sequential of Embedding and Linear that ends in one"
    return Problem(what, type(module).__qualname__, expected, str(module).split("\n")[0], remedy)


def _read_recurrent(name: str, module: Any, where: str, problems: list[Problem]) -> Iterator[Recurrent]:
    kind: Kind = "lstm" if isinstance(module, nn.LSTM) else "gru"
    name = name or kind
    if module.proj_size:
        problems.append(
            Problem(
                "projections are not converted yet",
                where,
                "proj_size=0",
                f"proj_size={module.proj_size}",
                "multiply weight_hr into the next layer by hand, or keep this layer in torch",
            )
        )
        return
    if module.dropout:
        problems.append(
            Problem(
                "dropout between the layers is not converted",
                where,
                "dropout=0",
                f"dropout={module.dropout}",
                "set module.dropout = 0.0: in eval mode it does nothing",
            )
        )
        return
    directions: tuple[Direction, ...] = DIRECTIONS if module.bidirectional else DIRECTIONS[:1]
    for depth in range(module.num_layers):
        size = module.input_size if depth == 0 else module.hidden_size * len(directions)
        spec = RecurrentSpec(kind, size, module.hidden_size, directions)
        weights = []
        for direction in directions:
            suffix = f"_l{depth}{_SUFFIXES[direction]}"
            names = [tensor.name for tensor in LAYOUTS["torch", kind].tensors]
            arrays = {key: _array(getattr(module, key + suffix)) for key in names if hasattr(module, key + suffix)}
            weights.append(_one(unpack(LAYOUTS["torch", kind], spec, arrays)))
        yield Recurrent(f"{name}_l{depth}" if module.num_layers > 1 else name, spec, tuple(weights))


def _one(weights: tuple[Weights, ...]) -> Weights:
    (only,) = weights
    return only


def _with_directions(spec: RecurrentSpec, directions: tuple[Direction, ...]) -> RecurrentSpec:
    return RecurrentSpec(spec.kind, spec.input_size, spec.hidden_size, directions)


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array
