"""An accelerator that computes nothing: device code runs on it by shapes alone, and fails where the host would wait.

As a program (`python -m tests.fake_accelerator`), checks training steps of all problems, optimizers and precisions on it,
and that planted faults are noticed. It uses private interfaces of PyTorch and changes the process for good.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from batchnorm.assembly import Training, assemble_with, build_network
from batchnorm.config import RunConfig, resolve
from batchnorm.data.batches import Batches, LabelledImages
from batchnorm.data.own import OwnImages
from batchnorm.data.sources import ImageArrays, facts_of
from batchnorm.problems import find_problem, problems
from batchnorm.quantities import FULL, chosen
from batchnorm.recording import Recorder
from batchnorm.training import step

NAME = "fakeacc"
aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default: "a value is read",
    aten.nonzero.default: "a shape depends on values",
    aten.masked_select.default: "a shape depends on values",
    aten._unique2.default: "a shape depends on values",
    aten.equal.default: "tensors are compared",
}


SLOT_KEYS: tuple[dict[str, object], ...] = (
    {"ghost": 1, "gamma_init": "uniform", "placement": "after", "affine_lr_scale": 2.0, "bn_momentum": 0.5},
    {"norm": "center", "ghost": 1, "freeze_stats_after": 2, "l2_affine": 0.1},
    {"norm": "scale", "freeze_stats_after": 1},
    {"norm": "group:8", "bn_eps": 0.1},
)


class HostWaits(Exception):
    """The host would wait for the device."""


class LeftOnHost(Exception):
    """An index on the host meets a tensor on the device."""


class _Shapes(FakeTensorMode):
    avoid_device_init = True


class Watch(TorchDispatchMode):
    """Raises where the host would wait for the device."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        on_device = [arg for arg in args if isinstance(arg, torch.Tensor) and arg.device.type == NAME]
        if on_device and op in WAITS:
            raise HostWaits(f"{op}: {WAITS[op]}")
        if op in (aten.index.Tensor, aten.index_put_.default) and on_device:
            for index in args[1]:
                if index is not None and index.device.type != NAME:
                    raise LeftOnHost(str(op))
                if index is not None and index.dtype == torch.bool:
                    raise HostWaits(f"{op}: a shape depends on values")
        if on_device and op is aten._to_copy.default and str(kwargs.get("device")) == "cpu":
            raise HostWaits("a tensor is copied to the host")
        return op(*args, **kwargs)


@contextmanager
def fake_accelerator() -> Iterator[torch.device]:
    """Yield the device."""
    with _Shapes(allow_non_fake_inputs=True), Watch():  # type: ignore[no-untyped-call]
        yield torch.device(NAME, 0)


class Rows:
    """Stands where the record would."""

    quantities = chosen(FULL)

    def append(self, axis: str, rows: dict[str, Any]) -> None:
        raise AssertionError("no block is full yet")


def invented(image_set: str | OwnImages) -> ImageArrays:
    shape = (1, 28, 28) if image_set in ("mnist", "fmnist", "digits") else (3, 32, 32)
    images, labels = np.zeros((64, *shape), np.uint8), np.zeros(64, np.int64)
    return ImageArrays(images, labels, images, labels, "digest")


def networks() -> list[str]:
    """Return a problem of each kind of network: others differ in their images, or in how many of the same blocks they have."""
    kinds = {problem.slots: name for name, problem in problems().items() if name != "cifar100_wrn404_bn"}
    return list(kinds.values())


def check(
    config: RunConfig,
    fault: Callable[[Training, torch.Tensor], torch.Tensor] = lambda _, images: images,
) -> None:
    """Make three recorded steps. Network and images are made on the host, and brought over as shapes."""
    problem = find_problem(config.problem)
    arrays = invented(problem.image_set)
    layout = torch.channels_last if config.precision == "bf16" else torch.contiguous_format
    options: dict[str, Any] = {"random_seed": 1, "batch_size": config.batch_size, "memory_format": layout}
    batches = Batches(facts_of(problem.image_set), arrays, device=torch.device("cpu"), **options)
    net = build_network(config)
    with fake_accelerator() as device:
        bring_over_(batches, device)
        state = assemble_with(config, net, batches, device=device)
        recorder = Recorder(Rows(), state.slots, device=device, every=1, measure_every=2, images=config.batch_size)  # type: ignore[arg-type]
        state.begin_epoch(1)
        for images, labels in state.batches.training(1):
            assert images.device.type == labels.device.type == NAME
            step(state, fault(state, images), labels, recorder)
        assert state.step == 3
        for parameter in state.net.parameters():
            assert parameter.device.type == NAME
            assert parameter.grad is None or parameter.grad.device.type == NAME


