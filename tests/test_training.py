"""What must be true of every run, on short runs of the real runner."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import batchnorm
from batchnorm import assembly, machine, training
from batchnorm.analysis.laws import check
from batchnorm.assembly import build_network
from batchnorm.config import RunConfig
from batchnorm.data.batches import Batches
from batchnorm.data.facts import IMAGE_SETS
from batchnorm.data.sources import load_image_set
from batchnorm.errors import ConfigError, DataError, RunError
from batchnorm.measurements import laws
from batchnorm.problems import deepobs
from batchnorm.seeding import seed_default_generators
from batchnorm.stop import Interrupted
from batchnorm.store import Run, RunDirectory, Status
from tests import command
from tests.conftest import arguments_of

Configure = Callable[..., RunConfig]
CPU = torch.device("cpu")


def numbers(directory: Path) -> dict[str, np.ndarray]:
    """Return all numbers of a record, but for measured seconds and for the checksums of its datasets."""
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("marks/") and not name.endswith("_seconds"):
            found[name] = item[()]

    with h5py.File(RunDirectory(directory).record, "r", swmr=True) as file:
        file.visititems(take)
    return found


def assert_same_run(one: Path, other: Path) -> None:
    """Hold two finished runs against each other, bit for bit."""
    numbers_one, numbers_other = numbers(one), numbers(other)
    assert set(numbers_one) == set(numbers_other)
    assert [Run(directory).changed_datasets() for directory in (one, other)] == [[], []]
    for name, values in numbers_one.items():
        assert values.tobytes() == numbers_other[name].tobytes(), name
    weights = [torch.load(RunDirectory(directory).final_model, weights_only=True) for directory in (one, other)]
    assert list(weights[0]) == list(weights[1])
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_finished_run_leaves_what_is_documented(configure: Configure) -> None:
    config = configure(problem="digits_2c2d_bn", position="011", log_every_steps=5, lr=0.15)
    assert training.train(config) == Status.FINISHED
    files = {file.name for file in config.directory.iterdir()}
    assert files == {"config.yaml", "run.h5", "run.log", "final_model.pth", ".lock"}
    run = Run(config.directory)
    steps = 1349 // 32
    assert run.status == Status.FINISHED
    assert run.epochs["epoch"].tolist() == [0, 1, 2]
    assert run.epochs["step"].tolist() == [0, steps, 2 * steps]
    assert run.batches["step"].tolist() == list(range(0, 2 * steps, 5))
    assert run.snapshot_steps.tolist() == [*range(0, 2 * steps, 5), 2 * steps]
    assert run.epochs["test_acc"][-1] > 0.8
    assert run.epochs["train_loss"][-1] < run.epochs["train_loss"][0]
    assert RunConfig.load(config.directory / "config.yaml") == config
    assert {"python", "torch", "deepobs", "cuda", "device", "threads", "host", "git_commit", "git_dirty"} <= set(run.versions)
    assert run.versions["dissect_batchnorm"] == batchnorm.__version__
    weights = torch.load(config.directory / "final_model.pth", weights_only=True)
    assert np.array_equal(weights["conv2.batchnorm.weight"].numpy(), run.gamma("conv2")[-1])
    assert np.array_equal(weights["conv1.bias"].numpy(), run.bias("conv1")[-1])
    assert np.array_equal(weights["dense1.batchnorm.running_var"].numpy(), run.running_var("dense1")[-1])
    log = (config.directory / "run.log").read_text()
    assert "epoch 2/2" in log
    assert "finished" in log


@pytest.mark.parametrize("optimizer", ["SGD", "Momentum", "NAG", "Adam", "AdamW", "RMSprop"])
@pytest.mark.parametrize("mode", ["fixed_bn", "fixed_gamma", "fixed_beta"])
def test_frozen_is_frozen(configure: Configure, optimizer: str, mode: str) -> None:
    decay = {"l2_reg": 0.1} if optimizer != "AdamW" else {"opt_hpars.weight_decay": 0.5}
    config = configure(
        optimizer=optimizer, ablation=mode, max_steps=6, log_every_steps=1, **decay,
    )  # fmt: skip
    training.train(config)
    run = Run(config.directory)
    for slot in run.layers:
        gamma, beta = run.gamma(slot), run.beta(slot)
        assert len(gamma) == 7
        assert bool((gamma == 1).all()) != (mode == "fixed_beta")
        assert bool((beta == 0).all()) != (mode == "fixed_gamma")


@pytest.mark.parametrize(
    ("mode", "position", "trained"),
    [
        ("bn_only", "011", {"conv2.batchnorm", "dense1.batchnorm"}),
        ("bn_and_head", "010", {"conv2.batchnorm", "dense2"}),
        ("bn_and_head", "none", {"dense2"}),
    ],
)
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_weights_that_a_mode_does_not_train_stay_as_they_were(
    configure: Configure, few_images: Path, mode: str, position: str, trained: set[str], optimizer: str
) -> None:
    decay = {"l2_reg": 0.1} if optimizer == "SGD" else {"opt_hpars.weight_decay": 0.5}
    config = configure(
        problem="mnist_2c2d_bn", optimizer=optimizer, ablation=mode, position=position, max_steps=4,
        obs_datasets=str(few_images), **decay,
    )  # fmt: skip
    training.train(config)
    before, after = build_network(config).state_dict(), torch.load(RunDirectory(config.directory).final_model)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    moved = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[0] for name in before if not name.endswith(statistics)} > moved
    assert moved == trained
    assert Run(config.directory).mode == mode


def test_gamma_and_beta_without_a_norm_change_nothing_before_training(configure: Configure) -> None:
    runs = {}
    for position, mode in (("none", "trained_bn"), ("all", "affine_only")):
        config = configure(
            problem="mnist_2c2d_bn", position=position, ablation=mode, bias_init=0.0, max_steps=1, log_every_steps=1
        )
        training.train(config)
        runs[mode] = Run(config.directory)
    vanilla, affine = runs["trained_bn"], runs["affine_only"]
    for name in ("train_loss", "train_acc", "test_loss", "test_acc"):
        assert vanilla.epochs[name][0] == affine.epochs[name][0]
    assert vanilla.batches["loss"][0] == affine.batches["loss"][0]
    assert (affine.gamma("conv1")[0] == 1).all() and not (affine.gamma("conv1")[-1] == 1).all()
    with pytest.raises(RunError, match="has no threshold of conv1"):
        affine.read("threshold", "conv1")


def test_a_slot_may_have_a_mode_of_its_own(configure: Configure) -> None:
    config = configure(ablation="fixed_gamma,trained_bn,fixed_bn", max_steps=4, log_every_steps=1)
    assert config.directory.name.startswith("fixed_gamma,trained_bn,fixed_bn__")
    training.train(config)
    run = Run(config.directory)
    still = [[bool((values == values[0]).all()) for values in (run.gamma(slot), run.beta(slot))] for slot in run.layers]
    assert still == [[True, False], [False, False], [True, True]]
    same = configure(ablation="fixed_gamma,fixed_gamma,fixed_gamma", max_steps=4)
    assert same == configure(ablation="fixed_gamma", max_steps=4)


def first_steps(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Train, and return all batches and dropout masks that the network saw, and its initial weights."""
    seen: list[torch.Tensor] = []
    initial: dict[str, torch.Tensor] = {}

    def spy(config: RunConfig) -> torch.nn.Module:
        net = build_network(config)
        initial.update({name.replace(".layer", ""): value.clone() for name, value in net.named_parameters() if value.ndim > 1})
        net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()) if module.training else None)
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.register_forward_hook(lambda module, _, output: seen.append(output == 0) if module.training else None)
        return net

    monkeypatch.setattr(assembly, "build_network", spy)
    training.train(config)
    monkeypatch.undo()
    return seen, initial


