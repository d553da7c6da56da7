from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batchnorm.assembly import assemble
from batchnorm.config import RunConfig
from batchnorm.data.facts import Augmentation
from batchnorm.data.own import OwnImages
from batchnorm.data.sources import load_image_set
from batchnorm.errors import ConfigError, DataError, UserError
from batchnorm.problems.check import check
from batchnorm.study.images import Images
from batchnorm.training import train
from tests.images import invented_images
from tests.test_training import assert_same_run, interrupted_at

IMAGES, LABELS = invented_images(60, classes=3, shape=(3, 8, 6), seed=1)


def write_arrays(root: Path, **arrays: Any) -> OwnImages:
    np.savez(root / "own.npz", **arrays)
    return OwnImages("own.npz")


def write_folder(
    folder: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] = ("ant", "bee", "cat")
) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / classes[label] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(file)


def by_label(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(labels, kind="stable")
    return images[order], labels[order]


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1)], ids=["channels first", "channels last"])
def test_arrays_with_test_images(tmp_path: Path, axes: tuple[int, ...]) -> None:
    own = write_arrays(
        tmp_path, images=IMAGES.transpose(axes), labels=LABELS, test_images=IMAGES[:7].transpose(axes), test_labels=LABELS[:7]
    )
    read = load_image_set(own, tmp_path)
    assert np.array_equal(read.train_images, IMAGES)
    assert np.array_equal(read.train_labels, LABELS)
    assert np.array_equal(read.test_images, IMAGES[:7])
    assert np.array_equal(read.test_labels, LABELS[:7])
    assert read.train_labels.dtype == np.int64


def test_without_test_images_each_sixth_is_one(tmp_path: Path) -> None:
    grey = IMAGES[:, 0]
    np.savez(tmp_path / "own.npz", images=grey, labels=LABELS)
    read = load_image_set(OwnImages("own.npz", channels=1), tmp_path)
    assert read.train_images.shape == (50, 1, 8, 6)
    assert np.array_equal(read.test_images[:, 0], grey[5::6])
    assert np.array_equal(read.test_labels, LABELS[5::6])
    kept = {image.tobytes() for image in read.train_images} | {image.tobytes() for image in read.test_images}
    assert kept == {image.tobytes() for image in grey}


def test_a_folder_of_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "own", IMAGES, LABELS)
    read = load_image_set(OwnImages("own"), tmp_path)
    images, labels = by_label(IMAGES, LABELS)
    assert np.array_equal(read.test_images, images[5::6])
    assert np.array_equal(read.test_labels, labels[5::6])
    assert read.digest == load_image_set(OwnImages(str(tmp_path / "own")), Path("elsewhere")).digest


def test_folders_for_training_and_testing(tmp_path: Path) -> None:
    write_folder(tmp_path / "own/train", IMAGES, LABELS)
    write_folder(tmp_path / "own/val", IMAGES[::2], LABELS[::2])
    read = load_image_set(OwnImages("own"), tmp_path)
    images, labels = by_label(IMAGES, LABELS)
    assert np.array_equal(read.train_images, images)
    assert np.array_equal(read.train_labels, labels)
    assert np.array_equal(read.test_images, by_label(IMAGES[::2], LABELS[::2])[0])


def test_images_are_brought_to_one_size_and_colour(tmp_path: Path) -> None:
    write_folder(tmp_path / "own", IMAGES[:12], LABELS[:12])
    Image.new("RGBA", (40, 20), (255, 0, 0, 255)).save(tmp_path / "own/ant/zz.png")
    with pytest.raises(DataError, match=r"ant.zz.png is 20 x 40, others 8 x 6; size=\(height, width\) brings them to one size"):
        load_image_set(OwnImages("own"), tmp_path)
    read = load_image_set(OwnImages("own", size=(4, 5)), tmp_path)
    assert read.train_images.shape[1:] == (3, 4, 5)
    assert any((image == np.array([255, 0, 0])[:, None, None]).all() for image in (*read.train_images, *read.test_images))
    assert load_image_set(OwnImages("own", size=(4, 5), channels=1), tmp_path).test_images.shape[1:] == (1, 4, 5)


