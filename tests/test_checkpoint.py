from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from batchnorm.assembly import Training, assemble_with, build_network
from batchnorm.checkpoint import load_checkpoint, save_atomically, save_checkpoint
from batchnorm.config import RunConfig
from batchnorm.data.batches import Batches
from batchnorm.data.facts import IMAGE_SETS
from batchnorm.data.sources import load_image_set
from batchnorm.errors import RunError
from batchnorm.store import Mark

CPU = torch.device("cpu")
MARK = {"epochs/epoch": [3, 12345]}


@pytest.fixture
def state(configure: Callable[..., RunConfig], unchecked_images: None) -> Training:
    return training(configure(problem="cifar10_3c3d_bn"))


def training(config: RunConfig) -> Training:
    arrays = load_image_set("cifar10", Path(config.obs_datasets))
    batches = Batches(IMAGE_SETS["cifar10"], arrays, random_seed=1, batch_size=32, device=CPU)
    return assemble_with(config, build_network(config), batches, device=CPU)


def save(path: Path, state: Training) -> None:
    save_checkpoint(path, state.state_dict(), record=MARK, fingerprint=state.fingerprint)


def restore(path: Path, state: Training) -> Mark:
    return load_checkpoint(path, fingerprint=state.fingerprint, load=state.load_state_dict)


def test_a_checkpoint_restores_every_bit(configure: Callable[..., RunConfig], tmp_path: Path, unchecked_images: None) -> None:
    schedule = {"name": "multistep", "milestones": [1], "gamma": 0.1}
    for optimizer in ("SGD", "NAG", "AdamW", "RMSprop"):
        config = configure(problem="cifar10_3c3d_bn", optimizer=optimizer, lr_schedule=schedule)
        state, fresh = training(config), training(config)
        for images, labels in list(state.batches.training(1))[:3]:
            torch.nn.functional.cross_entropy(state.net(images), labels).backward()
            state.optimizer.step()
            state.schedule.step()
            state.step += 1
        path = tmp_path / "checkpoint.pt"
        save(path, state)
        assert restore(path, fresh) == MARK
        assert fresh.step == 3
        for name, value in state.net.state_dict().items():
            assert torch.equal(fresh.net.state_dict()[name], value)
        assert str(fresh.optimizer.state_dict()) == str(state.optimizer.state_dict())
        assert fresh.schedule.state_dict() == state.schedule.state_dict()


def test_every_damaged_byte_is_noticed_or_harmless(
    state: Training, configure: Callable[..., RunConfig], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, state)
    whole = path.read_bytes()
    fresh = training(configure(problem="cifar10_3c3d_bn"))
    noticed = 0
    for place in [*range(0, len(whole), len(whole) // 30), *range(len(whole) - 400, len(whole), 40)]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            restore(path, fresh)
        except RunError as error:
            noticed += 1
            assert "checkpoint.pt: is damaged" in str(error) or "belongs to another run" in str(error)
            assert "\n" not in str(error)
        else:
            for name, value in state.net.state_dict().items():
                assert torch.equal(fresh.net.state_dict()[name], value)
    assert noticed >= 30


@pytest.mark.parametrize("kept", [0, 10, 5000])
def test_a_truncated_checkpoint_is_one_line(state: Training, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, state)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"checkpoint.pt: is damaged .*; OVERWRITE=true starts the run again from the beginning"):
        restore(path, state)


def test_another_runs_checkpoint_is_refused(state: Training, configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, state)
    with pytest.raises(RunError, match="belongs to another run"):
        restore(path, training(configure(problem="cifar10_3c3d_bn", l2_reg=0.5)))


def test_saving_fails_without_harm_to_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    save_atomically(path, {"a": torch.ones(3)})
    (tmp_path / "model.pth.new").mkdir()  # so that the new file cannot be opened
    with pytest.raises(OSError, match="directory"):
        save_atomically(path, {"a": torch.zeros(3)})
    (tmp_path / "model.pth.new").rmdir()
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
