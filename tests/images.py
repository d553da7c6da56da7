"""Small image sets in the real on-disk formats, with learnable classes."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def image_shape(problem: str) -> tuple[int, int, int]:
    """Return the (channels, height, width) of a problem's images."""
    return (1, 28, 28) if "mnist" in problem or "digits" in problem else (3, 32, 32)


def invented_images(count: int, *, classes: int, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images whose classes differ in their mean colours and patterns, and their labels."""
    patterns = np.random.default_rng(7).integers(40, 216, (classes, *shape))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    noisy = patterns[labels] + rng.normal(0, 40, (count, *shape))
    return noisy.clip(0, 255).astype(np.uint8), labels


def write_cifar(root: Path, name: str, *, train: int, test: int) -> None:
    """Write CIFAR-10 or CIFAR-100 as pickled batches, as torchvision reads them."""
    classes, key = (10, "labels") if name == "cifar10" else (100, "fine_labels")
    folder = root / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    folder.mkdir(parents=True)
    parts = {"test_batch": (test, 1)} if name == "cifar10" else {"test": (test, 1), "train": (train, 2)}
    if name == "cifar10":
        parts |= {f"data_batch_{number}": (train // 5, 1 + number) for number in range(1, 6)}
    for file, (count, seed) in parts.items():
        images, labels = invented_images(count, classes=classes, shape=(3, 32, 32), seed=seed)
        content = {"data": images.reshape(count, -1), key: labels.tolist()}
        (folder / file).write_bytes(pickle.dumps(content))
    meta = {"label_names": ["?"] * classes, "fine_label_names": ["?"] * classes}
    (folder / ("batches.meta" if name == "cifar10" else "meta")).write_bytes(pickle.dumps(meta))


def write_svhn(root: Path, *, train: int, test: int) -> None:
    """Write SVHN as MATLAB files."""
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", train, 1), ("test", test, 2)):
        images, labels = invented_images(count, classes=10, shape=(3, 32, 32), seed=seed)
        content = {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]}
        savemat(root / f"{split}_32x32.mat", content)


def write_mnist(root: Path, folder: str, *, train: int, test: int) -> None:
    """Write MNIST or Fashion-MNIST (by folder) as IDX files."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for prefix, count, seed in (("train", train, 1), ("t10k", test, 2)):
        images, labels = invented_images(count, classes=10, shape=(28, 28), seed=seed)
        header = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x801, count], ">i4").tobytes()
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())


def unpack_fashion_mnist(root: Path) -> bool:
    """Unpack Debian's Fashion-MNIST below a folder, and say whether it is there."""
    packed = [DEBIAN_FASHION_MNIST / f"{name}.gz" for name in IDX_FILES]
    if not all(file.exists() for file in packed):
        return False
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in packed:
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return True
