"""kdx: config-driven experiments in knowledge distillation."""

from importlib import import_module

__version__ = "0.1.0"


def load(folder, allow=()):
    """The network in a folder made by `kdx export`, on the CPU, in eval mode: (N, C, H, W) float32 in [0, 1]
    -> (N, K) logits.

    allow: packages of your own that the model comes from. See kdx.runs.export.formats.load; torch is
    imported here and not before.
    """
    return import_module("kdx.runs.export.formats").load(folder, allow)
