"""Operators of torch in small modules, for `test_torch_graphs.py`: (name, module, shapes of its inputs)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Case = tuple[str, nn.Module, tuple[Any, ...]]
SEQUENCE, IMAGE, SIGNAL = (3, 11, 8), (3, 4, 12, 11), (3, 8, 11)


class Of(nn.Module):
    """A function as a module, with a linear layer before it so that its input is no input of the model."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.before = nn.Linear(8, 8)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        """The function of x."""
        return self.function(self.before(x))


def weighted(module: nn.Module) -> nn.Module:
    """The module with no weight, moving average or bias left at zero or one."""
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.5 + (0.5 if "running_var" in name else 0.1))
    return module


def activations() -> Iterator[Case]:
    """Modules and functions of one argument."""
    modules = [
        nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(), nn.CELU(1.7), nn.GELU(),
        nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Hardtanh(), nn.Hardtanh(-0.3, 0.6), nn.ReLU6(), nn.Hardsigmoid(),
        nn.Hardswish(), nn.Softplus(), nn.Softplus(2.0, 1.5), nn.Softsign(), nn.Tanhshrink(), nn.LogSigmoid(), nn.PReLU(),
        nn.Threshold(0.1, -0.4), nn.GLU(-1), nn.Softmax(-1), nn.Softmax(1), nn.LogSoftmax(2), nn.Sigmoid(), nn.Tanh(),
        nn.Hardshrink(0.3), nn.Softshrink(0.3), nn.RReLU(), nn.Softmin(-1), nn.Dropout(0.4), nn.AlphaDropout(0.4), nn.Identity(),
    ]  # fmt: skip
    for number, module in enumerate(modules):
        yield f"{type(module).__name__}-{number}", weighted(nn.Sequential(nn.Linear(8, 8), module)), (SEQUENCE,)
    yield "PReLU-channels", weighted(nn.Sequential(nn.Conv1d(8, 4, 1), nn.PReLU(4))), (SIGNAL,)
    yield "GLU-channels", weighted(nn.Sequential(nn.Conv1d(8, 6, 1), nn.GLU(1))), (SIGNAL,)


def layers() -> Iterator[Case]:
    """Convolutions, normalizations, pooling."""
    signal = [
        nn.Conv1d(8, 4, 3), nn.Conv1d(8, 4, 3, padding=2, stride=2, bias=False), nn.Conv1d(8, 6, 3, groups=2, dilation=2),
        nn.Conv1d(8, 4, 4, padding="same"), nn.Conv1d(8, 4, 3, padding="valid"), nn.Conv1d(8, 8, 3, groups=8, padding="same"),
        nn.Conv1d(8, 4, 3, padding=1, padding_mode="reflect"), nn.Conv1d(8, 4, 3, padding=1, padding_mode="replicate"),
        nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False), nn.GroupNorm(4, 8), nn.InstanceNorm1d(8),
        nn.InstanceNorm1d(8, affine=True), nn.InstanceNorm1d(8, track_running_stats=True), nn.MaxPool1d(3, 2, 1),
        nn.MaxPool1d(2, dilation=2), nn.AvgPool1d(3, 2, 1), nn.AvgPool1d(3, 2, 1, count_include_pad=False), nn.AdaptiveAvgPool1d(1),
        nn.AdaptiveMaxPool1d(1), nn.Upsample(scale_factor=3), nn.ConstantPad1d((2, 1), 0.7), nn.ReflectionPad1d((1, 2)),
        nn.ReplicationPad1d(2), nn.ZeroPad1d((3, -1)), nn.Flatten(0, 1), nn.Dropout1d(0.5),
        nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 4, 3)), nn.MaxPool1d(1, 1, ceil_mode=True),
    ]  # fmt: skip
    for number, module in enumerate(signal):
        yield f"{type(module).__name__}-{number}", weighted(nn.Sequential(nn.Conv1d(8, 8, 1), module)), (SIGNAL,)
    image = [
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), nn.Conv2d(4, 6, 3, padding="same", dilation=(1, 2), groups=2),
        nn.BatchNorm2d(4), nn.MaxPool2d((2, 1)), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d((2, 3)), nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((1, None)), nn.AdaptiveAvgPool2d((4, None)), nn.InstanceNorm2d(4), nn.Upsample(scale_factor=2),
        nn.AvgPool2d(3, 2, 1),
    ]  # fmt: skip
    for number, module in enumerate(image):
        yield f"{type(module).__name__}-{number}", weighted(nn.Sequential(nn.Conv2d(4, 4, 1), module)), (IMAGE,)
    last = [
        nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False), nn.LayerNorm(8, bias=False), nn.RMSNorm(8), nn.RMSNorm(8, eps=1e-3),
        nn.Linear(8, 3, bias=False), nn.Unflatten(-1, (2, 4)),
    ]  # fmt: skip
    for number, module in enumerate(last):
        yield f"{type(module).__name__}-{number}", weighted(nn.Sequential(nn.Linear(8, 8), module)), (SEQUENCE,)
    yield "Embedding-padding_idx", nn.Sequential(nn.Embedding(20, 8, padding_idx=0), nn.Linear(8, 3)), ("tokens",)


def _written(x: Tensor) -> Tensor:
    """A tensor that is filled piece by piece."""
    found = torch.zeros(x.size(0), 4, 8, dtype=x.dtype)
    for step in range(4):
        found[:, step] = x[:, step] * (step + 1)
    found[:, 1:3, 0] = 7.0
    found[..., 5:] += 1
    return found


def _without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        y = x * 2
    return y + x


# ruff: noqa: E501  one function, one line
FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "scalars": lambda x: (2 - x) * 3 / 7 + 1 - x * 0.1,
    "alpha": lambda x: torch.add(x, x * x, alpha=0.3) - torch.sub(x, 2.5, alpha=2),
    "rsub": lambda x: torch.rsub(x, x.abs(), alpha=2),
    "inplace": lambda x: (x * 1.0).add_(1).mul_(x).relu_(),
    "powers": lambda x: x**2 + x.abs() ** 0.5 + (x.abs() + 1) ** -1 + (x.abs() + 1) ** -0.5 + x**3 + 2.0**x,
    "roots": lambda x: (x.abs() + 1).sqrt() + (x.abs() + 1).rsqrt() + (x.abs() + 1).reciprocal() + (x.abs() + 1).log(),
    "unary": lambda x: x.exp() + x.neg() + x.sin() + x.cos() + x.erf() + x.floor() + x.sign() + (x.abs()).log1p() + x.square(),
    "clamps": lambda x: x.clamp(-0.5, 0.7) + x.clamp(min=0.1) + x.clamp_max(0.2) + torch.clamp(x, x - 1, x * 2 + 1),
    "extremes": lambda x: torch.maximum(x, x * x) + torch.minimum(x, x.neg()) + torch.max(x, 1 - x),
    "where": lambda x: torch.where((x > 0) & (x < 1) | (x <= -1) | ~(x >= -2), x, 0.0),
    "masked_fill": lambda x: x.masked_fill(x > 0.5, -1.5).masked_fill_((x == 0) | x.ne(x), 3),
    "infinite_mask": lambda x: x.masked_fill(x > 0.5, float("-inf")).softmax(-1),
    "logical": lambda x: (torch.logical_and(x > 0, x < 1), torch.logical_or(x > 1, x < 0), torch.logical_not(x > 0), (x > 0) ^ (x < 1)),
    "bool_times": lambda x: (x > 0) * x + (x > 0.5).float() + (x > 0.1).to(x.dtype) - (x > 1).type_as(x),
    "bool_sum": lambda x: ((x > 0).sum(1), (x > 0).any(-1), (x > 0).all(1), (x > 0).sum(dim=(1, 2)) / 2),
    "sums": lambda x: (x.sum(1), x.sum(), x.sum((1, 2), keepdim=True), x.mean(-1), x.mean(), x.mean((0, 1))),
    "reductions": lambda x: (x.amax(1), x.amin((1, 2)), x.max(), x.min(), x.max(1), x.min(-1, keepdim=True), x.logsumexp(1), x.prod(-1)),
    "places": lambda x: (x.argmax(-1), x.argmin(1), x.argmax(2, keepdim=True)),
    "norms": lambda x: (x.norm(dim=-1), x.norm(1, dim=1), torch.linalg.vector_norm(x, dim=2, keepdim=True), x.norm(float("inf"), 1)),
    "normalize": lambda x: F.normalize(x, dim=-1) + F.normalize(x, p=1, dim=1),
    "variances": lambda x: (x.var(1, correction=0), x.std(-1), x.var(-1, unbiased=False, keepdim=True), x.var((1, 2), correction=0)),
    "views": lambda x: (x.view(x.size(0), -1), x.reshape(-1, 8), x.flatten(1), x.flatten(), x.reshape(x.size(0) * x.size(1), 2, 4)),
    "heads": lambda x: x.view(x.size(0), x.size(1), 2, 4).transpose(1, 2).reshape(x.size(0) * 2, x.size(1), 4),
    "unflatten": lambda x: x.unflatten(-1, (2, 4)).permute(2, 0, 1, 3).squeeze(0).unsqueeze(-2),
    "orders": lambda x: (x.permute(2, 0, 1), x.transpose(1, 2), x.mT, x[0].t(), x.movedim(0, -1), x.swapaxes(0, 1)),
    "expands": lambda x: (x[:, :1].expand(-1, 5, -1), x[:, None].expand(-1, 3, -1, -1), x[:, 0, None].expand_as(x), x.mean(1)[:, None].repeat(1, x.size(1), 1)),
    "repeats": lambda x: (x.repeat(1, 2, 1), x.repeat_interleave(3, dim=1), x.repeat(2, 1, 1, 1), x.tile(1, 1, 2)),
    "cats": lambda x: (torch.cat([x, x * 2], -1), torch.cat([x, x[:, 1:]], 1), torch.stack([x, x + 1], 1), torch.stack([x, x + 1])),
    "splits": lambda x: [part * number for number, part in enumerate((*x.chunk(3, -1), *x.split([1, 5, 2], 2), *x.split(3, 2)))],
    "unbinds": lambda x: [one * 2 for one in x.unflatten(-1, (2, 4)).unbind(2)],
    "slices": lambda x: (x[:, 1:], x[:, :-1], x[:, -3:-1], x[:, ::2], x[..., 2:7:3], x[:, : x.size(1) - 2], x[:, 1 : x.size(1)]),
    "selects": lambda x: (x[:, 0], x[:, -1], x[:, x.size(1) - 1], x[..., 3], x.select(1, 2), x.narrow(1, 1, 4)),
    "flips": lambda x: (x.flip(1), x.flip([1, 2]), x.roll(2, 1), x.roll(-1, 2)),
    "index": lambda x: (x.index_select(2, torch.tensor([3, 1, 1])), x[:, :, [2, 0]], x[:, torch.tensor([0, 4])]),
    "pads": lambda x: (F.pad(x, (1, 2)), F.pad(x, (0, 0, 2, 1), value=0.3), F.pad(x, (2, 1), mode="reflect"), F.pad(x, (1, 1), "replicate")),
    "products": lambda x: (x @ x.mT, torch.bmm(x, x.transpose(1, 2)), torch.einsum("btd,bsd->bts", x, x), torch.einsum("btd->bt", x)),
    "einsum_implicit": lambda x: torch.einsum("bij,bkj", x, x),
    "causal": lambda x: (x @ x.mT).masked_fill(torch.triu(torch.ones(x.size(1), x.size(1)), 1).bool(), float("-inf")).softmax(-1),
    "generated_mask": lambda x: (x @ x.mT + nn.Transformer.generate_square_subsequent_mask(x.size(1)).to(x)).softmax(-1),
    "tril": lambda x: (x @ x.mT).tril() + (x @ x.mT).triu(2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x * 2, x + 1),
    "attention_causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
    "attention_masks": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=(x @ x.mT > -1)) + F.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.mT),
    "ranges": lambda x: x + torch.arange(x.size(1), dtype=x.dtype)[None, :, None] + torch.arange(2, 18, 2),
    "created": lambda x: (torch.zeros(x.size(0), 3) + 1, torch.ones_like(x) * 2, x.new_full((x.size(1),), 0.5), x.new_zeros(x.shape) + x),
    "length_as_number": lambda x: x.sum(1) / x.size(1),
    "types": lambda x: (x.long(), x.to(torch.int64) + 1, x.double().to(x.dtype), x.detach().clone().contiguous(), (x * 3).int() // 2),
    "writes": _written,
    "no_grad": _without_gradient,
    "glu_pieces": lambda x: F.glu(x, -1) + F.softmax(x, 1)[..., :4],
    "interpolate": lambda x: F.interpolate(x, scale_factor=2),
    "addmm": lambda x: torch.addmm(x[0], x[0], x[0].t() @ x[0], beta=0.5, alpha=2) + torch.baddbmm(x, x, x.mT @ x)[0],
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3) + torch.addcmul(x, x, x, value=0.5),
    "named": lambda x: {"first": x * 2, "rest": (x + 1, x - 1)},
    "nothing": lambda x: (x, None, x * 2),
}  # fmt: skip


def functions() -> Iterator[Case]:
    """Functions of a sequence."""
    for name, function in FUNCTIONS.items():
        yield name, Of(function), (SEQUENCE,)


class Recurrent(nn.Module):
    """A recurrent layer, all of whose outputs are outputs."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        """All of them."""
        return self.layer(x)


class Stateful(Recurrent):
    """A recurrent layer with its states as inputs."""

    def forward(self, x: Tensor, hx: Any) -> Any:
        """All outputs."""
        return self.layer(x, hx)


class Looped(nn.Module):
    """A cell in a loop over a known number of steps."""

    def __init__(self, cell: Any, steps: int) -> None:
        super().__init__()
        self.cell, self.steps = cell, steps

    def forward(self, x: Tensor) -> Any:
        """The states of all steps."""
        state, found = None, []
        for step in range(self.steps):
            state = self.cell(x[:, step], state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(found, 1)


class Packing(nn.Module):
    """Packed sequences through a recurrent layer."""

    def __init__(self, layer: Any, enforce_sorted: bool = False, batch_first: bool = True, total: bool = False) -> None:
        super().__init__()
        self.layer, self.sorted, self.first, self.total = layer, enforce_sorted, batch_first, total

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        """The padded sequence, the lengths and the states."""
        pack, pad = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence
        packed = pack(x, lengths, batch_first=self.first, enforce_sorted=self.sorted)
        y, states = self.layer(packed)
        steps = x.size(1 if self.first else 0) if self.total else None
        padded, counts = pad(y, batch_first=self.first, padding_value=0.25 if self.total else 0.0, total_length=steps)
        return padded, counts, states


class SortedByHand(nn.Module):
    """Packed sequences with the sorting that torch asked for once."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 5, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        """The padded sequence and the states, in the order of the inputs."""
        lengths, order = lengths.sort(0, descending=True)
        back = order.argsort()
        y, (h, _) = self.lstm(nn.utils.rnn.pack_padded_sequence(x[order], lengths, batch_first=True))
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0][back], h[:, back]


_LAYERS: tuple[tuple[Any, bool, dict[str, Any]], ...] = (
    (nn.LSTM, True, {}),
    (nn.LSTM, False, {"num_layers": 2, "bidirectional": True, "dropout": 0.4}),
    (nn.LSTM, True, {"proj_size": 3, "num_layers": 2}),
    (nn.LSTM, True, {"proj_size": 3, "bidirectional": True, "bias": False}),
    (nn.GRU, True, {"num_layers": 3}),
    (nn.GRU, False, {"bidirectional": True, "bias": False}),
    (nn.RNN, True, {"nonlinearity": "relu"}),
    (nn.RNN, False, {"num_layers": 2, "bidirectional": True}),
)
RECURRENT: dict[str, nn.Module] = {
    f"{kind.__name__}{index}": kind(8, 5, batch_first=first, **options)
    for index, (kind, first, options) in enumerate(_LAYERS)
}
