"""One file a control: a student that learns from labels only, to compare the distilled one with."""

CONTROLS = {
    "baseline": "kdx.pipeline.controls.baseline.Baseline",
    "noiseless": "kdx.pipeline.controls.noiseless.Noiseless",
    "ceiling": "kdx.pipeline.controls.ceiling.Ceiling",
    "validation_labels": "kdx.pipeline.controls.validation_labels.ValidationLabels",
}
"""role -> the control of kdx's own that a key of that name in conf/train.yaml asks for, in the order in which
they are trained.
"""
