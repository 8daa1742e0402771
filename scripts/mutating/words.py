"""Words through an embedding, a recurrent layer, a skip connection and dense layers: tables, kernels, activations, what comes together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mutating.cells import Array
from mutating.models import Options, Recipe, keras_layer, random_cells, torch_layer
from mutating.ports import INTO_TORCH, Change, Plan, Port, array, option, put

WORDS, WIDTH, TIME, CLASSES = 9, 5, 9, 4

TWO = {"add": "Add", "multiply": "Multiply", "average": "Average", "maximum": "Maximum", "subtract": "Subtract"}


def right_plan(recipe: Recipe, **options: Any) -> Plan:
    """Weights that all show, and plain options."""
    random = np.random.default_rng([recipe.seed, 13])
    given = {
        "shift": 0,
        "factor": 1.0,
        "square": "tanh",
        "skip": "add",
        "other": "steps",
        "first": False,
        "order": ("rows", "joined"),
        "wide": "relu",
        "scale": 0.25,
        "last": "softmax",
        "reduced": "",
        "offset": 0.0,
        "attends": "",
        "words": WORDS,
        **options,
    }

    def drawn(*shape: int) -> Array:
        return random.uniform(-0.9, 0.9, shape).astype(np.float32)

    arrays = {
        "table": drawn(given["words"], WIDTH),
        "square.kernel": drawn(recipe.units, recipe.units),
        "square.bias": drawn(recipe.units),
        "wide.kernel": drawn(WIDTH + recipe.units, 7),
        "wide.bias": drawn(7),
        "head.kernel": drawn(7, CLASSES),
        "head.bias": drawn(CLASSES),
    }
    return Plan(given, arrays)


def _cells(recipe: Recipe) -> Any:
    return random_cells(replace(recipe, features=WIDTH))


def _torch_functions() -> dict[str, Callable[[Any], Any]]:
    import torch
    from torch.nn import functional

    return {
        "tanh": torch.tanh,
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "linear": lambda x: x,
        "gelu": functional.gelu,
        "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
        "elu": functional.elu,
        "elu 0.5": lambda x: functional.elu(x, 0.5),
        "tanh twice": lambda x: torch.tanh(torch.tanh(x)),
        "softmax": lambda x: torch.softmax(x, -1),
        "softmax twice": lambda x: torch.softmax(torch.softmax(x, -1), -1),
        "softmax over time": lambda x: torch.softmax(x, 1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
    }


def in_torch(recipe: Recipe, plan: Plan) -> Any:
    """The model as a person writes it: of (batch, time) integers."""
    import torch
    from torch.nn import functional

    functions = _torch_functions()
    two: dict[str, Any] = {
        "add": torch.add,
        "multiply": torch.mul,
        "average": lambda a, b: (a + b) / 2,
        "maximum": torch.maximum,
        "subtract": torch.sub,
    }

    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(plan["words"], WIDTH)
            self.rnn = torch_layer(recipe.kind, _cells(recipe), Options())
            self.square = torch.nn.Linear(recipe.units, recipe.units)
            self.wide = torch.nn.Linear(WIDTH + recipe.units, 7)
            self.head = torch.nn.Linear(7, CLASSES)

        def forward(self, x: Any) -> Any:
            if plan["shift"]:
                x = torch.clamp(x + plan["shift"], 0, plan["words"] - 1)
            rows = self.table(x)
            rows = rows * plan["factor"] if plan["factor"] != 1.0 else rows
            steps = self.rnn(rows)[0]
            if plan["attends"]:
                steps = functional.scaled_dot_product_attention(steps, steps, steps, **_attention(plan["attends"]))
            raw = self.square(steps)
            branch = functions[plan["square"]](raw)
            other = {"steps": steps, "raw": raw}[plan["other"]]
            if plan["skip"] in two:
                joined = two[plan["skip"]](*((branch, other) if plan["first"] else (other, branch)))
            else:
                joined = {"steps": steps, "branch": branch}[plan["skip"]]
            parts = {"rows": rows, "joined": joined}
            y = functions[plan["wide"]](self.wide(torch.cat([parts[name] for name in plan["order"]], -1)))
            y = self.head(y)
            y = y * plan["scale"] if plan["scale"] != 1.0 else y
            y = y + plan["offset"] if plan["offset"] else y
            y = functions[plan["last"]](y)
            return {"": lambda: y, "mean": lambda: y.mean(1), "max": lambda: y.amax(1), "sum": lambda: y.sum(1)}[
                plan["reduced"]
            ]()

    module = Words().eval()
    put(module.table.weight, plan.arrays["table"])
    for name in ("square", "wide", "head"):
        put(getattr(module, name).weight, plan.arrays[f"{name}.kernel"].T)
        put(getattr(module, name).bias, plan.arrays[f"{name}.bias"])
    return module


def in_keras(recipe: Recipe, plan: Plan) -> Any:
    """The same as a model of Keras."""
    import keras

    layers = keras.layers
    functions: dict[str, Any] = {
        "linear": None,
        "tanh twice": lambda x: keras.ops.tanh(keras.ops.tanh(x)),
        "elu 0.5": None,
    }
    x = keras.Input((TIME,), dtype="int32", name="x")
    table = layers.Embedding(plan["words"], WIDTH, name="table")
    rows = table(x)
    rows = layers.Rescaling(plan["factor"], name="scaled")(rows) if plan["factor"] != 1.0 else rows
    steps = keras_layer(recipe.kind, _cells(recipe)[0], Options(), "rnn", return_state=False)(rows)
    square = layers.Dense(recipe.units, name="square")
    raw = square(steps)
    branch = layers.Activation(functions.get(plan["square"], plan["square"]), name="bent")(raw)
    if plan["square"] == "tanh twice":
        branch = layers.Activation("tanh", name="again")(layers.Activation("tanh", name="bent")(raw))
    other = {"steps": steps, "raw": raw}[plan["other"]]
    if plan["skip"] in TWO:
        joined = getattr(layers, TWO[plan["skip"]])(name="skip")([branch, other] if plan["first"] else [other, branch])
    else:
        joined = {"steps": steps, "branch": branch}[plan["skip"]]
    parts = {"rows": rows, "joined": joined}
    y = layers.Concatenate(name="join")([parts[name] for name in plan["order"]])
    wide = layers.Dense(7, activation=functions.get(plan["wide"], plan["wide"]), name="wide")
    head = layers.Dense(CLASSES, name="head")
    y = head(wide(y))
    y = layers.Rescaling(plan["scale"], name="scale")(y) if plan["scale"] != 1.0 else y
    y = y + plan["offset"] if plan["offset"] else y
    y = _end(plan["last"], y)
    if plan["reduced"]:
        kind = {"mean": layers.GlobalAveragePooling1D, "max": layers.GlobalMaxPooling1D}[plan["reduced"]]
        y = kind(name="reduced")(y)
    table.set_weights([plan.arrays["table"]])
    for name, layer in (("square", square), ("wide", wide), ("head", head)):
        layer.set_weights([plan.arrays[f"{name}.kernel"], plan.arrays[f"{name}.bias"]])
    return keras.Model(x, y, name="words")


def _attention(words: str) -> dict[str, Any]:
    """Options of torch's attention."""
    return {"is_causal": "causal" in words} | ({"scale": 1.0} if "unscaled" in words else {})


