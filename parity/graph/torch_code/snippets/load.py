"""Reading the weights."""

import json
from pathlib import Path

import torch
from torch import Tensor


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file (https://github.com/huggingface/safetensors) by name."""
    dtypes = {
        "F64": torch.float64,
        "F32": torch.float32,
        "I64": torch.int64,
        "BOOL": torch.bool,
    }
    tensors = {}
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > Path(path).stat().st_size:
            raise ValueError(f"{path} is not a .safetensors file")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            data = bytearray(end - start)
            file.seek(8 + length + start)
            if file.readinto(data) != len(data):
                raise ValueError(f"{path} is cut short")
            tensor = torch.frombuffer(data, dtype=dtypes[entry["dtype"]])
            tensors[name] = tensor.reshape(entry["shape"])
    return tensors
