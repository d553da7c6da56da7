from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchnorm.config import split_arguments
from batchnorm.errors import ConfigError
from batchnorm.study.grid import Study, read_study
from batchnorm.study.values import spelled_out

START = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\n"
DRAWN = "{log_uniform: [1e-3, 1], n: 4, seed: 0}"


def read(folder: Path, text: str, *arguments: str) -> Study:
    path = folder / "study.yaml"
    path.write_text(text)
    return read_study(path, split_arguments(arguments))


def rates(study: Study) -> list[float]:
    return [run.config.lr for run in study.runs]


def seeds(study: Study) -> list[int]:
    return [run.config.random_seed for run in study.runs]


@given(st.lists(st.tuples(st.integers(0, 2**63 - 50), st.integers(0, 40)), min_size=1, max_size=5), st.booleans())
def test_seed_ranges_spell_out(ranges: list[tuple[int, int]], spaced: bool) -> None:
    comma, dash = (" , ", " - ") if spaced else (",", "-")
    text = comma.join(f"{first}{dash}{first + more}" if more else str(first) for first, more in ranges)
    expected = [str(seed) for first, more in ranges for seed in range(first, first + more + 1)]
    found = spelled_out("random_seed", text, shown="RANDOM_SEED")
    assert (found if isinstance(found, list) else [found]) == expected
    assert spelled_out("random_seed", [text, "5"], shown="RANDOM_SEED") == [*expected, "5"]


@given(
    st.floats(1e-30, 1e30),
    st.floats(1.0, 1e6, exclude_min=True),
    st.integers(1, 50),
    st.integers(0, 2**63 - 1),
)
def test_drawn_numbers(low: float, factor: float, n: int, seed: int) -> None:
    high = low * factor
    if not low < high:
        return

    def draw(n: int) -> list[str]:
        mapping = {"log_uniform": [repr(low), repr(high)], "n": str(n), "seed": str(seed)}
        found: list[str] = spelled_out("lr", mapping, shown="LR")
        return found

    drawn = draw(n)
    assert len(drawn) == n
    assert drawn == [repr(float(text)) for text in drawn] == draw(n)
    assert draw(n + 3)[:n] == drawn
    again = random.Random(seed)
    for text in drawn:
        assert low <= float(text) <= high
        assert float(text) == pytest.approx(low * (high / low) ** again.random(), rel=6e-6)


def test_drawn_numbers_are_the_same_for_ever(tmp_path: Path) -> None:
    """Directories hold them: another rounding or another generator would train all of a study again."""
    expected = [0.341402, 0.187872, 0.018269, 0.00598068]
    assert rates(read(tmp_path, f"{START}LR: {DRAWN}\n")) == expected
    assert rates(read(tmp_path, START, f"LR={DRAWN}")) == expected
    assert rates(read(tmp_path, f"{START}LR: [0.5, {DRAWN}]\n")) == [0.5, *expected]
    assert [run.config.directory.parts[-3] for run in read(tmp_path, START, f"lr={DRAWN}").runs][:2] == [
        "Lr_0.341402",
        "Lr_0.187872",
    ]


def test_the_logarithms_are_uniform() -> None:
    drawn = spelled_out("lr", {"log_uniform": ["1e-4", "1"], "n": "4000", "seed": "3"}, shown="LR")
    shares = [sum(low <= math.log10(float(text)) < low + 1 for text in drawn) / 4000 for low in (-4, -3, -2, -1)]
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


def test_any_number_can_be_drawn_and_seeds_be_given_on_the_command_line(tmp_path: Path) -> None:
    study = read(tmp_path, "PROBLEM: digits_2c2d_bn\nOPTIMIZER: Momentum\n", "RANDOM_SEED=1-3,7", "LR=0.1")
    assert seeds(study) == [1, 2, 3, 7]
    text = "PROBLEM: digits_2c2d_bn\nOPTIMIZER: Momentum\nRANDOM_SEED: [4-5, 9]\n"
    text += "OPT_HPARS.momentum: {log_uniform: [0.1, 0.9], n: 2, seed: 1}\n"
    study = read(tmp_path, text)
    assert seeds(study) == [4, 4, 5, 5, 9, 9]
    assert len({run.config.opt_hpars["momentum"] for run in study.runs}) == 2


def test_a_frozen_study_holds_the_values(tmp_path: Path) -> None:
    study = read(tmp_path, f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1-2\nLR: {DRAWN}\n")
    text = study.to_text()
    assert "log_uniform" not in text
    assert "1-2" not in text
    assert text.count("LR: '0.341402'") == text.count("LR: '0.00598068'") == 2
    assert [run.config for run in read(tmp_path, text).runs] == [run.config for run in study.runs]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("RANDOM_SEED=3-1", "RANDOM_SEED=3-1: 3-1 goes down; write 1-3"),
        ("RANDOM_SEED=1-9999999999", "9999999999 values; at most 100000"),
        ("RANDOM_SEED=1-", "RANDOM_SEED=1-: must be an integer"),
        ("RANDOM_SEED=1-2-3", "must be an integer"),
        ("RANDOM_SEED=1,,2", "must be an integer"),
        (f"RANDOM_SEED={'9' * 5000}", "RANDOM_SEED="),
        ("NUM_EPOCHS=1-3", "NUM_EPOCHS=1-3: must be an integer"),
        ("LR={log_uniform: [1e-3, 1], n: 3}", "LR: log_uniform needs seed"),
        ("LR={log_uniform: [1e-3, 1], n: 3, sed: 0}", "LR: log_uniform takes no sed; did you mean seed?"),
        ("LR={log_uniform: [1, 1e-3], n: 3, seed: 0}", "log_uniform=[1, 1e-3]: must be two numbers, 0 < lowest < highest"),
        ("LR={log_uniform: [0, 1], n: 3, seed: 0}", "0 < lowest < highest"),
        ("LR={log_uniform: [nan, 1], n: 3, seed: 0}", "0 < lowest < highest"),
        ("LR={log_uniform: [1, 2, 3], n: 3, seed: 0}", "0 < lowest < highest"),
        ("LR={log_uniform: 1, n: 3, seed: 0}", "0 < lowest < highest"),
        ("LR={log_uniform: [[1], 2], n: 3, seed: 0}", "0 < lowest < highest"),
        ("LR={log_uniform: [1, 2], n: 0, seed: 0}", "LR: n=0: must be an integer from 1 to 100000"),
        ("LR={log_uniform: [1, 2], n: 1000000, seed: 0}", "LR: n=1000000: must be"),
        ("LR={log_uniform: [1, 2], n: [3], seed: 0}", "LR: n=['3']: must be"),
        ("LR={log_uniform: [1, 2], n: 3, seed: -1}", "LR: seed=-1: must be an integer from 0"),
        ("LR={log_uniform: [1, 2", "not valid YAML; as LR={log_uniform: [1e-3, 1], n: 12, seed: 0}"),
        ("BATCH_SIZE={log_uniform: [1, 64], n: 2, seed: 0}", "must be an integer"),
        ("POSITION={log_uniform: [1, 64], n: 2, seed: 0}", "not a mask"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\n", argument)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_wrong_in_a_file_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^STUDY=.*study.yaml: LR: log_uniform needs n"):
        read(tmp_path, f"{START}LR: {{log_uniform: [1, 2], seed: 0}}\n")
