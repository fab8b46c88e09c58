"""The stages of a run, by name. Nothing here is imported until a stage really runs: a run from the store
needs no torch.

In capitals, as importing kdx.pipeline.stages.train makes the module the attribute `train` of this package.
"""

from dataclasses import replace

from kdx.store.stage import Stage

DATA = (
    "labelled.rows.npy",
    "labelled.truth*.npy",
    "validation.rows.npy",
    "validation.truth*.npy",
    "data.json",
)
_NETWORK = ("last.safetensors", "model.json", "summary.json")
RELEASED_LABELS, TRUE_LABELS, EXACT_LABELS, PLAIN_LABELS = "released", "true", "exact", "plain"
"""Whose labels public rows have, see kdx.pipeline.stages.answered."""
PRIVACY = "privacy"
"""Key of a data.json whose labels were released under a guarantee, and of a model.json that learned from
them."""
GOES_ON = ("checkpoint.pt", "checkpoint.json")
_LESS_DATA = "dataset.labelled and dataset.unlabelled, or the size of a row"

DECODE = Stage(
    "decode",
    "kdx.pipeline.stages.decode",
    writes=("train.inputs*.npy", "train.truth*.npy", "raw.json", "decoded.json"),
    lower="the size of a row",
    foretold="kdx.pipeline.foretelling.data.Decode",
)
PREPARE = Stage(
    "prepare",
    "kdx.pipeline.stages.prepare",
    writes=(*DATA, "test.rows.npy", "test.truth*.npy", "unlabelled.rows.npy", "truth*.npy"),
    lower=_LESS_DATA,
    foretold="kdx.pipeline.foretelling.data.Prepare",
)
REVEAL = Stage(
    "reveal",
    "kdx.pipeline.stages.reveal",
    writes=DATA,
    node="student_train",
    lower=_LESS_DATA,
    foretold="kdx.pipeline.foretelling.data.Reveal",
)
ROLLOUT = Stage(
    "rollout",
    "kdx.pipeline.stages.rollout",
    writes=(*DATA, "rolled.*.npy", "seen.*.npy"),
    node="student_train",
    lower="recipe.on_policy, or take shorter rows",
    foretold="kdx.pipeline.foretelling.rollouts.Rollout",
)
INVERT = Stage(
    "invert",
    "kdx.pipeline.stages.invert",
    writes=(*DATA, "labelled.inputs.npy", "labelled.origin.npy"),
    node="pseudo_label",
    lower="recipe.rows, or take a smaller teacher or smaller rows",
    foretold="kdx.pipeline.foretelling.data.MadeOfNoise",
)
SESSION = Stage(
    "session",
    "kdx.pipeline.stages.session",
    writes=DATA,
    node="student_train",
    lower=_LESS_DATA,
    foretold="kdx.pipeline.foretelling.sessions.Session",
)
SESSIONS = Stage(
    "sessions",
    "kdx.pipeline.stages.sessions",
    writes=("sessions.json",),
    node="student_train",
    foretold="kdx.pipeline.foretelling.sessions.Sessions",
)
PREQUENTIAL = Stage(
    "prequential",
    "kdx.pipeline.stages.prequential",
    writes=("prequential.json",),
    node="student_train",
    foretold="kdx.pipeline.foretelling.sessions.Prequential",
)
DIVIDE = Stage(
    "divide",
    "kdx.pipeline.stages.divide",
    writes=DATA,
    lower=_LESS_DATA,
    foretold="kdx.pipeline.foretelling.private.Divide",
)
SHARDS = Stage(
    "shard-teachers",
    "kdx.pipeline.stages.shards",
    writes=("said.npy", "asked.npy", "shards.json"),
    resumes=GOES_ON,
    node="teacher_pretrain",
    lower="teacher_pretrain.batch_size, or take a smaller teacher or smaller rows",
    foretold="kdx.pipeline.foretelling.private.Shards",
)
RELEASE = Stage(
    "release",
    "kdx.pipeline.stages.release",
    writes=("labels.npy", "asked.npy", "release.json"),
    node="pseudo_label",
    foretold="kdx.pipeline.foretelling.private.Release",
)
ANSWERED = Stage(
    "answered",
    "kdx.pipeline.stages.answered",
    writes=(*DATA, "unlabelled.rows.npy", "truth*.npy"),
    node="student_train",
    lower=_LESS_DATA,
    foretold="kdx.pipeline.foretelling.private.Answered",
)
ATTACK = Stage(
    "attack",
    "kdx.pipeline.stages.attack",
    writes=("attack.json",),
    node="student_train",
    foretold="kdx.pipeline.foretelling.private.Membership",
)
PROBE = Stage(
    "probe",
    "kdx.pipeline.stages.probe",
    writes=("probe.json",),
    foretold="kdx.pipeline.foretelling.others.Probe",
)
PRETRAIN = Stage(
    "teacher-pretrain",
    "kdx.pipeline.stages.pretrain",
    writes=_NETWORK,
    resumes=GOES_ON,
    node="teacher_pretrain",
    lower="teacher_pretrain.batch_size, or take a smaller teacher or smaller rows",
    foretold="kdx.pipeline.foretelling.teacher.Pretrain",
)
THROUGH = replace(PRETRAIN, name="teacher-through", foretold="kdx.pipeline.foretelling.teacher.BeforeTeacher")
BEFORE = Stage(
    "teacher-before",
    "kdx.pipeline.stages.pretrain",
    writes=_NETWORK,
    node="teacher_pretrain",
    foretold="kdx.pipeline.foretelling.teacher.BeforeTeacher",
)
_ANSWERS = ("*.npy", "*.bin", "*.starts", "*.counts")
LABEL_SHARD = Stage(
    "label-shard",
    "kdx.pipeline.stages.label_shard",
    writes=("shard.json",),
    resumes=(*GOES_ON, *_ANSWERS),
    node="pseudo_label",
    lower="pseudo_label.views or dataset.unlabelled, or take a smaller teacher",
    foretold="kdx.pipeline.foretelling.labelling.LabelShard",
)
LABEL = Stage(
    "pseudo-label",
    "kdx.pipeline.stages.label",
    writes=("answers.json",),
    resumes=(*GOES_ON, *_ANSWERS),
    node="pseudo_label",
    lower="pseudo_label.views or dataset.unlabelled, or take a smaller teacher",
    foretold="kdx.pipeline.foretelling.labelling.Label",
)
GIVEN = Stage(
    "given-answers",
    "kdx.pipeline.stages.given",
    writes=("rows.npy", "answers.json"),
    foretold="kdx.pipeline.foretelling.teacher.GivenAnswers",
)
GATE = Stage(
    "gate",
    "kdx.pipeline.stages.gate",
    writes=("gate.json",),
    node="student_train",
    foretold="kdx.pipeline.foretelling.others.Gate",
)
PROXY = Stage(
    "proxy",
    "kdx.pipeline.stages.proxy",
    writes=("proxy.json",),
    node="pseudo_label",
    foretold="kdx.pipeline.foretelling.others.Proxy",
)
CHOOSE = Stage(
    "choose",
    "kdx.pipeline.stages.choose",
    writes=("rows.npy", "chosen.json"),
    node="pseudo_label",
    foretold="kdx.pipeline.foretelling.others.Choose",
)
TRAIN = Stage(
    "train",
    "kdx.pipeline.stages.train",
    writes=_NETWORK,
    resumes=GOES_ON,
    node="student_train",
    lower="student_train.batch_size, or take a smaller student or smaller rows",
    foretold="kdx.pipeline.foretelling.training.Train",
)
AUDIT = Stage(
    "audit",
    "kdx.pipeline.stages.audit",
    writes=("audit.json",),
    foretold="kdx.pipeline.foretelling.others.Audit",
)
PREDICT = Stage(
    "predict",
    "kdx.pipeline.stages.predict",
    writes=("answers.safetensors", "predicted.json"),
    foretold="kdx.pipeline.foretelling.others.Predict",
)
EVALUATE = Stage(
    "evaluate",
    "kdx.pipeline.stages.evaluate",
    writes=("results.json", "examples.json"),
    foretold="kdx.pipeline.foretelling.others.Evaluate",
)
