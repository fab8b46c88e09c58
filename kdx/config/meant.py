"""What a word was meant to be: what neighbouring tools call the keys and options of kdx. The word is refused,
and answered with what to type; nothing is guessed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdx.config.libraries import words_for
from kdx.core.checks import shown
from kdx.core.errors import closest

_CALLED = {
    "init": "student_init initialisation initialization init_from",
    "lr": "learning_rate lr0 base_lr init_lr initial_lr max_lr",
    "epochs": "epoch num_epochs n_epochs max_epochs num_train_epochs",
    "steps": "max_steps num_steps iterations iters max_iters num_train_steps",
    "batch_size": "batch bs batchsize per_device_train_batch_size train_batch_size",
    "optimiser": "optimizer optim opt optimizer_name",
    "schedule": "scheduler sched lr_scheduler lr_schedule lr_scheduler_type",
    "warmup": "warmup_steps warmup_epochs warmup_ratio num_warmup_steps",
    "weight_decay": "wd weightdecay",
    "clip": "clip_grad grad_clip max_grad_norm gradient_clip_val clip_norm",
    "patience": "early_stopping early_stop early_stopping_patience",
    "precision": "amp fp16 bf16 mixed_precision dtype half",
    "evaluate_every": "eval_steps eval_every val_check_interval eval_interval",
    "loss.temperature": "temperature t temp tau kd_temperature kd_t distill_temperature "
    "distillation_temperature",
    "depth": "layers n_layer n_layers num_layers num_hidden_layers",
    "kv_heads": "groups num_key_value_heads n_kv_heads",
    "loss.alpha": "kd_alpha distill_alpha distillation_alpha kd_weight",
    "device.workers": "num_workers n_workers dataloader_num_workers",
    "device.threads": "num_threads n_threads cpu_threads",
    "seed": "random_seed manual_seed rng_seed random_state",
    "dataset.image_size": "imgsz img_size input_size resolution imsize",
    "dataset.validation": "val val_split val_size validation_split valid_split",
    "dataset.test": "test_split test_size",
    "dataset.labelled": "labeled num_labels n_labels num_labeled num_labelled label_fraction",
    "augment": "augmentation augmentations aug transform transforms data_augmentation",
    "teacher.checkpoint": "teacher_checkpoint teacher_path teacher_ckpt teacher_weights path_t",
    "student.checkpoint": "student_checkpoint student_path student_ckpt student_weights path_s",
    "teacher": "teacher_model teacher_name teacher_arch model_t kd_model_name",
    "student": "student_model student_name student_arch model_s",
    "loss": "criterion loss_fn kd_loss distill distillation method algorithm objective",
    "launcher": "executor backend",
}
ALIASES = {other: key for key, others in _CALLED.items() for other in others.split()}
"""What timm, Transformers, Lightning, Ultralytics, torchdistill and RepDistiller call a key -> its dotted key
here, or the last part of those that have it."""
_VALUES = {
    "optimiser": {"adam": "adamw"},
    "precision": {"fp16": "bf16", "16": "bf16", "true": "bf16", "value": "bf16"},
}
_VALUES |= {
    "schedule": {"cosine_annealing": "cosine", "cos": "cosine", "onecycle": "one_cycle", "none": "constant"}
}
_FOLDERS = "output output_dir outdir out save_dir logdir log_dir logging_dir project run_dir exp_dir".split()
_NAMES = "name run_name exp_name experiment_name".split()
_GPUS = "gpu gpus gpu_id gpu_ids cuda use_cuda accelerator devices num_gpus n_gpus".split()
_COUNTS = ("gpus", "devices", "num_gpus", "n_gpus")
"""Those that say how many, in Lightning and others, and not which."""
_DATA = "data data_dir data_path data_root datadir dataset_path dataset_dir train_dir root".split()
_NETWORKS = ("model", "arch", "architecture", "backbone", "net", "network", "model_name")
_SAID = dict.fromkeys(
    ("resume", "resume_from_checkpoint", "auto_resume"),
    "the same command again goes on where it was stopped",
)
_SAID |= dict.fromkeys(("num_classes", "nc", "n_classes"), "the data set tells how many classes it has")
_SAID |= dict.fromkeys(
    ("pretrained", "weights"),
    "weights are teacher.weights=DEFAULT with teacher=resnet50, say (docs/networks.md)",
)
_SAID |= dict.fromkeys(("config_file", "cfg", "config_path"), "a file of settings is --config FILE")
_LOSSES = {
    "kd": "kl kldiv kl_div hinton logits logit vanilla soft_target soft_targets distillation distill",
    "supervised": "ce crossentropy cross_entropy nll bce scratch none",
    "label_smoothing": "smoothing ls",
    "virtual_teacher": "tf_kd tfkd teacher_free virtual",
    "dkd": "decoupled",
    "noisy_student": "noisystudent",
    "mean_teacher": "meanteacher ema",
}
_AUGMENTS = {
    "flip": "hflip fliplr horizontal_flip random_flip randomhorizontalflip mirror",
    "flip_crop": "crop randomcrop random_crop",
    "random_resized_crop": "randomresizedcrop rrc",
    "rotate": "rotation randomrotation random_rotation degrees",
    "colour_jitter": "color_jitter colorjitter jitter",
    "noise": "gaussian_noise gauss_noise",
    "cutout": "random_erasing randomerasing erasing cut_out",
    "randaugment": "rand_augment autoaugment auto_augment trivialaugment",
}
_FEATURES = {
    "attention_transfer": "at attention",
    "regressor": "intermediate_regressor",
    "rkd": "relational",
    "similarity_preserving": "sp spkd similarity",
    "crd": "contrastive",
    "ofa": "one_for_all",
    "cosine": "cosine_embedding",
    "fitnet": "fitnets hint",
}
_OPTIONS = {
    "loss": {other: f"loss={name}" for name, others in _LOSSES.items() for other in others.split()}
    | dict.fromkeys(
        ("mse", "l2", "rmse"),
        "loss=kd, whose terms are squared errors where numbers are predicted, or loss=mse_logits of classes",
    )
    | {
        other: f"loss.features={name}"
        for name, others in _FEATURES.items()
        for other in (name, *others.split())
    },
    "features": {
        other: f"loss.features={name}" for name, others in _FEATURES.items() for other in others.split()
    },
    "device": {"gpu": "device=cuda", "nvidia": "device=cuda", "metal": "device=mps", "apple": "device=mps"},
    "select": {"random": "select=uniform", "least_confidence": "select=margin", "coreset": "select=k_center"},
    "augment": {other: f"augment=[{name}]" for name, others in _AUGMENTS.items() for other in others.split()},
    "dataset": {
        "mnist": "dataset=mnist5k",
        "fashionmnist": "dataset=fashion_mnist",
        "imagefolder": "dataset=folder",
    },
}
_WEIGHTS = (".pt", ".pth", ".safetensors", ".ckpt", ".bin", ".pkl")
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_NO_DATA = re.compile(
    r"\.(svg|png|jpe?g|gif|webp|bmp|tiff?|pdf|txt|md|html?|xml|json|ya?ml|xlsx?|ods|docx?|np[yz]|h5|hdf5|mat|pkl|"
    r"zip|tar|t?gz|7z|rar|py|ipynb|db|sqlite)$",
    re.IGNORECASE,
)
"""Endings of files that hold no rows for kdx, though a folder may hold such."""
_MOST_NAMED = 5
_MOST_LOOKED_AT = 200
"""Files of a folder that are looked at to say what it holds."""


def option_meant(group: str, value: Any) -> str:
    """What to type in place of an option that is not there; empty where nobody knows."""
    text = str(value)
    if found := _OPTIONS.get(group, {}).get(text.lower().replace("-", "_")):
        return found
    if group == "device":
        return _device(text)
    if group in ("teacher", "student"):
        if text.lower().endswith(_WEIGHTS) or os.path.isfile(text):
            return f"{group}.checkpoint={text}, with {group}=NAME for the network that it is of"
        return words_for(group, text)
    looks = "/" in text or text.lower().endswith(_TABLES) or _NO_DATA.search(text)
    if group == "dataset" and (looks or os.path.exists(text)):
        return _data(text)
    return ""


def _device(value: str) -> str:
    if found := re.fullmatch(r"(?:(?:cuda|gpu):?)?(\d{1,3})", value, re.I):
        return f"device=cuda device.device=cuda:{found[1]}"
    return "device=cuda" if value.lower() in ("true", "gpu", "cuda") else ""


def _data(path: str) -> str:
    """The words for data of the user's own."""
    if path.lower().endswith(_TABLES):
        table = f"dataset=csv dataset.file={path} dataset.target=COLUMN"
        return f"{table}, or of texts dataset=text dataset.root={path}"
    if os.path.isfile(os.path.expanduser(path)) or (_NO_DATA.search(path) and not os.path.isdir(path)):
        return (
            f"dataset=folder dataset.root=FOLDER, of pictures or texts, or a file that ends with "
            f"{', '.join(_TABLES)}: '{path}' is none"
        )
    kind = "text" if _holds_texts(os.path.expanduser(path)) else "folder"
    return f"dataset={kind} dataset.root={path}"


