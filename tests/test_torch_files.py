"""Every file that torch writes or wrote, read without torch; torch is the writer and the judge where it still can be.

Evidence for the layouts that torch 2 no longer writes stands with the test that builds one.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import parity
from parity.deferred import LARGE_BYTES, Blocks, Deferred
from parity.errors import FormatError, ParityError, ShapeError, UnsupportedError
from parity.files import write_file
from parity.files.archive import Archive
from parity.files.stored import BFLOAT16, Contents, Raw, Summed, numbers
from parity.files.torch import read, read_tensors, unpickling, write
from parity.files.torch.legacy import MAGIC

Save = Callable[[Any, Path], None]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """torch's advice on what is deprecated is not for the files of people who have them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def zip_save(value: Any, path: Path) -> None:
    torch.save(value, path)


def old_save(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def old_save_protocol_4(value: Any, path: Path) -> None:
    torch.save(value, path, pickle_protocol=4, _use_new_zipfile_serialization=False)


SAVES = [zip_save, old_save, old_save_protocol_4]


class Forecaster(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.gru = torch.nn.GRU(10, 3, 2)
        self.fc = torch.nn.Linear(3, 2)
        self.rnn = torch.nn.RNN(2, 4, nonlinearity="relu")
        self.cells = torch.nn.ModuleList([torch.nn.LSTMCell(3, 2)])
        self.register_buffer("scale", torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        y, _ = self.gru(y)
        result: torch.Tensor = self.rnn(self.fc(y))[0]
        return result


def as_numbers(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def same(contents: Contents, expected: dict[str, torch.Tensor]) -> None:
    assert list(contents.tensors) == list(expected)
    for name, tensor in expected.items():
        stored = contents.tensors[name]
        assert tuple(stored.shape) == tuple(tensor.shape)
        np.testing.assert_array_equal(numbers(stored), as_numbers(tensor), strict=True)


TYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.complex128),
]


def tensors() -> OrderedDict[str, torch.Tensor]:
    base = torch.randn(6, 8)
    made = {
        "base": base,
        "transposed": base.T,
        "window": base[2:5, 1::3],
        "row": base[3],
        "column": base[:, 3],
        "flat": base.flatten()[5:17],
        "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "expanded": torch.randn(1, 3).expand(4, 3),
        "one row of many": torch.randn(1, 3, 1)[:, ::2],
        "parameter": torch.nn.Parameter(torch.randn(3, 2)),
        "empty": torch.zeros(0, 3),
        "empty in the middle": torch.zeros(2, 0, 3),
        "scalar": torch.tensor(2.5),
        "scalar of a view": base[2, 3],
        "ünï": torch.randn(2),
        **{str(kind): torch.randint(0, 2, (2, 3)).to(kind) for kind in TYPES},
        **{f"{kind}.T": torch.randn(4, 3).to(kind).T for kind in TYPES[:4]},
    }
    return OrderedDict(made)


# ---- torch.save


@pytest.mark.parametrize("save", SAVES)
def test_every_tensor_is_read_as_torch_reads_it(save: Save, tmp_path: Path) -> None:
    made, path = tensors(), tmp_path / "made.pt"
    save(made, path)
    contents = read(path)
    same(contents, made)
    if (
        save is zip_save
    ):  # of the older format torch itself reads no uint16, and nothing of another protocol without a warning
        same(contents, torch.load(path, weights_only=True))
    assert contents.form == "torch state dict"
    assert (contents.description, contents.program) == (None, "")
    assert contents.tensors["torch.bfloat16"].dtype == BFLOAT16


@pytest.mark.parametrize("save", SAVES)
def test_rows_are_those_of_the_tensor(save: Save, tmp_path: Path) -> None:
    made = {name: tensor for name, tensor in tensors().items() if tensor.dim() and tensor.dtype == torch.float32}
    save(made, tmp_path / "made.pt")
    found = read(tmp_path / "made.pt").tensors
    for name, tensor in made.items():
        for rows in (slice(0, 1), slice(1, 3), slice(2, None), slice(5, 5), slice(None)):
            np.testing.assert_array_equal(found[name][rows], as_numbers(tensor)[rows], strict=True)
            assert found[name][rows].flags.c_contiguous


@pytest.mark.parametrize("save", SAVES)
def test_tensors_that_share_numbers_share_their_place(save: Save, tmp_path: Path) -> None:
    weight = torch.randn(5, 4)
    save({"tied": weight, "again": weight, "lower": weight[2:]}, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt").tensors
    tied, again, lower = found["tied"], found["again"], found["lower"]
    assert isinstance(tied, Raw)
    assert isinstance(lower, Raw)
    assert tied == again
    assert lower.offset == tied.offset + 2 * 4 * 4


@pytest.mark.parametrize("save", SAVES)
def test_nothing_is_read_before_it_is_asked_for(save: Save, tmp_path: Path) -> None:
    large = torch.randn(1 << 20, 4)
    save({"large": large, "turned": torch.randn(1 << 19, 4).T}, tmp_path / "large.pt")
    with little_memory(1 << 20):
        found = read(tmp_path / "large.pt").tensors
        rows = found["large"][5:8]
    np.testing.assert_array_equal(rows, large[5:8].numpy())
    content = bytearray((tmp_path / "large.pt").read_bytes())
    at = content.index(large[:2].numpy().tobytes())
    content[at : at + 4] = struct.pack("<f", 123.0)
    (tmp_path / "large.pt").write_bytes(content)
    assert found["large"][0:1][0, 0] == 123.0


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    ("wrap", "taken", "left_out"),
    [
        (lambda state, more: {"epoch": 1, "state_dict": state, "optimizer": more}, "state_dict", "epoch, optimizer"),
        (lambda state, more: {"model_state_dict": state, "optim": more, "args": [1]}, "model_state_dict", "optim, args"),
        (lambda state, more: {"model": state, "opt": more, "best": 0.5}, "model", "opt, best"),
        (lambda state, _: {"net": state, "lr_scheduler": {"last": 3}}, "net", "lr_scheduler"),
        (lambda state, _: {"ema": state, "weights": state}, "weights", "ema"),
        (lambda state, _: {"run": {"x": 1}, "model": {"state_dict": state}}, "model.state_dict", "run"),
        (lambda state, _: {"state_dict": state, "discriminator": {"w": torch.ones(2)}}, "state_dict", "discriminator"),
        (lambda state, _: state, None, None),
        (lambda state, _: {**state, "epoch": 3}, None, "epoch"),
    ],
)  # fmt: skip
def test_the_state_dict_is_found_in_a_checkpoint(
    save: Save, wrap: Any, taken: str | None, left_out: str | None, tmp_path: Path
) -> None:
    module = Forecaster()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 3, 6)).sum().backward()
    optimizer.step()
    save(wrap(module.state_dict(), optimizer.state_dict()), tmp_path / "run.pt")
    contents = read(tmp_path / "run.pt")
    same(contents, module.state_dict())
    assert contents.details.get("taken from") == taken
    assert contents.details.get("left out") == left_out