@pytest.mark.parametrize("stored", ["<u2", ">u2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_to_8(tmp_path: Path, stored: str, channels: int) -> None:
    wide = np.random.default_rng(1).integers(0, 2**16, (8, 6)).astype(stored)
    wide[0, :4] = [0, 128, 129, 2**16 - 1]
    for name in ("ant", "bee"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(3):
            image = Image.frombytes("I;16" if stored == "<u2" else "I;16B", (6, 8), wide.tobytes())
            image.save(tmp_path / "own" / name / f"{number}.tif")
    narrow = np.round(wide / 257)
    assert narrow.max() == 255
    for image in load_image_set(OwnImages("own", channels=channels), tmp_path).train_images:
        assert np.array_equal(image, np.stack([narrow] * channels))


@pytest.mark.parametrize(("stored", "mode"), [("f4", "F"), ("i4", "I")])
def test_files_of_no_known_range_are_refused(tmp_path: Path, stored: str, mode: str) -> None:
    write_folder(tmp_path / "own", IMAGES[:6], LABELS[:6])
    Image.fromarray(np.ones((8, 6), stored)).save(tmp_path / "own/ant/zz.tif")
    told = rf"own: ant.zz\.tif holds numbers of no known range \(PIL's mode {mode}\); save it as PNG with 8 or 16 bits$"
    with pytest.raises(DataError, match=told):
        load_image_set(OwnImages("own"), tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "holds no array labels; it must have images and labels"),
        ({"images": IMAGES, "labels": LABELS, "test_images": IMAGES}, "holds no array test_labels"),
        ({"images": IMAGES / 255, "labels": LABELS}, "images must be uint8, .* not float64"),
        ({"images": IMAGES, "labels": LABELS[:-1]}, r"labels must be 60 integers, not int64 of shape \(59,\)"),
        ({"images": IMAGES, "labels": LABELS * 1.0}, "labels must be 60 integers, not float64"),
        ({"images": IMAGES.repeat(2, 1), "labels": LABELS}, "images must have 1 or 3 channels"),
        ({"images": IMAGES[:, :1], "labels": LABELS}, "has 1 channels, not 3; OwnImages.*channels=1. takes them"),
        ({"images": IMAGES[:5], "labels": LABELS[:5]}, "holds 5 images; each sixth would be a test image"),
        ({"images": IMAGES, "labels": LABELS, "test_images": IMAGES[..., 1:], "test_labels": LABELS}, "test images"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images must be uint8"),
        ({"images": np.array([None, 1]), "labels": LABELS}, "damaged, or no .npz file"),
    ],
)
def test_what_is_wrong_with_arrays_is_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    own = write_arrays(tmp_path, **arrays)
    with pytest.raises(DataError, match=message) as raised:
        load_image_set(own, tmp_path)
    assert str(raised.value).startswith(f"OBS_DATASETS={tmp_path}: own.npz: ")
    assert "\n" not in str(raised.value)


def test_what_is_wrong_with_files_is_one_line(tmp_path: Path) -> None:
    def message(path: str) -> str:
        with pytest.raises(DataError) as raised:
            load_image_set(OwnImages(path), tmp_path)
        text = str(raised.value)
        assert "\n" not in text
        return text.removeprefix(f"OBS_DATASETS={tmp_path}: {path}: ")

    assert message("own.npz") == "no such file"
    assert message("own") == "no such folder"
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and no more")
    assert message("bad.npz").startswith("is damaged, or no .npz file")
    np.save(tmp_path / "plain", IMAGES)
    (tmp_path / "plain.npy").rename(tmp_path / "plain.npz")
    assert message("plain.npz").startswith("holds no array images; it must have images and labels")
    (tmp_path / "images.zip").write_bytes(b"")
    assert message("images.zip") == "is neither a folder nor an .npz file"
    (tmp_path / "empty").mkdir()
    assert message("empty").startswith("is no folder of classes")
    write_folder(tmp_path / "own/train", IMAGES, LABELS)
    assert message("own") == "has a folder train, and none of test, val, valid"
    write_folder(tmp_path / "own/test", IMAGES, LABELS, ("ant", "bee", "dog"))
    assert message("own") == "train and test have other classes: cat, dog are in one of them"
    (tmp_path / "own/test/dog").rename(tmp_path / "own/test/cat")
    (tmp_path / "own/train/bee/000.png").write_bytes(b"no image")
    assert message("own").startswith("bee/000.png cannot be read (")


def test_each_flipped_byte_of_an_npz_file_is_one_line_at_most(tmp_path: Path) -> None:
    """Within what is compressed zlib tells it, within the headers zipfile: a method or a version that it does not know."""
    np.savez_compressed(tmp_path / "own.npz", images=(IMAGES[:6, 0] > 128).astype(np.uint8), labels=LABELS[:6])
    whole = (tmp_path / "own.npz").read_bytes()
    refused = 0
    for place in range(len(whole)):
        (tmp_path / "own.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            OwnImages("own.npz", channels=1).read(tmp_path)
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(whole) / 2


def jitter(**more: Any) -> Augmentation:
    return Augmentation(
        **{"padding": 1, "flip": True, **dict.fromkeys(("brightness", "contrast", "saturation"), (1, 1)), **more}
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"channels": 4}, "channels=4: must be 1 for grey or 3 for colour"),
        ({"channels": 3.0}, "channels=3.0: must be 1"),
        ({"size": (32,)}, r"size=(32,): must be two integers >= 1, (height, width)"),
        ({"size": (0, 3)}, "size=(0, 3): must be"),
        ({"size": (3, 2.5)}, "size=(3, 2.5): must be"),
        ({"size": 32}, "size=32: must be"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean=(0.5, 0.5, 0.5): give std too, or neither"),
        ({"std": (0.5,), "channels": 1}, "std=(0.5,): give mean too, or neither"),
        (
            {"mean": (0.5, 0.5, 0.5), "std": (1, 1, 1), "channels": 1},
            "mean=(0.5, 0.5, 0.5): must be a finite number for each channel; channels=1",
        ),
        ({"mean": (0, 0, 0), "std": (1, 1)}, "std=(1, 1): must be a finite number for each channel, above 0; channels=3"),
        ({"mean": (0, 0, 0), "std": (1, 1, 0)}, "std=(1, 1, 0): must be"),
        ({"mean": (0, 0, float("nan")), "std": (1, 1, 1)}, "mean=(0, 0, nan): must be"),
        ({"mean": 0.5, "std": 0.2}, "mean=0.5: must be"),
        ({"evaluation_images": 0}, "evaluation_images=0: must be an integer >= 1"),
        ({"evaluation_images": 0.1}, "evaluation_images=0.1: must be"),
    ],
)
def test_what_cannot_be_said_of_images_is_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        OwnImages("own", **keys)
    assert str(raised.value).startswith(f"OwnImages: {message}")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"padding": -1}, "padding=-1: must be an integer >= 0"),
        ({"brightness": 0.8}, "brightness=0.8: must be two rising numbers >= 0, as (0.8, 1.2)"),
        ({"contrast": (1.2, 0.8)}, "contrast=(1.2, 0.8): must be"),
        ({"saturation": (-0.1, 1)}, "saturation=(-0.1, 1): must be"),
    ],
)
def test_what_cannot_be_an_augmentation_is_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        jitter(**keys)
    assert str(raised.value).startswith(f"Augmentation: {message}")