def _end(last: str, y: Any) -> Any:
    import keras

    layers = keras.layers
    if last == "softmax twice":
        return layers.Softmax(name="again")(layers.Softmax(name="softmax")(y))
    if last == "softmax over time":
        return layers.Softmax(axis=1, name="softmax")(y)
    return layers.Activation(None if last == "linear" else last, name="softmax")(y)


def _draw(recipe: Recipe, salt: int) -> Array:
    """Every word once at least."""
    random = np.random.default_rng([recipe.seed, salt])
    rest = random.integers(0, WORDS, (recipe.batch - 1, TIME))
    return np.concatenate([random.permutation(WORDS)[None], rest]).astype(np.int32)


def _port(name: str, words: str, layer: str, change: Change, **more: Any) -> Port:
    engines = {"engines": more.pop("engines")} if "engines" in more else {}
    build = {"torch": in_torch, "keras": in_keras}
    return Port(name, words, layer, partial(right_plan, **more), change, build, _draw, **engines)


def _rolled(by: int) -> Callable[[Array], Array]:
    return lambda table: np.roll(table, by, axis=0)


def _filled(by: int) -> Callable[[Array], Array]:
    """Rows moved by one, zeros where none comes from."""

    def moved(table: Array) -> Array:
        found = np.zeros_like(table)
        if by > 0:
            found[1:] = table[:-1]
        else:
            found[:-1] = table[1:]
        return found

    return moved


def _without(row: int) -> Callable[[Array], Array]:
    def emptied(table: Array) -> Array:
        found = table.copy()
        found[row] = 0
        return found

    return emptied


