"""What is recorded, and how often, changes no bit of a training: on short runs of the real runner."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batchnorm import training
from batchnorm.assembly import assemble, build_network
from batchnorm.config import RunConfig
from batchnorm.data.batches import Batches
from batchnorm.measurements.weights import SUMS
from batchnorm.probing import weight_of
from batchnorm.quantities import METRICS
from batchnorm.recording import BLOCK_ROWS
from batchnorm.seeding import seed_default_generators
from batchnorm.stop import Interrupted
from batchnorm.store import Run, RunDirectory, Status
from tests import command
from tests.test_training import assert_same_run, interrupted_at, numbers

Configure = Callable[..., RunConfig]
TIMES = ("train_seconds", "eval_seconds")


@pytest.fixture
def configure(configure: Configure, few_images: Path) -> Configure:
    """Return `configure`, with fewer images for All-CNN-C, which takes long for each."""
    return lambda **keys: configure(**({"obs_datasets": str(few_images)} if "problem" in keys else {}), **keys)


@pytest.fixture
def trained(configure: Configure) -> Callable[..., Path]:
    """Return a function that trains a run of a name, and returns its directory."""

    def train(name: str, status: Status = Status.FINISHED, **keys: Any) -> Path:
        config = configure(**keys, output_dir=f"{configure().output_dir}/{name}")
        assert training.train(config) == status
        return config.directory

    return train


def assert_same_training(one: Path, other: Path) -> set[str]:
    """Hold what two finished runs both recorded against each other, bit for bit, and return what only the other one has."""
    numbers_one, numbers_other = numbers(one), numbers(other)
    assert set(numbers_one) <= set(numbers_other)
    for name, values in numbers_one.items():
        assert values.tobytes() == numbers_other[name].tobytes(), name
    weights = [torch.load(RunDirectory(directory).final_model, weights_only=True) for directory in (one, other)]
    assert list(weights[0]) == list(weights[1])
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    return {name.partition("/")[0] for name in numbers_other.keys() - numbers_one.keys()}


def assert_rows_are_whole(directory: Path) -> dict[str, int]:
    """Check that all datasets of an axis have as many rows, and return how many."""
    run = Run(directory)
    lengths: dict[str, set[int]] = {}
    for name, values in numbers(directory).items():
        if name != "status":
            group = "snapshots" if name.startswith("snapshots") else name.partition("/")[0]
            lengths.setdefault("epochs" if group == "running" else group, set()).add(len(values))
    assert all(len(found) == 1 for found in lengths.values()), lengths
    assert lengths["epochs"] == {len(run.epochs["epoch"])}
    return {axis: found.pop() for axis, found in lengths.items()}


ALL_CNN_C = {
    "problem": "cifar100_allcnnc_bn", "position": "010010001", "batch_size": 10, "lr": 0.01, "num_epochs": 1, "max_steps": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({"position": "all", "measure_steps": 5}, "full,sharpness"),
        ({"position": "none", "measure_steps": 25}, "full,sharpness"),
        ({"optimizer": "Momentum", "position": "011", "measure_steps": 1}, "full"),
        ({"optimizer": "NAG", "position": "101", "ablation": "fixed_gamma", "measure_steps": 1}, "full"),
        ({"precision": "bf16", "position": "all", "measure_steps": 5}, "full,sharpness"),
        ({**ALL_CNN_C, "measure_steps": 2}, "weights,representations,landscape"),  # with dropout and augmentation
    ],
)
def test_measuring_changes_no_bit_of_a_training(
    trained: Callable[..., Path], unchecked_images: None, keys: dict[str, Any], most: str
) -> None:
    none = trained("none", measure="none", **keys)
    assert not any(name.startswith(("updates", "probes")) for name in numbers(none))
    basic, full = trained("basic", **keys), trained("full", measure=most, **keys)
    assert assert_same_training(none, basic) == {"updates"}
    assert assert_same_training(basic, full) == {"probes"}
    for directory in (none, basic, full):
        assert_rows_are_whole(directory)


@pytest.mark.parametrize(
    ("keys", "stops"),
    [
        ({"position": "all", "measure_steps": 5}, [5, 7, 10, 20]),  # a measured step, one between, the last of an epoch
        ({"position": "011", "optimizer": "Momentum", "measure_steps": 1, "log_every_steps": 3}, [0, 4, 11, 21]),
        ({"position": "110", "precision": "bf16", "measure_steps": 25, "measure_every": 2}, [0, 13]),
        ({**ALL_CNN_C, "measure_steps": 2, "measure": "weights,representations"}, [2]),
    ],
)
def test_a_measured_run_that_is_stopped_and_resumed_has_the_same_bits(
    configure: Configure, trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, unchecked_images: None,
    keys: dict[str, Any], stops: list[int],
) -> None:  # fmt: skip
    keys = {"measure": "full", "save_epochs": "all", **keys}
    unbroken = trained("unbroken", **keys)
    config = configure(**keys)
    for number, step in zip((signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM), stops, strict=False):
        interrupted_at(config, number, step, monkeypatch)
        assert command.checkpoint_steps(config.directory) == step + 1
        assert_rows_are_whole(config.directory)
    assert training.train(config) == Status.FINISHED
    assert_same_run(config.directory, unbroken)
    kept = sorted((unbroken / "weights").iterdir())
    assert [file.name for file in kept] == [file.name for file in sorted((config.directory / "weights").iterdir())]
    for file in kept:
        one, other = (torch.load(path, weights_only=True) for path in (file, config.directory / "weights" / file.name))
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_stopping_beside_a_probe_measures_it_once(
    configure: Configure, trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes in an evaluation, after which the probe would follow, or in the probe itself."""
    unbroken = trained("unbroken", measure="full")
    config = configure(measure="full")
    evaluation, probe_images = Batches.evaluation, Batches.probe_images

    def evaluation_and_signal(batches: Batches, split: str, epoch: int) -> Any:
        if (split, epoch) == ("test", 1):
            signal.raise_signal(signal.SIGTERM)
        return evaluation(batches, split, epoch)

    def probe_and_signal(batches: Batches, count: int, size: int) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return probe_images(batches, count, size)

    for name, spoiled, step in (("evaluation", evaluation_and_signal, 11), ("probe_images", probe_and_signal, 12)):
        with monkeypatch.context() as patch:
            patch.setattr(Batches, name, spoiled)
            with pytest.raises(Interrupted):
                training.train(config)
        assert command.checkpoint_steps(config.directory) == step
    assert training.train(config) == Status.FINISHED
    assert_same_run(config.directory, unbroken)


