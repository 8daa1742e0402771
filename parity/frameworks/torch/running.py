"""PyTorch: run live modules."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.conventions import to_canonical, torch_cell_returns, torch_returns
from parity.errors import UnsupportedError
from parity.frameworks import Settings
from parity.frameworks.torch.cells import CELLS, GENERAL_CELLS
from parity.frameworks.torch.chain import Chain
from parity.frameworks.torch.layers import (
    NATIVE,
    Bidirectional,
    Hx,
    RecurrentLayer,
    Run,
    as_hx,
    is_right_padded,
    is_sorted,
    on_valid_steps,
    states_of,
)
from parity.frameworks.torch.modes import check_device, evaluating, products, quiet
from parity.network import Network, Recurrent
from parity.recurrent import Array
from parity.reference import Mask
from parity.result import LayerRun, Result, Returned, State

ENGINE = "torch"


def runner(source: nn.Module, network: Network, settings: Settings) -> TorchRunner:
    """Something that runs the module; see `parity.frameworks.torch.runner`."""
    check_device(settings)
    own = {parameter.dtype for parameter in source.parameters()}
    dtype = torch.float64 if torch.float64 in own else getattr(torch, settings.dtype)
    if settings.device != "cpu" or own != {dtype}:
        source = copy.deepcopy(source).to(settings.device, dtype)
    return TorchRunner(source, network, settings)


class TorchRunner:
    """Runs a live module; see `parity.frameworks.Runner`.

    Attributes:
        unbatched: whether torch's own layers and cells get every sample by itself, without a batch axis.
    """

    engine = ENGINE
    unbatched = False

    def __init__(self, module: nn.Module, network: Network, settings: Settings) -> None:
        self._module, self._network, self._settings = module, network, settings
        self._before: list[Any] = []
        self._last: Any = module
        if isinstance(module, nn.Sequential):
            *self._before, self._last = (child for child in module._modules.values() if child is not None)
        self._dtype = next(module.parameters()).dtype
        self._time_major = not getattr(self._last, "batch_first", True)

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Mask | None = None) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers, with a mask (batch, time) of valid steps."""
        x = self._tensor(inputs)
        valid = None if mask is None else torch.from_numpy(mask.copy()).to(self._settings.device)
        plain = torch.autocast(self._settings.device, enabled=False)
        with torch.no_grad(), plain, products(self._settings.tf32), evaluating(self._module), quiet():
            for module in self._before:
                x = module(x)
            outputs: dict[str, Array] = {}
            if isinstance(self._last, (Chain, RecurrentLayer, Bidirectional)):
                runs, outputs, returned = self._run_own(x, states, valid)
            elif isinstance(self._last, (*CELLS.values(), *GENERAL_CELLS.values())):
                runs, returned = self._run_cell(x, states, valid)
            else:
                run = self._run_unbatched if self.unbatched else self._run_native
                runs, returned = run(x, states, valid)
        shown = tuple(
            Returned(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in returned.items()
        )
        return Result(ENGINE, outputs, runs, shown, {**self._describe(), **self._path(valid)})

    @property
    def _kind(self) -> Any:
        return self._network.recurrent[-1].spec.kind

    def _tensor(self, array: Array) -> Tensor:
        whole = np.issubdtype(array.dtype, np.integer)
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self._settings.device, tensor.dtype if whole else self._dtype)

    # ---- modules of parity's own

    def _run_own(
        self, x: Tensor, states: Mapping[str, State], mask: Tensor | None
    ) -> tuple[dict[str, LayerRun], dict[str, Array], dict[str, Tensor]]:
        """Runs, outputs and the flat return of a module that parity built."""
        if self.unbatched:
            raise UnsupportedError(
                "only torch's own layers and cells are run on an input without a batch axis",
                where=type(self._last).__name__,
                expected=", ".join(f"nn.{module.__name__}" for module in (*NATIVE.values(), *CELLS.values())),
                got=str(self._last).split("\n")[0],
                remedy="give it a batch of one sample",
            )
        hx = {name: as_hx(self._tensor(array) for array in state.arrays()) for name, state in states.items()}
        if isinstance(self._last, Chain):
            given, runs = self._last.run(x, hx, mask)
            outputs, returned = self._last.outputs(given, runs), self._last.returned(given, runs)
        elif isinstance(self._last, Bidirectional):
            runs = self._last.run(x, hx, mask)
            outputs, returned = list(self._last.given(runs)), self._last.returned(runs)
        else:
            (name,) = self._network.specs
            run = self._last.run(x, hx[name], mask)
            runs = {name: run}
            outputs = list(self._last.given(run)) if self._network.shown else []
            returned = self._last.returned(run)
        names = [output.name for output in self._network.shown]
        named = dict(zip(names, map(_array, outputs), strict=True))
        flat = dict(zip(self._names(names, returned), _flat(returned), strict=True))
        return {name: _layer_run(run, mask) for name, run in runs.items()}, named, flat

    def _names(self, outputs: list[str], returned: Any) -> list[str]:
        """A name for everything that a module of parity returns."""
        if not self._network.bare:
            return outputs
        first, *stacked = (value.name for value in torch_returns(self._kind))
        if not isinstance(returned[1], list):
            return [*(outputs or [first]), *stacked]
        by_layer = [
            f"{layer.name}.{value.name}"
            for layer in self._network.recurrent
            for value in torch_returns(layer.spec.kind)[1:]
        ]
        return [*(outputs or [first]), *by_layer]

    # ---- torch's own

    def _run_native(
        self, x: Tensor, states: Mapping[str, State], mask: Tensor | None
    ) -> tuple[dict[str, LayerRun], dict[str, Tensor]]:
        """Runs and the flat return of an `nn.LSTM`, `nn.GRU` or `nn.RNN`."""
        hx = self._stacked(states)
        if mask is not None:
            output, after = on_valid_steps(self._last, x, hx, mask)
            flat = [output, *states_of(after)]
            values = torch_returns(self._kind)
            packed = output.new_empty(int(mask.sum()), output.shape[-1])
            names = [value.name for value in torch_returns(self._kind, packed=True)]
            returned = dict(zip(names, [packed, *flat[1:]], strict=True))
        else:
            flat = _flat(self._last(x.swapaxes(0, 1) if self._time_major else x, hx))
            values = torch_returns(self._kind, batch_first=not self._time_major)
            returned = dict(zip((value.name for value in values), flat, strict=True))
        found = to_canonical(values, [_array(tensor) for tensor in flat], self._ways)
        return self._stack_runs(found, mask), returned

    def _run_unbatched(
        self, x: Tensor, states: Mapping[str, State], mask: Tensor | None
    ) -> tuple[dict[str, LayerRun], dict[str, Tensor]]:
        """The same for every sample by itself: its valid steps, (time, features), and states (layer*direction, features)."""
        hx = states_of(self._stacked(states))
        values = torch_returns(self._kind, batched=False)
        samples = []
        returned: dict[str, Tensor] = {}
        for row in range(len(x)):
            steps = slice(None) if mask is None else mask[row]
            own = [state[:, row] for state in hx]
            output = x.new_zeros(x.shape[1], self._network.recurrent[-1].spec.output_size)
            if len(x[row, steps]):
                flat = _flat(self._last(x[row, steps], as_hx(own)))
                returned = dict(zip((value.name for value in values), flat, strict=True))
                output[steps], own = flat[0], flat[1:]
            samples.append(to_canonical(values, [_array(tensor) for tensor in (output, *own)], self._ways))
        joined = {
            key: np.concatenate([sample[key] for sample in samples], axis=0 if key == "sequence" else 2)
            for key in samples[0]
        }
        return self._stack_runs(joined, mask), returned

    def _run_cell(
        self, x: Tensor, states: Mapping[str, State], mask: Tensor | None
    ) -> tuple[dict[str, LayerRun], dict[str, Tensor]]:
        """Runs of a cell that takes one step, called for one after the other; its flat return at the last of them."""
        (layer,) = self._network.recurrent
        now = [self._tensor(array[0]) for array in states[layer.name].arrays()]
        outputs, after = [], now
        for step in range(x.shape[1]):
            after = self._step(x[:, step], now)
            valid = torch.ones_like(x[:, step, :1], dtype=torch.bool) if mask is None else mask[:, step, None]
            now = [torch.where(valid, new, old) for new, old in zip(after, now, strict=True)]
            outputs.append(torch.where(valid, now[0], 0.0))
        sequence = torch.stack(outputs, dim=1)[:, :, None]
        found = {
            "sequence": _array(sequence),
            **dict(zip("hc", (_array(state)[None, None] for state in now), strict=False)),
        }
        names = [value.name for value in torch_cell_returns(layer.spec.kind)]
        shown = [state[0] for state in after] if self.unbatched else after
        return self._stack_runs(found, mask), dict(zip(names, shown, strict=True))

    def _step(self, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        if not self.unbatched:
            return list(states_of(self._last(x, as_hx(states))))
        rows = [states_of(self._last(x[row], as_hx(state[row] for state in states))) for row in range(len(x))]
        return [torch.stack(parts) for parts in zip(*rows, strict=True)]

    @property
    def _ways(self) -> int:
        return len(self._network.recurrent[-1].spec.directions)

    def _stacked(self, states: Mapping[str, State]) -> Hx:
        per_state = zip(*(states[layer.name].arrays() for layer in self._network.recurrent), strict=True)
        return as_hx([self._tensor(np.concatenate(arrays)) for arrays in per_state])

    def _stack_runs(self, found: Mapping[Any, Array], mask: Tensor | None) -> dict[str, LayerRun]:
        """Of a stack that shows the sequence of its last layer only."""
        finals = [State(*(found[key][depth] for key in "hc" if key in found)) for depth in range(len(found["h"]))]
        *inner, layer = self._network.recurrent
        runs = {one.name: LayerRun(final) for one, final in zip(inner, finals, strict=False)}
        last = None if mask is None else _last(layer, found["sequence"], finals[-1].h, _array(mask))
        return {**runs, layer.name: LayerRun(finals[-1], found["sequence"], last)}

    def _path(self, mask: Tensor | None) -> dict[str, str]:
        """How the module was called, where there is more than one way."""
        facts = {"unbatched": "every sample by itself"} if self.unbatched else {}
        if mask is None:
            return facts
        if isinstance(self._last, (Chain, RecurrentLayer, Bidirectional)):
            return {**facts, "mask": "handed to the module"}
        if isinstance(self._last, (*CELLS.values(), *GENERAL_CELLS.values())):
            return {**facts, "mask": "masked steps keep the state"}
        if self.unbatched:
            return {**facts, "mask": "the valid steps of every sample alone"}
        lengths = mask.sum(dim=1)
        words = [f"PackedSequence, enforce_sorted={is_sorted(lengths[lengths > 0])}"]
        if not is_right_padded(mask):
            words.insert(0, "valid steps moved to the front")
        if not bool(lengths.all()):
            words.append("samples without a valid step left out")
        return {**facts, "mask": ", ".join(words)}

    def _describe(self) -> dict[str, str]:
        facts = {
            "torch": str(torch.__version__),
            "module": type(self._module).__name__,
            "device": self._settings.device,
            "dtype": str(self._dtype).removeprefix("torch."),
            "threads": str(torch.get_num_threads()),
        }
        if self._settings.device == "cuda":
            facts |= {"gpu": torch.cuda.get_device_name(), "TF32": "on, asked for" if self._settings.tf32 else "off"}
        return facts


def _flat(returned: Any) -> list[Tensor]:
    """Everything that a module returned, one after the other."""
    if isinstance(returned, Tensor):
        return [returned]
    return [tensor for part in returned for tensor in _flat(part)]


def _layer_run(run: Run, mask: Tensor | None) -> LayerRun:
    final = State(*map(_array, run.states))
    return LayerRun(final, _array(run.sequence), None if mask is None else _array(run.last))


def _last(layer: Recurrent, sequence: Array, h: Array, mask: Array) -> Array:
    """What `return_sequences=False` would give of a sequence with zeros at masked steps; see `LayerRun.last`."""
    if layer.fill == "repeat":
        return np.where(mask.any(axis=1, keepdims=True), h, 0.0).astype(h.dtype)
    ends = {"forward": -1, "backward": 0}
    return np.stack([sequence[:, ends[way], index] for index, way in enumerate(layer.spec.directions)])


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array


__all__: Sequence[str] = ["TorchRunner", "runner"]