def test_lists_and_numpys_numbers_are_kept_plain() -> None:
    """A study puts images into a set, and hands them to a process of its own as text."""
    lists = {"size": [8, 6], "mean": np.full(3, 0.5), "std": [1, 1, 1], "augmentation": jitter(contrast=[1, 2])}
    own = OwnImages("own", **lists)  # type: ignore[arg-type]
    assert {own} == {OwnImages("own", (8, 6), 3, (0.5,) * 3, (1.0,) * 3, jitter(contrast=(1.0, 2.0)))}
    assert repr(own.mean) == "(0.5, 0.5, 0.5)"


OWN_PROBLEM = """
from torch import nn
from batchnorm.problems import Augmentation, OwnImages, register_problem

@register_problem(
    image_set=OwnImages(
        "own.npz", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2),
        augmentation=Augmentation(1, flip=True, brightness=(0.8, 1.2), contrast=(1, 1), saturation=(1, 1)),
    ),
    classes={classes}, slots=("1",), dense=("1",),
)
def mnist_mlp_bn():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 3))
"""


@pytest.fixture
def own_config(tmp_path: Path, configure: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    def config(classes: int = 3, **keys: Any) -> RunConfig:
        images, labels = invented_images(200, classes=3, shape=(3, 8, 6), seed=1)
        write_arrays(tmp_path, images=images, labels=labels)
        (tmp_path / "own.py").write_text(OWN_PROBLEM.format(classes=classes))
        return configure(
            problem=f"{tmp_path / 'own.py'}:mnist_mlp_bn", obs_datasets=str(tmp_path), batch_size=16, num_epochs=4, **keys
        )

    return config


def test_they_are_trained_on_paired_and_resumed(
    own_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = [assemble(own_config(position=position)) for position in ("0", "1")]
    for mine, other in zip(*(list(net.batches.training(1)) for net in nets), strict=True):
        assert mine[0].equal(other[0])
        assert mine[1].equal(other[1])
    whole, cut = (own_config(output_dir=str(tmp_path / name)) for name in ("whole", "cut"))
    train(whole)
    interrupted_at(cut, signal.SIGTERM, 15, monkeypatch)
    train(cut)
    assert_same_run(whole.directory, cut.directory)


def test_the_documented_problem_trains(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    (text,) = re.findall(r"```python\n(# flowers.py\n.*?)```", Path("docs/running.md").read_text(), flags=re.DOTALL)
    (tmp_path / "flowers.py").write_text(text)
    (tmp_path / "flowers.yaml").write_text("flowers_bn: {batch_size: 8, num_epochs: 1, SGD: {opt_hpars: {lr: 0.1}}}")
    write_folder(tmp_path / "flowers/train", IMAGES, LABELS)
    write_folder(tmp_path / "flowers/test", IMAGES[:9], LABELS[:9])
    own = {"problem": f"{tmp_path / 'flowers.py'}:flowers_bn", "tuning_conf": str(tmp_path / "flowers.yaml")}
    training = assemble(configure(**own, obs_datasets=str(tmp_path)))
    images, labels = next(training.training_batches(1))
    assert images.shape == (32, 3, 32, 32)
    assert training.loss(images, labels).isfinite()


GREY = """
from torch import nn
from batchnorm.problems import Augmentation, OwnImages, register_problem

@register_problem(
    image_set=OwnImages(
        "own.npz", channels=1,
        augmentation=Augmentation(1, flip=True, brightness=(0.8, 1.2), contrast=(0.5, 1.5), saturation=(0.5, 1.5)),
    ),
    classes=3, slots=("1",), dense=("1",),
)
def mnist_mlp_bn():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))
"""


def test_grey_images_are_augmented(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    write_arrays(tmp_path, images=IMAGES[:, 0], labels=LABELS)
    (tmp_path / "own.py").write_text(GREY)
    config = configure(problem=f"{tmp_path}/own.py:mnist_mlp_bn", obs_datasets=str(tmp_path), batch_size=16)
    images, _ = next(assemble(config).training_batches(1))
    assert images.shape == (16, 1, 8, 6)


def test_images_too_few_for_a_validation_set_leave_nothing_behind(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    write_arrays(tmp_path, images=IMAGES[:9, 0], labels=LABELS[:9], test_images=IMAGES[:3, 0], test_labels=LABELS[:3])
    (tmp_path / "own.py").write_text(GREY)
    config = configure(problem=f"{tmp_path}/own.py:mnist_mlp_bn", obs_datasets=str(tmp_path), batch_size=2)
    with pytest.raises(DataError, match=r"^own\.npz holds 9 training images; a tenth of them would be validation images"):
        train(config)
    assert not Path(config.output_dir).exists()


def test_labels_and_images_decide_the_run(own_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(DataError, match="own.npz holds the label 2, but mnist_mlp_bn tells 2 classes apart"):
        assemble(own_config(classes=2))
    config = own_config()
    train(config)
    write_arrays(Path(config.obs_datasets), images=IMAGES, labels=LABELS)
    with pytest.raises(UserError, match=r"holds another run: images \(.* there, .* here\)"):
        train(config)


def test_they_are_checked_and_read_before_a_study(own_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = own_config()
    told, wrong = check(config.problem, str(tmp_path))
    assert told.startswith("mnist_mlp_bn: own.npz (3 x 8 x 6), 3 classes\n")
    assert wrong == ""
    with pytest.raises(DataError, match="elsewhere: own.npz: no such file"):
        check(config.problem, "elsewhere")
    plain = (1.0, 1.0)
    augmentation = Augmentation(1, flip=True, brightness=plain, contrast=plain, saturation=plain)
    augmented = OwnImages("own.npz", augmentation=augmentation)
    images = Images(augmented, str(tmp_path))
    assert images.are_there
    assert images.fetch() == (167, 33)
    assert not Images(augmented, "elsewhere").are_there