def test_thinned_evaluations_and_probes_leave_all_else_as_it_is(
    configure: Configure, trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"position": "011", "num_epochs": 3, "measure": "full", "measure_steps": 5}
    each = numbers(trained("each", **keys))
    thinned_run = trained("thinned", evaluate_every=2, measure_every=2, **keys)
    thinned = numbers(thinned_run)
    evaluated = np.array([True, False, True, True])  # the first, each second, the last
    assert set(thinned) == set(each)
    assert thinned["probes/epoch"].tolist() == [0, 2, 3]
    metrics = {f"epochs/{name}" for name in METRICS}
    for name, values in each.items():
        expected = values[evaluated] if name in metrics or name.startswith("probes/") else values
        found = thinned[name][evaluated] if name in metrics else thinned[name]
        assert found.tobytes() == expected.tobytes(), name
    for name in metrics:
        assert np.isnan(thinned[name][~evaluated]).all(), name
        assert np.isfinite(each[name]).all(), name
    run = Run(thinned_run)
    assert run.status == Status.FINISHED
    assert all(np.isfinite(run.epochs[name]).all() for name in ("lr", *TIMES))

    config = configure(evaluate_every=2, measure_every=2, **keys)
    for step in (3, 11, 27):  # in epochs 1, 2 and 3
        interrupted_at(config, signal.SIGTERM, step, monkeypatch)
    assert training.train(config) == Status.FINISHED
    assert_same_run(config.directory, thinned_run)


@pytest.mark.parametrize(("save_epochs", "epochs"), [("0,2", [0, 2]), ("all", [0, 1, 2, 3]), ("none", [])])
def test_kept_weights_are_those_of_a_run_that_ends_there(
    configure: Configure, trained: Callable[..., Path], save_epochs: str, epochs: list[int]
) -> None:
    keys = {"position": "011", "num_epochs": 3}
    directory = RunDirectory(trained("kept", save_epochs=save_epochs, **keys))
    assert sorted(directory.path.glob("weights/*")) == [directory.weights(epoch) for epoch in epochs]
    for epoch in epochs:
        if epoch == 0:
            expected = build_network(configure(**keys)).state_dict()
        else:
            ended = trained(f"ended{epoch}", max_steps=11 * epoch, **keys)
            expected = torch.load(RunDirectory(ended).final_model, weights_only=True)
        kept = torch.load(directory.weights(epoch), weights_only=True)
        assert list(kept) == list(expected)
        assert all(torch.equal(value, expected[name]) for name, value in kept.items()), epoch
    trained("kept", save_epochs="1", overwrite=True, **keys)
    assert sorted(directory.path.glob("weights/*")) == [directory.weights(1)]


