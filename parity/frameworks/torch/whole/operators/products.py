"""Matrix products and einsum."""

from __future__ import annotations

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.operators.layers import dense
from parity.frameworks.torch.whole.values import Known, Value
from parity.graph import Wire


@operator("matmul", "mm", "bmm", "mv", "dot")
def matmul(call: Call) -> Value:
    """The matrix product."""
    second = next(name for name in ("other", "mat2", "vec", "tensor") if name in call.given)
    return call.build.matmul(call.wire("self"), call.wire(second), name=call.name)


@operator("addmm", "baddbmm", "addbmm")
def added_product(call: Call) -> Value:
    """beta * self + alpha * (first @ second)."""
    names = ("mat1", "mat2") if call.operator == "addmm" else ("batch1", "batch2")
    if call.operator == "addbmm":
        raise Refused("a sum of matrix products", "torch.bmm and sum")
    alpha, beta, bias, second = call.get("alpha", 1), call.get("beta", 1), call["self"], call[names[1]]
    plain = alpha == 1 and beta == 1
    if (
        plain
        and call.operator == "addmm"
        and isinstance(second, Known)
        and isinstance(bias, Known)
        and bias.tensor.ndim == 1
    ):
        return dense(call, call.wire(names[0]), second, bias, turned=False)
    build = call.build
    product = build.matmul(call.wire(names[0]), call.wire(names[1]))
    if alpha != 1:
        product = build.multiply(product, call.making.number(float(alpha)))
    if beta == 0:
        return product
    own = call.wire("self", "f")
    own = own if beta == 1 else build.multiply(own, call.making.number(float(beta)))
    return build.add(own, product, name=call.name)


@operator("einsum")
def einsum(call: Call) -> Value:
    """Products of one or two values, summed."""
    equation = str(call["equation"]).replace(" ", "")
    values = list(zip(call["tensors"], call.raw["tensors"], strict=True))
    if "." in equation or len(values) > 2:
        raise Refused("an einsum with an ellipsis or more than two values", "letters for all axes", equation)
    if "->" not in equation:
        letters = equation.replace(",", "")
        equation = f"{equation}->{''.join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))}"
    wires: list[Wire] = [call.as_wire(value, raw) for value, raw in values]
    return call.build.einsum(equation, *wires, name=call.name)


__all__ = ["matmul"]
