"""Padded samples in whole models: Keras's `Masking` and `mask_zero`, torch's packed sequences, and what people forget of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mutating.cells import Array
from mutating.coded import Coded, Draw, Parts, in_keras, in_torch
from mutating.models import Recipe
from mutating.ports import RECORDED, sequence

LENGTHS = (9, 6, 2, 4)


def padded(value: float = 0.0) -> Draw:
    """Samples of unequal lengths, and what stands behind them."""

    def draw(recipe: Recipe, salt: int) -> Array:
        x = sequence(recipe, salt)
        for row, length in enumerate(_lengths(recipe, salt)):
            x[row, length:] = value
        return x

    return draw


def tokens(recipe: Recipe, salt: int) -> Array:
    """Numbers of words, 0 behind the end."""
    random = np.random.default_rng([recipe.seed, salt, 1])
    x = random.integers(1, 6, (recipe.batch, recipe.time))
    for row, length in enumerate(_lengths(recipe, salt)):
        x[row, length:] = 0
    return x.astype(np.int64)


def _lengths(recipe: Recipe, salt: int) -> Array:
    return np.random.default_rng([recipe.seed, salt, 2]).permutation(LENGTHS)


# ---- Keras


def _masking(value: float | None, **options: Any) -> tuple[str, Callable[[Parts], Any]]:
    def call(parts: Parts, x: Any) -> Any:
        import keras

        return parts.keras(**options)(x if value is None else keras.layers.Masking(value, name="masking")(x))

    return in_keras(call)


def _by_hand(parts: Parts, x: Any) -> Any:
    """Two layers in place of a `Bidirectional`, which asks its own for zeros at padded steps."""
    import keras

    x = keras.layers.Masking(name="masking")(x)
    ahead, back = parts.keras(0, 0)(x), parts.keras(0, 1, go_backwards=True)(x)
    return keras.ops.concatenate([ahead, keras.ops.flip(back, axis=1)], axis=-1)


def _words(mask_zero: bool, **options: Any) -> tuple[str, Callable[[Parts], Any]]:
    return in_keras(lambda parts, x: parts.keras(**options)(parts.embedding(mask_zero=mask_zero)(x)), tokens=True)


def _stack(mask: bool) -> tuple[str, Callable[[Parts], Any]]:
    def call(parts: Parts, x: Any) -> Any:
        import keras

        return parts.keras(1)(parts.keras()(keras.layers.Masking(name="masking")(x) if mask else x))

    return in_keras(call)


# ---- torch


def _valid(x: Any, value: float = 0.0) -> Any:
    return x.ne(value).any(dim=-1).sum(dim=1)


def _h(states: Any) -> Any:
    return states[0] if isinstance(states, tuple) else states


def _packed(rnn: Any, x: Any, lengths: Any) -> tuple[Any, Any]:
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    y, states = rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], states


def _repeated(y: Any, lengths: Any) -> Any:
    """The last valid step again, as a layer of Keras gives at padded steps."""
    import torch

    steps = torch.minimum(torch.arange(y.shape[1])[None], lengths[:, None] - 1)
    return y.gather(1, steps[..., None].expand(-1, -1, y.shape[2]))


def _each_step(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0])


def _each_word(model: Any, x: Any) -> Any:
    return model.head(model.rnn(model.embedding(x))[0])


def _last_state(model: Any, x: Any) -> Any:
    return model.head(_h(model.rnn(x)[1])[-1])


def _both_states(model: Any, x: Any) -> Any:
    import torch

    h = _h(model.rnn(x)[1])
    return model.head(torch.cat([h[0], h[1]], dim=-1))


def _packed_zeros(model: Any, x: Any) -> Any:
    return model.head(_packed(model.rnn, x, _valid(x))[0])


def _packed_words(model: Any, x: Any) -> Any:
    return model.head(_packed(model.rnn, model.embedding(x), x.ne(0).sum(dim=1))[0])


def _packed_last_row(model: Any, x: Any) -> Any:
    return model.head(_packed(model.rnn, x, _valid(x))[0][:, -1])


def _packed_short(model: Any, x: Any) -> Any:
    lengths = _valid(x) - 1
    return model.head(_h(_packed(model.rnn, x, lengths)[1])[-1])


def _packed_long(model: Any, x: Any) -> Any:
    lengths = (_valid(x) + 1).clamp(max=x.shape[1])
    return model.head(_h(_packed(model.rnn, x, lengths)[1])[-1])


def _packed_below(model: Any, x: Any) -> Any:
    lengths = _valid(x)
    return model.head(model.above(_repeated(_packed(model.rnn, x, lengths)[0], lengths))[0])


def _turned(x: Any) -> Any:
    return x.flip(1)


def _packed_one_way(forward: bool) -> Callable[[Any, Any], Any]:
    """Two layers by hand, one of them over packed samples; the backward one over samples turned round within their lengths."""

    def call(model: Any, x: Any) -> Any:
        import torch

        lengths = _valid(x)
        valid = (torch.arange(x.shape[1])[None] < lengths[:, None])[..., None]
        if forward:
            ahead, back = _packed(model.ahead, x, lengths)[0], _turned(model.back(_turned(x))[0])
        else:
            ahead = model.ahead(x)[0]
            turned = torch.nn.utils.rnn.pad_sequence(
                [row[:length].flip(0) for row, length in zip(x, lengths, strict=True)], batch_first=True
            )
            y = _packed(model.back, turned, lengths)[0]
            rows = [row[:length].flip(0) for row, length in zip(y, lengths, strict=True)]
            back = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) * valid
        return model.head(torch.cat([ahead, back], dim=-1))

    return call


def _rnn(parts: Parts) -> Any:
    return parts.torch()


def _below(parts: Parts) -> Any:
    return parts.torch(0)


def _above(parts: Parts) -> Any:
    return parts.torch(1)


def _cases() -> Iterator[Coded]:
    alone: dict[str, Any] = {"handed": (RECORDED,)}
    last = {"return_sequences": False}
    for ways in (1, 2):
        more: dict[str, Any] = {"draw": padded(), "ways": ways}
        both = f", {ways} ways"
        yield Coded("mask ignored", f"Masking left out{both}", _masking(0.0), _masking(None), **more)
        yield Coded("mask ignored", f"not packed{both}", _masking(0.0), in_torch(_each_step, rnn=_rnn), **more)
        plain = in_torch(_both_states if ways == 2 else _last_state, rnn=_rnn)
        yield Coded("mask ignored", f"last state, not packed{both}", _masking(0.0, **last), plain, **more)
        yield Coded("masked by value", f"Masking{both}", _masking(None), _masking(0.0), **more)
        yield Coded(
            "masked by value", f"last state, Masking{both}", _masking(None, **last), _masking(0.0, **last), **more
        )
        yield Coded(
            "masked by value", f"packed{both}", _masking(None), in_torch(_packed_zeros, rnn=_rnn), **more, **alone
        )
        yield Coded(
            "masked by value",
            f"packed{both}",
            in_torch(_each_step, rnn=_rnn),
            in_torch(_packed_zeros, rnn=_rnn),
            **more,
            **alone,
        )
        odd: dict[str, Any] = {"draw": padded(-1.0), "ways": ways}
        yield Coded("masking left out", f"value -1{both}", _masking(-1.0), _masking(None), **odd)
        yield Coded("masking left out", f"value -1{both}", _masking(-1.0), in_torch(_each_step, rnn=_rnn), **odd)
        words: dict[str, Any] = {"draw": tokens, "ways": ways}
        layers = {"embedding": lambda parts: parts.lookup(), "rnn": _rnn}
        yield Coded("mask ignored", f"without mask_zero{both}", _words(True), _words(False), **words)
        yield Coded("mask ignored", f"words not packed{both}", _words(True), in_torch(_each_word, **layers), **words)
        yield Coded("masked by value", f"mask_zero{both}", _words(False), _words(True), **words)
        packed_words = in_torch(_packed_words, **layers)
        yield Coded("masked by value", f"words packed{both}", _words(False), packed_words, **words, **alone)
    one: dict[str, Any] = {"draw": padded(), **alone}
    yield Coded("padded steps filled otherwise", "zeros", _masking(0.0), in_torch(_packed_zeros, rnn=_rnn), **one)
    yield Coded("padded steps filled otherwise", "zeros behind words", _words(True), packed_words, draw=tokens, **alone)
    joined = in_keras(_by_hand)
    yield Coded("padded steps filled otherwise", "two layers by hand", _masking(0.0), joined, ways=2, **one)
    filled = {"zero_output_for_mask": True}
    yield Coded("padded steps filled otherwise", "zeros", _masking(0.0), _masking(0.0, **filled), draw=padded())
    yield Coded("padded steps filled otherwise", "repeated", _masking(0.0, **filled), _masking(0.0), draw=padded())
    row = in_torch(_packed_last_row, rnn=_rnn)
    yield Coded("step in place of the final state", "last step of the padding", _masking(0.0, **last), row, **one)
    for words_of, code in (("fewer", _packed_short), ("more", _packed_long)):
        yield Coded("lengths off by one", words_of, _masking(0.0, **last), in_torch(code, rnn=_rnn), **one)
    directions: dict[str, Any] = {"ahead": lambda parts: parts.torch(0, 0), "back": lambda parts: parts.torch(0, 1)}
    for forward, way in ((True, "backward"), (False, "forward")):
        code_of = in_torch(_packed_one_way(forward), **directions)
        yield Coded(
            "mask ignored in one direction",
            f"the {way} one not packed",
            _masking(0.0),
            code_of,
            ways=2,
            direction=way,
            **one,
        )
    yield Coded("mask ignored", "in both of two layers", _stack(True), _stack(False), draw=padded(), layers=2)
    below = in_torch(_packed_below, rnn=_below, above=_above)
    yield Coded("mask ignored", "in the second of two layers", _stack(True), below, layers=2, **one)


MASKED: tuple[Coded, ...] = tuple(_cases())
"""Every mistake with masks in code."""