@pytest.mark.parametrize("position", ["none", "all"])
@pytest.mark.parametrize("log_every_steps", [0, 1, 5])
def test_a_diverging_run_that_is_measured_ends_as_diverged(
    trained: Callable[..., Path], log_every_steps: int, position: str
) -> None:
    keys = {"lr": 1e30, "position": position, "measure": "full,sharpness", "measure_steps": 2}
    directory = trained("diverged", Status.DIVERGED, log_every_steps=log_every_steps, **keys)
    rows = assert_rows_are_whole(directory)
    run = Run(directory)
    assert rows["probes"] == rows["epochs"]
    if log_every_steps:
        assert not np.isfinite(run.batches["loss"][-1])
        assert (run.index("updates")["step"] < run.batches["step"][-1]).all()
    else:
        assert not np.isfinite(run.epochs["train_loss"][-1])
    assert run.index("updates")["step"].tolist() == list(range(0, 2 * rows["updates"], 2))


def test_a_run_that_diverges_in_an_epoch_that_is_not_evaluated_is_told_at_the_next(trained: Callable[..., Path]) -> None:
    directory = trained("diverged", Status.DIVERGED, lr=1e30, log_every_steps=0, num_epochs=3, evaluate_every=2)
    assert Run(directory).epochs["epoch"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("log_every_steps", [0, 5])
def test_more_measured_updates_than_a_block_holds(trained: Callable[..., Path], log_every_steps: int) -> None:
    keys = {"position": "all", "batch_size": 4, "num_epochs": 1, "log_every_steps": log_every_steps}
    each, thinned = (numbers(trained(str(steps), measure_steps=steps, **keys)) for steps in (1, 25))
    assert each["updates/step"].tolist() == list(range(90))
    assert BLOCK_ROWS < 90 < 2 * BLOCK_ROWS
    assert thinned["updates/step"].tolist() == [0, 25, 50, 75]
    for name, values in thinned.items():
        other = each[name][::25] if name.startswith("updates/") else each[name]
        assert values.tobytes() == other.tobytes(), name


@pytest.mark.parametrize("optimizer", ["SGD", "Momentum"])
def test_recorded_updates_against_a_naive_loop(configure: Configure, optimizer: str) -> None:
    """The same steps made again, with sums in numpy's double precision and variances of what the norms see."""
    config = configure(position="011", optimizer=optimizer, measure_steps=3, max_steps=9, l2_reg=0.01)
    training.train(config)
    run = Run(config.directory)
    again = assemble(config)
    seen: dict[str, np.ndarray] = {}
    for slot in again.slots:
        if slot.norm is not None:
            slot.norm.register_forward_hook(lambda _, taken, __, name=slot.name: seen.update({name: wide(taken[0])}))
    again.net.train()
    rows = []
    for number, (images, labels) in enumerate(again.training_batches(1)):
        if number == 9:
            break
        seed_default_generators(config.random_seed, "dropout", number)
        again.optimizer.zero_grad()
        again.loss(images, labels).backward()
        before = {slot.name: wide(weight_of(slot)) for slot in again.slots}
        gammas = {slot.name: wide(slot.gamma) for slot in again.slots if slot.gamma is not None}
        again.optimizer.step()
        if number % 3 == 0:
            rows.append(
                {slot.name: (before[slot.name], wide(weight_of(slot).grad), wide(weight_of(slot))) for slot in again.slots}
            )
            for slot in again.slots:
                w, g, after = rows[-1][slot.name]
                at = number // 3
                sums = (w * w, g * g, w * g, after * after, (after - w) ** 2, w * (after - w))
                for name, product in zip(SUMS, sums, strict=True):
                    assert run.read(name, slot.name)[at] == pytest.approx(product.sum(), rel=1e-9), name
                assert run.read("channel_inner", slot.name)[at] == pytest.approx((w * g).sum(axis=1), rel=1e-9, abs=1e-15)
                if slot.gamma is not None:
                    eps = 1e-5 / (seen[slot.name].var(axis=0) + 1e-5) * gammas[slot.name] * wide(slot.gamma.grad)
                    assert run.read("channel_eps", slot.name)[at] == pytest.approx(eps, rel=1e-3, abs=1e-9)
    assert run.index("updates")["step"].tolist() == [0, 3, 6]
    assert run.read("update_lr").tolist() == [config.lr] * 3
    assert run.slots_with("channel_eps") == ("dense2", "dense3")


def wide(values: torch.Tensor | None) -> np.ndarray:
    assert values is not None
    return values.detach().double().numpy().copy()
