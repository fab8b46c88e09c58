"""Bytes of an ONNX file opened by onnxruntime, on the processor and with nothing read beside them."""

from __future__ import annotations

import os
from typing import Any

import torch

from kdx.core.errors import UserError

_BESIDE = "session.model_external_initializers_file_folder_path"


def open_session(content: bytes, named: str, wants: str) -> Any:
    """An onnxruntime.InferenceSession. named: what a sentence calls the file; wants: what needs the extra.
    Raises UserError where that is not installed, or the bytes are no graph with its weights inside."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{wants} needs onnxruntime, which is not installed: pip install 'kdx[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    # else a graph could have files of the working directory read as its weights
    options.add_session_config_entry(_BESIDE, f"{os.devnull}/none")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # many kinds, all its own
        why = " ".join(str(error).split())[:160]
        raise UserError(
            f"{named} cannot be opened by onnxruntime: {why}; it must be one .onnx file with its weights "
            "inside"
        ) from None
