"""The architectures as functional Keras models with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops


def crnn() -> keras.Model:
    """CRNN text recogniser (Shi et al. 2015): convolutions over a line of text, two BiLSTMs, classes for every column."""
    image = keras.Input((8, None, 1), name="image")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D((2, 2), name="pool1")(x)
    x = layers.Conv2D(10, 3, padding="same", use_bias=False, name="conv2")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.MaxPooling2D((4, 1), name="pool2")(x)
    x = ops.squeeze(x, axis=1)
    x = layers.Bidirectional(layers.LSTM(7, return_sequences=True), name="lstm1")(x)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="lstm2")(x)
    return keras.Model(image, layers.Dense(11, activation="softmax", name="characters")(x), name="crnn")


def deepspeech() -> keras.Model:
    """DeepSpeech2 style (Amodei et al. 2016): a convolution with a stride in time, BiGRUs whose directions are summed."""
    spectrogram = keras.Input((None, 13), name="spectrogram")
    x = layers.Conv1D(12, 5, strides=2, padding="same", use_bias=False, name="conv")(spectrogram)
    x = layers.BatchNormalization(name="conv_bn")(x)
    x = layers.ReLU(max_value=20, name="clipped")(x)
    for index in range(5):
        x = layers.Bidirectional(layers.GRU(6, return_sequences=True), merge_mode="sum", name=f"gru{index}")(x)
        x = layers.BatchNormalization(name=f"bn{index}")(x)
    return keras.Model(spectrogram, layers.Dense(9, name="logits")(x), name="deepspeech")


def seq2seq() -> keras.Model:
    """Sequence to sequence with state hand-over and attention (Bahdanau et al. 2015; Luong et al. 2015)."""
    source, target = (
        keras.Input((None,), name="source", dtype="int32"),
        keras.Input((None,), name="target", dtype="int32"),
    )
    encoded, h, c = layers.LSTM(8, return_sequences=True, return_state=True, name="encoder")(
        layers.Embedding(13, 6, name="source_embedding")(source)
    )
    decoded = layers.LSTM(8, return_sequences=True, name="decoder")(
        layers.Embedding(17, 5, name="target_embedding")(target), initial_state=[h, c]
    )
    context = layers.Attention(name="attention")([decoded, encoded])
    joined = layers.Concatenate(name="joined")([context, decoded])
    words = layers.Dense(17, activation="softmax", name="words")(
        layers.Dense(9, activation="tanh", name="mixed")(joined)
    )
    return keras.Model([source, target], words, name="seq2seq")


def tacotron_encoder() -> keras.Model:
    """The encoder of Tacotron 2 (Shen et al. 2018): characters, three convolutions with batch normalization, a BiLSTM."""
    x = characters = keras.Input((None,), name="characters", dtype="int32")
    x = layers.Embedding(19, 8, name="embedding")(x)
    for index in range(3):
        x = layers.Conv1D(8, 5, padding="same", name=f"conv{index}")(x)
        x = layers.BatchNormalization(name=f"bn{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(x)
        x = layers.Dropout(0.5, name=f"dropout{index}")(x)
    return keras.Model(
        characters, layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="lstm")(x), name="tacotron_encoder"
    )


def open_unmix() -> keras.Model:
    """Open-Unmix (Stöter et al. 2019): a spectrogram through a three-layer BiLSTM with a skip connection, as a mask of itself."""
    spectrogram = keras.Input((None, 10), name="spectrogram")
    x = layers.Dense(8, use_bias=False, name="fc1")(spectrogram)
    x = skip = layers.Activation("tanh", name="squashed")(layers.BatchNormalization(name="bn1")(x))
    for index in range(3):
        x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name=f"lstm{index}")(x)
    x = layers.Concatenate(name="skip")([skip, x])
    x = layers.ReLU(name="relu2")(layers.BatchNormalization(name="bn2")(layers.Dense(8, use_bias=False, name="fc2")(x)))
    x = layers.BatchNormalization(name="bn3")(layers.Dense(10, use_bias=False, name="fc3")(x))
    mask = layers.ReLU(name="mask")(x)
    return keras.Model(spectrogram, layers.Multiply(name="estimate")([mask, spectrogram]), name="open_unmix")


def dtln() -> keras.Model:
    """DTLN (Westhausen and Meyer 2020): two LSTM cores whose states are inputs and outputs, for one block at a time."""
    frame = keras.Input((None, 12), name="frame")
    states = [keras.Input((6,), name=f"{state}{core}") for core in (1, 2) for state in ("h", "c")]
    x, *first = layers.LSTM(6, return_sequences=True, return_state=True, name="core1")(frame, initial_state=states[:2])
    mask = layers.Dense(12, activation="sigmoid", name="mask")(x)
    estimated = layers.Multiply(name="estimated")([frame, mask])
    encoded = layers.Conv1D(9, 1, use_bias=False, name="encoder")(estimated)
    normed = layers.LayerNormalization(epsilon=1e-7, name="norm")(encoded)
    x, *second = layers.LSTM(6, return_sequences=True, return_state=True, name="core2")(
        normed, initial_state=states[2:]
    )
    features = layers.Multiply(name="features")([encoded, layers.Dense(9, activation="sigmoid", name="mask2")(x)])
    decoded = layers.Conv1D(12, 1, padding="causal", use_bias=False, name="decoder")(features)
    return keras.Model([frame, *states], [decoded, *first, *second], name="dtln")


def eq_transformer() -> keras.Model:
    """EQTransformer-like (Mousavi et al. 2020): convolutions and pooling, BiLSTM blocks, additive self-attention, upsampling."""
    waveform = keras.Input((None, 3), name="waveform")
    x = waveform
    for index, filters in enumerate((8, 10)):
        x = layers.Conv1D(filters, 5, padding="same", activation="relu", name=f"conv{index}")(x)
        x = layers.MaxPooling1D(2, padding="same", name=f"pool{index}")(x)
    block = layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="block")(x)
    block = layers.BatchNormalization(name="block_bn")(layers.Conv1D(10, 1, padding="same", name="block_conv")(block))
    x = layers.Add(name="residual")([x, block])
    attended = layers.AdditiveAttention(name="attention")([x, x])
    x = layers.LayerNormalization(name="norm")(layers.Add(name="attended")([x, attended]))
    x = layers.Conv1D(6, 3, padding="same", activation="relu", name="up_conv")(layers.UpSampling1D(2, name="up")(x))
    x = layers.UpSampling1D(2, name="up2")(x)
    outputs = [
        layers.Conv1D(1, 3, padding="same", activation="sigmoid", name=name)(x) for name in ("detection", "p", "s")
    ]
    return keras.Model(waveform, outputs, name="eq_transformer")


def tagger() -> keras.Model:
    """A tagger with masks: padding of tokens is left out by every layer behind the embedding."""
    tokens = keras.Input((None,), name="tokens", dtype="int32")
    x = layers.Embedding(23, 7, mask_zero=True, name="embedding")(tokens)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="lstm")(x)
    x = layers.GRU(8, return_sequences=True, name="gru")(x)
    return keras.Model(
        tokens, layers.TimeDistributed(layers.Dense(5, activation="softmax"), name="tags")(x), name="tagger"
    )


def forecaster() -> keras.Model:
    """Two inputs, the past and what is known of the coming days; two outputs, a mean and a spread."""
    past, known = keras.Input((None, 4), name="past"), keras.Input((6,), name="known")
    x = layers.GRU(7, name="gru")(layers.LSTM(9, return_sequences=True, name="lstm")(past))
    x = layers.Concatenate(name="joined")([x, layers.Dense(5, activation="elu", name="known_dense")(known)])
    x = layers.RepeatVector(3, name="horizon")(x)
    x = layers.LSTM(6, return_sequences=True, name="decoder")(x)
    mean = layers.Dense(1, name="mean")(x)
    spread = layers.Dense(1, activation="softplus", name="spread")(x)
    return keras.Model([past, known], [mean, spread], name="forecaster")


def speaker_encoder() -> keras.Model:
    """Resemblyzer-like (Wan et al. 2018): three LSTMs, the last state, a dense layer, a vector of length one."""
    mels = keras.Input((None, 10), name="mels")
    x = layers.LSTM(8, return_sequences=True, name="lstm1")(mels)
    x = layers.LSTM(8, return_sequences=True, name="lstm2")(x)
    x = layers.LSTM(8, name="lstm3")(x)
    x = layers.Dense(8, activation="relu", name="linear")(x)
    return keras.Model(mels, layers.UnitNormalization(name="embedding")(x), name="speaker_encoder")


ARCHITECTURES: dict[str, Callable[[], keras.Model]] = {
    function.__name__: function
    for function in (
        *(crnn, deepspeech, seq2seq, tacotron_encoder, open_unmix),
        *(dtln, eq_transformer, tagger, forecaster, speaker_encoder),
    )
}


def randomized(model: keras.Model, seed: int = 0) -> Any:
    """The model with random non-zero weights; variances and scales stay positive."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        values = random.standard_normal(shape) / np.sqrt(max(shape[0], 1) if len(shape) > 1 else 4)
        positive = any(word in variable.path for word in ("variance", "gamma"))
        variable.assign((np.abs(values) + 0.5 if positive else values).astype(np.float32))
    return model
