"""Sources -> a Comparison: which engines run what, on which inputs, and the verdict in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from parity.diagnosis.diagnosis import Diagnosis
from parity.diagnosis.of_comparison import diagnosis_of
from parity.errors import MissingFrameworkError, ParityError, Problem, ShapeError, UnsupportedError, each, to_install
from parity.failed import loaded_or_failed
from parity.files.npz_file import read_inputs
from parity.findings import Findings
from parity.forms import of_the_source
from parity.frameworks import ENGINES, KERAS_BACKENDS, Runner, Settings, call, family
from parity.graph.comparing import compare_graphs
from parity.graph.reading_notes import reading_notes
from parity.judge import REFERENCE, Judgement, judge
from parity.network import Network
from parity.ports import open_port
from parity.recurrent import Array
from parity.result import Inputs, Result, State, as_numbers, check_states
from parity.running import (
    as_torch_takes_it,
    call_without_batch,
    check_inputs,
    check_mask,
    check_no_more,
    mask_values,
    random_inputs,
    runner,
)
from parity.shown import html_of
from parity.sources import Opened, Source, open_source
from parity.spelling import named_apart
from parity.weights_apart import weights_apart
from parity.worker import ProcessRunner, warm

if TYPE_CHECKING:
    from parity.baseline import Since
    from parity.report.record import Record

Progress = Callable[[str], None]


class Comparison(Findings):
    """What `compare` gives: the findings, and ways to keep and show them."""

    @cached_property
    def diagnosis(self) -> Diagnosis | None:
        """Why they disagree: of the first that does, single mistakes alone; worked out when it is asked for. None where they do not."""
        return diagnosis_of(self)

    @cached_property
    def record(self) -> Record:
        """Everything that its page shows, as plain JSON values; made once, when it is asked for. See `parity.report.make_record`."""
        from parity.report import make_record

        return make_record(self)

    def save_json(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the record; see `parity.report.record`.

        Raises:
            ParityError: the file exists and `overwrite` is False.
        """
        from parity.report import to_json, write_text

        return write_text(Path(path), to_json(self.record), overwrite)

    def save_html(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the report: one HTML file that needs no network.

        Raises:
            ParityError: the file exists and `overwrite` is False.
        """
        from parity.report import render_record, write_text

        return write_text(Path(path), render_record(self.record), overwrite)

    def save_junit(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write JUnit XML for a CI server: a test case per quantity, pair and rule; see `parity.junit`.

        Raises:
            ParityError: the file exists and `overwrite` is False.
        """
        from parity.junit import junit
        from parity.report import write_text

        return write_text(Path(path), junit(self.record), overwrite)

    def against(self, earlier: Record | str | Path, record: Record | None = None) -> Since:
        """What changed since an earlier record of the same comparison, as after an upgrade of a framework; see `parity.baseline`.

        Args:
            earlier: the record, or the path of one that `save_json` wrote.
            record: of this comparison, if it is made already.

        Raises:
            FormatError: the earlier record is none.

        Example:
            >>> import tempfile, torch
            >>> compared = compare(torch.nn.GRU(3, 5), engines=["torch"])
            >>> earlier = compared.save_json(Path(tempfile.mkdtemp()) / "earlier.json")
            >>> compared.against(earlier).worse
            False
        """
        from parity.baseline import read_baseline, since

        known = read_baseline(Path(earlier)) if isinstance(earlier, (str, Path)) else earlier
        return since(known, self.record if record is None else record)

    def _repr_html_(self) -> str:
        return html_of(self)


def compare(
    *sources: Source,
    inputs: Inputs | str | Path | None = None,
    engines: Sequence[str] | None = None,
    initial_state: object = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch: int | None = None,
    time: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    tf32: bool = False,
    layers: bool | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run sources on the same inputs and judge whether they compute the same.

    An engine that raises an error or crashes while it runs is reported as failed; the verdict is then undecided, unless others disagree.

    One source is compared with its own conversions, in every installed engine; several with each other, each in its own engine.
    The first one is what the float64 reference computes.

    Args:
        sources: paths, live layers or models, onnx.ModelProto, Networks; at least one.
        inputs: (batch, time, features) or (batch, time) integers, batch first, or the path of an `.npz` file that holds them;
            random if None.
        engines: of "keras", "torch", "onnxruntime", and "keras:tensorflow", "keras:torch", "keras:jax", each of which runs in a process of
            its own; every source is run in each of them.
        initial_state: see `run`; of the first source's layers, handed to the others by position.
        lengths, mask: see `run`.
        batch, time, seed: of random inputs; 3 samples of 17 steps, or as many as `lengths` or `mask` say. Where a model begins with
            `Masking`, some steps get its value; where it begins with an embedding that leaves out token 0, samples end in it.
        device, tf32: see `run`.
        layers: whether every layer of a whole model is judged, too, each on the very inputs that it got: the first one that differs is
            named, and what follows it is not blamed. None for where the outputs disagree.
        progress: called with a line for every step of the work.

    Raises:
        ShapeError: inputs that do not fit, or sources that cannot be compared at all.
        UnsupportedError: a source cannot be converted exactly to an engine that was asked for.
        MissingFrameworkError: an engine that was asked for, or a source's own, is not installed.

    Example:
        >>> import torch
        >>> compare(torch.nn.GRU(3, 5), engines=["torch"]).verdict
        'agree'
    """
    if not sources:
        raise ParityError("nothing to compare", expected="at least one source")
    say = progress or (lambda _: None)
    example = None if isinstance(inputs, (str, Path)) else inputs
    opened = _opened(sources, example)
    if any(_is_graph(source) for source in opened) or (layers and not all(source.network.bare for source in opened)):
        _check_no_bare(opened)
        more = {"initial_state": initial_state, "lengths": lengths, "mask": mask}
        check_no_more([name for name, value in more.items() if value is not None])
        return _of_graphs(opened, inputs, engines, (batch, time, seed), Settings(device, "float32", tf32), say, layers)
    for source in opened:
        source.network.whole()
    first = opened[0].network
    _check_comparable(opened)
    unbatched = False
    if inputs is not None and not isinstance(inputs, (str, Path)):
        inputs, lengths, unbatched = as_torch_takes_it(first, inputs, lengths)
    sizes = _sizes(lengths, mask, batch, time)
    masked = mask_values(*(source.network for source in opened))
    origin, given = _given_inputs(first, inputs, *sizes, seed, masked)
    valid = check_mask(lengths, mask, given.shape[0], given.shape[1])
    states = check_states(first.specs, initial_state, given.shape[0])
    participants, runners, notes = _participants(opened, engines, Settings(device, "float32", tf32), say)
    for made in runners.values() if unbatched else ():
        call_without_batch(made)
    say("reference and floor")
    judgement = judge(first, runners, given, states, seed, say, mask=valid)
    asked = {
        "inputs": origin,
        "engines": list(engines) if engines else None,
        "initial_state": "zeros" if initial_state is None else "given",
        "lengths": None if lengths is None else as_numbers(lengths, "lengths").tolist(),
        "mask": None if mask is None else "given",
        "seed": seed,
        "device": device,
        "tf32": tf32,
    }
    notes += [*_told_by(judgement), *_uncompared(opened), *_blind_spots(first, given, initial_state is None)]
    notes += [*_padded_at_random(first, origin, masked), *_blind_to_masks(opened, judgement), *_of_the_sources(opened)]
    notes += [] if engines or len(opened) == 1 else _without_engine(opened)
    compared = Comparison(opened, participants, given, judgement, asked, tuple(notes), valid, states)
    if compared.verdict == "disagree":
        apart = [weights_apart(first, other.network, other.label) for other in opened[1:]]
        compared = replace(compared, notes=(*(sentence for sentence in apart if sentence), *compared.notes))
    return replace(compared, notes=(*compared.notes, *compared.padding))


def _opened(sources: Sequence[Source], example: Any) -> tuple[Opened, ...]:
    """The sources, the first of which is the reference of the others.

    Raises:
        ParityError: what is wrong with any of the others, all at once.
    """
    reference = open_source(sources[0], partial=True, inputs=example)
    others = each([partial(open_port, source, reference, example) for source in sources[1:]])
    return (reference, *others)


def _unread(opened: tuple[Opened, ...]) -> Iterator[str]:
    """Sources that were run without being read."""
    for source in opened:
        if source.network.graph is not None and "unread" in source.network.graph.details:
            yield f"{source.label}: it cannot be read ({source.network.graph.details['unread']}), so its layers were not looked into"


def _of_the_reading(opened: tuple[Opened, ...]) -> Iterator[str]:
    """Lengths that the reading of a source froze or limited: other ones were not compared."""
    for source in opened:
        for note in reading_notes(source.network.graph) if source.network.graph is not None else ():
            yield f"{source.label}: {note}"


def _is_graph(source: Opened) -> bool:
    """Whether a model is more than a chain of layers, and known as a whole."""
    return source.network.graph is not None and not source.network.graph.problems


def _check_no_bare(opened: tuple[Opened, ...]) -> None:
    """A layer by itself takes and returns what its framework says, a model what its author said: they are not one function.

    Raises:
        UnsupportedError: a live layer, or a file of one, among whole models.
    """
    bare = [source.label for source in opened if source.engine and source.network.graph is None and source.network.bare]
    if bare:
        raise UnsupportedError(
            "recurrent layers by themselves are not compared with a whole model",
            ", ".join(bare),
            "models",
            "layers that have no model's outputs",
            "compare them with one of the model's own layers: parity.read(model).recurrent[k]",
        )


def _of_graphs(
    opened: tuple[Opened, ...],
    inputs: Inputs | str | Path | None,
    engines: Sequence[str] | None,
    sizes: tuple[int | None, int | None, int],
    settings: Settings,
    say: Progress,
    layers: bool | None,
) -> Comparison:
    """A comparison of models of which at least one is no chain of layers."""
    batch, time, seed = sizes
    found = compare_graphs(opened, inputs, engines, batch, time, seed, settings, say, layers)
    asked = {
        "inputs": found.origin,
        "engines": list(engines) if engines else None,
        "initial_state": "zeros",
        "lengths": None,
        "mask": None,
        "seed": seed,
        "device": settings.device,
        "tf32": settings.tf32,
        "layers": bool(layers),
    }
    notes = (*found.notes, *_without_engine(opened), *_unread(opened), *_of_the_reading(opened))
    compared = Comparison(opened, found.participants, found.inputs, found.judgement, asked, notes)
    return replace(compared, notes=(*notes, *compared.padding))


def _without_engine(opened: tuple[Opened, ...]) -> Iterator[str]:
    """Descriptions that no framework of their own runs: an agreement of the reference with itself says little."""
    for source in opened:
        if source.engine is None:
            yield f"{source.label}: only the float64 reference ran it; engines=['torch', 'onnxruntime'] runs it in frameworks"


def _told_by(judgement: Judgement) -> Iterator[str]:
    """What a reader should know of the runs: engines that failed, quantities that show nothing."""
    for label, text in judgement.failures.items():
        yield f"{label} failed: {text}"
    for name, band in judgement.floor.bands.items():
        if not band.reference.any():
            yield f"{name} is zero everywhere: what is wrong behind it cannot show"


def _sizes(lengths: ArrayLike | None, mask: ArrayLike | None, batch: int | None, time: int | None) -> tuple[int, int]:
    """How many samples and steps random inputs have."""
    samples, steps = 3, 17
    valid = None if lengths is None else as_numbers(lengths, "lengths")
    if valid is not None and valid.ndim == 1 and valid.size and valid.dtype.kind in "iu":
        samples, steps = valid.size, int(valid.max())
    elif mask is not None and (shape := as_numbers(mask, "mask").shape)[1:]:
        samples, steps = shape[:2]
    return samples if batch is None else batch, steps if time is None else time


def _given_inputs(
    network: Network, inputs: Inputs | str | Path | None, batch: int, time: int, seed: int, masked: Sequence[float]
) -> tuple[str, Array]:
    """Where the inputs come from (random, given, or a path), and the inputs."""
    if inputs is None:
        return "random", random_inputs(network, batch, time, seed, masked)
    if isinstance(inputs, (str, Path)):
        return str(inputs), check_inputs(network, read_inputs(Path(inputs)))
    return "given", check_inputs(network, inputs)


def _check_comparable(opened: tuple[Opened, ...]) -> None:
    problems = []
    first = opened[0].network
    for other in opened[1:]:
        pair = f"{opened[0].label} and {other.label}"
        if (first.tokens, first.layers[0].input_size) != (other.network.tokens, other.network.layers[0].input_size):
            sizes = [f"{n.layers[0].input_size}{' tokens' if n.tokens else ''}" for n in (first, other.network)]
            problems.append(Problem("the inputs differ in size", pair, sizes[0], sizes[1]))
        mine, theirs = (
            [f"{s.kind} of {s.hidden_size} units, {' and '.join(s.directions)}" for s in network.specs.values()]
            for network in (first, other.network)
        )
        if mine != theirs:
            problems.append(
                Problem(
                    "the recurrent layers differ in kind, size or direction", pair, "; ".join(mine), "; ".join(theirs)
                )
            )
        outputs = [len(n.outputs) for n in (first, other.network) if not n.bare]
        if len(set(outputs)) > 1:
            problems.append(
                Problem("the models differ in how many outputs they have", pair, str(outputs[0]), str(outputs[1]))
            )
    if problems:
        raise ShapeError(problems)


def _participants(
    opened: tuple[Opened, ...],
    engines: Sequence[str] | None,
    settings: Settings,
    say: Progress,
) -> tuple[dict[str, tuple[Opened, str]], dict[str, Runner], list[str]]:
    """Labels, what runs under each, and what was left out."""
    wanted = [
        (source, engine)
        for source in opened
        for engine in engines or ([source.engine or REFERENCE] if len(opened) > 1 else ENGINES)
    ]
    waiting: dict[int, ProcessRunner] = {}
    for _, engine in wanted:
        if engine != REFERENCE:
            family(engine)  # an unknown one is refused before anything is started
    for number, (source, engine) in enumerate(wanted):
        if engine in KERAS_BACKENDS or (len(wanted) > 1 and _better_apart(source, engine)):
            say(f"{engine}: a process for {source.label}")
            waiting[number] = warm(engine, settings).begin(source)
    loaded: dict[int, Runner] = {}
    notes: list[str] = []
    # Those in processes of their own go on loading while the others load here, and come last.
    for number, (source, engine) in sorted(enumerate(wanted), key=lambda item: item[0] in waiting):
        say(f"{engine}: load {source.label}")
        try:
            loaded[number] = _loaded(source, engine, settings, waiting.get(number))
        except (MissingFrameworkError, UnsupportedError) as error:
            if engines or engine == source.engine:
                raise
            notes.append(f"{engine} left out: {error.problems[0].what}")
    if not loaded:
        raise MissingFrameworkError("no engine to compare with", got="; ".join(notes), remedy=to_install("all"))
    participants: dict[str, tuple[Opened, str]] = {}
    runners: dict[str, Runner] = {}
    for number in sorted(loaded):
        source, engine = wanted[number]
        label = _label(source, engine, opened, participants)
        participants[label] = (source, engine)
        own = source is opened[0]
        runners[label] = loaded[number] if own else _Aligned(loaded[number], opened[0].network, source.network)
    return participants, runners, notes


def _loaded(source: Opened, engine: str, settings: Settings, waiting: ProcessRunner | None) -> Runner:
    """A runner; where the engine itself fails as it loads, one that says so when it is run."""

    def load() -> Runner:
        if waiting is None:
            return runner(source, engine, settings)
        waiting.ready()
        return waiting

    return loaded_or_failed(engine, load)


def _better_apart(source: Opened, engine: str) -> bool:
    """TensorFlow takes as long to import as all the others together, so Keras loads beside them where it can."""
    return engine == "keras" and source.path is not None and "keras" not in sys.modules


def _label(source: Opened, engine: str, opened: tuple[Opened, ...], taken: Mapping[str, object]) -> str:
    return named_apart(engine if len(opened) == 1 and engine != REFERENCE else f"{source.label} ({engine})", taken)


class _Aligned:
    """Runs another source under the first one's names of layers and outputs, matched by position."""

    def __init__(self, inner: Runner, first: Network, own: Network) -> None:
        self.engine = inner.engine
        self._inner = inner
        self._layers = dict(zip(own.specs, first.specs, strict=True))
        alike = first.bare == own.bare and len(first.shown) == len(own.shown)
        self._outputs = {o.name: f.name for o, f in zip(own.shown, first.shown, strict=True)} if alike else {}

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run, and rename what comes out."""
        result = call(self._inner, inputs, {own: states[name] for own, name in self._layers.items()}, mask)
        return replace(
            result,
            outputs={name: result.outputs[own] for own, name in self._outputs.items()},
            layers={name: result.layers[own] for own, name in self._layers.items() if own in result.layers},
        )


def _uncompared(opened: tuple[Opened, ...]) -> list[str]:
    """Outputs of a model that a bare recurrent stack beside it does not have."""
    models = [source for source in opened if not source.network.bare]
    if not models or len(models) == len(opened):
        return []
    bare = ", ".join(source.label for source in opened if source.network.bare)
    outputs = ", ".join(output.name for source in models for output in source.network.outputs)
    return [f"only the recurrent layers were compared, not the outputs ({outputs}): {bare} has no such outputs"]


def _of_the_sources(opened: tuple[Opened, ...]) -> Iterator[str]:
    for source in opened:
        yield from (f"{source.label}: {text}" for text in of_the_source(source.network))


def _padded_at_random(network: Network, origin: str, masked: Sequence[float]) -> Iterator[str]:
    """What was done to random tokens for the sake of masks."""
    if origin == "random" and network.tokens and masked:
        yield "the random tokens of every sample but the first end in padding (token 0), which a mask leaves out"


def _blind_to_masks(opened: tuple[Opened, ...], judgement: Judgement) -> Iterator[str]:
    """Whether a model makes masks, and no step of this run was left out."""
    paths = judgement.floor.trajectories.values()
    makers = [source.label for source in opened if source.network.masks_itself]
    if makers and all(path.mask is None or path.mask.all() for path in paths):
        yield f"no step was masked, so what the masks of {', '.join(makers)} do cannot show: give inputs with padding"


def _blind_spots(network: Network, inputs: Array, zero_states: bool) -> list[str]:
    """What a wrong mapping could hide behind on these inputs and weights."""
    notes = []
    if not inputs.any() and not network.tokens:
        notes.append("all inputs are zero: the input kernel cannot show")
    if inputs.shape[1] == 1 and zero_states:
        notes.append("one step from a zero state: neither the recurrent weights nor the forget gate can show")
    if inputs.shape[0] == 1:
        notes.append("a batch of one: mixed-up samples cannot show")
    biases = [
        b
        for layer in network.recurrent
        for w in layer.weights
        for b in (w.bias_input, w.bias_recurrent)
        if b is not None
    ]
    if biases and not any(bias.any() for bias in biases):
        notes.append("all recurrent biases are zero: a wrong order of biases cannot show")
    return notes
