"""Runs ONNX models in ONNX Runtime, every recurrent layer seen step by step."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from parity.conventions import onnx_returns, to_canonical
from parity.errors import MissingFrameworkError, ParityError, UnsupportedError, to_install
from parity.frameworks import Settings
from parity.frameworks.onnx.instrumenting import Instrumented, instrument, probed
from parity.frameworks.onnx.own import is_built_from, is_described, opset_of
from parity.network import Network
from parity.recurrent import Array
from parity.result import LayerRun, Result, Returned, State

ENGINE = "onnxruntime"
_FOR_ONE_SIZE = "if it was exported for one batch or length, export it with dynamic_axes; parity runs it on several"


def runner(source: onnx.ModelProto, network: Network, settings: Settings) -> OnnxRunner:
    """Something that runs the model in ONNX Runtime.

    Raises:
        MissingFrameworkError: onnxruntime is not installed, or has no CUDA provider where device is "cuda".
        UnsupportedError: dtype "float64"; float64 weights that are not float32 numbers.
    """
    if settings.dtype != "float32":
        raise UnsupportedError(
            "ONNX Runtime has no float64 LSTM, GRU or RNN",
            where="engine 'onnxruntime'",
            expected="dtype='float32'",
            got=f"dtype='{settings.dtype}'",
            remedy="run this engine in float32, or take another engine for float64",
        )
    return OnnxRunner(source, network, settings, engine_for(settings))


def engine_for(settings: Settings) -> Any:
    """The package onnxruntime, on the device of the settings.

    Raises:
        MissingFrameworkError: it is not installed, or has no CUDA provider where device is "cuda".
    """
    ort = onnxruntime()
    if settings.device == "cuda" and "CUDAExecutionProvider" not in ort.get_available_providers():
        raise MissingFrameworkError(
            "the engine 'onnxruntime' has no CUDA provider",
            expected="the package onnxruntime-gpu, an NVIDIA GPU and its driver",
            got=f"onnxruntime {ort.__version__} with {', '.join(ort.get_available_providers())}",
            remedy="use device='cpu', or pip install onnxruntime-gpu in place of onnxruntime",
        )
    return ort


def session_of(model: onnx.ModelProto, settings: Settings, ort: Any) -> Any:
    """An `onnxruntime.InferenceSession` of a model.

    Raises:
        ParityError: ONNX Runtime does not load it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if settings.device == "cuda":
        providers: list[Any] = [("CUDAExecutionProvider", {"use_tf32": int(settings.tf32)})]
    else:
        providers = ["CPUExecutionProvider"]
    with refusals("load"):
        return ort.InferenceSession(model.SerializeToString(), options, providers=providers)


