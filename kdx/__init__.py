"""kdx: config-driven experiments in knowledge distillation."""

from importlib import import_module

__version__ = "0.1.0"
__all__ = (
    "Comparison Predictions Run RunFailed Sweep UserError "
    "command compare list load open plan settings sweep train"
).split()


def load(folder, allow=()):
    """The network in a folder made by `kdx export`, on the CPU, in eval mode: (N, C, H, W) float32 in [0, 1]
    -> (N, K) logits.

    allow: packages of your own that the model comes from. See kdx.runs.export.formats.load; torch is
    imported here and not before.
    """
    return import_module("kdx.runs.export.formats").load(folder, allow)


def __getattr__(name):
    """What kdx.api offers, imported when it is asked for: `import kdx` stays quick. Types: __init__.pyi."""
    if name not in __all__:
        raise AttributeError(f"module 'kdx' has no attribute {name!r}")
    found = vars(import_module("kdx.api"))[name]
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *__all__})
