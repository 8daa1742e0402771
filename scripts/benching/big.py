"""A real comparison of a large run: seconds, memory, and the page. `scripts/bench.py big`, or this file by itself for other sizes.

    python scripts/benching/big.py --steps 1000 --kind lstm --engines torch,onnxruntime,keras

The run has a process of its own, so that the memory is that of a comparison and of nothing else.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benching.pages import BATCH, TIME, UNITS, first_paints

Row = tuple[str, str, float, float, float]

_PAGE_BYTES, _PAINT_S, _MEMORY_GB, _ROUNDS = 500_000, 1.0, 12.0, 3

_COMPARED = """
import json, resource, sys, time
from pathlib import Path
import numpy as np, torch
import parity

kind, steps, batch, units, engines, page = json.loads(sys.argv[1])
torch.manual_seed(0)
layer = getattr(torch.nn, kind)(8, units, batch_first=True)
inputs = np.random.default_rng(0).standard_normal((batch, steps, 8), np.float32)
parity.compare(layer, engines=engines)  # imports and first calls are no part of it

def timed(call):
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found

def run_once(engine):
    parity.run(layer, inputs, engine=engine)

running = {engine: timed(lambda: run_once(engine))[0] for engine in engines}
started = time.process_time()
comparing, compared = timed(lambda: parity.compare(layer, inputs=inputs, engines=engines))
worked = time.process_time() - started
recording, _ = timed(lambda: compared.save_html(page))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
found = {"running": running, "comparing": comparing, "worked": worked, "recording": recording, "peak": peak}
print(json.dumps(found | {"sentence": compared.sentence, "replicas": compared.judgement.floor.replicas}))
"""


def big(
    rounds: int, steps: int = TIME, kind: str = "RNN", engines: tuple[str, ...] = ("torch", "onnxruntime")
) -> list[Row]:
    """A torch layer of 512 units on 64 samples, in several engines: compared in earnest, its page drawn and painted."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        asked = json.dumps([kind, steps, BATCH, UNITS, list(engines), str(page)])
        done = subprocess.run([sys.executable, "-c", _COMPARED, asked], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        size = page.stat().st_size
        painted = statistics.median(first_paints(page.read_text(encoding="utf-8"), max(rounds, _ROUNDS)))
    print(f"{found['sentence']} ({found['replicas']} replicas, {found['worked']:.0f} s of processor time)")
    running = sum(found["running"].values())
    each = ", ".join(f"{engine} {took:.1f} s" for engine, took in found["running"].items())
    peak = found["peak"] / 1e9
    comparing, recording = found["comparing"], found["recording"]
    return [
        (f"compare {kind}({UNITS}) on {BATCH} x {steps}", f"one run: {each}", comparing, running, comparing / running),
        ("its record and page", "the comparison", recording, comparing, recording / comparing),
        ("most memory, GB", "wanted: below 12 GB", peak, _MEMORY_GB, peak / _MEMORY_GB),
        ("its page, kB", "asked: below 500 kB", size / 1e3, _PAGE_BYTES / 1e3, size / _PAGE_BYTES),
        ("first contentful paint in Chromium", "asked: below 1 s", painted, _PAINT_S, painted / _PAINT_S),
    ]


def main(
    steps: Annotated[int, typer.Option(min=1, help="Of each sample.")] = TIME,
    kind: Annotated[str, typer.Option(help="rnn, lstm or gru.")] = "rnn",
    engines: Annotated[str, typer.Option(help="Comma-separated.")] = "torch,onnxruntime",
) -> None:
    """Print what was timed, against what, and the ratio."""
    for name, other, ours, plain, ratio in big(_ROUNDS, steps, kind.upper(), tuple(engines.split(","))):
        print(f"{name} | {other} | {ours:.3f} | {plain:.3f} | {ratio:.2f}")


if __name__ == "__main__":
    typer.run(main)