def onnxruntime() -> Any:
    """The package itself.

    Raises:
        MissingFrameworkError: it is not installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise MissingFrameworkError(
            "the engine 'onnxruntime' is not installed",
            expected="onnxruntime",
            got=str(error),
            remedy=to_install("onnx"),
        ) from error


@contextmanager
def refusals(verb: str) -> Iterator[None]:
    """ONNX Runtime's own exceptions have no common base below Exception; each becomes a message."""
    try:
        yield
    except Exception as error:
        raise ParityError(
            f"ONNX Runtime does not {verb} this model", got=first_line(error), remedy=_FOR_ONE_SIZE
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what an exception says."""
    return str(error).strip().split("\n")[0] or type(error).__name__


class OnnxRunner:
    """Runs a model whose recurrent layers were given inputs and outputs for all their states; see `parity.frameworks.Runner`.

    A composed graph of parity's own is built once more with a probe, after it was found to be the very graph that parity builds; in any
    other the recurrent nodes themselves are given more inputs and outputs.
    """

    engine = ENGINE

    def __init__(self, model: onnx.ModelProto, network: Network, settings: Settings, ort: Any) -> None:
        self._model, self._network, self._settings, self._ort = model, network, settings, ort
        self._own = [output.name for output in model.graph.output]
        self._composed = is_described(model) and is_built_from(model, network)
        self._loaded: dict[bool, tuple[Instrumented, Any]] = {}
        self._time_major = self._load(masked=False)[0].time_major

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers, all or those steps that the mask says are valid."""
        given, session = self._load(mask is not None)
        places = None
        if mask is not None and given.mask is None and not _is_padded_right(mask):
            inputs, places = _compacted(inputs, mask)
        x = inputs.swapaxes(0, 1) if self._time_major else inputs
        feeds = {given.input: x, **self._lengths(given, inputs.shape[:2], mask)}
        if given.mask is not None and mask is not None:
            feeds[given.mask] = mask.T
        for name, inputs_of in given.states.items():
            feeds |= dict(zip(inputs_of, states[name].arrays(), strict=True))
        found = self._session_run(session, feeds, given)
        runs = {layer: self._layer_run(layer, given, found, places) for layer in given.values}
        outputs = {output.name: self._output(found[output.name], places) for output in self._network.shown}
        returned = tuple(Returned(name, found[name].shape, str(found[name].dtype)) for name in self._own)
        return Result(ENGINE, outputs, runs, returned, self._describe(given, session, mask))

    def _load(self, masked: bool) -> tuple[Instrumented, Any]:
        """The instrumented model and its session: one for runs without a mask, one for those with."""
        if masked not in self._loaded:
            if self._composed or (masked and self._zeroes_last()):
                given = probed(self._network, opset_of(self._model), masked)
            else:
                given = instrument(self._model, self._network, masked)
            session = session_of(given.model, self._settings, self._ort)
            self._loaded[masked] = given, session
        return self._loaded[masked]

    def _zeroes_last(self) -> bool:
        """Whether a layer gives zero where its last step is masked, which lengths cannot say, in a graph that parity built."""
        zeroes = any(layer.fill == "zero" and not layer.return_sequences for layer in self._network.recurrent)
        return zeroes and not self._network.bare and is_built_from(self._model, self._network)

    def _lengths(self, given: Instrumented, sizes: tuple[int, ...], mask: Array | None) -> dict[str, Array]:
        """How many of the first steps of each row count, for every input that asks."""
        batch, time = sizes
        counts = np.full(batch, time) if mask is None else mask.sum(axis=1)
        return dict.fromkeys(given.lengths, counts)

    def _session_run(self, session: Any, feeds: Mapping[str, Array], given: Instrumented) -> dict[str, Array]:
        dtypes = {item.name: _DTYPES.get(item.type, np.float32) for item in session.get_inputs()}
        ready: dict[str, Array] = {name: np.ascontiguousarray(array, dtypes[name]) for name, array in feeds.items()}
        values = (name for names in given.values.values() for name in names)
        wanted = list(dict.fromkeys([*self._own, *values, *given.last.values()]))
        with refusals("run"):
            return dict(zip(wanted, session.run(wanted, ready), strict=True))

    def _layer_run(
        self, layer: str, given: Instrumented, found: Mapping[str, Array], places: NDArray[np.int64] | None
    ) -> LayerRun:
        spec = self._network.specs[layer]
        arrays = [found[name] for name in given.values[layer]]
        values = to_canonical(onnx_returns(spec.kind), arrays, len(spec.directions))
        final = State(*(values[key][0] for key in ("h", "c") if key in values))
        last = found[given.last[layer]] if layer in given.last else None
        return LayerRun(final, _spread(values["sequence"], places), last)

    def _output(self, array: Array, places: NDArray[np.int64] | None) -> Array:
        """An output, batch first."""
        if array.ndim == 3 and self._network.bare:
            array = array.swapaxes(0, 1)
        return _spread(array, places) if array.ndim == 3 else array

    def _describe(self, given: Instrumented, session: Any, mask: Array | None) -> dict[str, str]:
        facts = {
            "onnxruntime": self._ort.__version__,
            "onnx": onnx.__version__,
            "provider": session.get_providers()[0],
            "device": self._settings.device,
            "dtype": self._settings.dtype,
            **given.notes,
        }
        if self._settings.device == "cuda":
            facts["TF32"] = "on, asked for" if self._settings.tf32 else "off"
        if mask is not None:
            facts["mask"] = _way(given, mask)
        return facts


_DTYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


def _way(given: Instrumented, mask: Array) -> str:
    """How the mask was given, for people."""
    if given.mask is not None:
        return "an input of the graph, which moves the valid steps to the front and the results back"
    if _is_padded_right(mask):
        return "sequence_lens"
    return "valid steps moved to the front, then sequence_lens, sequences moved back"


def _is_padded_right(mask: Array) -> bool:
    return bool((mask[:, :-1] >= mask[:, 1:]).all())


def _compacted(inputs: Array, mask: Array) -> tuple[Array, NDArray[np.int64]]:
    """Inputs with the valid steps of each row first, and where every step then is; a step left out is where padding is."""
    order = np.argsort(~mask, axis=1, kind="stable")
    places = np.where(mask, np.cumsum(mask, axis=1) - 1, mask.shape[1] - 1)
    return np.take_along_axis(inputs, order.reshape(order.shape + (1,) * (inputs.ndim - 2)), axis=1), places


def _spread(sequence: Array, places: NDArray[np.int64] | None) -> Array:
    """A sequence, (batch, time, ...), of compacted steps at the places of the input's steps."""
    if places is None:
        return sequence
    return np.take_along_axis(sequence, places.reshape(places.shape + (1,) * (sequence.ndim - 2)), axis=1)