def test_runs_of_one_seed_are_paired(configure: Configure, monkeypatch: pytest.MonkeyPatch, few_images: Path) -> None:
    """Same initial weights, same images in the same batches with the same augmentation, same dropout noise on the input."""
    keys = {"problem": "cifar100_allcnnc_bn", "batch_size": 16, "max_steps": 2, "log_every_steps": 1}
    keys |= {"obs_datasets": str(few_images)}
    variants = [("none", "trained_bn"), ("000000001", "fixed_bn"), ("all", "fixed_gamma")]
    results = []
    for position, mode in variants:
        monkeypatch.chdir(Path(__file__).parent.parent)
        with monkeypatch.context() as patch:
            import torchvision.datasets.cifar

            patch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, *_: Path(path).is_file())
            results.append(first_steps(configure(position=position, ablation=mode, **keys), patch))
    for seen, initial in results[1:]:
        assert list(initial) == list(results[0][1])
        assert all(torch.equal(value, results[0][1][name]) for name, value in initial.items())
        # Of each step: the input, then the three dropout layers' zeros; the first of them sees the input itself.
        assert len(seen) == len(results[0][0]) == 8
        for place in (0, 1, 4, 5):
            assert torch.equal(seen[place], results[0][0][place])
    assert not torch.equal(results[0][0][0], results[0][0][4])


