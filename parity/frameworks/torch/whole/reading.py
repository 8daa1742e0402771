"""A traced module, operator by operator, as a graph."""

from __future__ import annotations

import operator as python_operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import Problem, ShapeError, UnsupportedError
from parity.frameworks.torch.whole import operators
from parity.frameworks.torch.whole.examples import float_type
from parity.frameworks.torch.whole.naming import axis_words, call_words, limits_of, output_names
from parity.frameworks.torch.whole.operator_call import (
    HANDLERS,
    Call,
    Making,
    Refused,
    clean_path,
    kind_of,
    problem_at,
)
from parity.frameworks.torch.whole.sources import call_names, first_paths, put_sources
from parity.frameworks.torch.whole.tracing import Traced, expressions, user_inputs
from parity.frameworks.torch.whole.values import Filled, Known, Order, Ordered, Packed, Size, Stacked, Value
from parity.frameworks.torch.whole.writing import Writes
from parity.graph import Builder, Graph, Wire

assert operators.__all__

_DTYPES = {"f": "float32", "i": "int64", "b": "bool"}
_WITHOUT_VALUE = ("_assert", "sym_constrain", "assert_", "_check")
_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)
_REMEDY = (
    "see the README for the operators that are; stubs (--partial, partial=True) are for layers of Keras files and nodes of ONNX files, "
    "not for operators of torch modules: compute it with operators that are converted, or convert the modules around it"
)
_ROUGH = (torch.float16, torch.bfloat16)


def read_graph(module: nn.Module, traced: Traced, name: str, frozen: Sequence[str] = ()) -> Graph:
    """The graph of a traced module.

    Args:
        module: the live one.
        traced: its trace.
        name: of the graph.
        frozen: what the trace insists on although the module does not, in words.

    Raises:
        UnsupportedError: operators that cannot be kept, all at once.
    """
    build = Builder(name, "torch")
    build.details["torch"] = str(torch.__version__)
    reader = _Reader(build, module, traced)
    outputs = reader.read()
    names = [one.name for one in build.inputs]
    build.details["call"] = call_words(traced, names)
    if frozen:
        build.details["frozen"] = "; ".join(frozen)
    if reader.problems:
        raise UnsupportedError(reader.problems)
    put_sources(build, module, traced, reader.given, reader.call_names)
    return build.graph(outputs)