def _tables() -> Iterator[Port]:
    table = partial(array, "table")
    for by, where in ((1, "before"), (-1, "behind")):
        yield _port("index off by one", f"the row {where}, in a ring", "table", table(_rolled(by)))
        yield _port("index off by one", f"the row {where}, zeros", "table", table(_filled(by)))
        yield _port("index off by one", f"the row {where}, kept", "table", option(shift=-by), engines=INTO_TORCH)
    for row in (0, 1, -1):
        yield _port("padding row zero", f"row {row}", "table", table(_without(row)))
    root = float(np.sqrt(WIDTH))
    yield _port("embedding scaled", "by the root", "table", table(lambda rows: rows * root))
    yield _port("embedding scaled", "by the root, in code", "table", option(factor=root))
    yield _port("embedding scaled", "divided by the root", "table", table(lambda rows: rows / root))
    yield _port("table reshaped", "of the transpose", "table", table(lambda rows: rows.T.reshape(rows.shape)))
    yield _port("table reshaped", "to the transpose", "table", table(lambda rows: rows.reshape(rows.shape[::-1]).T))


def _dense() -> Iterator[Port]:
    yield _port("kernel transposed", "square", "square", array("square.kernel", np.transpose))
    turned: Callable[[Array], Array] = lambda k: k.T.reshape(k.shape)  # noqa: E731  named for both lines below
    yield _port("kernel reshaped", "wide", "wide", array("wide.kernel", turned))
    yield _port("kernel reshaped", "wide, back", "wide", array("wide.kernel", lambda k: k.reshape(k.shape[::-1]).T))
    yield _port("bias dropped", "wide", "wide", array("wide.bias", np.zeros_like))
    yield _port("bias dropped", "head", "head", array("head.bias", np.zeros_like))
    for right, wrong in (("gelu", "silu"), ("silu", "gelu"), ("tanh", "sigmoid"), ("sigmoid", "tanh"), ("elu", "relu")):
        yield _port("another activation", f"{wrong} for {right}", "", option(wide=wrong), wide=right)
    yield _port("another activation", "gelu by tanh", "", option(wide="gelu tanh"), wide="gelu", engines=INTO_TORCH)
    yield _port("another activation", "elu of 0.5", "", option(square="elu 0.5"), square="elu", engines=INTO_TORCH)
    yield _port("activation lost", "of the branch", "", option(square="linear"))
    yield _port("activation lost", "softmax", "", option(last="linear"))
    yield _port("activation doubled", "of the branch", "", option(square="tanh twice"))
    yield _port("activation doubled", "softmax", "", option(last="softmax twice"))
    yield _port("another activation", "log_softmax", "", option(last="log_softmax"))
    yield _port("another activation", "sigmoid at the end", "", option(last="sigmoid"))
    yield _port("softmax axis", "over time", "", option(last="softmax over time"))
    for added in ("softmax", "sigmoid", "log_softmax", "tanh", "relu"):
        yield _port("activation added", added, "head", option(last=added), last="linear", scale=1.0)


def _connections() -> Iterator[Port]:
    yield _port("connection lost", "the branch", "", option(skip="steps"))
    yield _port("connection lost", "the skip connection", "", option(skip="branch"))
    for other in ("multiply", "average", "maximum", "subtract"):
        yield _port("merged otherwise", other, "", option(skip=other))
    yield _port("merged otherwise", "add for average", "", option(skip="add"), skip="average", engines=INTO_TORCH[:1])
    yield _port("inputs in another order", "concatenated", "", option(order=("joined", "rows")))
    yield _port("inputs in another order", "subtracted", "", option(first=True), skip="subtract")
    yield _port("connection from elsewhere", "before the activation", "", option(other="raw"))
    yield _port("scaling lost", "at the end", "", option(scale=1.0))
    yield _port("scaling lost", "of the rows", "", option(factor=1.0), factor=2.5)
    yield _port("offset lost", "at the end", "", option(offset=0.0), offset=0.7, last="sigmoid")
    both = (("torch", "torch"), ("torch", "onnxruntime"))
    yield _port("attention scale", "none", "", option(attends="unscaled"), attends="plain", engines=both)
    causal = option(attends="plain")
    yield _port("causal mask lost", "of attention", "", causal, attends="causal", engines=both)
    for right, wrong in (("mean", "max"), ("max", "mean"), ("mean", "sum")):
        engines = {"engines": INTO_TORCH} if wrong == "sum" else {}
        yield _port("another reduction", f"{wrong} for {right}", "", option(reduced=wrong), reduced=right, **engines)


WORD_PORTS: tuple[Port, ...] = (*_tables(), *_dense(), *_connections())
"""Mistakes with embeddings, dense layers, activations and connections."""
