"""The stages of a run, by name. Nothing here is imported until a stage really runs: a run from the store
needs no torch.

In capitals, as importing kdx.pipeline.stages.train makes the module the attribute `train` of this package.
"""

from kdx.store.store import Stage

DATA = (
    "labelled.inputs*.npy",
    "labelled.truth*.npy",
    "validation.inputs*.npy",
    "validation.truth*.npy",
    "data.json",
)
_NETWORK = ("last.safetensors", "model.json", "summary.json")
GOES_ON = ("checkpoint.pt", "checkpoint.json")

PREPARE = Stage(
    "prepare",
    "kdx.pipeline.stages.prepare",
    writes=(*DATA, "test.inputs*.npy", "test.truth*.npy", "unlabelled.inputs*.npy", "truth*.npy"),
)
REVEAL = Stage("reveal", "kdx.pipeline.stages.reveal", writes=DATA)
PROBE = Stage("probe", "kdx.pipeline.stages.probe", writes=("probe.json",))
PRETRAIN = Stage("teacher-pretrain", "kdx.pipeline.stages.pretrain", writes=_NETWORK, resumes=GOES_ON)
LABEL = Stage(
    "pseudo-label", "kdx.pipeline.stages.label", writes=("answers.json",), resumes=(*GOES_ON, "*.npy")
)
GATE = Stage("gate", "kdx.pipeline.stages.gate", writes=("gate.json",))
CHOOSE = Stage("choose", "kdx.pipeline.stages.choose", writes=("rows.npy", "chosen.json"))
TRAIN = Stage("train", "kdx.pipeline.stages.train", writes=_NETWORK, resumes=GOES_ON)
AUDIT = Stage("audit", "kdx.pipeline.stages.audit", writes=("audit.json",))
EVALUATE = Stage("evaluate", "kdx.pipeline.stages.evaluate", writes=("results.json", "examples.json"))