def test_several_state_dicts_are_joined_by_dots(tmp_path: Path) -> None:
    encoder, decoder = torch.nn.LSTM(3, 2), torch.nn.DataParallel(torch.nn.GRU(3, 2))
    optimizer = torch.optim.SGD(encoder.parameters(), momentum=0.9)
    parts = {"encoder": encoder.state_dict(), "decoder": decoder.state_dict(), "solver": optimizer.state_dict()}
    torch.save({**parts, "config": {"units": 2}}, tmp_path / "two.pt")
    contents = read(tmp_path / "two.pt")
    expected = {
        **{f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()},
        **{f"decoder.{name}": tensor for name, tensor in decoder.module.state_dict().items()},
    }
    same(contents, expected)
    assert contents.details["left out"] == "solver, config"
    torch.save({"model": encoder.state_dict(), "head": {"weight": torch.ones(2)}}, tmp_path / "two.pt")
    assert [*read(tmp_path / "two.pt").tensors][-2:] == ["model.bias_hh_l0", "head.weight"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_left_out(prefix: str, tmp_path: Path) -> None:
    state = torch.nn.LSTM(3, 2).state_dict()
    torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "a.pt")
    contents = read(tmp_path / "a.pt")
    same(contents, state)
    assert contents.details["prefix"] == f"'{prefix}' before every name, left out"
    mixed = {**{prefix + name: tensor for name, tensor in state.items()}, "head": torch.ones(2)}
    torch.save(mixed, tmp_path / "a.pt")
    same(read(tmp_path / "a.pt"), mixed)


def test_what_torch_wraps_itself(tmp_path: Path) -> None:
    module = torch.nn.GRU(3, 2)
    torch.save(torch.nn.DataParallel(module).state_dict(), tmp_path / "a.pt")
    same(read(tmp_path / "a.pt"), module.state_dict())
    with quietly():
        torch.save(torch.compile(module).state_dict(), tmp_path / "a.pt")  # type: ignore[attr-defined]
    same(read(tmp_path / "a.pt"), module.state_dict())


def test_plain_data_beside_the_tensors_is_no_hindrance(tmp_path: Path) -> None:
    import argparse
    import collections
    import datetime
    import pathlib

    state = torch.nn.LSTM(3, 2).state_dict()
    beside = {
        "args": argparse.Namespace(units=2),
        "loss": np.float64(0.5),
        "curve": np.arange(3),
        "when": datetime.datetime(2018, 3, 4),
        "where": pathlib.PurePosixPath("a/b"),
        "counts": collections.Counter("aab"),
        "more": collections.defaultdict(int, {"a": 1}),
        "sets": [{1, 2}, frozenset({3}), 2 + 3j, bytearray(b"x"), b"y", torch.Size([2]), torch.device("cpu")],
        "type": torch.float32,
        "odd keys": {(1, 2): 3, 0.5: 4, None: 5},
        "deep": [[[{"a": (1,)}]]],
    }
    for save in SAVES:
        save({"state_dict": state, **beside}, tmp_path / "a.pt")
        same(read(tmp_path / "a.pt"), state)


