"""Groups of one number each."""

from torch import Tensor, nn


def group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """`norm` of x, whose groups are one channel each: torch refuses one step of one sample."""
    if any(length != 1 for length in x.shape[2:]):
        found: Tensor = norm(x)
        return found
    zeros = x - x
    return zeros if norm.bias is None else zeros + norm.bias.view(-1, *x.shape[2:])
