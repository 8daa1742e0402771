"""Names in the code that is written."""

from __future__ import annotations

import re
from collections.abc import Set

from parity.graph.code import identifiers

_MODULE_NAMES = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
"""
MODULE_NAMES = frozenset(_MODULE_NAMES.split())
"""What `torch.nn.Module` has already, and no layer may be called."""

PYTHON_NAMES = frozenset(
    {
        *("self", "torch", "nn", "F", "math", "json", "Tensor", "Path", "NamedTuple", "Outputs"),
        *("PackedSequence", "pack_padded_sequence", "pad_packed_sequence", "load", "read_safetensors"),
        *("pack_valid", "unpack_valid", "masked_lstm", "masked_rnn", "repeat_last", "pad_same", "group_norm"),
        *(
            "len",
            "tuple",
            "str",
            "int",
            "float",
            "bool",
            "enumerate",
            "super",
            "zip",
            "max",
            "bytearray",
            "list",
            "ValueError",
        ),
    }
)
"""What the code uses, and no variable or class may be called."""

_GENERATED = re.compile(r"(input(_layer)?|inputs|keras_tensor|args)(_[0-9]+)?\Z")
"""Names of inputs that nobody chose."""


def argument_names(names: list[str]) -> dict[str, str]:
    """What the arguments of `forward` are called, by the names of the inputs.

    Example:
        >>> argument_names(["input_1"]), argument_names(["past", "input_2"])
        ({'input_1': 'x'}, {'past': 'past', 'input_2': 'input_2'})
    """
    if len(names) == 1 and _GENERATED.match(names[0]):
        return {names[0]: "x"}
    return identifiers(names, PYTHON_NAMES)


def short(name: str, index: int = 0) -> list[str]:
    """Names for a variable that holds what a layer gives, the best first.

    Example:
        >>> short("encoder/matmul_3"), short("lstm", 1)
        (['encoder_matmul', 'encoder_matmul_3'], ['lstm_1'])
    """
    (full,) = identifiers([name.lstrip("/.")], PYTHON_NAMES).values()
    if index:
        return [f"{full}_{index}"]
    base = re.sub(r"_[0-9]+\Z", "", full)
    return [base, full] if base and base != full and base not in PYTHON_NAMES else [full]


def class_name(name: str, reserved: Set[str] = PYTHON_NAMES) -> str:
    """A class for a model or a layer.

    Example:
        >>> class_name("my_tagger 2"), class_name("BiLSTM"), class_name("3d")
        ('MyTagger2', 'BiLSTM', 'Model3d')
    """
    words = re.findall(r"[A-Za-z0-9]+", name)[:8]
    found = "".join(word[0].upper() + word[1:] for word in words)[:60] or "Model"
    found = f"Model{found}" if found[0].isdigit() else found
    while found in reserved or found in ("True", "False", "None"):
        found = f"{found}Model"
    return found


__all__ = ["MODULE_NAMES", "PYTHON_NAMES", "argument_names", "class_name", "short"]
