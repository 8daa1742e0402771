"""Exported programs, `.pt2`: the weights by name, from the JSON that lists them. The graph is data here; nothing of it runs.

Today (`torch/export/pt2_archive/_package.py`, `constants.py`): one folder with

    archive_format                        "pt2"
    models/NAME.json                      the graph
    data/weights/NAME_weights_config.json for each weight: file, type, sizes, strides, offset; the weights in data/weights/weight_N
    data/constants/                       likewise

Before, within that folder: data/weights/NAME.pt, a file of torch.save. Older (`torch/export/__init__.py`, `save` and `load`): a plain
zip of `version`, `serialized_exported_program.json` and `serialized_state_dict.pt` (at first `.json`), a file of torch.save.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from parity.errors import UnsupportedError
from parity.files.archive import Archive
from parity.files.stored import BFLOAT16, Contents, Stored, in_words
from parity.files.torch.rebuild import Storage, View
from parity.files.torch.storage import Place, placed_tensors, record
from parity.files.torch.zipped import check_byte_order, read_state_dict

FORM = "torch exported program"
PROGRAM = (
    "what is computed stands in its graph, which torch alone opens, by code of the file's own (pickle): if you trust the file, hand "
    "torch.export.load(path).module() to parity.convert or parity.compare, with example inputs"
)

_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"), 2: np.dtype("i1"), 3: np.dtype("<i2"), 4: np.dtype("<i4"), 5: np.dtype("<i8"), 6: np.dtype("<f2"),
    7: np.dtype("<f4"), 8: np.dtype("<f8"), 10: np.dtype("<c8"), 11: np.dtype("<c16"), 12: np.dtype("?"), 13: BFLOAT16,
    28: np.dtype("<u2"), 34: np.dtype("<u4"), 35: np.dtype("<u8"),
}  # fmt: skip
"""`torch/_export/serde/schema.py`, ScalarType."""

_OLD, _MOST_JSON_BYTES, _MOST_AXES, _MOST_NUMBER, _STRIDED = "serialized_exported_program.json", 1 << 25, 32, 1 << 60, 7
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def is_export(archive: Archive) -> bool:
    """Whether a zip is an exported program or another package of torch's `.pt2` layout."""
    inner = {name.partition("/")[2] for name in archive.names}
    return (
        _OLD in archive.names
        or "archive_format" in inner
        or any(name.startswith("data/aotinductor/") for name in inner)
    )


def read_export(archive: Archive) -> Contents:
    """The weights of an exported program; `details` names the recurrent operators of its graph and their options.

    Raises:
        FormatError: a damaged file, or another archive that says it is one.
        UnsupportedError: an AOTInductor package, whose weights are compiled in; tensors of kinds that are not read.
    """
    if _OLD in archive.names:
        return _read_old(archive)
    root = next((name.partition("/")[0] for name in archive.names if name.endswith("/archive_format")), "")
    root = root or next(name.partition("/")[0] for name in archive.names if "/data/aotinductor/" in name)
    graphs = [name for name in archive.names if name.startswith(f"{root}/models/") and name.endswith(".json")]
    if not graphs:
        raise UnsupportedError(
            "a package of compiled code (AOTInductor) has no weights that could be read",
            str(archive.path),
            "a program of torch.export.save",
            "data/aotinductor/" if any("/data/aotinductor/" in name for name in archive.names) else "no graph",
            "save the module before it is compiled: torch.save(module.state_dict(), path)",
        )
    if archive.read(f"{root}/archive_format", 64) != b"pt2":
        raise archive.fault("another archive format", "pt2", "something else")
    check_byte_order(archive, f"{root}/")
    tensors: dict[str, Stored] = {}
    options: dict[str, dict[str, str]] = {}
    for graph in graphs:
        model = graph.rpartition("/")[2].removesuffix(".json")
        before = f"{model}." if len(graphs) > 1 else ""
        tensors |= {before + name: tensor for name, tensor in _weights(archive, root, model).items()}
        options |= {before + place: own for place, own in _options(_json(archive, graph)).items()}
    return Contents(tensors, FORM, in_words(options), program=PROGRAM, options=options)


def _read_old(archive: Archive) -> Contents:
    names = [name for name in ("serialized_state_dict.pt", "serialized_state_dict.json") if name in archive.names]
    if not names:
        raise archive.fault("it has no state dict", "serialized_state_dict.pt", ", ".join(archive.names[:8]))
    contents = _inner(archive, names[0])
    version = archive.read("version", 64).decode("latin-1").strip() if "version" in archive.names else ""
    options = _options(_json(archive, _OLD))
    details = {**contents.details, **({"schema": version} if version else {}), **in_words(options)}
    return Contents(contents.tensors, FORM, details, program=PROGRAM, options=options)


