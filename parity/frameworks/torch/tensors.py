"""PyTorch: the weight-bearing modules of a live module as units, and their tensors, read and written in place."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.cell import Cell, plain_cell
from parity.errors import ParityError, Problem
from parity.frameworks.torch.building import FUNCTION_OF_RNN, SUFFIXES
from parity.frameworks.torch.cells import CELLS, GENERAL_CELLS, GeneralCell, layout_of
from parity.frameworks.torch.layers import NATIVE
from parity.functions import Function
from parity.layouts import LAYOUTS, Kind
from parity.leaf_layouts import LEAF_LAYOUTS, LeafLayout
from parity.recurrent import DIRECTIONS, Array, RecurrentSpec
from parity.transferring.options import options_from
from parity.transferring.units import SINGLE, Leaf, Unit

_WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_RECURRENT: dict[type[nn.Module], Kind] = {
    module: kind for table in (NATIVE, CELLS, GENERAL_CELLS) for kind, module in table.items()
}
_LEAVES: dict[type[nn.Module], LeafLayout] = {
    getattr(nn, name): row
    for row in LEAF_LAYOUTS.values()
    if row.framework == "torch"
    for name in row.classes
    if hasattr(nn, name)
}


@dataclass(frozen=True)
class TorchTensor:
    """A parameter or buffer; see `parity.transferring.units.Writable`."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:  # noqa: D102  as Writable says
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> str:  # noqa: D102
        return str(self.tensor.dtype).removeprefix("torch.")

    @property
    def key(self) -> Hashable:  # noqa: D102
        tensor = self.tensor
        return tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()

    def read(self) -> Array:  # noqa: D102
        return self.plain(self.tensor.detach().cpu())

    def native(self, array: Array) -> torch.Tensor:  # noqa: D102
        return torch.from_numpy(np.array(array, order="C")).to(self.tensor.dtype)

    def plain(self, native: torch.Tensor) -> Array:  # noqa: D102
        wide: Array = native.to(_WIDE.get(native.dtype, native.dtype)).numpy()
        return wide

    def held(self) -> torch.Tensor:  # noqa: D102
        return self.tensor.detach().cpu().clone(memory_format=torch.contiguous_format)

    def write(self, native: torch.Tensor) -> None:  # noqa: D102
        with torch.no_grad():
            self.tensor.copy_(native)

    def raw(self, native: torch.Tensor) -> bytes:  # noqa: D102
        return native.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def units(model: nn.Module, reading: bool = False) -> list[Unit]:
    """Every module with parameters or persistent buffers of its own, in the order of their registration.

    Args:
        model: any module.
        reading: whether they are only read: then a parametrized tensor (weight_norm) is what its parametrization computes.

    Raises:
        ParityError: tensors that are not there yet (lazy modules, the meta device); all at once.

    Example:
        >>> [(unit.name, unit.described) for unit in units(nn.Sequential(nn.Linear(3, 5), nn.GRU(5, 2)))]
        [('0', 'dense (input 3, output 5)'), ('1', 'gru 5->2')]
    """
    absent = [
        Problem("a tensor is not there yet", name, "numbers", kind, remedy)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        for kind, remedy in _absent(tensor)
    ]
    if absent:
        raise ParityError(absent)
    found: list[Unit] = []
    for name, module in model.named_modules():
        own = dict(_own(module, reading))
        if own and not (reading and _hidden(name)):
            found += _units(name, module, own, reading)
    return found


def in_order(model: nn.Module) -> bool:
    """Whether the modules are listed in the order of the data."""
    return type(model) is nn.Sequential


def _absent(tensor: torch.Tensor) -> Iterator[tuple[str, str]]:
    if nn.parameter.is_lazy(tensor):
        yield "a lazy module", "call the model once on data"
    elif tensor.is_meta:
        yield "the meta device", "model.to_empty(device='cpu')"


def _hidden(name: str) -> bool:
    """Whether a module is part of another's parametrization."""
    return "parametrizations" in name.split(".")