def test_runs_with_keys_that_act_in_slots_are_paired_resume_exactly_and_obey_the_laws(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {
        "ablation": "fixed_gamma,trained_bn,affine_only", "gamma_init": "uniform", "beta_init": 0.1, "bn_momentum": 0.5,
        "bn_eps": 1e-3, "ghost": 8, "freeze_stats_after": 2, "placement": "after", "affine_lr_scale": 4.0, "l2_affine": 0.01,
        "optimizer": "Momentum", "lr_schedule": {"name": "cosine"}, "log_every_steps": 1, "measure": "weights,landscape",
        "measure_every": 2, "evaluate_every": 2, "max_steps": 14,
    }  # fmt: skip
    config = configure(**keys)
    vanilla = configure(**keys, position="none").directory.name
    assert vanilla == "trained_bn__OPTIMIZER=Momentum__LR_SCHEDULE=cosine__BATCH_SIZE=32__MAX_STEPS=14"
    seen, initial = first_steps(configure(position="none", max_steps=12, measure="none", evaluate_every=9), monkeypatch)
    mine, weights = first_steps(config, monkeypatch)
    assert all(torch.equal(one, other) for one, other in zip(seen, mine, strict=False))
    assert all(torch.equal(value, weights[name]) for name, value in initial.items())

    run = Run(config.directory)
    assert run.status == Status.FINISHED
    gamma = run.gamma("dense1")
    assert (gamma == gamma[0]).all() and 0 <= gamma.min() < 0.1 < 0.9 < gamma.max() < 1
    assert (run.gamma("dense2")[0] != run.gamma("dense2")[-1]).any()
    assert all((run.beta(slot)[0] == np.float32(0.1)).all() for slot in run.layers)
    for values in (run.running_mean("dense2"), run.running_var("dense2")):
        assert (values[0] != values[1]).any() and (values[1] == values[2]).all()
    rates = run.batches["lr"]
    assert rates[0] == config.lr and (np.diff(rates) < 0).all()
    assert not run.has("threshold", "dense1") and not run.has("channel_eps", "dense2") and run.has("weight_norm", "dense2")
    standings = [(finding.verdict.law, finding.verdict.standing) for finding in check(run)]
    assert laws.Standing.BROKEN not in {standing for _, standing in standings}
    assert {law for law, standing in standings if standing == laws.Standing.KEPT} == {1, 5}

    other = configure(**keys, output_dir=str(tmp_path / "resumed"))
    interrupted_at(other, signal.SIGTERM, 12, monkeypatch)
    assert training.train(other) == Status.FINISHED
    assert_same_run(config.directory, other.directory)


def test_evaluation_takes_nothing_from_training(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(position="all", max_steps=20, log_every_steps=1)
    training.train(config)
    without = configure(position="all", max_steps=20, log_every_steps=1, output_dir=config.output_dir + "2")
    monkeypatch.setattr(training, "evaluate", lambda *_: (0.0, 0.0))
    training.train(without)
    one, other = numbers(config.directory), numbers(without.directory)
    for name in ("batches/loss", "snapshots/gamma/dense1", "snapshots/beta/dense3"):
        assert one[name].tobytes() == other[name].tobytes()


@pytest.mark.parametrize("position", ["none", "all"])
def test_metrics_against_a_naive_evaluation(configure: Configure, position: str) -> None:
    config = configure(position=position, num_epochs=1)
    training.train(config)
    run = Run(config.directory)
    arrays = load_image_set("mnist", Path(config.obs_datasets))
    net = build_network(config)
    net.load_state_dict(torch.load(config.directory / "final_model.pth", weights_only=True))
    net.eval()
    images = torch.from_numpy(arrays.test_images).float() / 255
    losses, right = [], 0
    with torch.no_grad():
        for image, label in zip(images, torch.from_numpy(arrays.test_labels), strict=True):
            logits = net(image[None]).double()
            losses.append(cross_entropy(logits, label[None]).item())
            right += int(logits.argmax() == label)
    assert run.epochs["test_loss"][-1] == pytest.approx(np.mean(losses), rel=1e-5)
    assert run.epochs["test_acc"][-1] == right / len(losses)


def test_l2_is_in_the_gradient_and_not_in_the_metrics(configure: Configure) -> None:
    plain, decayed = configure(max_steps=1, log_every_steps=1), configure(max_steps=1, log_every_steps=1, l2_reg=0.1)
    for config, name in ((plain, "plain"), (decayed, "decayed")):
        object.__setattr__(config, "output_dir", f"{config.output_dir}/{name}")
        training.train(config)
    runs = [Run(config.directory) for config in (plain, decayed)]
    assert runs[0].batches["loss"][0] == runs[1].batches["loss"][0]
    weights = [torch.load(config.directory / "final_model.pth", weights_only=True) for config in (plain, decayed)]
    start = build_network(plain).state_dict()
    for name, first in start.items():
        if first.ndim > 1:
            difference = weights[0][name] - weights[1][name]
            assert torch.allclose(difference, plain.lr * 0.1 * first, atol=1e-6)
        elif first.dtype.is_floating_point and "running" not in name:
            assert torch.equal(weights[0][name], weights[1][name])


@pytest.mark.parametrize("max_steps", [1, 11, 12, 22, 500])
def test_max_steps_are_exact(configure: Configure, max_steps: int) -> None:
    config = configure(max_steps=max_steps, log_every_steps=1)
    training.train(config)
    run = Run(config.directory)
    done = min(max_steps, 22)
    assert run.snapshot_steps.tolist() == list(range(done + 1))
    assert run.epochs["step"][-1] == done
    assert run.epochs["epoch"].tolist() == list(range(-(-done // 11) + 1))


def test_recording_nothing_but_the_end(configure: Configure) -> None:
    config = configure(log_every_steps=0, max_steps=3)
    training.train(config)
    run = Run(config.directory)
    assert len(run.batches["step"]) == 0
    assert run.snapshot_steps.tolist() == [3]


def test_how_often_is_recorded_changes_nothing(configure: Configure) -> None:
    finals = []
    for every in (0, 1, 7):
        config = configure(log_every_steps=every, max_steps=15, output_dir=f"{configure().output_dir}{every}")
        training.train(config)
        finals.append(torch.load(config.directory / "final_model.pth", weights_only=True))
    for other in finals[1:]:
        assert all(torch.equal(value, other[name]) for name, value in finals[0].items())


@pytest.mark.parametrize("log_every_steps", [0, 1, 5])
def test_divergence_ends_the_run_and_keeps_what_was_recorded(configure: Configure, log_every_steps: int) -> None:
    config = configure(lr=1e30, log_every_steps=log_every_steps)
    assert training.train(config) == Status.DIVERGED
    run = Run(config.directory)
    assert run.status == Status.DIVERGED
    assert not (config.directory / "checkpoint.pt").exists()
    assert not (config.directory / "final_model.pth").exists()
    losses = run.batches["loss"]
    if log_every_steps:
        assert np.isfinite(losses[:-1]).all()
        assert not np.isfinite(losses[-1])
        assert np.isfinite(losses[0])
        assert len(run.snapshot_steps) == len(losses)
        assert run.epochs["epoch"].tolist() == [0]
    else:
        assert run.epochs["epoch"].tolist() == [0, 1]


@pytest.mark.parametrize(("position", "precision"), [("none", "fp32"), ("all", "fp32"), ("all", "bf16")])
def test_a_repeated_run_has_the_same_bits(configure: Configure, position: str, precision: str) -> None:
    configs = [
        configure(position=position, precision=precision, max_steps=20, output_dir=f"{configure().output_dir}{number}")
        for number in (1, 2)
    ]
    for config in configs:
        training.train(config)
    assert_same_run(configs[0].directory, configs[1].directory)


needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")


SMALL_WITH_DROPOUT = """\
from collections import OrderedDict

from batchnorm.problems import register_problem


@register_problem(image_set="mnist", classes=10, slots=("conv1", "dense1"))
def small():
    from torch import nn

    layers = {"conv1": nn.Conv2d(1, 4, 5, stride=2), "relu1": nn.ReLU(), "flat": nn.Flatten(), "drop": nn.Dropout(0.5)}
    layers |= {"dense1": nn.Linear(576, 16), "relu2": nn.ReLU(), "out": nn.Linear(16, 10)}
    return nn.Sequential(OrderedDict(layers))
"""


@pytest.fixture
def compiled(configure: Configure, tmp_path: Path) -> Configure:
    """Return a function that makes compiled runs of a network with dropout, whose noise must be the same."""
    (tmp_path / "own.py").write_text(SMALL_WITH_DROPOUT)
    (tmp_path / "own.yaml").write_text(
        "small: {batch_size: 32, num_epochs: 1, SGD: {lr_schedule: null, opt_hpars: {lr: 0.01}}}"
    )
    keys = {"problem": f"{tmp_path}/own.py:small", "tuning_conf": str(tmp_path / "own.yaml"), "log_every_steps": 1}
    return lambda **more: configure(**{**keys, "compile": True, **more})


@needs_compiler
def test_a_compiled_step_has_the_same_losses(compiled: Configure, tmp_path: Path) -> None:
    losses = []
    for keys in ({}, {"compile": False}):
        config = compiled(position="10", max_steps=6, output_dir=str(tmp_path / str(len(keys))), **keys)
        code, text = command.run(arguments_of(config), tmp_path / "printed.txt")
        assert code == 0, text
        losses.append(Run(config.directory).batches["loss"])
    assert losses[0].tolist() == pytest.approx(losses[1].tolist(), rel=1e-4)


@needs_compiler
def test_a_compiled_run_that_is_stopped_and_resumed_has_the_same_bits(compiled: Configure, tmp_path: Path) -> None:
    keys = {"precision": "bf16", "position": "01", "num_epochs": 25}
    unbroken = compiled(**keys, output_dir=str(tmp_path / "unbroken"))
    code, text = command.run(arguments_of(unbroken), tmp_path / "unbroken.txt")
    assert code == 0, text
    config = compiled(**keys)
    process = command.start(arguments_of(config), tmp_path / "stopped.txt")
    assert command.wait_for(process, "epoch 2/")
    process.terminate()
    process.join()
    assert process.exitcode == 75, process.text
    code, text = command.run(arguments_of(config), tmp_path / "last.txt")
    assert code == 0, text
    assert "resumed at step" in text
    assert_same_run(config.directory, unbroken.directory)
    plain = compiled(**{**keys, "compile": False, "num_epochs": 2}, output_dir=str(tmp_path / "plain"))
    assert command.run(arguments_of(plain), tmp_path / "plain.txt")[0] == 0
    losses = [Run(run.directory).batches["loss"][:20].tolist() for run in (unbroken, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_losses_are_those_of_deepobs_own_code(
    fashion_mnist: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same weights, same batches: DeepOBS's network, loss function and torch's SGD, step by step for a hundred steps."""
    config = configure(
        problem="fmnist_2c2d_bn", position="none", tuning_conf="configs/basic_config.yaml", obs_datasets=str(fashion_mnist),
        max_steps=100, log_every_steps=1, memory_format="contiguous", batch_size=32, threads=1,
    )  # fmt: skip
    assert config.lr == 0.15849
    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_: (0.0, 0.0))  # of 60,000 images, which is not what is tested
        training.train(config)
    ours = Run(config.directory)

    pytorch = deepobs.import_deepobs()
    pytorch.config.set_default_device("cpu")
    problem = pytorch.testproblems.fmnist_2c2d(config.batch_size)
    seed_default_generators(config.random_seed, "initial weights")
    problem.net = pytorch.testproblems.testproblems_modules.net_mnist_2c2d(num_outputs=10)
    problem.loss_function = torch.nn.CrossEntropyLoss
    problem.regularization_groups = problem.get_regularization_groups()
    arrays = load_image_set("fmnist", fashion_mnist)
    batches = Batches(IMAGE_SETS["fmnist"], arrays, random_seed=config.random_seed, batch_size=32, device=CPU)
    problem._iterator = batches.training(1)
    problem.phase = "train"
    problem.net.train()
    optimizer = torch.optim.SGD(problem.net.parameters(), lr=config.lr)
    theirs = []
    for _ in range(100):
        optimizer.zero_grad()
        loss, _ = problem.get_batch_loss_and_accuracy()
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())
    assert ours.batches["loss"].astype(np.float32).tolist() == pytest.approx(theirs, rel=1e-5)


def interrupted_at(config: RunConfig, number: signal.Signals, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process, which gets a signal at a step."""

    def seed_and_signal(random_seed: int, stream: str, index: int = 0) -> None:
        seed_default_generators(random_seed, stream, index)
        if stream == "dropout" and index == step:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(training, "seed_default_generators", seed_and_signal)
        with pytest.raises(Interrupted):
            training.train(config)


@pytest.mark.parametrize(
    ("optimizer", "mode"), [("SGD", "trained_bn"), ("NAG", "affine_only,fixed_gamma"), ("AdamW", "bn_and_head")]
)
def test_a_run_that_is_stopped_by_signals_and_resumed_has_the_same_bits(
    configure: Configure, optimizer: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        "optimizer": optimizer,
        "ablation": mode,
        "position": "011",
        "log_every_steps": 3,
        "lr_schedule": {"name": "cosine", "warmup_epochs": 1},
    }
    unbroken = configure(**keys, output_dir=f"{configure().output_dir}/unbroken")
    training.train(unbroken)
    config = configure(**keys)
    for number, step in (
        (signal.SIGTERM, 0),
        (signal.SIGINT, 7),
        (signal.SIGUSR1, 10),
        (signal.SIGTERM, 11),
        (signal.SIGUSR1, 21),
    ):
        interrupted_at(config, number, step, monkeypatch)
        assert command.checkpoint_steps(config.directory) == step + 1
        assert Run(config.directory).status == Status.CUT_OFF
    assert training.train(config) == Status.FINISHED
    assert_same_run(config.directory, unbroken.directory)


@pytest.fixture(scope="module")
def deepobs_losses(few_images: Path) -> list[float]:
    """Return the first losses of DeepOBS's own network under torch's SGD, in plain layout and precision."""
    seed_default_generators(3, "initial weights")
    net = deepobs.unfolded_network("net_mnist_2c2d", num_outputs=10)
    arrays = load_image_set("mnist", few_images)
    batches = Batches(IMAGE_SETS["mnist"], arrays, random_seed=3, batch_size=32, device=CPU)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for (images, labels), _ in zip(batches.training(1), range(4), strict=False):
        optimizer.zero_grad()
        loss = cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_parity_pairing_and_exact_resume_hold_in_each_layout_precision_and_thread_count(
    memory_format: str, precision: str, threads: int, configure: Configure, deepobs_losses: list[float], few_images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ways = {"memory_format": memory_format, "precision": precision, "threads": threads}
    keys = {"problem": "mnist_2c2d_bn", "max_steps": 4, "log_every_steps": 1, "obs_datasets": str(few_images), **ways}
    seen = {}
    for position in ("none", "all"):
        with monkeypatch.context() as patch:
            seen[position] = first_steps(configure(**keys, position=position), patch)
    for place in (0, 1):  # the images of two steps
        assert torch.equal(seen["none"][0][place], seen["all"][0][place])
    assert all(torch.equal(value, seen["all"][1][name]) for name, value in seen["none"][1].items())

    losses = Run(configure(**keys, position="none").directory).batches["loss"].tolist()
    # In another layout a near tie of a pooling window fell the other way: one entry of a gradient, 1e-3 of it.
    tolerance = {("contiguous", "fp32"): 1e-5, ("channels_last", "fp32"): 2e-3}.get((memory_format, precision), 0.05)
    assert losses == pytest.approx(deepobs_losses, rel=tolerance)
    assert losses[0] == pytest.approx(deepobs_losses[0], rel=1e-6 if precision == "fp32" else 5e-3)

    config = configure(**keys, position="all", output_dir=f"{configure().output_dir}/resumed")
    interrupted_at(config, signal.SIGTERM, 1, monkeypatch)
    assert training.train(config) == Status.FINISHED
    assert_same_run(config.directory, configure(**keys, position="all").directory)


def test_stopping_during_evaluation_repeats_no_step(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = configure(output_dir=f"{configure().output_dir}/unbroken")
    training.train(unbroken)
    config = configure()
    evaluate = training.evaluate
    for stop_epoch, stop_split in ((0, "valid"), (1, "train"), (2, "test")):

        def evaluate_and_stop(state: Any, split: str, epoch: int, between: Callable[[], None]) -> tuple[float, float]:
            if (epoch, split) == (stop_epoch, stop_split):  # noqa: B023
                signal.raise_signal(signal.SIGTERM)
            return evaluate(state, split, epoch, between)

        with monkeypatch.context() as patch:
            patch.setattr(training, "evaluate", evaluate_and_stop)
            with pytest.raises(Interrupted):
                training.train(config)
        assert command.checkpoint_steps(config.directory) == stop_epoch * 11
    training.train(config)
    assert_same_run(config.directory, unbroken.directory)


@pytest.mark.parametrize(
    ("problem", "keys"),
    [
        ("cifar10_3c3d_bn", {"optimizer": "Momentum", "num_epochs": 6, "batch_size": 10, "log_every_steps": 1}),
        ("cifar100_allcnnc_bn", {"num_epochs": 2, "batch_size": 10, "position": "010010001", "log_every_steps": 1, "lr": 0.01}),
    ],
)
def test_a_run_that_is_killed_again_and_again_has_the_same_bits(
    configure: Configure, tmp_path: Path, few_images: Path, problem: str, keys: dict[str, Any]
) -> None:
    keys = {**keys, "obs_datasets": str(few_images)}
    unbroken = configure(problem=problem, **keys, output_dir=f"{tmp_path}/unbroken")
    assert command.run(arguments_of(unbroken), tmp_path / "unbroken.txt") == (0, (tmp_path / "unbroken.txt").read_text())
    seconds = Run(unbroken.directory).epochs
    duration = float(sum(seconds["train_seconds"]) + sum(seconds["eval_seconds"]))
    config = configure(problem=problem, **keys)
    chance = random.Random(problem)
    kills = 0
    for _ in range(4):
        process = command.start(arguments_of(config), tmp_path / "killed.txt")
        assert command.wait_for(process, "epoch" if kills == 0 else "resumed")
        process.join(chance.uniform(0, duration / 3))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
        Run(config.directory)  # can be read
    code, text = command.run(arguments_of(config), tmp_path / "last.txt")
    assert code == 0, text
    assert kills >= 2
    assert_same_run(config.directory, unbroken.directory)


def test_two_processes_on_one_directory(configure: Configure, tmp_path: Path) -> None:
    config = configure(num_epochs=500)
    first = command.start(arguments_of(config), tmp_path / "first.txt")
    assert command.wait_for(first, "started")
    code, text = command.run(arguments_of(config), tmp_path / "second.txt")
    assert code == 2
    assert text.startswith(f"error: {config.directory}: another process is running it (process {first.pid} on ")
    assert text.count("\n") == 1
    assert first.pid is not None
    first.terminate()
    first.join()
    assert first.exitcode == 75
    assert "stopped by SIGTERM at step" in first.text


def test_a_run_that_another_process_finished_meanwhile_is_left_alone(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes that race: the one that waits for the claim meets a finished record."""
    for keys, status in (({}, Status.FINISHED), ({"lr": 1e30}, Status.DIVERGED)):
        config = configure(num_epochs=1, **keys)
        assert training.train(config) == status
        record = (config.directory / "run.h5").read_bytes()
        caplog.clear()
        assert training.train(config) == status
        assert f"{status.value} already: {config.directory}" in caplog.text
        assert (config.directory / "run.h5").read_bytes() == record
        assert training.train(configure(num_epochs=1, overwrite=True, **keys)) == status
        assert "started" in caplog.text


def test_bad_input_leaves_no_run_directory(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = [
        (configure(batch_size=361), ConfigError, "BATCH_SIZE=361: is larger than MNIST's training set of 360 images"),
        (configure(device="cuda:7"), ConfigError, "DEVICE=cuda:7: this machine has"),
        (configure(problem="svhn_3c3d_bn", obs_datasets=str(tmp_path / "none")), DataError, "SVHN is absent or damaged"),
        (configure(output_dir=str(tmp_path / "file" / "output")), ConfigError, "cannot be written: Not a directory"),
    ]
    for config, kind, message in cases:
        with pytest.raises(kind, match=message):
            training.train(config)
        assert {file.name for file in tmp_path.iterdir()} <= {"file"}


def test_another_run_in_the_directory_is_refused_until_overwritten(configure: Configure) -> None:
    """Where NAMED_KEYS does not tell the two apart."""
    keys = {"named_keys": "BATCH_SIZE"}
    training.train(configure(max_steps=2, **keys))
    with pytest.raises(
        RunError, match=r"holds another run: MAX_STEPS \(2 there, 3 here\); OUTPUT_DIR=... keeps both; OVERWRITE=true"
    ):
        training.train(configure(max_steps=3, **keys))
    assert Run(configure(**keys).directory).epochs["step"][-1] == 2
    assert training.train(configure(max_steps=3, overwrite=True, **keys)) == Status.FINISHED
    assert Run(configure(**keys).directory).epochs["step"][-1] == 3


def test_runs_that_differ_in_any_key_lie_in_directories_of_their_own(configure: Configure) -> None:
    for max_steps in (2, 3):
        training.train(configure(max_steps=max_steps))
    assert [Run(configure(max_steps=steps).directory).epochs["step"][-1] for steps in (2, 3)] == [2, 3]


def test_other_images_are_another_run(
    configure: Configure, small_images: Path, fashion_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(problem="fmnist_mlp_bn", max_steps=5)
    interrupted_at(config, signal.SIGTERM, 2, monkeypatch)
    other = configure(problem="fmnist_mlp_bn", max_steps=5, obs_datasets=str(fashion_mnist))
    with pytest.raises(RunError, match=r"holds another run: images \("):
        training.train(other)


def test_a_resumed_run_tells_what_changed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted_at(configure(threads=1), signal.SIGTERM, 2, monkeypatch)
    caplog.clear()
    training.train(configure(threads=2))
    assert "its last bits may differ: threads 1 -> 2" in caplog.text
    versions = Run(configure().directory).versions
    assert versions["threads"] == 2
    assert [part["threads"] for part in versions["earlier_parts"]] == [1]


@pytest.mark.parametrize("file", ["run.h5", "checkpoint.pt"])
def test_a_damaged_file_is_named(configure: Configure, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_at(configure(), signal.SIGTERM, 2, monkeypatch)
    path = configure().directory / file
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match=rf"{file}: is damaged .*OVERWRITE=true starts the run again from the beginning"):
        training.train(configure())
    assert training.train(configure(overwrite=True, max_steps=1)) == Status.FINISHED


def test_memory_format_is_chosen_for_device_and_precision(configure: Configure) -> None:
    cuda = torch.device("cuda")
    assert machine.choose_memory_format(configure(), CPU) == torch.channels_last
    assert machine.choose_memory_format(configure(), cuda) == torch.contiguous_format
    assert machine.choose_memory_format(configure(precision="bf16"), cuda) == torch.channels_last
    assert machine.choose_memory_format(configure(memory_format="contiguous"), CPU) == torch.contiguous_format
