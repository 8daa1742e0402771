"""Recurrent layers under a mask."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def pack_valid(x: Tensor, mask: Tensor) -> PackedSequence:
    """The valid steps of x (batch, time, features): those where mask (batch, time) is True.

    A sample without any has its first step there, for torch packs no empty sequence.
    """
    valid_first = (~mask).int().argsort(dim=1, stable=True)
    x = x.gather(1, valid_first[..., None].expand_as(x))
    lengths = mask.sum(dim=1).clamp(min=1).cpu()
    return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)


def unpack_valid(packed: PackedSequence, mask: Tensor) -> Tensor:
    """Outputs back at the places of the valid steps, zeros at the others."""
    x, _ = pad_packed_sequence(packed, batch_first=True, total_length=mask.shape[1])
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    x = x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
    return torch.where(mask[..., None], x, 0.0)


def masked_lstm(
    lstm: nn.LSTM,
    x: Tensor,
    mask: Tensor,
    state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run an LSTM on the valid steps: the others keep its state and give zeros."""
    packed, (h, c) = lstm(pack_valid(x, mask), state)
    h0, c0 = (0.0, 0.0) if state is None else state
    seen = mask.any(dim=1, keepdim=True)
    h, c = torch.where(seen, h, h0), torch.where(seen, c, c0)
    return unpack_valid(packed, mask), (h, c)


def masked_rnn(
    rnn: nn.GRU | nn.RNN, x: Tensor, mask: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run a GRU or RNN on the valid steps: the others keep its state and give zeros."""
    packed, h = rnn(pack_valid(x, mask), state)
    seen = mask.any(dim=1, keepdim=True)
    h = torch.where(seen, h, 0.0 if state is None else state)
    return unpack_valid(packed, mask), h


def repeat_last(x: Tensor, mask: Tensor) -> Tensor:
    """x (batch, time, features) with each masked step replaced by the valid one before it."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, steps, 0).cummax(dim=1).values
    return x.gather(1, last[..., None].expand_as(x))
