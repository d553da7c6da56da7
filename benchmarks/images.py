"""The images that benchmarks read: invented ones in CIFAR's real on-disk format, and the real Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

from tests.images import unpack_fashion_mnist, write_cifar


def make_cifar(folder: Path, name: str, *, train: int = 50_000, test: int = 10_000) -> Path:
    """Write CIFAR-10 or CIFAR-100 below a folder, and return it as an OBS_DATASETS."""
    root = folder / f"{name}-{train}-{test}"
    if not root.exists():
        write_cifar(root, name, train=train, test=test)
    return root


def find_fashion_mnist(folder: Path) -> Path:
    """Return an OBS_DATASETS with the real Fashion-MNIST: the user's own, or Debian's unpacked below a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    if Path("data/FashionMNIST/raw").exists():
        return Path("data")
    if not unpack_fashion_mnist(folder / "fashion_mnist"):
        raise FileNotFoundError("needs the real Fashion-MNIST: apt-get install dataset-fashion-mnist")
    return folder / "fashion_mnist"


def few_fashion_mnist(folder: Path, *, train: int, test: int) -> Path:
    """Return an OBS_DATASETS with the first images of the real Fashion-MNIST, which are evaluated in less time."""
    source = find_fashion_mnist(folder) / "FashionMNIST" / "raw"
    target = folder / "few" / "FashionMNIST" / "raw"
    target.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        for name, header, size in ((f"{prefix}-images-idx3-ubyte", 16, 28 * 28), (f"{prefix}-labels-idx1-ubyte", 8, 1)):
            content = (source / name).read_bytes()
            few = content[:4] + count.to_bytes(4, "big") + content[8 : header + count * size]
            (target / name).write_bytes(few)
    return folder / "few"


def accept_invented_cifar() -> None:
    """Let torchvision take CIFAR files with other checksums than the real ones."""
    import torchvision.datasets.cifar

    torchvision.datasets.cifar.check_integrity = lambda path, *_: Path(path).is_file()