def _inner(archive: Archive, name: str, bare: str = "") -> Contents:
    """A file of torch.save that is a member of the zip."""
    start, size = archive.place(name, checked=False), archive.size(name)
    if start is None:
        raise archive.fault(f"'{name}' is compressed", "a stored member", "a compressed one")
    with Archive(archive.path, f"a file of torch.save in '{name[-60:]}'", (start, size)) as inner:
        return read_state_dict(inner, bare)


def _json(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name, _MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise archive.fault(f"'{name[-60:]}' is no JSON", "JSON", str(error)[:80]) from error


def _weights(archive: Archive, root: str, model: str) -> dict[str, Stored]:
    """The weights of one of the models."""
    folder = f"{root}/data/weights/"
    if f"{folder}{model}.pt" in archive.names:
        return dict(_inner(archive, f"{folder}{model}.pt").tensors)
    configs = [f"{folder}{model}_{kind}_config.json" for kind in ("weights", "model_param")]
    config = next((name for name in configs if name in archive.names), None)
    if config is None:
        raise archive.fault("its weights are not listed", configs[0], "no such member")
    entries = _json(archive, config)
    entries = entries.get("config") if isinstance(entries, dict) else None
    if not isinstance(entries, dict):
        raise archive.fault(f"'{config[-60:]}' lists no weights", "an entry for each weight", type(entries).__name__)
    views: dict[str, View] = {}
    pickled: dict[str, str] = {}
    for name, entry in entries.items():
        try:
            if entry["use_pickle"] is True:
                pickled[name] = entry["path_name"]
            else:
                views[name] = _view(entry["path_name"], entry["tensor_meta"], archive.size(folder + entry["path_name"]))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            got = (str(error) or type(error).__name__)[:120]
            raise archive.fault(
                f"the entry of '{name[:60]}' is damaged", "file, type, sizes and strides", got
            ) from error

    def place(storage: Storage) -> Place:
        return record(archive, folder + storage.key)

    found = placed_tensors(views, place, archive.path, "an exported program")
    for name, file in pickled.items():
        (found[name],) = _inner(archive, f"{folder}{file}", name).tensors.values()
    return {name: found[name] for name in entries}


def _view(file: Any, meta: Any, nbytes: int) -> View:
    """A weight, from its `PayloadMeta`."""
    shape, strides = (_whole_numbers(meta[key]) for key in ("sizes", "strides"))
    (offset,) = _whole_numbers([meta["storage_offset"]])
    dtype = _TYPES.get(meta["dtype"])
    odd = "" if dtype is not None and meta["layout"] == _STRIDED else f"type {meta['dtype']}, layout {meta['layout']}"
    known = np.dtype("u1") if dtype is None else dtype
    if not isinstance(file, str) or len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise ValueError("sizes and strides do not fit each other")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and not odd and (last + 1) * known.itemsize > nbytes:
        raise ValueError(f"shape {shape} reaches beyond its {nbytes} bytes")
    if nbytes % known.itemsize:
        raise ValueError(f"{nbytes} bytes are no numbers of {known.itemsize} bytes")
    storage = Storage("UntypedStorage", file, nbytes, 0, nbytes)
    return View(storage, offset, shape, strides, known, odd[:80])


def _whole_numbers(values: Any) -> tuple[int, ...]:
    found = tuple(value["as_int"] for value in values)
    if any(type(value) is not int or not 0 <= value < _MOST_NUMBER for value in found):
        raise ValueError("sizes that are no numbers")
    return found


def _options(graph: Any) -> dict[str, dict[str, str]]:
    """The recurrent modules of a graph, and what their operators are given."""
    try:
        module = graph["graph_module"]
        named = dict(_parameters(module["signature"]["input_specs"]))
        return dict(found for node in module["graph"]["nodes"] for found in _operator(node, named))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return {}  # what is not as torch writes it says nothing; the weights do not depend on it


def _parameters(specs: Any) -> Any:
    for spec in specs:
        for kind in ("parameter", "buffer"):
            if kind in spec:
                yield spec[kind]["arg"]["name"], spec[kind][f"{kind}_name"]


def _operator(node: Any, named: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The options of a node of aten::lstm, gru, rnn_tanh or rnn_relu on padded sequences."""
    parts = node["target"].split(".")
    if parts[:3] != ["torch", "ops", "aten"] or parts[3] not in _RECURRENT or parts[4:] != ["input"]:
        return []
    inputs = [item["arg"] for item in node["inputs"]]
    first = named.get(inputs[2]["as_tensors"][0]["name"], "")
    options = {"batch_first": str(inputs[8]["as_bool"])}
    if parts[3].startswith("rnn_"):
        options["nonlinearity"] = parts[3][4:]
    return [(first.rpartition(".")[0], options)]
