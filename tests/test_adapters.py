"""What stands between libraries and kdx: transforms as steps, a torch Dataset and a folder of `datasets` as
data sets, any classifier of torchvision as a network.
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import datasets as torchvision_datasets
from torchvision.transforms import v2

from kdx.core.errors import UserError
from kdx.data import contract
from kdx.data.datasets.huggingface import HuggingFacePictures, HuggingFaceTexts
from kdx.data.datasets.torch_dataset import TorchDataset
from kdx.data.pictures.given import as_picture
from kdx.data.stored import OnDisk
from kdx.data.views.draws import Draws
from kdx.data.views.transform import OVERSHOOT, Transformed
from kdx.models import pretrained
from kdx.models.adapt import PictureAdapter
from kdx.models.zoo import torchvision_by_name

PICTURES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def views(step: Transformed, rows: list[int], view: int = 1) -> torch.Tensor:
    index = torch.tensor(rows)
    return step(PICTURES[index], Draws(0, "labelled", index, torch.full_like(index, view)), "t")


TRANSFORMS = [
    (v2.RandomErasing(1.0), None),
    (v2.RandomResizedCrop(32), None),
    (v2.GaussianNoise(), None),
    (v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(30), v2.ColorJitter(0.5, 0.5)]), None),
    (v2.RandAugment(), "bytes"),
    (v2.AugMix(), "picture"),
    (v2.RandomOrder([v2.RandomInvert(), v2.RandomSolarize(0.5), v2.RandomVerticalFlip()]), None),
    (lambda picture: picture.rotate(random.uniform(-90, 90)), "picture"),
    (lambda tensor: (tensor + np.random.uniform(0, 0.5)).clamp(0, 1), "tensor"),
]


@pytest.mark.parametrize(("transform", "given"), TRANSFORMS)
def test_a_transform_is_a_pure_function_of_seed_row_and_view(transform, given):
    """In any batch, order and thread; what others draw meanwhile is as without it."""
    step = Transformed(transform, given=given)
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    made = views(step, [0, 1, 2, 3, 4, 5])
    assert (made.shape, made.dtype) == (PICTURES.shape, torch.float32) and 0 <= made.min() <= made.max() <= 1
    assert torch.equal(views(step, [4, 1]), made[[4, 1]])
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda row: views(step, [row]), [0, 1, 2, 3, 4, 5]))
    assert torch.equal(torch.cat(several), made)
    assert not torch.equal(views(step, [0, 1, 2, 3, 4, 5], view=2), made)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_what_interpolation_overshoots_is_cut_off_and_no_reason_to_refuse():
    """Bicubic weights are negative beside an edge; the trial of own steps lets as much pass."""
    bicubic = v2.RandomResizedCrop(32, interpolation=v2.InterpolationMode.BICUBIC, antialias=False)
    step, index = Transformed(bicubic), torch.arange(6)
    uncut = step.uncut(PICTURES.round(), Draws(0, "labelled", index, torch.ones_like(index)), "t")
    assert -OVERSHOOT < uncut.min() < -0.1 and 1.1 < uncut.max() < 1 + OVERSHOOT
    made = step(PICTURES.round(), Draws(0, "labelled", index, torch.ones_like(index)), "t")
    assert torch.equal(made, uncut.clamp(0, 1))


def test_a_transform_of_albumentations():
    albumentations = pytest.importorskip("albumentations")
    flips = albumentations.Compose([albumentations.HorizontalFlip(), albumentations.CoarseDropout(p=1)])
    for transform in (flips, albumentations.RandomBrightnessContrast(p=1)):
        step = Transformed(transform)
        made = views(step, [0, 1, 2, 3])
        assert torch.equal(views(step, [3, 0]), made[[3, 0]]) and not torch.equal(made, PICTURES[:4])
        assert not torch.equal(views(step, [0, 1, 2, 3], view=2), made)
    grey = Transformed(albumentations.HorizontalFlip(p=1))
    row = torch.zeros(1, dtype=torch.int64)
    picture = PICTURES[:1, :1]
    assert torch.equal(grey(picture, Draws(0, "a", row, row + 1), "t"), picture.flip(3))


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], -1)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (GREY, GREY),
        (GREY[:, :, None], GREY),
        (COLOUR, COLOUR),
        (torch.from_numpy(GREY), GREY),
        (torch.from_numpy(COLOUR).permute(2, 0, 1), COLOUR),
        (torch.from_numpy(GREY)[None] / 255, GREY),
        (COLOUR / 255.0, COLOUR),
        (Image.fromarray(COLOUR), COLOUR),
    ],
)
def test_a_picture_of_any_form_has_the_same_bytes(given, wanted):
    assert np.array_equal(np.asarray(as_picture(given, "it")), wanted)


class Given(Dataset):
    """Rows that are given, with the labels beside them or with `targets`."""

    def __init__(self, pictures, labels, asked=None):
        self.pictures, self.given, self.asked = pictures, labels, asked

    def __len__(self):
        return len(self.given)

    def __getitem__(self, row):
        if self.asked is not None:
            self.asked.append(row)
        return self.pictures[row], self.given[row]


class Mine(TorchDataset):
    def __init__(self, **parts):
        super().__init__(image_size=8, read=())
        self.parts = parts

    def dataset(self, part):
        return self.parts.get(part)


def test_a_dataset_is_read_by_parts_and_streamed(tmp_path):
    train = Given([GREY, GREY.T, GREY + 9], [0, 1, torch.tensor(1)])
    pool = Given([Image.fromarray(COLOUR).resize((16, 24))], ["nobody looks"])
    loader = Mine(train=train, test=Given([GREY + 1], [np.int64(0)]), unlabelled=pool)
    about = loader.describe()
    assert (about.train, about.strata, about.test, about.pool, about.validation) == (3, (1, 2), 1, 1, None)
    assert about.classes == ("0", "1") and about.shape == (1, 8, 8)
    raw = loader.load()
    assert np.array_equal(raw.images, np.stack([GREY, GREY.T, GREY + 9])[:, None])
    assert raw.labels.tolist() == [0, 1, 1] and raw.pool_images.shape == (1, 1, 8, 8)
    contract.check(raw, about)
    streamed = loader.load(write=lambda part, rows, *kind: OnDisk(tmp_path / f"{part}.npy", *kind))
    contract.check(streamed, about)  # rows that stay on the disk are rows
    assert np.array_equal(streamed.images[:], raw.images)


def test_targets_and_classes_of_a_dataset_are_used():
    asked: list[int] = []
    train = Given([GREY] * 4, [0, 1, 0, 1], asked)
    train.targets, train.classes = [0, 1, 0, 1], ["cat", "dog"]
    about = Mine(train=train).describe()
    assert about.classes == ("cat", "dog") and set(asked) == {0, 1}, "a row of each class is tried"
    fake = torchvision_datasets.FakeData(6, (3, 12, 12), 2, v2.PILToTensor())
    loaded = Mine(train=fake).load()
    assert loaded.images.shape == (6, 3, 8, 8)


def test_deep_pictures_are_not_guessed_at():
    deep = Image.fromarray(np.full((8, 8), 4000, np.uint16))
    with pytest.raises(UserError, match="more than 8 bits"):
        as_picture(deep, "row 0")


@pytest.fixture
def saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["dark", "light"])
    pictures = [Image.fromarray(GREY + 100 * (row % 2)) for row in range(12)]
    kinds = datasets.Features({"image": datasets.Image(), "label": names, "also": datasets.Value("string")})
    rows = {"image": pictures, "label": [row % 2 for row in range(12)], "also": ["a word"] * 12}
    found = datasets.Dataset.from_dict(rows, features=kinds)
    parts = {"train": found, "test": found.select(range(4)), "unsupervised": found.select([1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "parts")
    found.save_to_disk(tmp_path / "one")
    return tmp_path


def test_a_saved_folder_of_pictures(saved):
    keys = {"image": None, "label": None, "image_size": 8, "fit": "crop", "background": "white"}
    loader = HuggingFacePictures(root=str(saved / "parts"), **keys)
    about = loader.describe()
    assert (about.train, about.strata, about.test, about.pool) == (12, (6, 6), 4, 1)
    assert about.classes == ("dark", "light") and about.shape == (1, 8, 8)
    raw = loader.load()
    contract.check(raw, about)
    assert np.array_equal(raw.images[:2], np.stack([GREY, GREY + 100])[:, None])
    assert raw.labels[:2].tolist() == [0, 1] and np.array_equal(raw.pool_images[0, 0], GREY + 100)
    assert HuggingFacePictures(root=str(saved / "one"), **keys).describe().test is None
    for key, says in (("image", "no column of pictures"), ("label", "no column of classes")):
        with pytest.raises(UserError, match=says):
            HuggingFacePictures(root=str(saved / "one"), **{**keys, key: "labl"}).describe()
    with pytest.raises(UserError, match="save_to_disk"):
        HuggingFacePictures(root=str(saved), **keys).describe()


def test_only_what_lies_in_a_saved_folder_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    Image.fromarray(GREY).save(tmp_path / "secret.png")
    plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    kinds = datasets.Features({"image": plain, "label": datasets.Value("int64")})
    for name, picture, says in (
        ("path", {"bytes": None, "path": str(tmp_path / "secret.png")}, "row 0, holds no picture"),
        ("bytes", {"bytes": b"no picture", "path": None}, "row 0: the picture does not decode"),
    ):
        folder = tmp_path / name
        table = datasets.Dataset.from_dict({"image": [picture] * 2, "label": [0, 1]}, features=kinds)
        table.save_to_disk(folder)
        about = json.loads((folder / "dataset_info.json").read_text())
        about["features"]["image"] = {"_type": "Image"}  # as who wants a file of yours would write it
        (folder / "dataset_info.json").write_text(json.dumps(about))
        keys = {"image": None, "label": None, "image_size": 8, "fit": "crop", "background": "white"}
        with pytest.raises(UserError, match=says):
            HuggingFacePictures(root=str(folder), **keys).load()


def test_a_saved_folder_of_texts(saved):
    words = {"tokens": "words", "vocabulary": 99, "min_frequency": 1, "lower": True, "length": 8}
    loader = HuggingFaceTexts(root=str(saved / "parts"), text=None, label=None, tokenizer=None, **words)
    about, raw = loader.describe(), loader.load()
    assert (about.train, about.test, about.pool, about.classes) == (12, 4, 1, ("dark", "light"))
    assert raw.texts == ("a word",) and raw.labels["test"].tolist() == [0, 1, 0, 1]
    contract.check(raw.fitted([raw.part("train")[0]]), about)


def test_rows_of_a_saved_folder_whose_class_nobody_knows(tmp_path):
    """-1, as the library has it: of the rows to train with they join the pool, elsewhere they are refused."""
    datasets = pytest.importorskip("datasets")
    kinds = {"said": datasets.Value("string"), "label": datasets.ClassLabel(names=["dark", "light"])}

    def rows(labels):
        said = [f"word {row}" for row in range(len(labels))]
        return datasets.Dataset.from_dict({"said": said, "label": labels}, features=datasets.Features(kinds))

    words = {"tokens": "words", "vocabulary": 99, "min_frequency": 1, "lower": True, "length": 8}
    words |= {"text": None, "label": None, "tokenizer": None, "root": str(tmp_path / "parts")}
    parts = {"train": rows([0, -1, 1, -1]), "unsupervised": rows([-1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "parts")
    loader = HuggingFaceTexts(**words)
    about, raw = loader.describe(), loader.load()
    contract.check(raw.fitted([raw.part("train")[0]]), about)
    assert (about.train, about.strata, about.pool) == (2, (1, 1), 3)
    assert [raw.texts[i] for i in raw.numbers["unlabelled"]] == ["word 0", "word 1", "word 3"]
    assert [raw.texts[i] for i in raw.numbers["train"]] == ["word 0", "word 2"]
    datasets.DatasetDict(parts | {"test": rows([0, -1])}).save_to_disk(tmp_path / "unknown")
    with pytest.raises(UserError, match="the test part .* row 1, has the class -1, which means that nobody"):
        HuggingFaceTexts(**words | {"root": str(tmp_path / "unknown")}).describe()


def test_an_absent_package_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    keys = {"image": None, "label": None, "image_size": 8, "fit": "crop", "background": "white"}
    with pytest.raises(UserError, match=r"pip install 'kdx\[datasets\]'"):
        HuggingFacePictures(root=str(tmp_path), **keys).fetch()


def named(name: str, shape=(1, 16, 16), weights=None, **rates):
    rates = {"dropout": 0.0, "stochastic_depth": 0.0, **rates}
    with pretrained.reading(False):
        return torchvision_by_name(shape=shape, classes=7, name=name, weights=weights, **rates)


@pytest.mark.parametrize(
    ("name", "size"),
    [("mnasnet0_5", 64), ("squeezenet1_1", 64), pytest.param("swin_t", 224, marks=pytest.mark.slow)],
)
def test_any_classifier_of_torchvision_by_name(name, size):
    for weights, channels, pixels in ((None, 1, size), ("DEFAULT", 3, 224)):
        made = named(name, weights=weights)
        assert (made.inputs.channels, made.inputs.size) == (channels, (pixels, pixels))
        mean = [0.5] if made.inputs.mean is None else made.inputs.mean
        network = PictureAdapter(mean=[0.5], std=[0.5]).wrap(made, (1, 16, 16)).eval()
        assert len(mean) == channels and network(torch.rand(2, 1, 16, 16)).shape == (2, 7)


def test_a_classifier_that_torchvision_does_not_have():
    with pytest.raises(UserError, match="did you mean 'regnet_y_400mf'"):
        named("regnet_y_400")
    with pytest.raises(UserError, match="set dropout=0 and stochastic_depth=0"):
        named("regnet_y_400mf", dropout=0.5)
    with pytest.raises(UserError, match="two heads"):
        named("googlenet", weights="DEFAULT")