class _Reader:
    """Walks through a trace; collects the problems.

    Attributes:
        call_names: of the calls of modules inside, see `sources.call_names`.
        given: what every operator gave, with the nodes that the graph had before and after it.
    """

    def __init__(self, build: Builder, module: nn.Module, traced: Traced) -> None:
        self.problems: list[Problem] = []
        self.given: dict[Any, tuple[Value, int, int]] = {}
        self._build, self._traced = build, traced
        self._dtype = float_type(module)
        self.call_names = call_names(module, traced.program.graph.nodes)
        self._making = Making(build, self._dtype == torch.float64, self.call_names)
        self._paths = first_paths(module)
        self._first_names = {id(one): name for name, one in (*module.named_parameters(), *module.named_buffers())}
        self._values: dict[Any, Value] = {}
        self._writes = Writes(self._values)
        self._lost: set[Any] = set()

    def read(self) -> dict[str, Wire]:
        """Every operator, and the outputs by name."""
        program = self._traced.program
        self._inputs()
        self._held()
        for node in program.graph.nodes:
            if node.op in ("call_function", "get_attr"):
                self._node(node, program.graph_module)
        return self._outputs()

    # ---- inputs and outputs

    def _inputs(self) -> None:
        words = axis_words(self._traced)
        limits = limits_of(self._traced, words)
        if limits:
            self._build.details["limits"] = limits
        for node, axes in zip(user_inputs(self._traced.program), self._traced.axes, strict=True):
            shape = tuple(length if isinstance(length, int) else words[length] for length in axes)
            wire = self._build.input(node.name, shape, _DTYPES[kind_of(node.meta["val"])], _vocabulary(node))
            self._making.saw(wire, axes)
            self._values[node] = wire

    def _held(self) -> None:
        """Parameters, buffers and constants; arguments that are no tensors."""
        program = self._traced.program
        nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        state = {**program.constants, **program.state_dict}
        for spec in program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if node in self._values:
                continue
            found = state.get(spec.target) if spec.target else None
            if isinstance(found, Tensor):
                trained = spec.kind.name == "PARAMETER" or (spec.kind.name == "BUFFER" and found.is_floating_point())
                self._values[node] = Known(found.detach(), self._first_names.get(id(found), spec.target), trained)
            else:
                self._values[node] = getattr(spec.arg, "value", None)

    def _outputs(self) -> dict[str, Wire]:
        program = self._traced.program
        specs = list(program.graph_signature.output_specs)
        (result,) = (node for node in program.graph.nodes if node.op == "output")
        names = iter(output_names(program.call_spec.out_spec))
        found: dict[str, Wire] = {}
        for spec, node in zip(specs, result.args[0], strict=True):
            if spec.kind.name != "USER_OUTPUT":
                self.problems.append(
                    Problem(
                        "the module changes itself when it is called",
                        str(spec.target),
                        "a module that only gives what it computes",
                        spec.kind.name.lower().replace("_", " "),
                        "give the state as an input and return it",
                    )
                )
                continue
            name = next(names)
            if (
                not isinstance(node, torch.fx.Node)
                or node in self._lost
                or not isinstance(node.meta.get("val"), Tensor)
            ):
                continue
            try:
                call = Call(self._making, node, "output", {"self": self._values[node]}, {"self": node}, name)
                found[name] = call.wire("self")
            except Refused as refused:
                self.problems.append(call.problem(refused))
        return found

    # ---- operators

    def _node(self, node: Any, owner: Any) -> None:
        if any(one in self._lost for one in node.all_input_nodes):
            self._lost.add(node)  # what it takes was refused: said there
            self._refuse_unknown(node)
            return
        before = len(self._build.nodes)
        try:
            value = self._value(node, owner)
        except Refused as refused:
            self._refuse(node, refused)
            self._lost.add(node)
            return
        except ShapeError as error:
            self.problems += [problem_at(node, one.what, one.expected, one.got) for one in error.problems]
            self._lost.add(node)
            return
        self._values[node] = value
        self.given[node] = (value, before, len(self._build.nodes))
        self._saw(value, node.meta.get("val"))

    def _refuse_unknown(self, node: Any) -> None:
        """Say of an operator behind one that was refused, and of those in a block there, whether it is not known either."""
        for one in node.all_input_nodes:
            inner = self._values.get(one)
            for own in inner.graph.nodes if isinstance(inner, torch.fx.GraphModule) else ():
                if own.op == "call_function":
                    self._refuse_unknown(own)
        refused = _unknown(node)
        if refused is not None:
            self._refuse(node, refused)

    def _refuse(self, node: Any, refused: Refused) -> None:
        """Keep what is refused; of a line that is run several times, once."""
        problem = problem_at(node, refused.what, refused.expected, refused.got, refused.remedy)
        self.problems += [] if problem in self.problems else [problem]

    def _saw(self, value: Value, meta: Any) -> None:
        if isinstance(value, Wire) and isinstance(meta, Tensor):
            self._making.saw(value, expressions(meta.shape))

    def _value(self, node: Any, owner: Any) -> Value:
        if node.op == "get_attr":
            found = python_operator.attrgetter(node.target)(owner)
            return Known(found.detach()) if isinstance(found, Tensor) else found
        if node.target is python_operator.getitem:
            return self._values[node.args[0]][node.args[1]]
        meta = node.meta.get("val")
        if isinstance(meta, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            expression = meta.node.expr
            return int(expression) if getattr(expression, "is_Integer", False) else Size(expression)
        if isinstance(meta, (int, float, bool)):
            return meta
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            return self._nested(node, owner)
        return self._operator(node, schema)

    def _nested(self, node: Any, owner: Any) -> Value:
        """A block under torch.no_grad() or the like: a graph inside the graph."""
        graphs = [self._values.get(one) for one in node.args if isinstance(one, torch.fx.Node)]
        inner = next((one for one in graphs if isinstance(one, torch.fx.GraphModule)), None)
        name = getattr(node.target, "__name__", str(node.target))
        if inner is None or not name.startswith("wrap_with_"):
            if any(word in str(node.target) for word in _WITHOUT_VALUE):
                return None
            raise Refused("a control flow operator", "operators of tensors", name)
        position = next(i for i, one in enumerate(node.args) if self._is(one, inner))
        holders = [one for one in inner.graph.nodes if one.op == "placeholder"]
        for holder, given in zip(holders, node.args[position + 1 :], strict=True):
            self._values[holder] = self._translated(given)
        result: Value = None
        for own in inner.graph.nodes:
            if own.op in ("call_function", "get_attr"):
                self._node(own, inner)
            elif own.op == "output":
                lost = [one for one in own.all_input_nodes if one in self._lost]
                if lost:
                    self._lost.add(node)
                    return None
                result = tuple(self._translated(one) for one in own.args[0])
        del owner
        return result

    def _is(self, node: Any, value: Any) -> bool:
        return isinstance(node, torch.fx.Node) and self._values.get(node) is value

    def _operator(self, node: Any, schema: Any) -> Value:
        _, own, name = _names(schema)
        if any(own.startswith(word) for word in _WITHOUT_VALUE):
            return None
        raw = _arguments(node, schema)
        given = {key: self._translated(value) for key, value in raw.items()}
        if own == "detach_":
            return given["self"]
        self._check_type(node)
        if self._folds(node, given):
            return self._folded(node, given, schema)
        call = Call(self._making, node, name, given, raw, self._name(node))
        if schema.is_mutable:
            self._writes.check(node)
        unknown = _unknown(node)
        if unknown is not None:
            raise unknown
        value = HANDLERS[name](call)
        if schema.is_mutable:
            self._writes.write(call, value)
        else:
            self._writes.note(node, schema)
        return value

    def _check_type(self, node: Any) -> None:
        """Half precision inside a model of full precision rounds on purpose: no other framework repeats it."""
        meta = node.meta.get("val")
        if isinstance(meta, Tensor) and meta.dtype in _ROUGH and self._dtype not in _ROUGH:
            raise Refused("a value of half precision", "float32 throughout", str(meta.dtype), "compute it in float32")

    def _folds(self, node: Any, given: Mapping[str, Value]) -> bool:
        """Whether an operator takes nothing that differs from call to call."""
        leaves = list(_leaves(list(given.values())))
        changing = (Wire, Filled, Size, Stacked, Order, Ordered, Packed)
        return not any(isinstance(leaf, changing) for leaf in leaves) and not _is_random(node)

    def _folded(self, node: Any, given: Mapping[str, Value], schema: Any) -> Value:
        known = [leaf for leaf in _leaves(list(given.values())) if isinstance(leaf, Known)]
        if schema.is_mutable:
            first = next(iter(given.values()))
            held = [one.tensor for one in self._values.values() if isinstance(one, Known) and one.name]
            if any(first.tensor.untyped_storage().data_ptr() == one.untyped_storage().data_ptr() for one in held):
                what = "the module changes its parameters or buffers"
                raise Refused(what, remedy="give the state as an input and return it")
        trained = any(one.trained for one in known)
        plain = {key: _plain(value) for key, value in given.items()}
        positional = [plain[one.name] for one in schema.arguments if not one.kwarg_only]
        named = {one.name: plain[one.name] for one in schema.arguments if one.kwarg_only}
        with torch.no_grad():
            found = node.target(*positional, **named)
        if isinstance(found, Tensor):
            same = next((one for one in known if found is one.tensor), None)
            return same or Known(found, self._kept_name(known, found), trained)
        return tuple(Known(one, "", trained) if isinstance(one, Tensor) else one for one in found)

    @staticmethod
    def _kept_name(known: Sequence[Known], found: Tensor) -> str:
        """A parameter that is only detached, made contiguous or turned keeps its name."""
        return known[0].name if len(known) == 1 and found.numel() == known[0].tensor.numel() else ""

    def _translated(self, value: Any) -> Value:
        if isinstance(value, torch.fx.Node):
            return self._values[value]
        if isinstance(value, (list, tuple)):
            return [self._translated(one) for one in value]
        return value

    def _name(self, node: Any) -> str:
        """The path of torch's own module that called the operator, else what the trace calls it."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        own = clean_path(path)
        return self._paths.get(own, own) if own and kind.startswith("torch.nn.modules") else str(node.name)


def _names(schema: Any) -> tuple[str, str, str]:
    """The library of an operator, its own name, and that of the operator that does the same without changing what it takes."""
    space, _, own = schema.name.partition("::")
    return space, own, own[:-1] if own.endswith("_") and not own.startswith("__") and schema.is_mutable else own


def _unknown(node: Any) -> Refused | None:
    """Why an operator of tensors is not converted; None for one that is, and for what is no such operator."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or isinstance(node.meta.get("val"), _NUMBERS):
        return None
    space, own, name = _names(schema)
    if own == "detach_" or own.startswith(_WITHOUT_VALUE) or (name in HANDLERS and space in ("aten", "parity")):
        return None
    what = "random numbers" if _is_random(node) else "this operator is not converted"
    return Refused(what, "an operator that parity knows", remedy=_REMEDY)


def _arguments(node: Any, schema: Any) -> dict[str, Any]:
    """The arguments of a call by name, with the defaults of the schema."""
    found = {one.name: one.default_value for one in schema.arguments if one.has_default_value()}
    found |= dict(zip((one.name for one in schema.arguments), node.args, strict=False))
    return {one.name: {**found, **node.kwargs}.get(one.name) for one in schema.arguments}


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value]


def _plain(value: Value) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.tensor if isinstance(value, Known) else value


def _is_random(node: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _vocabulary(node: Any) -> int | None:
    """Below what the integers of an input must be: the rows of the tables that it goes into."""
    rows = [
        user.args[0].meta["val"].shape[0]
        for user in node.users
        if str(user.target).startswith("aten.embedding") and len(user.args) > 1 and user.args[1] is node
    ]
    return min(int(count) for count in rows) if rows else None


__all__ = ["read_graph"]
