"""In which order Keras keeps the layers of a functional model, and with it the groups of a `.weights.h5` file.

Keras sorts the layers by their distance from the outputs, not by when they were made; so the calls of a written module are noted here as
Keras would note them, and sorted as Keras does. Source: `map_graph` and `_build_map` in `keras/src/ops/function.py` of Keras 3.0 to 3.15,
which are those of tf.keras; `_save_container_state` in `keras/src/saving/saving_lib.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from parity.network.keras.weight_tree import group_name


class Calls:
    """The calls of a functional model: of layers, which may be called several times, and of functions of `keras.ops`.

    Example:
        >>> calls = Calls()
        >>> x = calls.input()
        >>> first = calls.note("first", [x], "Dense")
        >>> late = calls.note("late", [calls.note("between", [x], "Dense")], "Dense")
        >>> list(calls.groups([calls.note("sum", [first, late])]))
        [('between', 'dense'), ('first', 'dense_1'), ('late', 'dense_2')]
    """

    def __init__(self) -> None:
        self._taken: list[tuple[int, ...]] = []
        self._operation: list[Hashable] = []
        self._classes: dict[Hashable, str] = {}

    def input(self) -> int:
        """An input of the model."""
        return self.note(("input", len(self._taken)), ())

    def note(self, operation: Hashable, taken: Sequence[int], class_name: str = "") -> int:
        """A call.

        Args:
            operation: what is called; the same for every call of a shared layer.
            taken: the calls whose values it takes, in order.
            class_name: of a layer; "" for a function.

        Returns:
            Its number.
        """
        self._taken.append(tuple(taken))
        self._operation.append(operation)
        if class_name:
            self._classes[operation] = class_name
        return len(self._taken) - 1

    def groups(self, outputs: Sequence[int]) -> Iterator[tuple[Hashable, str]]:
        """Every layer on the way to some calls, in Keras's order, and the name of its group."""
        seen: Counter[str] = Counter()
        for operation in self._in_order(outputs):
            if operation in self._classes:
                stem = group_name(self._classes[operation])
                yield operation, f"{stem}_{seen[stem]}" if seen[stem] else stem
                seen[stem] += 1

    def _in_order(self, outputs: Sequence[int]) -> list[Hashable]:
        """Operations by decreasing distance from the outputs; those of one distance as a search from the outputs meets them."""
        met, finished = self._search(outputs)
        of_call: dict[int, int] = {}
        of_operation: dict[Hashable, int] = {}
        for call in reversed(finished):
            operation = self._operation[call]
            depth = max(of_call.get(call, 0), of_operation.get(operation, 0))
            of_operation[operation] = of_call[call] = depth
            for before in self._taken[call]:
                of_call[before] = max(depth + 1, of_call.get(before, 0))
        return sorted(of_operation, key=lambda operation: (-of_operation[operation], met[operation]))

    def _search(self, outputs: Sequence[int]) -> tuple[dict[Hashable, int], list[int]]:
        """A search in depth: when each operation is met first, and the calls, each after those it takes from."""
        met: dict[Hashable, int] = {}
        finished: dict[int, None] = {}
        for output in outputs:
            todo = [(output, False)]
            while todo:
                call, done = todo.pop()
                if done:
                    finished[call] = None
                elif call not in finished:
                    met.setdefault(self._operation[call], len(met))
                    todo.append((call, True))
                    todo += [(before, False) for before in reversed(self._taken[call])]
        return met, list(finished)


__all__ = ["Calls"]
