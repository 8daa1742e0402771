"""Normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  as everybody calls it

from drawing.inputs import LONG, SIZES, Draw, Random, kerased, layered, numbers, onnxed, pick, torched
from parity.graph.operations import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    UnitNormalization,
)


def batch_normalization(random: Random) -> Draw:
    """Also with means much larger than deviations."""
    size, far = pick(random, SIZES), float(random.choice([0, 1, 30, 1000]))
    mean = (random.standard_normal(size) + far).astype(np.float32)
    variance = (random.random(size) * 10.0 ** random.uniform(-3, 2) + 1e-3).astype(np.float32)
    gamma, beta = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    epsilon = float(random.choice([1e-5, 1e-3]))
    x = (mean[:, None] + np.sqrt(variance)[:, None] * random.standard_normal((3, size, 7))).astype(np.float32)
    t = [torch.from_numpy(one) for one in (mean, variance, gamma, beta)]
    if random.integers(4) == 0:
        gamma_or_none, beta_or_none = None, None
        constants = {"gamma": np.ones_like(gamma), "beta": np.zeros_like(beta)}
        t[2:] = [torch.ones(size), torch.zeros(size)]
    else:
        gamma_or_none, beta_or_none = gamma, beta
        constants = {"gamma": gamma, "beta": beta}
    own = constants["gamma"], constants["beta"]

    def keras_kernel(ops: Any, x: Any) -> Any:
        last = ops.transpose(x, (0, 2, 1))
        return ops.transpose(ops.batch_normalization(last, mean, variance, 2, own[1], own[0], epsilon), (0, 2, 1))

    kernels = {
        "torch": torched(lambda x: F.batch_norm(x, t[0], t[1], t[2], t[3], eps=epsilon)),
        "keras": kerased(keras_kernel),
        "onnxruntime": onnxed("BatchNormalization", {**constants, "mean": mean, "variance": variance}, epsilon=epsilon),
    }
    operation = BatchNormalization("bn", mean, variance, gamma_or_none, beta_or_none, epsilon, 1)
    return Draw(operation, (x,), kernels, f"{size} channels, mean {far}, deviation {np.sqrt(variance).mean():.2g}")


def layer_normalization(random: Random) -> Draw:
    """Over the last axis; samples may lie far from zero."""
    size, epsilon = pick(random, LONG), float(random.choice([1e-6, 1e-5, 1e-3]))
    gamma, beta = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    x = numbers(random, 5, size)
    t_gamma, t_beta = torch.from_numpy(gamma), torch.from_numpy(beta)

    kernels = {
        "torch": torched(lambda x: F.layer_norm(x, (size,), t_gamma, t_beta, epsilon)),
        "keras": layered(lambda keras: keras.layers.LayerNormalization(epsilon=epsilon), [gamma, beta]),
        "onnxruntime": onnxed("LayerNormalization", {"gamma": gamma, "beta": beta}, epsilon=epsilon),
    }
    mean, deviation = np.abs(x.mean(-1)).mean(), x.std(-1).mean()
    case = f"{size} features, mean {mean:.2g}, deviation {deviation:.2g}, epsilon {epsilon}"
    return Draw(LayerNormalization("ln", gamma, beta, epsilon), (x,), kernels, case)


def rms_normalization(random: Random) -> Draw:
    """Over the last axis."""
    size, epsilon = pick(random, LONG), float(random.choice([1e-6, 1e-3]))
    gamma, x = random.standard_normal(size).astype(np.float32), numbers(random, 5, size)
    t_gamma = torch.from_numpy(gamma)
    kernels = {
        "torch": torched(lambda x: F.rms_norm(x, (size,), t_gamma, epsilon)),
        "keras": kerased(lambda ops, x: x * ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + epsilon) * gamma),
    }
    return Draw(LayerNormalization("rms", gamma, None, epsilon, rms=True), (x,), kernels, f"{size} features")


def group_normalization(random: Random) -> Draw:
    """Of one group to one for each channel."""
    groups, each = int(random.choice([1, 2, 8])), pick(random, (1, 2, 8, 32))
    size, epsilon = groups * each, float(random.choice([1e-5, 1e-3]))
    gamma, beta = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    x = numbers(random, 2, size, pick(random, LONG[2:-1]))
    t_gamma, t_beta = torch.from_numpy(gamma), torch.from_numpy(beta)

    kernels = {
        "torch": torched(lambda x: F.group_norm(x, groups, t_gamma, t_beta, epsilon)),
        "keras": layered(lambda keras: keras.layers.GroupNormalization(groups, axis=1, epsilon=epsilon), [gamma, beta]),
    }
    operation = GroupNormalization("gn", gamma, beta, epsilon, groups, 1)
    return Draw(
        operation,
        (x,),
        kernels,
        f"{groups} groups of {each}, {x.shape}, mean {np.abs(x.mean()):.2g}, deviation {x.std():.2g}",
    )


def unit_normalization(random: Random) -> Draw:
    """To length one."""
    x = numbers(random, 5, pick(random, LONG))
    kernels = {
        "torch": torched(F.normalize),
        "keras": kerased(lambda ops, x: ops.normalize(x, -1, 2)),
    }
    return Draw(UnitNormalization("unit"), (x,), kernels, f"{x.shape}")