def bring_over_(batches: Batches, device: torch.device) -> None:
    """Move all that a `Batches` holds to a device."""
    for name, value in vars(batches).items():
        if isinstance(value, LabelledImages):
            setattr(batches, name, LabelledImages(value.images.to(device), value.labels.to(device)))
        elif isinstance(value, torch.Tensor):
            setattr(batches, name, value.to(device))


def faults() -> dict[str, Callable[[Training, torch.Tensor], torch.Tensor]]:
    """Return what a step must not do, by name."""

    def reads_a_value(state: Training, images: torch.Tensor) -> torch.Tensor:
        return images * images.mean().item()

    def asks_for_nan(state: Training, images: torch.Tensor) -> torch.Tensor:
        assert torch.isfinite(images).all()
        return images

    def copies_to_the_host(state: Training, images: torch.Tensor) -> torch.Tensor:
        images.detach().cpu()
        return images

    def selects_by_values(state: Training, images: torch.Tensor) -> torch.Tensor:
        return images[images[:, 0, 0, 0] >= 0]

    def indexes_from_the_host(state: Training, images: torch.Tensor) -> torch.Tensor:
        return images[torch.arange(len(images), device="cpu")]

    def leaves_a_buffer_behind(state: Training, images: torch.Tensor) -> torch.Tensor:
        for module in state.net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean = torch.zeros(module.num_features, device="cpu")
        return images

    return {
        fault.__name__: fault
        for fault in (
            reads_a_value, asks_for_nan, copies_to_the_host, selects_by_values, indexes_from_the_host, leaves_a_buffer_behind,
        )
    }  # fmt: skip


def main() -> None:
    """Check all steps, then all planted faults; prints what was checked."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    # Autocast has no casting kernels for such a device: its context runs, the casts themselves do not.
    library = torch.library.Library("_", "IMPL")
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    tuning = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    hyperparameters: dict[str, dict[str, float]] = {
        "SGD": {}, "Momentum": {"momentum": 0.9}, "NAG": {"momentum": 0.9}, "Adam": tuning,
        "AdamW": {**tuning, "weight_decay": 0.1}, "RMSprop": {"alpha": 0.9, "eps": 1e-8},
    }  # fmt: skip

    def configure(problem: str, optimizer: str, precision: str, **more: object) -> RunConfig:
        tuning_conf = Path(sys.argv[1]) / "tuning.yaml"
        entry = {"batch_size": 19, "num_epochs": 1, optimizer: {"opt_hpars": {"lr": 0.1, **hyperparameters[optimizer]}}}
        tuning_conf.write_text(repr({problem: entry}))
        keys = {"random_seed": 1, "tuning_conf": str(tuning_conf), "log_every_steps": 1}
        return resolve({"problem": problem, "optimizer": optimizer, "precision": precision, **keys, **more})

    for problem in networks():
        for precision in ("fp32", "bf16"):
            check(configure(problem, "SGD", precision))
            print("checked", problem, "SGD", precision)
    for optimizer in hyperparameters:
        check(configure("cifar10_3c3d_bn", optimizer, "fp32"))
        print("checked", "cifar10_3c3d_bn", optimizer, "fp32")
    for keys in SLOT_KEYS:
        check(configure("cifar10_3c3d_bn", "NAG", "bf16", position="11100", **keys))
        print("checked", "cifar10_3c3d_bn", "NAG", "bf16", *keys)
    for name, fault in faults().items():
        try:
            check(configure("cifar10_3c3d_bn", "SGD", "fp32"), fault)
        except Exception as error:
            print("noticed", name, type(error).__name__)
        else:
            print("MISSED", name)


if __name__ == "__main__":
    main()