def _holds_texts(folder: str) -> bool:
    """Whether the first files in it are texts, and not pictures."""
    looked = 0
    for _, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files)[:_MOST_LOOKED_AT]:
            if name.lower().endswith(".txt"):
                return True
            if name.lower().endswith((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")):
                return False
        looked += 1 + len(files)
        if looked > _MOST_LOOKED_AT:
            break
    return False


def said_of(asked: str, value: Any = None) -> str:
    """A clause on what needs no key here; empty where there is nothing to say."""
    return (
        ""
        if "." in asked or str(value).lower().endswith(_WEIGHTS)
        else _SAID.get(asked.lower().replace("-", "_"), "")
    )


def words_meant(known: Mapping[str, Any], asked: str, value: Any = None) -> list[str]:
    """The words that a key which is not there may have meant, the likeliest first.

    known: the composed configuration. value: what it was set to; None: nothing, or null.
    """
    last = asked.rpartition(".")[2].lower().replace("-", "_")
    text = "VALUE" if value is None else shown(value, bare=True)
    if special := _special(last, asked, text):
        return [special]
    name = ALIASES.get(last, last)
    found = sorted(_keys(known, name), key=lambda key: (-_alike(key, asked), key))
    role, _, rest = last.partition("_")
    if not found and role in ("teacher", "student") and rest:
        return [word for word in words_meant(known, f"{role}.{rest}", value) if word.startswith(role)]
    text = _VALUES.get(name, {}).get(text.lower(), text)
    return [f"{key}={text}" for key in found if key != asked]


def _special(last: str, asked: str, text: str) -> str:
    """What no key of kdx is called like, and has words of its own."""
    node = asked.partition(".")[0]
    if node in ("teacher", "student") and last in ("pretrained", "weights") and "." in asked:
        return _weights_meant(node, text)
    if last in ("pretrained", "weights") and text.lower().endswith(_WEIGHTS):
        return f"teacher.checkpoint={text} or student.checkpoint={text}"
    if last == "weights" and text.lower() in ("default", "imagenet", "imagenet1k_v1", "true"):
        return _weights_meant("teacher", text)
    if "." in asked and last not in _GPUS:
        return ""
    if last in _COUNTS and text.isdigit():
        return "device=cuda" if int(text) else "device=cpu"
    if last in _GPUS:
        return "device=cpu" if text.lower() in ("cpu", "false", "-1") else _device(text) or "device=cuda"
    if last in _FOLDERS:
        return f"hydra.run.dir={'PATH' if text == 'VALUE' else text}"
    if last in _NAMES:
        return f"hydra.run.dir=outputs/runs/{'NAME' if text == 'VALUE' else text}"
    if last in _DATA:
        return _data_meant(text)
    if last in _NETWORKS:
        name = "NAME" if text == "VALUE" else text
        return " or ".join(words_for(role, name) or f"{role}={name}" for role in ("student", "teacher"))
    return ""


def _weights_meant(role: str, text: str) -> str:
    """Of a network that has no such key, or of a key that kdx calls otherwise."""
    if text.lower().endswith(_WEIGHTS):
        return f"{role}.checkpoint={text}"
    if text.lower() in ("false", "none", "value"):
        return ""
    return f"{role}.weights=DEFAULT, with a network that has such, {role}=resnet50 say"


def _data_meant(text: str) -> str:
    if text == "VALUE":
        return "dataset=NAME"
    named = re.fullmatch(r"[A-Za-z0-9_]+", text) and not os.path.exists(text)
    return _OPTIONS["dataset"].get(text.lower(), f"dataset={text.lower()}") if named else _data(text)


def _alike(key: str, asked: str) -> float:
    """How alike the nodes are in which both lie: student.lr is rather student_train.lr than
    teacher_pretrain.lr."""
    node, other = key.rpartition(".")[0], asked.rpartition(".")[0]
    return difflib.SequenceMatcher(None, node, other).ratio() if other else 0


def _keys(known: Mapping[str, Any], name: str) -> list[str]:
    """Dotted keys that are `name`, or whose last part it is."""
    if "." in name:
        node: Any = known
        for part in name.split("."):
            node = node.get(part, _GONE) if isinstance(node, Mapping) else _GONE
        return [] if node is _GONE else [name]
    if name in known.get("choices", {}) or name in ("augment", "launcher"):
        return [name]
    return [key for key in _dotted(known) if key.rpartition(".")[2] == name]


_GONE = object()


def _dotted(node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in node.items():
        key = f"{path}.{name}".lstrip(".")
        if str(name).startswith("_") or key in ("choices", "members", "controls", "metrics"):
            continue
        if path and name in ("augment", "strong_augment"):
            yield key  # what it holds is that of `augment`
        elif isinstance(value, Mapping) and value:
            yield from _dotted(value, key)
        else:
            yield key


def close_key(known: Mapping[str, Any], asked: str) -> str:
    """The last part of a key, of kdx or of another tool, that one which is not there is spelled like; empty
    where there is none."""
    parts = {key.rpartition(".")[2] for key in _dotted(known)} | {n for n in ALIASES if len(n) > 3}
    last = asked.rpartition(".")[2].lower().replace("-", "_")
    return closest(last, parts - {last}, 0.8)


def either(words: Sequence[str]) -> str:
    """`a=1, b=1 or c=1`; of many the first few."""
    few = list(words[:_MOST_NAMED])
    return " or ".join([", ".join(few[:-1]), few[-1]] if len(few) > 1 else few)
