"""What tests share: image sets, and short runs of the real runner."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from omegaconf import OmegaConf

from batchnorm.config import RunConfig, resolve
from batchnorm.problems import deepobs, problems
from batchnorm.tuning import read_tuning
from tests import images

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # as in the background of a script, or under nohup: runs would ignore it too
        signal.signal(number, handler)
settings.register_profile("no deadline", deadline=None)  # no test asserts how long something takes
settings.load_profile("no deadline")

_ADAM = {"lr": 0.001, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
TUNING = {
    "SGD": {"opt_hpars": {"lr": 0.1}},
    "Momentum": {"opt_hpars": {"lr": 0.01, "momentum": 0.9}},
    "NAG": {"opt_hpars": {"lr": 0.01, "momentum": 0.9}},
    "Adam": {"opt_hpars": _ADAM},
    "AdamW": {"opt_hpars": {**_ADAM, "weight_decay": 0.01}},
    "RMSprop": {"opt_hpars": {"lr": 0.001, "alpha": 0.9, "eps": 1e-8}},
}


SLOW = (
    "slurm/test_cluster.py",
    "test_faults.py",
    "test_training.py",
    "test_docs.py",
    "study/test_local.py",
    "test_readme.py",
    "test_recording.py",
    "analysis/test_room.py",
    "analysis/test_main.py",
    "analysis/test_streams.py",
    "test_fake_accelerator.py",
    "analysis/test_report_page.py",
    "analysis/test_laws.py",
    "analysis/test_bn_plot_functions.py",
    "analysis/test_figures_of_measurements.py",
    "study/test_output.py",
    "study/test_soak.py",
    "analysis/test_real_runs.py",
    "test_command.py",
    "test_benchmarks.py",
    "test_installing.py",
    "test_machine.py",
    "test_fuzz.py",
    "test_probing.py",
    "problems/test_catalog.py",
    "study/test_tune.py",
    "analysis/effects/test_of_records.py",
    "analysis/effects/test_figures.py",
    "analysis/test_looks.py",
    "test_measuring.py",
    "test_moving.py",
    "analysis/test_docs_of_tables.py",
    "test_platforms.py",
    "test_shipped.py",
    "test_docs_runs.py",
    "study/test_worker.py",
    "study/test_images.py",
)
"""Files that take long, the longest first. They begin first, so that no worker waits for another at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files, and put these files first."""
    tests = Path(__file__).parent
    places = {tests / file: place for place, file in enumerate(SLOW)}
    for item in items:
        if item.path in places:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Spare each garbage collection a look at what has been imported, which stays; statsmodels asks for one at every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def initial_weights_are_drawn_once() -> Iterator[None]:
    """Keep what scipy draws for DeepOBS's networks: 3.2 million numbers for 2c2d, which take longer than a short run's steps.

    The same numbers come back where the generator stands where it stood, and it then stands where it would.
    """
    drawn: dict[object, tuple[NDArray[np.float64], dict[str, Any]]] = {}
    draw = deepobs._TruncatedNormal.rvs

    def rvs(self: Any, *, size: int, random_state: np.random.RandomState, **keys: Any) -> NDArray[np.float64]:
        state = random_state.get_state(legacy=False)
        place = (state["state"]["key"].tobytes(), state["state"]["pos"], size, *sorted(keys.items()))
        if place not in drawn:
            while len(drawn) >= 40:
                del drawn[next(iter(drawn))]
            drawn[place] = draw(self, size=size, random_state=random_state, **keys), random_state.get_state(legacy=False)
        numbers, after = drawn[place]
        random_state.set_state(after)
        return numbers.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deepobs._TruncatedNormal, "rvs", rvs)
        yield


@pytest.fixture(autouse=True)
def signals_stay_as_they_are() -> Iterator[None]:
    """See that a test leaves this process to take signals as before: the processes that later tests start inherit that."""
    before = _signals()
    yield
    assert _signals() == before


def _signals() -> tuple[dict[int, Any], set[int]]:
    """Return what this process does on each signal, and which it blocks."""
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return handlers, set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test from the repository's root, where users stand."""
    monkeypatch.chdir(Path(__file__).parent.parent)


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an OBS_DATASETS with the real Fashion-MNIST."""
    root = tmp_path_factory.mktemp("fashion_mnist")
    if not images.unpack_fashion_mnist(root):
        reason = "needs the real Fashion-MNIST: apt-get install dataset-fashion-mnist"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    return root


@pytest.fixture(scope="session")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an OBS_DATASETS with small sets in the real on-disk formats of all image sets."""
    root = tmp_path_factory.mktemp("small_images")
    for name in ("cifar10", "cifar100"):
        images.write_cifar(root, name, train=200, test=60)
    images.write_svhn(root, train=200, test=60)
    images.write_mnist(root, "MNIST", train=400, test=60)
    images.write_mnist(root, "FashionMNIST", train=400, test=60)
    return root


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an OBS_DATASETS with still smaller sets, for networks whose every image takes long."""
    root = tmp_path_factory.mktemp("few_images")
    for name in ("cifar10", "cifar100"):
        images.write_cifar(root, name, train=60, test=20)
    for folder in ("MNIST", "FashionMNIST"):
        images.write_mnist(root, folder, train=160, test=20)
    return root


@pytest.fixture
def unchecked_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision take small image sets, whose checksums are not the real ones."""
    import torchvision.datasets.cifar
    import torchvision.datasets.svhn

    for module in (torchvision.datasets.cifar, torchvision.datasets.svhn):
        monkeypatch.setattr(module, "check_integrity", lambda path, *_: Path(path).is_file())


@pytest.fixture(scope="session")
def short_run(small_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunConfig]:
    """Return a function that makes the configuration of a short run: 11 steps an epoch.

    It knows every optimizer for every problem.
    """

    tuning = tmp_path_factory.mktemp("tuning") / "tuning.yaml"
    tuning.write_text(OmegaConf.to_yaml(dict.fromkeys(problems(), TUNING)))
    known = read_tuning(tuning)

    def make(**keys: object) -> RunConfig:
        defaults = {
            "problem": "mnist_mlp_bn",
            "tuning_conf": str(tuning),
            "random_seed": 3,
            "num_epochs": 2,
            "batch_size": 32,
            "threads": 1,
            "obs_datasets": str(small_images),
        }
        return resolve({**defaults, **keys}, read_tuning=lambda path: known if path == tuning else read_tuning(path))

    return make


@pytest.fixture
def configure(tmp_path: Path, short_run: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Return `short_run`, whose runs go below the test's folder."""
    return lambda **keys: short_run(**{"output_dir": str(tmp_path / "output"), **keys})


def arguments_of(config: RunConfig) -> list[str]:
    """Return the command-line arguments that give a configuration."""
    nested = {"OPT_HPARS", "LR_SCHEDULE"}
    plain = [f"{key}={value}" for key, value in config.to_dict().items() if key not in nested and value is not None]
    arguments = plain + [f"OPT_HPARS.{name}={value}" for name, value in config.opt_hpars.items()]
    schedule = config.lr_schedule
    return arguments + ([f"LR_SCHEDULE.{name}={value}" for name, value in schedule.items()] if schedule else [])
