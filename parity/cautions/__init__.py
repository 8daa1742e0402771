"""What to look out for when a network moves to another framework by hand: a table of small rules, the most important first.

Each rule looks at one kind of mistake that people make and says nothing where it cannot be made. Nothing large is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parity.cautions import cells, files, sequences
from parity.cautions.caution import Caution, Subject
from parity.network import Network

MEASURED_ON = "an LSTM or GRU of 32 units on 16 inputs over 60 steps, with random weights and biases"
"""What the sizes of errors were measured on."""

RULES: tuple[Callable[[Subject], Iterator[Caution]], ...] = (
    files.program,
    files.exported_wrongly,
    files.assumed,
    files.old_keras,
    cells.nonlinearity,
    cells.gru_reset_before,
    cells.variants,
    sequences.padded_rows,
    sequences.padded_directions,
    sequences.mask_by_value,
    sequences.mask_zero,
    cells.gru_gate_order,
    cells.lstm_gate_order,
    sequences.go_backwards,
    sequences.last_step_of_both,
    sequences.merge_modes,
    cells.gru_biases,
    cells.two_biases,
    cells.hard_sigmoid,
    cells.other_activations,
    files.norms,
    files.fixed_sizes,
    files.layout_1,
    cells.cudnn,
    files.alphabetical,
    cells.forget_bias,
    sequences.first_axis,
    sequences.stateful,
    sequences.initial_states,
    sequences.state_order,
    sequences.state_rows,
    files.flatten,
    files.same_padding,
    files.weight_norm,
    files.leaky_relu,
    sequences.dropout,
    cells.square_kernels,
    files.small_numbers,
    files.double_numbers,
)
"""By how often people fall into it, how silent it is and what it costs."""


def cautions(network: Network, suffix: str = "") -> tuple[Caution, ...]:
    """What to look out for when this very network moves, the most important first.

    Args:
        network: whole or partial.
        suffix: of its file, in lower case; some mistakes belong to a format.

    Example:
        >>> import numpy as np
        >>> from parity.network import Recurrent
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((4, 5, 3)), np.ones((4, 5, 5)))
        >>> lstm = Recurrent("lstm", RecurrentSpec("lstm", 3, 5), (weights,), return_sequences=False)
        >>> [caution.pitfall for caution in cautions(Network("m", (lstm,), origin="keras"))]
        ['P03', 'P18', 'P35']
    """
    subject = Subject(network, suffix)
    return tuple(caution for rule in RULES for caution in rule(subject))


__all__ = ["MEASURED_ON", "RULES", "Caution", "cautions"]
