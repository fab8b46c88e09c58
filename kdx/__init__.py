"""kdx: config-driven experiments in knowledge distillation."""

__version__ = "0.1.0"
