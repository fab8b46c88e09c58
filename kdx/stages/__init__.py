"""The stages of a run, by name. Nothing here is imported until a stage really runs: a run from the store needs no torch.

In capitals, as importing kdx.stages.train makes the module the attribute `train` of this package.
"""

from kdx.store import Stage

PREPARE = Stage("prepare", "kdx.stages.prepare")
REVEAL = Stage("reveal", "kdx.stages.reveal")
PROBE = Stage("probe", "kdx.stages.probe")
PRETRAIN = Stage("teacher-pretrain", "kdx.stages.pretrain")
LABEL = Stage("pseudo-label", "kdx.stages.label")
GATE = Stage("gate", "kdx.stages.gate")
CHOOSE = Stage("choose", "kdx.stages.choose")
TRAIN = Stage("train", "kdx.stages.train")
AUDIT = Stage("audit", "kdx.stages.audit")
EVALUATE = Stage("evaluate", "kdx.stages.evaluate")