def test_parameters_with_attributes_and_tensors_of_old_types(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    parameter.note = "mine"  # type: ignore[attr-defined]
    tensor = torch.randn(3)
    tensor.note = "mine"  # type: ignore[attr-defined]
    made = {"parameter": parameter, "tensor": tensor}
    torch.save(made, tmp_path / "a.pt")
    same(read(tmp_path / "a.pt"), made)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.randn(2, dtype=torch.complex64).conj(), "conj"),
        (lambda: torch.randn(2, dtype=torch.complex64).conj().imag, "neg"),
        (lambda: torch.randn(2).to(torch.float8_e5m2), "float8"),
        (lambda: torch.eye(3).to_sparse(), "a sparse tensor"),
        (lambda: torch.empty(2, device="meta"), "meta device"),
    ],
)
def test_tensors_that_are_not_plain_numbers_are_refused(make: Any, message: str, tmp_path: Path) -> None:
    torch.save({"w": make(), "b": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=message) as caught:
        read(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") in caught.value.problems[0].where
    torch.save({"optimizer": {"state": {0: make()}, "param_groups": []}, "model": {"b": torch.ones(2)}}, tmp_path / "a")


def test_files_without_checksums(tmp_path: Path) -> None:
    state = {"w": torch.randn(20, 3)}
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    same(read(tmp_path / "a.pt"), state)


# ---- layouts that torch 2 no longer writes


def opcodes(value: object) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def name(module: str, function: str) -> bytes:
    return f"c{module}\n{function}\n".encode()


def call(function: bytes, *arguments: bytes, state: bytes = b"") -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR" + (state + b"b" if state else b"")


def storage(kind: str, key: str, count: int, *view: bytes, module: str = "torch") -> bytes:
    parts = [opcodes("storage"), name(module, kind), opcodes(key), opcodes("cpu"), opcodes(count), *view]
    return b"(" + b"".join(parts) + b"tQ"


def dictionary(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(opcodes(key) + value for key, value in entries.items()) + b"u"


def legacy(path: Path, content: bytes, storages: dict[str, Any], system: object = None, magic: int = MAGIC) -> Path:
    """`_legacy_save` of torch 0.2 to 1.5, `torch/serialization.py`: the pickles one after the other, then count and numbers of each."""
    sizes = {"short": 2, "int": 4, "long": 8}
    system = system or {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    pickles = [pickle.dumps(magic, 2), pickle.dumps(1001, 2), pickle.dumps(system, 2)]
    pickles += [b"\x80\x02" + content + b".", pickle.dumps(sorted(storages), 2)]
    records = [struct.pack("<q", len(storages[key])) + storages[key].tobytes() for key in sorted(storages)]
    path.write_bytes(b"".join(pickles + records))
    return path


VALUES = np.random.default_rng(3).normal(size=12).astype("<f4")


def test_tensors_of_torch_0_3(tmp_path: Path) -> None:
    """torch 0.3, `torch/_utils.py`, `_rebuild_tensor`, without requires_grad and hooks; `torch/autograd/variable.py`, `__reduce_ex__`:
    `type(self), (self.data,), (requires_grad, volatile, hooks)`, for a Parameter, too."""
    plain = call(
        name("torch._utils", "_rebuild_tensor"),
        storage("FloatStorage", "7", 12, b"N"),
        *map(opcodes, (0, (3, 4), (4, 1))),
    )
    turned = call(
        name("torch._utils", "_rebuild_tensor"),
        storage("FloatStorage", "7", 12, b"N"),
        *map(opcodes, (1, (4, 2), (1, 4))),
    )
    state = opcodes((True, False, OrderedDict()))
    parameter = call(name("torch.nn.parameter", "Parameter"), plain, state=state)
    variable = call(name("torch.autograd.variable", "Variable"), turned, state=state)
    content = dictionary({"plain": plain, "turned": turned, "parameter": parameter, "variable": variable})
    path = legacy(tmp_path / "a.pt", content, {"7": VALUES})
    expected = {"plain": VALUES.reshape(3, 4), "turned": VALUES[1:9].reshape(2, 4).T}
    expected |= {"parameter": expected["plain"], "variable": expected["turned"]}
    found = read(path)
    for key, array in expected.items():
        np.testing.assert_array_equal(numbers(found.tensors[key]), array)
    loaded = torch.load(legacy(tmp_path / "b.pt", dictionary({"plain": plain, "turned": turned}), {"7": VALUES}))
    np.testing.assert_array_equal(loaded["turned"], expected["turned"])


def test_views_of_storages(tmp_path: Path) -> None:
    """`_legacy_load`, `persistent_load`: view_metadata = (key of the view, offset, length), in numbers."""
    views = {"upper": ((0, (4,), (1,)), ("v1", 0, 6)), "lower": ((1, (2, 2), (2, 1)), ("v2", 6, 6))}
    entries = {
        key: call(
            name("torch._utils", "_rebuild_tensor_v2"),
            storage("FloatStorage", "1", 12, opcodes(view)),
            *map(opcodes, (*place, False, OrderedDict())),
        )
        for key, (place, view) in views.items()
    }
    path = legacy(tmp_path / "a.pt", dictionary(entries), {"1": VALUES})
    found, loaded = read_tensors(path), torch.load(path)
    np.testing.assert_array_equal(found["lower"], VALUES[7:11].reshape(2, 2))
    for key in views:
        np.testing.assert_array_equal(found[key], loaded[key])
    outside = call(name("torch._utils", "_rebuild_tensor_v2"), storage("FloatStorage", "1", 12, opcodes(("v", 6, 6))),
                   *map(opcodes, (3, (4,), (1,), False, OrderedDict())))  # fmt: skip
    with pytest.raises(FormatError, match="reaches beyond its storage of 6"):
        read(legacy(tmp_path / "b.pt", dictionary({"w": outside}), {"1": VALUES}))


def test_files_of_python_2(tmp_path: Path) -> None:
    """Python 2 pickles text as SHORT_BINSTRING, and an OrderedDict as a call with a list of pairs (`Lib/collections.py`, `__reduce__`)."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    kind = name("torch", "FloatStorage")
    place = b"(" + text("storage") + kind + text("5") + text("cpu") + opcodes(12) + b"NtQ"
    tensor = call(
        name("torch._utils", "_rebuild_tensor_v2"), place, *map(opcodes, (0, (12,), (1,), False)), b"]\x85" and b"N"
    )
    pairs = b"](](" + text("weight") + tensor + b"ee"
    content = name("collections", "OrderedDict") + pairs + b"\x85R" + dictionary({"_metadata": b"}"}) + b"b"
    path = legacy(tmp_path / "a.pt", content, {"5": VALUES})
    np.testing.assert_array_equal(read_tensors(path)["weight"], VALUES)


def test_storages_of_cuda_are_read_too(tmp_path: Path) -> None:
    tensor = call(name("torch._utils", "_rebuild_tensor_v2"), storage("FloatStorage", "1", 12, b"N", module="torch.cuda"),
                  *map(opcodes, (0, (12,), (1,), False, OrderedDict())))  # fmt: skip
    np.testing.assert_array_equal(
        read_tensors(legacy(tmp_path / "a.pt", dictionary({"w": tensor}), {"1": VALUES}))["w"], VALUES
    )


def test_the_tar_format_of_torch_0_1_is_refused_by_name(tmp_path: Path) -> None:
    """`_legacy_load`, `legacy_load`: a tar of `sys_info`, `pickle`, `tensors` and `storages`."""
    path = tmp_path / "a.pt"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        for member in ("sys_info", "pickle", "tensors", "storages"):
            file.addfile(tarfile.TarInfo(member), io.BytesIO())
    with pytest.raises(UnsupportedError, match=r"tar format of torch 0\.1(.|\n)*torch\.save\(module\.state_dict"):
        read(path)


def test_what_is_wrong_with_an_old_file(tmp_path: Path) -> None:
    tensor = call(name("torch._utils", "_rebuild_tensor_v2"), storage("FloatStorage", "1", 12, b"N"),
                  *map(opcodes, (0, (12,), (1,), False, OrderedDict())))  # fmt: skip
    content, path = dictionary({"w": tensor}), tmp_path / "a.pt"
    assert read(legacy(path, content, {"1": VALUES})).tensors["w"].shape == (12,)
    with pytest.raises(UnsupportedError, match="byte order is not little"):
        read(legacy(path, content, {"1": VALUES}, {"little_endian": False}))
    with pytest.raises(FormatError, match="not listed"):
        read(legacy(path, content, {"2": VALUES}))
    with pytest.raises(FormatError, match="cut short"):
        read(legacy(path, content, {"1": VALUES[:11]}))
    path.write_bytes(legacy(path, content, {"1": VALUES}).read_bytes()[:-1])
    with pytest.raises(FormatError, match="cut short"):
        read(path)
    with pytest.raises(FormatError):
        read(legacy(path, content, {"1": VALUES}, magic=MAGIC + 1))


# ---- TorchScript


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Forecaster]:
    folder, module = tmp_path_factory.mktemp("programs"), Forecaster().eval()
    x = torch.randn(2, 4, 6)
    with quietly():
        torch.jit.script(module).save(folder / "scripted.pt")  # type: ignore[no-untyped-call]
        torch.jit.trace(module, x).save(folder / "traced.jit")  # type: ignore[no-untyped-call]
        torch.jit.freeze(torch.jit.script(module)).save(folder / "frozen.pt")
        torch.export.save(torch.export.export(module, (x,)), folder / "exported.pt2")
    return folder, module


OPTIONS = "lstm: batch_first=True; gru: batch_first=False; rnn: batch_first=False, nonlinearity=relu"


@pytest.mark.parametrize("file", ["scripted.pt", "traced.jit"])
def test_the_weights_of_a_torchscript_program(programs: tuple[Path, Forecaster], file: str) -> None:
    folder, module = programs
    contents = read(folder / file)
    assert set(contents.tensors) == set(module.state_dict())
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(numbers(contents.tensors[key]), tensor.numpy(), strict=True)
    assert contents.form == "TorchScript program"
    assert contents.details["module"] == "Forecaster"
    assert contents.details["modules"] == "lstm: LSTM, gru: GRU, fc: Linear, rnn: RNN, cells.0: LSTMCell"
    assert contents.details["options"] == OPTIONS
    assert "torch.jit.load" in contents.program
    assert all(isinstance(tensor, Raw) for tensor in contents.tensors.values())


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: torch.nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True), "batch_first=True"),
        (lambda: torch.nn.GRU(6, 5, bias=False), "batch_first=False"),
        (lambda: torch.nn.RNN(6, 5, nonlinearity="relu"), "batch_first=False, nonlinearity=relu"),
        (lambda: torch.nn.RNN(6, 5, batch_first=True), "batch_first=True, nonlinearity=tanh"),
    ],
)
def test_a_plain_recurrent_module_is_as_good_as_its_state_dict(
    make: Any, options: str, traced: bool, tmp_path: Path
) -> None:
    module = make()
    with quietly():
        program = torch.jit.trace(module, torch.randn(2, 3, 6)) if traced else torch.jit.script(module)  # type: ignore[no-untyped-call]
        program.save(tmp_path / "a.pt")
    contents = read(tmp_path / "a.pt")
    same(contents, module.state_dict())
    assert contents.program == ""
    assert contents.details == {"module": type(module).__name__, "options": options}


def test_a_frozen_program_keeps_its_weights_as_constants(programs: tuple[Path, Forecaster]) -> None:
    folder, module = programs
    contents = read(folder / "frozen.pt")
    found = {numbers(tensor).tobytes() for tensor in contents.tensors.values()}
    used = [key for key in module.state_dict() if not key.startswith(("cells", "scale"))]
    assert {module.state_dict()[key].numpy().tobytes() for key in used} <= found
    assert all(key.startswith("CONSTANTS.c") for key in contents.tensors)
    assert contents.program


class Keeps(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = torch.nn.Linear(3, 3)
        self.same = self.shared
        self.extra = [torch.ones(2)]
        self.turned = torch.nn.Parameter(torch.randn(3, 4).T)
        self.sizes: dict[str, int] = {"a": 1}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.same(self.shared(x)) + self.extra[0].sum() + self.turned.sum() + self.sizes["a"])


def test_other_attributes_of_a_program(tmp_path: Path) -> None:
    module = Keeps()
    with quietly():
        torch.jit.script(module).save(tmp_path / "a.pt")  # type: ignore[no-untyped-call]
    contents = read(tmp_path / "a.pt")
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(numbers(contents.tensors[key]), tensor.numpy())
    assert contents.details["left out"] == "extra: a list of tensors"


def test_torchscript_of_torch_1_0_is_refused_by_name(tmp_path: Path) -> None:
    """torch 1.0, `torch/csrc/jit/export.cpp`, ScriptModuleSerializer: `model.json` beside `tensors/N`."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/model.json", "{}")
    with pytest.raises(UnsupportedError, match=r"TorchScript layout of torch 1\.0 to 1\.2"):
        read(tmp_path / "a.pt")


# ---- exported programs


def test_the_weights_of_an_exported_program(programs: tuple[Path, Forecaster]) -> None:
    folder, module = programs
    contents = read(folder / "exported.pt2")
    assert set(contents.tensors) == set(module.state_dict())
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(numbers(contents.tensors[key]), tensor.numpy(), strict=True)
    assert contents.form == "torch exported program"
    assert contents.details == {"options": OPTIONS}
    assert "torch.export.load" in contents.program
    assert all(isinstance(tensor, Raw) for tensor in contents.tensors.values())


class Tied(torch.nn.Module):
    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        base = torch.randn(6, 4).to(kind)
        self.upper, self.lower = torch.nn.Parameter(base[:3]), torch.nn.Parameter(base[3:])
        self.turned = torch.nn.Parameter(torch.randn(3, 4).to(kind).T)
        self.register_buffer("none", torch.zeros(0, 3))
        self.register_buffer("count", torch.tensor(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.upper, self.lower, self.turned]
        return torch.stack([x.sum(), *(part.sum().float() for part in parts)]) + self.get_buffer("count")


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_views_and_types_in_an_exported_program(kind: torch.dtype, tmp_path: Path) -> None:
    module = Tied(kind)
    with quietly():
        torch.export.save(torch.export.export(module, (torch.ones(2),)), tmp_path / "a.pt2")
    found = read(tmp_path / "a.pt2").tensors
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(numbers(found[key]), as_numbers(tensor), strict=True)


@pytest.mark.parametrize("member", ["serialized_state_dict.pt", "serialized_state_dict.json"])
def test_exported_programs_of_the_older_layout(member: str, programs: tuple[Path, Forecaster], tmp_path: Path) -> None:
    """`torch/export/__init__.py` of torch 2.13, `load`, "the older format": a plain zip of the graph, the state dict and a version."""
    folder, module = programs
    inner = io.BytesIO()
    torch.save(dict(module.named_parameters()), inner)
    with zipfile.ZipFile(folder / "exported.pt2") as new, zipfile.ZipFile(tmp_path / "a.pt2", "w") as old:
        graph = next(name for name in new.namelist() if name.endswith("models/model.json"))
        old.writestr("serialized_exported_program.json", new.read(graph))
        old.writestr(member, inner.getvalue())
        old.writestr("version", "8.8")
    contents = read(tmp_path / "a.pt2")
    same(contents, dict(module.named_parameters()))
    assert contents.details == {"schema": "8.8", "options": OPTIONS}
    assert all(isinstance(tensor, Raw) for tensor in contents.tensors.values())


def rewritten(source: Path, target: Path, changes: dict[str, bytes | None], compression: int = 0) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        members = {info.filename: old.read(info) for info in old.infolist()}
        for member, content in {**members, **changes}.items():
            if content is not None:
                new.writestr(member, content)
    return target


def test_weights_as_a_file_of_torch_save_in_an_exported_program(
    programs: tuple[Path, Forecaster], tmp_path: Path
) -> None:
    """`torch/export/pt2_archive/_package.py` of torch 2.13, `_load_state_dict`: "BC compatible with legacy weight files"; and
    `_save_pickled_tensors`, which saves a weight of a tensor subclass by itself."""
    folder, module = programs
    config = "exported/data/weights/model_weights_config.json"
    inner = io.BytesIO()
    torch.save(module.state_dict(), inner)
    path = rewritten(
        folder / "exported.pt2", tmp_path / "a.pt2", {config: None, "exported/data/weights/model.pt": inner.getvalue()}
    )
    same(read(path), dict(module.state_dict()))
    one = io.BytesIO()
    torch.save(module.scale, one)
    with zipfile.ZipFile(folder / "exported.pt2") as archive:
        entries = json.loads(archive.read(config))
    entries["config"]["scale"] |= {"use_pickle": True, "path_name": "weight_99"}
    changes: dict[str, bytes | None] = {config: json.dumps(entries).encode()}
    path = rewritten(
        folder / "exported.pt2", tmp_path / "b.pt2", {**changes, "exported/data/weights/weight_99": one.getvalue()}
    )
    np.testing.assert_array_equal(numbers(read(path).tensors["scale"]), module.scale)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sizes": [{"as_int": 1 << 40}, {"as_int": 1 << 40}]}, FormatError, "reaches beyond"),
        ({"sizes": [{"as_int": -1}, {"as_int": 6}]}, FormatError, "sizes that are no numbers"),
        ({"sizes": [{"as_expr": "s0"}, {"as_int": 6}]}, FormatError, "is damaged"),
        ({"storage_offset": {"as_int": 1}}, FormatError, "reaches beyond"),
        ({"strides": []}, FormatError, "do not fit each other"),
        ({"dtype": 29}, UnsupportedError, "type 29"),
        ({"dtype": []}, FormatError, "is damaged"),
        ({"layout": 1}, UnsupportedError, "layout 1"),
    ],
)
def test_an_exported_program_that_lies(
    change: Any, error: type[ParityError], message: str, programs: tuple[Path, Forecaster], tmp_path: Path
) -> None:
    config = "exported/data/weights/model_weights_config.json"
    with zipfile.ZipFile(programs[0] / "exported.pt2") as archive:
        entries = json.loads(archive.read(config))
    entries["config"]["lstm.weight_ih_l0"]["tensor_meta"] |= change
    path = rewritten(programs[0] / "exported.pt2", tmp_path / "a.pt2", {config: json.dumps(entries).encode()})
    with pytest.raises(error, match=message):
        read(path)


# ---- writing


def test_what_is_written_opens_in_torch_as_its_own(tmp_path: Path) -> None:
    module, path = Forecaster(), tmp_path / "a.pt"
    arrays = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    with path.open("wb") as file:
        write(arrays, file, '{"kind": "ünï"}')
    loaded = torch.load(path, weights_only=True)
    assert type(loaded) is OrderedDict
    assert loaded._metadata == {"": {"version": 1, "parity": '{"kind": "ünï"}'}}  # type: ignore[attr-defined]
    other = Forecaster()
    other.load_state_dict(loaded, strict=True)
    for key, tensor in other.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[key])
    same(read(path), module.state_dict())
    assert read(path).description == '{"kind": "ünï"}'
    torch.save(loaded, tmp_path / "again.pt")
    assert read(tmp_path / "again.pt").description == '{"kind": "ünï"}'


@pytest.mark.parametrize("save", SAVES)
def test_metadata_of_others_is_no_description(save: Save, tmp_path: Path) -> None:
    state: Any = torch.nn.LSTM(3, 2).state_dict()
    save(state, tmp_path / "a.pt")
    assert read(tmp_path / "a.pt").description is None
    odds: list[Any] = [{"": {"parity": 3}}, {"": "parity"}, [], {"lstm": {"parity": "no"}}]
    for odd in odds:
        state._metadata = odd
        save(state, tmp_path / "a.pt")
        assert read(tmp_path / "a.pt").description is None


def test_the_same_network_gives_the_same_bytes_however_it_is_handed_over() -> None:
    whole = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    ways: list[Any] = [
        whole,
        np.asfortranarray(whole),
        whole.astype(">f4"),
        Deferred(whole.shape, whole.dtype, lambda: whole),
        Blocks(whole.shape, whole.dtype, lambda: iter([whole[:2], whole[2:3], whole[3:]])),
        Blocks(whole.shape, whole.dtype, lambda: iter([whole.T.copy().T])),
    ]
    contents = []
    for way in ways:
        file = io.BytesIO()
        write({"w": way, "b": np.array(3, np.float32)}, file, "text")
        contents.append(file.getvalue())
    assert len(set(contents)) == 1


def test_tensors_are_written_block_by_block(tmp_path: Path) -> None:
    rows, alive = 1 << 16, []

    def blocks() -> Iterator[Any]:
        for number in range(64):
            block = np.full((rows // 64, 256), number, np.float32)
            alive.append(1)
            yield block

    with little_memory(8 << 20), (tmp_path / "a.pt").open("wb") as file:
        write({name: Blocks((rows, 256), np.dtype("f4"), blocks) for name in "ab"}, file)
    assert len(alive) == 128
    found = torch.load(tmp_path / "a.pt", weights_only=True, mmap=True)
    assert found["b"][:: rows // 64, 0].tolist() == list(range(64))
    for tensor in read(tmp_path / "a.pt").tensors.values():
        raw = tensor.raw if isinstance(tensor, Summed) else tensor
        assert isinstance(raw, Raw)
        assert raw.offset % 64 == 0


def test_bfloat16_is_written_as_it_is() -> None:
    tensor = torch.randn(3, 2).to(torch.bfloat16)
    bits = tensor.view(torch.int16).numpy().view(BFLOAT16)
    file = io.BytesIO()
    write({"w": Blocks((3, 2), BFLOAT16, lambda: iter([bits[:1], bits[1:]]))}, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True)["w"], tensor)


@pytest.mark.parametrize("sizes", [[2, 2], [2, 6], []])
def test_blocks_that_are_not_the_tensor(sizes: list[int]) -> None:
    blocks = Blocks((7, 3), np.dtype("f4"), lambda: iter([np.ones((size, 3), np.float32) for size in sizes]))
    with pytest.raises(ShapeError, match="the blocks of a tensor are not the tensor"):
        write({"w": blocks}, io.BytesIO())


def test_types_that_torch_has_not() -> None:
    with pytest.raises(UnsupportedError, match=r"a: \|S3"):
        write({"a": np.array([b"abc"])}, io.BytesIO())


# ---- what torch did not write


OTHERS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file", r"\.h5"),
    "safetensors": (lambda: struct.pack("<Q", 8) + b'{"a":{}}', "a safetensors file", r"\.safetensors"),
    "onnx": (lambda: b"\x08\x0a\x12\x07pytorch", "an ONNX model", r"\.onnx"),
    "npy": (lambda: b"\x93NUMPY\1\0", "an array of NumPy", r"\.npy"),
    "gzip": (lambda: b"\x1f\x8b\x08", "gzip", "gunzip"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3", "TensorFlow Lite", r"\.tflite"),
    "page": (lambda: b"<!DOCTYPE html><html>", "a web page", "anew"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
    "list": (lambda: pickle.dumps([1, 2]), "a pickle that torch.save did not write", "state_dict"),
    "nothing known": (lambda: b"garbage", "no known kind", "anew"),
    "keras": (lambda: zipped("config.json", "model.weights.h5"), r"a \.keras file", r"\.keras"),
    "npz": (lambda: zipped("a.npy", "b.npy"), "an .npz file of NumPy", r"\.npz"),
    "zip of a .pt": (lambda: zipped("model/weights.pt"), "a zip with model/weights.pt in it", "unpack"),
    "package": (lambda: zipped("p/.data/extern_modules", "p/data.pkl"), "torch.package", "state_dict"),
    "saved model": (lambda: zipped("m/saved_model.pb"), "SavedModel", "unpack"),
    "another zip": (lambda: zipped("readme.txt"), "readme.txt", "anew"),
}


def zipped(*members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")
    return file.getvalue()


@pytest.mark.parametrize("kind", OTHERS)
def test_what_another_file_really_is(kind: str, tmp_path: Path) -> None:
    make, what, remedy = OTHERS[kind]
    (tmp_path / "a.pt").write_bytes(make())
    with pytest.raises(FormatError, match=what) as caught:
        read(tmp_path / "a.pt")
    with pytest.raises(FormatError, match=remedy):
        raise caught.value
    assert caught.value.problems[0].where == str(tmp_path / "a.pt")


def test_packages_of_compiled_code_are_refused_by_name(tmp_path: Path) -> None:
    """`torch/export/pt2_archive/constants.py`: AOTINDUCTOR_DIR, without a graph in MODELS_DIR."""
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as archive:
        archive.writestr("a/archive_format", "pt2")
        archive.writestr("a/data/aotinductor/model/x.so", b"\x7fELF")
    with pytest.raises(UnsupportedError, match="AOTInductor"):
        read(tmp_path / "a.pt2")


@pytest.mark.parametrize("save", SAVES)
def test_whole_modules_are_refused_with_a_remedy(save: Save, tmp_path: Path) -> None:
    for module in (torch.nn.LSTM(3, 2), Forecaster()):
        with quietly():
            save(module, tmp_path / "a.pt")
        with pytest.raises(ParityError, match=r"a whole module(.|\n)*torch\.save\(module\.state_dict") as caught:
            read(tmp_path / "a.pt")
        assert type(module).__name__ in caught.value.problems[0].got


def test_a_big_endian_file_is_refused(programs: tuple[Path, Forecaster], tmp_path: Path) -> None:
    for file in ("scripted.pt", "exported.pt2"):
        path = programs[0] / file
        with pytest.raises(UnsupportedError, match="byte order"):
            read(rewritten(path, tmp_path / file, {f"{path.stem}/byteorder": b"big"}))


def test_compressed_records(tmp_path: Path) -> None:
    state = {"w": torch.randn(200, 30), "turned": torch.randn(20, 30).T}
    torch.save(state, tmp_path / "a.pt")
    same(read(rewritten(tmp_path / "a.pt", tmp_path / "b.pt", {}, zipfile.ZIP_DEFLATED)), state)
    torch.save({"w": torch.cat([torch.randn(5000), torch.zeros(30000)])}, tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match="compressed"):
        read(rewritten(tmp_path / "a.pt", tmp_path / "b.pt", {}, zipfile.ZIP_DEFLATED))


# ---- people who mean no good


class Calls:
    """Pickles to a call of its choice."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def carried(content: bytes, way: str, path: Path) -> Path:
    """A pickle where the reader meets one."""
    if way == "legacy":
        parts = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
        path.write_bytes(b"".join(parts) + content)
    elif way == "bare":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", content)
            if way == "script":
                archive.writestr("a/constants.pkl", b"\x80\x02).")
    return path


WAYS = ["zip", "legacy", "script", "bare"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_that_calls_is_named_and_not_run(way: str, protocol: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    content = pickle.dumps({"weight_ih_l0": Calls(os.system, f"touch {victim}")}, protocol)
    with pytest.raises(FormatError, match="it was not run") as caught:
        read(carried(content, way, tmp_path / "evil.pt"))
    assert not victim.exists()
    assert caught.value.problems[0].got == f"{os.system.__module__}.system"


SYSTEM, TOUCH = b"cos\nsystem\n", b"X\x04\x00\x00\x00true"
PROGRAMS = {
    "REDUCE": SYSTEM + TOUCH + b"\x85R.",
    "OBJ": b"(" + SYSTEM + TOUCH + b"o.",
    "INST": b"(" + TOUCH + b"ios\nsystem\n.",
    "NEWOBJ": SYSTEM + TOUCH + b"\x85\x81.",
    "NEWOBJ_EX": SYSTEM + TOUCH + b"\x85}\x92.",
    "NEWOBJ_EX with names": SYSTEM + TOUCH + b"\x85}X\x01\x00\x00\x00aK\x01s\x92.",
    "STACK_GLOBAL": b"\x8c\x02os\x8c\x06system\x93" + TOUCH + b"\x85R.",
    "from the memo": SYSTEM + b"q\x010h\x01" + TOUCH + b"\x85R.",
    "nested in a tensor": name("torch._tensor", "_rebuild_from_type_v2") + b"(" + SYSTEM + name("torch", "Tensor") + TOUCH + b"\x85NtR.",
    "as a type": b"(" + opcodes("storage") + SYSTEM + opcodes("0") + opcodes("cpu") + opcodes(3) + b"tQ.",
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_opcode_calls(way: str, program: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        read(carried(b"\x80\x02" + PROGRAMS[program], way, tmp_path / "evil.pt"))
    assert caught.value.problems[0].got == "os.system"


REBUILD = name("torch._utils", "_rebuild_tensor_v2")
DAMAGED = {
    "REDUCE on a record": b"cargparse\nNamespace\n)R)R.",
    "REDUCE on a dict": b"})R.",
    "REDUCE without a tuple": REBUILD + b"]R.",
    "BUILD on a name": REBUILD + b"}b.",
    "BUILD on a dict": b"}}b.",
    "BUILD on a list": b"]}b.",
    "BUILD on a number": b"K\x01}b.",
    "BUILD on None": b"N}b.",
    "EXT1": b"\x82\x01.",
    "PERSID": b"P0\n.",
    "NEXT_BUFFER": b"\x97.",
    "SETITEMS on a list": b"](K\x01K\x02u.",
    "APPEND to a dict": b"}K\x01a.",
    "SETITEMS with a key alone": b"}(K\x01u.",
    "POP of nothing": b"0.",
    "an unknown memo": b"h\x05.",
    "two values": b"NN.",
    "no value": b".",
    "a parameter of nothing": name("torch.nn.parameter", "Parameter") + b")R.",
    "a tensor of nothing": REBUILD + b")R.",
    "a tensor of texts": call(REBUILD, *map(opcodes, "abcd")) + b".",
    "pairs that are none": name("collections", "OrderedDict") + b"]K\x01a\x85R.",
    "a dict of text": name("collections", "OrderedDict") + opcodes("ab") + b"\x85R.",
    "an unknown opcode": b"\xff.",
    "no end": b"}",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_pickles(way: str, damage: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        read(carried(b"\x80\x02" + DAMAGED[damage], way, tmp_path / "evil.pt"))
    assert caught.value.problems[0].where == str(tmp_path / "evil.pt")


GREEDY = {
    "long text": b"X\xff\xff\xff\x7f",
    "long bytes": b"\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "long bytearray": b"\x96" + struct.pack("<Q", 1 << 33) + b"x.",
    "long number": b"\x8b\xff\xff\xff\x7f",
    "far memo": b"]r\xff\xff\xff\xff.",
    "far line": b"I" + b"9" * 100_000 + b"\n.",
    "a tower of tuples": b")" + b"2\x86" * 200 + b"}2.",
    "a tower as a key": b"}" + b")" + b"2\x86" * 200 + b"K\x01s.",
    "a tower of lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "a dict in itself": b"}q\x00X\x05\x00\x00\x00modelh\x00sX\x01\x00\x00\x00ah\x00s.",
    "copies": name("collections", "OrderedDict") + b"q\x00]q\x01(" + b"(K\x01K\x02l" * 1000 + b"e0" + b"h\x00h\x01\x85R0" * 2000 + b"N.",
}  # fmt: skip


@contextlib.contextmanager
def little_memory(most: int) -> Iterator[None]:
    """What happens in the block takes so much memory at most, by Python's own count."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", GREEDY)
def test_no_pickle_takes_memory_or_time(way: str, program: str, tmp_path: Path) -> None:
    path = carried(b"\x80\x02" + GREEDY[program], way, tmp_path / "greedy.pt")
    with little_memory(24 << 20), pytest.raises(FormatError):
        read(path)


def test_a_pickle_of_too_many_opcodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "_MOST_OPCODES", 100)
    with pytest.raises(FormatError, match="more than 100 opcodes"):
        unpickling.Interpreter(io.BytesIO(b"\x80\x02" + b"}0" * 60 + b"N.")).load()


def test_tensors_cannot_claim_more_than_the_file(tmp_path: Path) -> None:
    torch.save({f"w{number}": torch.ones(1).expand(1000, 100) for number in range(3)}, tmp_path / "a.pt")
    with pytest.raises(FormatError, match="claim more than the file can hold"):
        read(tmp_path / "a.pt")
    huge = call(name("torch._utils", "_rebuild_tensor_v2"), storage("FloatStorage", "1", 1 << 40, b"N"),
                *map(opcodes, (0, (1 << 40,), (1,), False, OrderedDict())))  # fmt: skip
    with pytest.raises(FormatError, match=r"cut short|not listed|damaged"):
        read(legacy(tmp_path / "b.pt", dictionary({"w": huge}), {"1": VALUES}))
    for shape in ((0, 1 << 56), (0, 1 << 62), (0,) * 33):
        empty = call(name("torch._utils", "_rebuild_tensor_v2"), storage("FloatStorage", "1", 12, b"N"),
                     *map(opcodes, (0, shape, (1,) * len(shape), False, OrderedDict())))  # fmt: skip
        with pytest.raises(FormatError):
            read_tensors(legacy(tmp_path / "b.pt", dictionary({"w": empty}), {"1": VALUES}))


@pytest.fixture(scope="module")
def samples(programs: tuple[Path, Forecaster], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, module = programs
    target = tmp_path_factory.mktemp("samples")
    for save in SAVES:
        save({"state_dict": module.state_dict(), "epoch": 3}, target / save.__name__)
    with (target / "written").open("wb") as file:
        write({key: tensor.numpy() for key, tensor in module.state_dict().items()}, file, "text")
    files = [*sorted(target.iterdir()), *sorted(folder.iterdir())]
    return {path.name: path.read_bytes() for path in files}


KINDS = [
    "zip_save",
    "old_save",
    "old_save_protocol_4",
    "written",
    "scripted.pt",
    "traced.jit",
    "frozen.pt",
    "exported.pt2",
]


def read_all(path: Path) -> None:
    for tensor in read(path).tensors.values():
        assert numbers(tensor).shape == tuple(tensor.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(samples: dict[str, bytes], kind: str, tmp_path: Path) -> None:
    content, path = samples[kind], tmp_path / "cut.pt"
    ends = {*range(1, 40), *range(len(content) - 40, len(content)), *range(1, len(content), 1024)}
    for end in sorted({*ends, *range(1, len(content), max(len(content) // 100, 1))}):
        path.write_bytes(content[:end])
        with pytest.raises(FormatError) as caught:
            read_all(path)
        assert caught.value.problems[0].where == str(path)
        assert caught.value.problems[0].remedy


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_raise_only_errors_of_parity(samples: dict[str, bytes], kind: str, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(1), tmp_path / "damaged.pt"
    wheres = list[str]()
    for _ in range(250):
        content = bytearray(samples[kind])
        for position in rng.integers(0, len(content), 3):
            content[position] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(content)
        try:
            read_all(path)
        except ParityError as error:
            wheres.append(error.problems[0].where)
    assert wheres  # all of them where every byte is under a checksum
    assert all(where.endswith(str(path)) for where in wheres)


@pytest.mark.parametrize("kind", ["zip_save", "scripted.pt", "frozen.pt", "exported.pt2"])
def test_damaged_pickles_and_lists_in_whole_zips(samples: dict[str, bytes], kind: str, tmp_path: Path) -> None:
    rng, source, path = np.random.default_rng(2), tmp_path / "whole.pt", tmp_path / "damaged.pt"
    source.write_bytes(samples[kind])
    with zipfile.ZipFile(source) as archive:
        small = [member for member in archive.namelist() if member.endswith((".pkl", ".json", "byteorder", ".py"))]
        contents = {member: archive.read(member) for member in small}
    for _ in range(250):
        member = small[int(rng.integers(0, len(small)))]
        content = bytearray(contents[member])
        for position in rng.integers(0, len(content), 2):
            content[position] = int(rng.integers(0, 256))
        with contextlib.suppress(ParityError):
            read_all(rewritten(source, path, {member: bytes(content)}))


def test_archives_within_files(tmp_path: Path) -> None:
    inner = zipped("a")
    path = tmp_path / "outer"
    path.write_bytes(b"before" + inner + b"after")
    with Archive(path, "a zip", (6, len(inner))) as archive:
        place = archive.place("a")
        assert archive.read("a") == b"x"
    assert place is not None
    assert path.read_bytes()[place : place + 1] == b"x"
    with pytest.raises(FormatError):
        Archive(path, "a zip", (0, 3))


def test_a_member_whose_local_header_lies(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(30)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        header = archive.getinfo("a/data/0").header_offset
    for at, value in ((header, b"XX"), (header + 28, b"\xff\xff")):
        changed = content[:at] + value + content[at + 2 :]
        (tmp_path / "b.pt").write_bytes(changed)
        with pytest.raises(FormatError, match="'a/data/0' cannot be read"):
            read(tmp_path / "b.pt")


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_a_flipped_bit_in_a_large_tensor_is_noticed_when_it_is_read(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = parity.read(torch.nn.LSTM(40, 600))
    path = tmp_path / f"large{suffix}"
    write_file(network, path)
    assert network.recurrent[0].weights[0].recurrent.nbytes > LARGE_BYTES
    content = bytearray(path.read_bytes())
    at = content.index(np.asarray(network.recurrent[0].weights[0].recurrent[2, 100]).tobytes())
    content[at + 1] ^= 4
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"checksum|CRC-32|cannot be read"):
        parity.to_torch(path)


@pytest.mark.parametrize("way", ["scripted", "traced", "exported"])
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_a_program_says_the_nonlinearity_of_its_rnn(nonlinearity: str, way: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    rnn = torch.nn.RNN(4, 5, nonlinearity=nonlinearity, batch_first=True)
    model, x = torch.nn.ModuleDict({"rnn": rnn})["rnn"], torch.randn(3, 6, 4)
    path = tmp_path / ("a.pt2" if way == "exported" else "a.pt")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: of TorchScript's end, and of attributes that are no buffers
        if way == "exported":
            torch.export.save(torch.export.export(model, (x,)), path)
        else:
            make: Any = torch.jit.script if way == "scripted" else lambda module: torch.jit.trace(module, x)  # type: ignore[no-untyped-call]
            torch.jit.save(make(model), path)
        expected = rnn(x)[0].numpy()
    layer = parity.read(path).recurrent[0]
    assert layer.cells[0].functions[0].name == nonlinearity
    found = parity.run(layer, x.numpy(), engine="reference").sequence
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_a_small_pickle_takes_little_memory(tmp_path: Path) -> None:
    """A buffer for the largest pickle is a thousand times this file."""
    path = tmp_path / "list.pt"
    path.write_bytes(pickle.dumps(list(range(700))))
    tracemalloc.start()
    with pytest.raises(FormatError, match="a pickle that"):
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
