from __future__ import annotations

from pathlib import Path

import pytest

from batchnorm.config import read_command_line, resolve
from batchnorm.errors import ConfigError

DIGITS = ["PROBLEM=digits_2c2d_bn", "RANDOM_SEED=1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no entries"),
        ("- 1\n- 2\n", "holds no entries"),
        ("'-1'\n", "holds no entries"),  # OmegaConf asserts
        ("just text", "has no entry for digits_2c2d_bn; it has just text"),
        ("{unclosed: [", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\x00\x01", "not valid YAML"),
        ("digits_2c2d_bn: ${nowhere}", "not valid YAML"),
        ("fmnist_2c2d_bn: 1", "has no entry for digits_2c2d_bn; it has fmnist_2c2d_bn"),
        ("digits_2c2d_bn: 3", "must hold batch_size, num_epochs and optimizers"),
        ("digits_2c2d_bn: {SGD: {opt_hpars: {lr: 1}}}", "has no batch_size"),
        ("digits_2c2d_bn: {batch_size: x, num_epochs: 2, SGD: {opt_hpars: {lr: 1}}}", "must be an integer"),
        ("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, Adam: {}}", "no entry for it; it has Adam"),
        ("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, SGD: 3}", "must hold opt_hpars"),
        ("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, SGD: {opt_hpars: {}}}", "has no lr"),
        ("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, SGD: {opt_hpars: {lr: abc}}}", "opt_hpars.lr=abc: must be a number"),
        ("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, SGD: {opt_hpars: {lr: 1, momentum: 1}}}", "no such hyperparameter"),
        ("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, SGD: {opt_hpars: {lr: 1}, schedul: 1}}", "did you mean lr_schedule?"),
        ("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, SGD: {opt_hpars: {lr: 1}, lr_schedule: 5}}", "must be null or"),
        ("digits_2c2d_bn: {batchsize: 8, num_epochs: 2, SGD: {opt_hpars: {lr: 1}}}", "did you mean batch_size?"),
    ],
)  # fmt: skip
def test_bad_tuning_files_are_one_line_that_names_them(tmp_path: Path, content: str, message: str) -> None:
    tuning = tmp_path / "tuning.yaml"
    tuning.write_text(content)
    with pytest.raises(ConfigError) as error:
        read_command_line([*DIGITS, f"TUNING_CONF={tuning}"])
    assert message in str(error.value)
    assert str(tuning) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_entry_that_lacks_a_hyperparameter(tmp_path: Path) -> None:
    tuning = tmp_path / "tuning.yaml"
    tuning.write_text("digits_2c2d_bn: {batch_size: 8, num_epochs: 2, Adam: {opt_hpars: {lr: 1, beta1: 0.9, beta2: 0.99}}}")
    with pytest.raises(ConfigError, match="has no eps for Adam"):
        read_command_line([*DIGITS, f"TUNING_CONF={tuning}", "OPTIMIZER=Adam"])


def test_every_shipped_entry_resolves() -> None:
    from batchnorm.optim import OPTIMIZERS
    from batchnorm.problems import problems
    from batchnorm.tuning import read_tuning

    entries = read_tuning(Path("configs/basic_config.yaml"))
    assert set(entries) == set(problems())
    for problem, entry in entries.items():
        for optimizer in set(entry) & set(OPTIMIZERS):
            resolve({"problem": problem, "random_seed": 0, "optimizer": optimizer})
