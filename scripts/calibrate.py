"""Is the limit of the verdict honest? Measures error/floor of every installed engine on correct models, from calm to chaotic.

Every case is a random network (kind, sizes, gain, biases, stack, directions, functions and other options of its cells, layers around
it), random inputs (constant, sparse, uniform or normal, 1e-4 to 10), random or zero initial states and sometimes a mask, judged as
`parity compare` judges. All engines compute the very same network, so every "disagree" is a false alarm: the script then names the
case and exits with 1.

    python scripts/calibrate.py --cases 300 --seed 1 --engines torch,onnxruntime --json calibration.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from parity.cell import Cell, plain_cell
from parity.conventions import Fill
from parity.errors import MissingFrameworkError, UnsupportedError
from parity.frameworks import ENGINES, Runner, Settings, framework
from parity.functions import FUNCTIONS, Function
from parity.judge import LIMIT, REFERENCE, Judgement, judge
from parity.layouts import GATES, KINDS, SLOTS, Kind
from parity.network import Dense, Embedding, Layer, Network, Output, Recurrent
from parity.recurrent import Array, Direction, RecurrentSpec, Weights
from parity.reference import Mask
from parity.result import State
from parity.running import runner
from parity.sources import Opened

Pattern = Literal["normal", "uniform", "constant", "sparse", "steps"]
Around = Literal["bare", "dense", "embedding"]
Special = Literal["plain", "functions", "reset before", "peepholes", "projection", "clip", "input forget"]
Choices: TypeAlias = tuple[Any, ...]

DIRECTIONS: tuple[tuple[Direction, ...], ...] = (("forward",), ("forward",), ("backward",), ("forward", "backward"))
PATTERNS: tuple[Pattern, ...] = ("normal", "normal", "uniform", "constant", "sparse", "steps")
AROUND: tuple[Around, ...] = ("bare", "bare", "bare", "dense", "embedding")
SPECIALS: dict[Kind, tuple[Special, ...]] = {
    "lstm": ("plain", "plain", "functions", "peepholes", "projection", "clip", "input forget"),
    "gru": ("plain", "plain", "functions", "reset before", "clip"),
    "rnn": ("plain", "plain", "functions", "clip"),
}
GATE_FUNCTIONS = (
    Function("sigmoid"),
    Function("hard_sigmoid", 0.2, 0.5),
    Function("hard_sigmoid", 1 / 6, 0.5),
    Function("softsign"),
)
OTHER_FUNCTIONS = tuple(
    Function(name, row.alpha, row.beta)
    for name, row in FUNCTIONS.items()
    # A jump turns the smallest rounding into a large difference: where rounding decides, nothing can be said.
    if name not in ("exponential", "thresholded_relu")
)
UNBOUNDED_GAIN = 0.7
"""A function without bounds blows up under more than this: there is nothing to compare in infinities."""
ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "softmax")
MOST_WORK, QUICK_WORK = 4e8, 2e7
VOCABULARY = 50


@dataclass(frozen=True)
class Case:
    """Everything one random model and its inputs are made from."""

    seed: int
    kind: Kind
    units: int
    features: int
    time: int
    batch: int
    layers: int
    directions: tuple[Direction, ...]
    gain: float
    bias: float
    inputs: Pattern
    scale: float
    states: bool
    around: Around
    special: Special
    masked: bool


@dataclass(frozen=True)
class Outcome:
    """One engine on one case: the largest error in floors by each rule, and what it was judged."""

    case: Case
    engine: str
    run: float
    one_step: float
    verdict: str
    horizon: int | None


def draw_case(seed: int, quick: bool) -> Case:
    """A random case of bounded work."""
    random = np.random.default_rng(seed)

    def one_of(choices: Choices) -> Any:
        return choices[int(random.integers(len(choices)))]

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    while True:
        kind = one_of(KINDS)
        special = one_of(SPECIALS[kind])
        case = Case(
            seed=seed,
            kind=kind,
            units=round(log_uniform(1, 256)),
            features=round(log_uniform(1, 64)),
            time=round(log_uniform(1, 100 if quick else 1000)),
            batch=round(log_uniform(1, 12)),
            layers=one_of((1, 1, 1, 2, 3)),
            directions=one_of(DIRECTIONS),
            gain=round(log_uniform(0.3, UNBOUNDED_GAIN if special == "functions" else 6), 3),
            bias=one_of((0.0, 0.1, 0.5, 1.0, 2.0)),
            inputs=one_of(PATTERNS),
            scale=float(f"{log_uniform(1e-4, 10):.2g}"),
            states=one_of((True, False)),
            around=one_of(AROUND),
            special=special,
            masked=one_of((False, False, False, True)),
        )
        if "forward" not in case.directions and case.around == "bare" and case.layers > 1:
            continue
        width = case.units + max(case.features, case.units)
        work = case.units * width * len(GATES[case.kind]) * case.time * case.batch * case.layers * len(case.directions)
        if work <= (QUICK_WORK if quick else MOST_WORK):
            return case


def make_network(case: Case) -> Network:
    """The model of a case: a bare stack of recurrent layers, or one between an embedding and dense layers."""
    random = np.random.default_rng([case.seed, 1])
    layers: list[Layer] = []
    size = case.features
    if case.around == "embedding":
        layers.append(Embedding("embedding", _normal(random, (VOCABULARY, size), case.scale)))
    elif case.around == "dense":
        layers.append(_dense(random, "before", size, size + 1, str(random.choice(["tanh", "relu"]))))
        size += 1
    for depth in range(case.layers):
        projected = case.units // 2 if case.special == "projection" and case.units > 1 else None
        spec = RecurrentSpec(case.kind, size, case.units, case.directions, projected)
        weights = tuple(_weights(random, spec, case) for _ in case.directions)
        sequences = case.around == "bare" or depth < case.layers - 1 or bool(random.integers(2))
        cells = (_cell(random, case),) * len(case.directions)
        # Where the last step alone goes on, all engines take the last valid one.
        fill: Fill = "zero" if sequences else "repeat"
        layers.append(Recurrent(f"layer_{depth}", spec, weights, return_sequences=sequences, cells=cells, fill=fill))
        size = spec.output_size
    if case.around == "bare":
        return Network("calibrate", tuple(layers), (), "torch")
    activation = str(random.choice(ACTIVATIONS))
    units = int(random.integers(2 if activation == "softmax" else 1, 9))
    layers.append(_dense(random, "after", size, units, activation))
    return Network("calibrate", tuple(layers), (Output("y", "after"),), "keras")


def make_inputs(case: Case) -> Array:
    """(batch, time, features) float32, or tokens."""
    random = np.random.default_rng([case.seed, 2])
    if case.around == "embedding":
        return random.integers(0, VOCABULARY, (case.batch, case.time))
    shape = (case.batch, case.time, case.features)
    patterns: dict[Pattern, Callable[[], Array]] = {
        "normal": lambda: random.standard_normal(shape),
        "uniform": lambda: random.uniform(0, 1, shape),
        "constant": lambda: np.broadcast_to(random.standard_normal((case.batch, 1, case.features)), shape),
        "sparse": lambda: random.standard_normal(shape) * (random.uniform(size=shape) < 0.05),
        "steps": lambda: np.where(
            (np.arange(case.time) // 7 % 2)[None, :, None] > 0, random.standard_normal(shape), 0.0
        ),
    }
    return (case.scale * patterns[case.inputs]()).astype(np.float32)


def make_states(case: Case, network: Network) -> dict[str, State]:
    """Initial states of every recurrent layer: h within -1..1, c beyond."""
    random = np.random.default_rng([case.seed, 3])
    size = float(case.states)
    states = {}
    for name, spec in network.specs.items():
        h = np.tanh(_normal(random, spec.state_shape("h", case.batch), size))
        c = _normal(random, spec.state_shape("c", case.batch), 1.5 * size)
        states[name] = State(h, c if "c" in spec.states else None)
    return states


def make_mask(case: Case) -> Mask | None:
    """Valid steps, (batch, time): lengths, or holes anywhere, but at least one valid step in every sample."""
    if not case.masked:
        return None
    random = np.random.default_rng([case.seed, 4])
    if case.seed % 2:
        return np.arange(case.time) < random.integers(1, case.time + 1, (case.batch, 1))
    mask = random.uniform(size=(case.batch, case.time)) < 0.7
    mask[np.arange(case.batch), random.integers(0, case.time, case.batch)] = True
    return mask


def _cell(random: np.random.Generator, case: Case) -> Cell:
    plain = plain_cell(case.kind)
    if case.special == "functions":
        gate, *others = (
            choices[int(random.integers(len(choices)))] for choices in (GATE_FUNCTIONS, *[OTHER_FUNCTIONS] * 2)
        )
        chosen = {"gate": gate, "candidate": others[0], "output": others[1]}
        return replace(plain, functions=tuple(chosen[slot] for slot in SLOTS[case.kind]))
    if case.special == "clip":
        return replace(plain, clip=float(f"{random.uniform(0.2, 3):.2g}"))
    return replace(plain, reset_after=case.special != "reset before", input_forget=case.special == "input forget")


def _normal(random: np.random.Generator, shape: tuple[int, ...], size: float) -> Array:
    return (size * random.standard_normal(shape)).astype(np.float32)


def _weights(random: np.random.Generator, spec: RecurrentSpec, case: Case) -> Weights:
    kernel = _normal(random, spec.shape("kernel"), spec.input_size**-0.5)
    recurrent = _normal(random, spec.shape("recurrent"), case.gain * spec.hidden_size**-0.5)
    more: dict[str, Array] = {}
    if case.bias:
        more |= {name: _normal(random, spec.shape(name), case.bias) for name in ("bias_input", "bias_recurrent")}
    if case.special == "peepholes":
        more["peepholes"] = _normal(random, spec.shape("peepholes"), 0.3)
    if spec.projection_size:
        more["projection"] = _normal(random, spec.shape("projection"), spec.hidden_size**-0.5)
    return Weights(kernel, recurrent, **more)


def _dense(random: np.random.Generator, name: str, size: int, units: int, activation: str) -> Dense:
    kernel, bias = _normal(random, (size, units), size**-0.5), _normal(random, (units,), 0.3)
    return Dense(name, kernel, bias, activation)


def measure_case(case: Case, engines: list[str], replicas: int | None = None) -> list[Outcome]:
    """Judge one case in every engine that can express it."""
    network = make_network(case)
    runners: dict[str, Runner] = {}
    for name in engines:
        with suppress(UnsupportedError):
            runners[name] = runner(Opened("calibrate", network, None), name, Settings())
    judgement = judge(
        network,
        runners,
        make_inputs(case),
        make_states(case, network),
        case.seed,
        replicas=replicas,
        mask=make_mask(case),
    )
    return [_outcome(case, engine, judgement) for engine in runners]


def _outcome(case: Case, engine: str, judgement: Judgement) -> Outcome:
    rows = [row for row in judgement.rows if engine in (row.left, row.right)]
    verdicts = {row.verdict for row in rows}
    worst = {
        rule: max(row.times_floor for row in rows if row.rule == rule and row.right == REFERENCE)
        for rule in ("run", "one step")
    }
    verdict = next(name for name in ("disagree", "undecided", "agree") if name in verdicts)
    return Outcome(case, engine, worst["run"], worst["one step"], verdict, judgement.floor.horizon)


def show(outcomes: list[Outcome], engines: list[str]) -> Table:
    """One row for every engine and kind: how near correct engines come to the limit."""
    table = Table(
        title=f"error / floor of correct engines against the reference (median, 99 %, max); the limit is {LIMIT:g}"
    )
    for heading in (
        "engine",
        "kind",
        "cases",
        "run",
        "one step",
        "worst / limit",
        "undecided",
        "comparable there",
        "false alarms",
    ):
        table.add_column(heading, justify="left" if heading in ("engine", "kind") else "right")
    for engine in engines:
        for kind in KINDS:
            chosen = [outcome for outcome in outcomes if outcome.engine == engine and outcome.case.kind == kind]
            if chosen:
                table.add_row(engine, kind, *_statistics(chosen))
    return table


def _statistics(outcomes: list[Outcome]) -> list[str]:
    rules = np.array([(outcome.run, outcome.one_step) for outcome in outcomes])
    spread = [f"{np.median(ratios):.2f} {np.quantile(ratios, 0.99):.2f} {ratios.max():.2f}" for ratios in rules.T]
    reached = [outcome.horizon / outcome.case.time for outcome in outcomes if outcome.horizon is not None]
    alarms = sum(outcome.verdict == "disagree" for outcome in outcomes)
    return [
        str(len(outcomes)),
        *spread,
        f"{rules.max() / LIMIT:.2f}",
        str(sum(outcome.verdict == "undecided" for outcome in outcomes)),
        f"{np.median(reached):.0%} of steps" if reached else "-",
        f"[red]{alarms}[/red]" if alarms else "0",
    ]


def installed(console: Console) -> list[str]:
    """The engines that can be imported here."""
    found = []
    for engine in ENGINES:
        try:
            framework(engine)
            found.append(engine)
        except MissingFrameworkError as error:
            console.print(f"{engine} left out: {error.problems[0].what}")
    return found


def _one_thread() -> None:
    """torch spins for whole seconds where another process has the second core."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def main(
    cases: Annotated[int, typer.Option(min=1, help="How many random models.")] = 250,
    seed: Annotated[int, typer.Option(help="The first case's seed; each next one is one more.")] = 0,
    engines: Annotated[str, typer.Option(help="Comma-separated; all installed ones by default.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="30 small models of at most 100 steps.")] = False,
    replicas: Annotated[
        int, typer.Option(min=0, help="Judge with so many replicas, 8 as for large models; 0: as usual.")
    ] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every case and its ratios here.")] = None,
) -> None:
    """Measure error/floor of correct engines; exit with 1 on any false alarm."""
    console = Console()
    names = [name.strip() for name in engines.split(",") if name.strip()] or installed(console)
    for name in names:
        framework(name)
    _one_thread()
    count = min(cases, 30) if quick else cases
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outcomes: list[Outcome] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("judging", total=count)
        for index in range(count):
            case = draw_case(seed + index, quick)
            progress.update(task, description=f"{case.kind} {case.units} units, {case.time} steps")
            outcomes += measure_case(case, names, replicas or None)
            progress.advance(task)
    console.print(show(outcomes, names))
    alarms = [outcome for outcome in outcomes if outcome.verdict == "disagree"]
    for alarm in alarms:
        console.print(
            f"[red]false alarm[/red] {alarm.engine}: run {alarm.run:.3g}, one step {alarm.one_step:.3g}: {alarm.case}"
        )
    if json_path:
        json_path.write_text(
            json.dumps({"limit": LIMIT, "outcomes": [asdict(outcome) for outcome in outcomes]}, indent=1)
        )
        console.print(f"written: {json_path}")
    if alarms:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
