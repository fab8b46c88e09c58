"""The stages of a run, by name. Nothing here is imported until a stage really runs: a run from the store needs no torch."""

from kdx.store import Stage

prepare = Stage("prepare", "kdx.stages.prepare")
probe = Stage("probe", "kdx.stages.probe")
pretrain = Stage("teacher-pretrain", "kdx.stages.pretrain")
label = Stage("pseudo-label", "kdx.stages.label")
train = Stage("train", "kdx.stages.train")
evaluate = Stage("evaluate", "kdx.stages.evaluate")
