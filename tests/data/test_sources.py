from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from batchnorm.data.facts import IMAGE_SETS
from batchnorm.data.sources import load_image_set
from batchnorm.errors import DataError
from tests.images import write_cifar, write_mnist
from tests.ready import ready
from tests.systems import PYTHON, as_stranger, failing, open_folder


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [
        ("mnist", 400, 60, (1, 28, 28)),
        ("fmnist", 400, 60, (1, 28, 28)),
        ("cifar10", 200, 60, (3, 32, 32)),
        ("cifar100", 200, 60, (3, 32, 32)),
        ("svhn", 200, 60, (3, 32, 32)),
        ("digits", 1498, 299, (1, 28, 28)),
    ],
)
def test_image_sets_are_read_as_uint8(
    name: str, train: int, test: int, shape: tuple[int, ...], small_images: Path, unchecked_images: None
) -> None:
    arrays = load_image_set(name, small_images)
    assert arrays.train_images.shape == (train, *shape)
    assert arrays.test_images.shape == (test, *shape)
    assert IMAGE_SETS[name].shape == shape
    assert IMAGE_SETS[name].classes == (100 if name == "cifar100" else 10)
    assert arrays.train_images.dtype == arrays.test_images.dtype == np.uint8
    assert arrays.train_labels.dtype == np.int64
    assert set(arrays.train_labels) <= set(range(100 if name == "cifar100" else 10))
    assert arrays.digest == load_image_set(name, small_images).digest


def test_pixels_are_those_of_torchvision(small_images: Path, unchecked_images: None) -> None:
    from torchvision.datasets import CIFAR10, SVHN
    from torchvision.transforms.functional import pil_to_tensor

    for name, reference in (("cifar10", CIFAR10(small_images)), ("svhn", SVHN(small_images))):
        arrays = load_image_set(name, small_images)
        for number in (0, 7, 199):
            image, label = reference[number]
            assert np.array_equal(arrays.train_images[number], pil_to_tensor(image).numpy())
            assert arrays.train_labels[number] == label


def test_the_real_fashion_mnist(fashion_mnist: Path) -> None:
    arrays = load_image_set("fmnist", fashion_mnist)
    assert arrays.train_images.shape == (60_000, 1, 28, 28)
    assert np.bincount(arrays.test_labels).tolist() == [1000] * 10
    assert len(arrays.train_labels) == IMAGE_SETS["fmnist"].training_images


def test_the_digest_tells_images_apart(tmp_path: Path) -> None:
    digests = set()
    for size in (100, 101):
        write_mnist(tmp_path / str(size), "MNIST", train=size, test=10)
        digests.add(load_image_set("mnist", tmp_path / str(size)).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["mnist", "fmnist", "cifar10", "cifar100", "svhn"])
def test_absent_images_say_what_to_put_where_and_leave_nothing_behind(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://localhost:9")  # a port where nothing listens: no download, on any machine
    root = tmp_path / "deep" / "images"
    with pytest.raises(DataError) as error:
        load_image_set(name, root)
    message = str(error.value)
    assert "\n" not in message
    assert str(root) in message
    assert IMAGE_SETS[name].files in message
    assert ("dataset-fashion-mnist" in message) == (name == "fmnist")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 3, 16, 10_000])
def test_a_truncated_file_is_one_line(kept: int, tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST", train=100, test=10)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"MNIST is (absent or )?damaged") as error:
        load_image_set("mnist", tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_pickle_is_one_line(tmp_path: Path, unchecked_images: None) -> None:
    write_cifar(tmp_path, "cifar100", train=50, test=20)
    file = tmp_path / "cifar-100-python" / "train"
    file.write_bytes(file.read_bytes()[:999])
    with pytest.raises(DataError, match="CIFAR-100 is damaged"):
        load_image_set("cifar100", tmp_path)


def test_a_wrong_checksum_is_one_line(small_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://localhost:9")
    shutil.copytree(small_images / "cifar-10-batches-py", tmp_path / "cifar-10-batches-py")
    with pytest.raises(DataError, match="CIFAR-10 is absent or damaged"):
        load_image_set("cifar10", tmp_path)


def test_images_and_labels_must_go_together(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST", train=100, test=10)
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(np.array([0x801, 99], ">i4").tobytes() + labels.read_bytes()[8:-1])
    with pytest.raises(DataError, match="100 images, 99 labels"):
        load_image_set("mnist", tmp_path)


LOAD = """\
import sys
from pathlib import Path
from batchnorm.data.sources import load_image_set
for root in sys.argv[1:]:
    try:
        load_image_set("mnist", Path(root))
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_images_that_another_user_keeps_to_himself_are_not_called_damaged() -> None:
    with open_folder() as folder:
        roots, told = [], []
        for name, closed, mode in (("labels", "raw/train-labels-idx1-ubyte", 0o600), ("raw", "raw", 0o700), ("all", "", 0o700)):
            root = folder / name
            write_mnist(root, "MNIST", train=100, test=10)
            path = root / "MNIST" / closed
            path.chmod(mode)
            roots.append(root)
            told.append(f"DataError OBS_DATASETS={root}: MNIST: {path}: cannot be read (Permission denied)")
        write_mnist(folder / "open", "MNIST", train=100, test=10)
        assert as_stranger(LOAD, *roots, folder / "open").splitlines() == told


@pytest.mark.slow
def test_a_disk_that_cannot_be_read_is_not_called_damage(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST", train=100, test=10)
    variables = ready(failing(FAIL_READ=errno.EIO, FAIL_PATH="train-images-idx3-ubyte"))
    done = subprocess.run([*PYTHON, LOAD, str(tmp_path)], capture_output=True, text=True, env=variables)
    told = f"DataError OBS_DATASETS={tmp_path}: MNIST: {tmp_path}: cannot be read (Input/output error)\n"
    assert done.stdout == told, done.stderr


@pytest.mark.slow
def test_a_file_system_without_locks_can_be_downloaded_to(tmp_path: Path) -> None:
    """No download here; but the lock is not what fails."""
    nowhere = {"http_proxy": "http://localhost:9", "https_proxy": "http://localhost:9"}
    variables = ready({**failing(FAIL_FLOCK=errno.ENOLCK), **nowhere})
    done = subprocess.run([*PYTHON, LOAD, str(tmp_path / "images")], capture_output=True, text=True, env=variables)
    assert "MNIST is absent or damaged, and cannot be downloaded (" in done.stdout
    assert "No locks available" not in done.stdout