def _own(module: nn.Module, reading: bool) -> Iterator[tuple[str, torch.Tensor]]:
    yield from ((name, tensor) for name, tensor in module._parameters.items() if tensor is not None)
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            yield name, buffer
    for name in getattr(module, "parametrizations", ()) if reading else ():
        yield name, getattr(module, name)


def _units(name: str, module: nn.Module, own: dict[str, torch.Tensor], reading: bool) -> list[Unit]:
    prefix = f"{name}." if name else ""
    leaves = {role: Leaf(prefix + role, role, TorchTensor(tensor)) for role, tensor in own.items()}
    kind = next((kind for known, kind in _RECURRENT.items() if isinstance(module, known)), None)
    row = next((row for known, row in _LEAVES.items() if isinstance(module, known)), None)
    parametrized = hasattr(module, "parametrizations") and not reading
    notes = _notes(name, module, (*_RECURRENT, *_LEAVES))
    title = type(module).__name__
    if kind is not None and not parametrized:
        rest = dict(leaves)
        return [*_recurrent(name or kind, module, kind, rest, notes), *_singles(rest, title)]
    if row is not None and not parametrized and set(own) <= {tensor.name for tensor in row.tensors}:
        options = options_from(row.kind, "torch", lambda option: getattr(module, option, None))
        unit = Unit(name or row.kind, row.kind, "torch", title, tuple(leaves.values()), options, notes, leaf_layout=row)
        return [unit]
    return _singles(leaves, title)


def _singles(leaves: dict[str, Leaf], title: str) -> list[Unit]:
    return [
        Unit(leaf.name, SINGLE, "torch", title, (Leaf(leaf.name, "value", leaf.handle),)) for leaf in leaves.values()
    ]


def _notes(name: str, module: nn.Module, known: tuple[type[nn.Module], ...]) -> tuple[str, ...]:
    """What makes a module compute something else than its class says."""
    base = next((one for one in known if isinstance(module, one)), None)
    own = base is not None and type(module).forward is not base.forward
    if own or "forward" in vars(module) or module._forward_pre_hooks or module._forward_hooks:
        return (f"'{name}' ({type(module).__name__}) has a forward or hooks of its own: they were not looked at",)
    return ()


def _recurrent(name: str, module: Any, kind: Kind, leaves: dict[str, Leaf], notes: tuple[str, ...]) -> Iterator[Unit]:
    """The layers of an `nn.LSTM`, `nn.GRU`, `nn.RNN`, or the one of a cell; takes their tensors out of `leaves`."""
    general = isinstance(module, GeneralCell)
    looped = isinstance(module, nn.RNNBase)
    layout = layout_of(kind) if general else LAYOUTS["torch", kind]
    directions = DIRECTIONS if looped and module.bidirectional else DIRECTIONS[:1]
    depths = module.num_layers if looped else 1
    projection = (getattr(module, "proj_size", 0) or None) if looped or general else None
    size = module.input_size
    for depth in range(depths):
        spec = RecurrentSpec(kind, size, module.hidden_size, directions, projection)
        own: list[Leaf] = []
        for index, way in enumerate(directions):
            end = f"_l{depth}{SUFFIXES[way]}" if looped else ""
            taken = ((tensor.name, leaves.pop(tensor.name + end, None)) for tensor in layout.tensors)
            own += [Leaf(leaf.name, role, leaf.handle, index) for role, leaf in taken if leaf is not None]
        title = f"{name}_l{depth}" if depths > 1 else name
        cells = (_computed(module, kind),) * len(directions)
        context = {"aligned": True, **({"batch_first": module.batch_first} if looped else {})}
        yield Unit(
            title, kind, "torch", type(module).__name__, tuple(own), notes=notes if depth == 0 else (), spec=spec, cells=cells,
            layout=layout, context=context,
        )  # fmt: skip
        size = spec.output_size


def _computed(module: Any, kind: Kind) -> Cell:
    """What a recurrent module computes in a step."""
    if isinstance(module, GeneralCell):
        return module.options
    plain = plain_cell(kind)
    if kind != "rnn":
        return plain
    own = {word: Function(function) for function, word in FUNCTION_OF_RNN.items()}
    return replace(plain, functions=(own[module.nonlinearity],))
