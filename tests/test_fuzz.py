"""Thousands of command lines, study files and tuning files: exit code 0 or 2, one line, never a traceback.

FUZZ in the environment says how many of each (700 by default).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchnorm import command
from batchnorm.config import RunConfig
from batchnorm.errors import ExitCode
from batchnorm.modes import MASK_SETS, MODES
from batchnorm.optim import OPTIMIZERS, SCHEDULES
from batchnorm.problems import problems
from batchnorm.store import Status
from batchnorm.study.__main__ import main as study_main

EXAMPLES = int(os.environ.get("FUZZ", "700"))
SETTINGS = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TUNING = Path(__file__).parents[1] / "configs" / "basic_config.yaml"

names = [entry.name.upper() for entry in fields(RunConfig)]
nested = [f"OPT_HPARS.{name}" for spec in OPTIMIZERS.values() for name in spec.hyperparameters]
nested += [f"LR_SCHEDULE.{name}" for spec in SCHEDULES.values() for name in (*spec.required, *spec.optional)]
keys = st.sampled_from([*names, *nested, "opt_hpars.lr", "Lr", "", "POSITION.x", "NOBODY"]) | st.text(max_size=12)
TEXTS = ("all", "none", "null", "true", "auto", "0,1,1", "[0,1,1]", "011", "cuda:0", "bf16", "deepobs", "${LR}", "~", "\0")
NUMBERS = ("1e-3", "nan", "inf", "-1", "0", "1", "1e400")
words = st.sampled_from([*problems(), *OPTIMIZERS, *SCHEDULES, *MASK_SETS, *MODES, *TEXTS, *NUMBERS])
values = words | st.integers().map(str) | st.floats().map(str) | st.text(max_size=20)
arguments = st.lists(st.builds("{}={}".format, keys, values) | st.text(max_size=20), max_size=5)
required = st.sampled_from([[], ["PROBLEM=digits_2c2d_bn", "RANDOM_SEED=1"], ["PROBLEM=cifar100_allcnnc_bn", "RANDOM_SEED=0"]])
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | st.sampled_from(list(OPTIMIZERS)), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Return a function that calls an entry point, which trains nothing, and looks at its answer."""
    monkeypatch.setattr(command, "train_or_skip", lambda config: Status.FINISHED)

    def call(entry: Callable[[], int]) -> None:
        code = entry()
        errors = capsys.readouterr().err
        assert code in (ExitCode.FINISHED, ExitCode.BAD_INPUT)
        if code == ExitCode.BAD_INPUT:
            assert errors.startswith("error: ")
            assert errors.count("\n") == 1

    return call


Check = Callable[[Callable[[], int]], None]


def mutated(text: str, seed: int) -> bytes:
    """Change a valid file in a few places."""
    chance = random.Random(seed)
    content = bytearray(text.encode())
    for _ in range(chance.randrange(1, 5)):
        place = chance.randrange(len(content))
        how = chance.randrange(4)
        if how == 0:
            del content[place : place + chance.randrange(1, 12)]
        elif how == 1:
            content[place:place] = bytes(chance.choice(b"{}[]:,-#&*!|>'\"%@`\n\t 0e.") for _ in range(chance.randrange(1, 4)))
        elif how == 2:
            content[place] = chance.randrange(256)
        else:
            other = chance.randrange(len(content))
            content[place:place] = content[other : other + 30]
    return bytes(content)


@SETTINGS
@given(start=required, more=arguments)
def test_command_lines(check: Check, start: list[str], more: list[str]) -> None:
    check(lambda: command.main([*start, *more]))


@SETTINGS
@given(tree=trees, more=arguments, seed=st.integers(0, 2**32), kind=st.sampled_from(["tree", "grid", "mutated"]))
def test_study_files(check: Check, tmp_path: Path, tree: Any, more: list[str], seed: int, kind: str) -> None:
    path = tmp_path / "study.yaml"
    valid: dict[str, Any] = {"PROBLEM": "digits_2c2d_bn", "RANDOM_SEED": [1, 2], "POSITION": ["none", "prefixes"]}
    if kind == "mutated":
        path.write_bytes(
            mutated(yaml.safe_dump({**valid, "LR_SCHEDULE": {"name": "step", "step_size": 2, "gamma": 0.5}}), seed)
        )
    elif kind == "grid" and isinstance(tree, dict):
        path.write_text(yaml.safe_dump({**valid, **tree}), encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    given_more = more if seed % 4 == 0 else []
    check(lambda: study_main([["list", "missing"][seed % 2], str(path), *given_more]))


@SETTINGS
@given(tree=trees, seed=st.integers(0, 2**32), kind=st.sampled_from(["tree", "entry", "block", "mutated"]))
def test_tuning_files(check: Check, tmp_path: Path, tree: Any, seed: int, kind: str) -> None:
    path = tmp_path / "tuning.yaml"
    problem, optimizer = "digits_2c2d_bn", ["SGD", "Momentum", "Adam"][seed % 3]
    block: Any = {"lr_schedule": None, "opt_hpars": {"lr": 0.1}}
    if kind == "mutated":
        path.write_bytes(mutated(f"{problem}:{TUNING.read_text().split(problem + ':')[1].split('mnist_mlp')[0]}", seed))
    elif kind == "entry":
        path.write_text(yaml.safe_dump({problem: tree}), encoding="utf-8")
    elif kind == "block":
        entry = {"batch_size": 8, "num_epochs": 2, optimizer: {**block, **tree} if isinstance(tree, dict) else tree}
        path.write_text(yaml.safe_dump({problem: entry}), encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    check(lambda: command.main([f"TUNING_CONF={path}", f"PROBLEM={problem}", "RANDOM_SEED=1", f"OPTIMIZER={optimizer}"]))
