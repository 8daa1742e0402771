"""The files of a model as code: source and weights. Imports no framework, but onnx for ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from parity.files.safetensors_file import write as write_safetensors
from parity.frameworks import framework
from parity.graph.code import Code
from parity.graph.graph import Graph
from parity.graph.keras_code import keras_code, write_weights
from parity.graph.torch_code import torch_code

CodeTarget = Literal["torch", "keras", "onnx"]

SOURCE = "model.py"
WEIGHTS: dict[CodeTarget, str] = {"torch": "model.safetensors", "keras": "model.weights.h5", "onnx": "model.onnx"}
"""What holds the weights of each target; ONNX's file is the whole model."""


def write_files(graph: Graph, target: CodeTarget, folder: Path) -> Code:
    """Source code and weights of a graph, in a folder that is there; its stubs become what raises, or is refused, until it is filled in.

    Raises:
        UnsupportedError: the model is not kept exactly in the target.

    Example:
        >>> import tempfile
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.activation("tanh", build.input("x", ("batch", 3)))})
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = write_files(graph, "torch", folder)
        >>> sorted(file.name for file in folder.iterdir())
        ['model.py', 'model.safetensors']
    """
    if target == "onnx":
        onnx = framework("onnxruntime")
        model = onnx.build_whole(graph, partial=True)
        (folder / WEIGHTS[target]).write_bytes(model.SerializeToString())
        stubs = tuple(stub.name for stub in graph.without_unused().stubs)
        return Code("", {}, (*onnx.unfilled(model), *onnx.form(model).notes), stubs)
    code = torch_code(graph) if target == "torch" else keras_code(graph)
    (folder / SOURCE).write_text(code.source, encoding="utf-8", newline="\n")
    if target == "keras":
        write_weights(code, folder / WEIGHTS[target])
    else:
        with (folder / WEIGHTS[target]).open("xb") as file:
            write_safetensors(code.weights, file)
    return code


__all__ = ["SOURCE", "WEIGHTS", "CodeTarget", "write_files"]
