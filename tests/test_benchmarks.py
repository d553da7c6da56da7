from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from benchmarks.__main__ import main, with_section
from benchmarks.bits import Comparison, compare_runs
from benchmarks.cuda import cuda
from benchmarks.measuring import Side, Timing, alternate, peak_memory_mb, ratios, spread, table
from tests import command


def counting(start: float) -> Generator[float]:
    while True:
        start += 1
        yield start


def failing() -> Generator[float]:
    yield 1.0
    raise ValueError("of its own")


def test_sides_take_turns_and_first_units_do_not_count() -> None:
    timings = alternate([Side("slow", counting, (10.0,)), Side("fast", counting, (1.0,))], rounds=2)
    assert timings["slow"].seconds == [12.0, 13.0]
    assert timings["fast"].seconds == [3.0, 4.0]
    assert timings["slow"].peak_mb > 1
    assert ratios(timings["slow"], timings["fast"]) == [4.0, 3.25]


def test_a_side_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="one failed"):
        alternate([Side("one", failing)], rounds=2)


def test_peak_memory_is_the_process_s_own() -> None:
    """A process that was started by a larger one does not count that one's memory."""
    ballast = bytearray(b"x") * 500_000_000
    timing = alternate([Side("light", counting, (1.0,))], rounds=1)["light"]
    assert 1 < timing.peak_mb < peak_memory_mb() - len(ballast) / 2e6


def test_a_spread_is_median_lowest_and_highest() -> None:
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0-3.0)"
    assert Timing([3.0, 1.0, 2.0], 0.0).median == 2.0


def test_a_section_is_replaced_and_the_others_stay() -> None:
    page = with_section(with_section("# Title\n", "batches", "one"), "memory", "two")
    again = with_section(page, "batches", table(("a", "b"), [("1", "22")]))
    assert again.startswith("# Title\n\n<!-- batches -->\n## batches\n")
    assert "| a | b  |\n|---|----|\n| 1 | 22 |" in again
    assert "\n\none\n\n" not in again
    assert again.count("## batches") == again.count("\n\ntwo\n\n") == 1


def test_the_gpu_benchmark_runs(tmp_path: Path, unchecked_images: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, with few images, in processes that have torch loaded: what it does is the same."""
    loaded = command.processes()
    monkeypatch.setattr("benchmarks.measuring.multiprocessing.get_context", lambda _: loaded)
    text = cuda(tmp_path, device="cpu", problems=["cifar10_3c3d_bn"], ways=["fp32"], train=640, steps=2, rounds=1)
    tables = text.split("\n\n")
    assert [len(each.splitlines()) for each in tables] == [3, 3, 3]
    assert "| cifar10_3c3d_bn | fp32 | yes " in tables[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluations"], "error: evaluations: no such benchmark; did you mean evaluation?"),
        (["cuda"], "error: DEVICE=cuda: this machine has no CUDA devices"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert main(["--dry", *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(message)
    assert shown.count("\n") == 1


def write_run(
    folder: Path, *, losses: list[float], datasets: tuple[str, ...] = (), weights: dict[str, Any] | None = None
) -> Path:
    """Write what a comparison of bits reads of a run, some levels below a folder."""
    directory = folder / "run" / "trained_bn"
    directory.mkdir(parents=True)
    with h5py.File(directory / "run.h5", "w") as file:
        file["epochs/train_seconds"] = np.random.default_rng().random(3)
        file["batches/loss"] = np.array(losses)
        for name in datasets:
            file[name] = np.zeros(2, np.float32)
    if weights is not None:
        torch.save(weights, directory / "final_model.pth")
    return folder


def test_runs_of_the_same_bits_are_equal_whatever_only_the_new_one_has(tmp_path: Path) -> None:
    weights = {"conv.weight": torch.zeros(2, 3), "norm.num_batches_tracked": torch.tensor(4)}
    old = write_run(tmp_path / "old", losses=[0.5, float("nan")], datasets=("status",), weights=weights)
    new = write_run(tmp_path / "new", losses=[0.5, float("nan")], datasets=("status", "more"), weights=weights)
    assert compare_runs(old, new) == Comparison(compared=2, only_new=1, tensors=2, differing=[])


def test_one_bit_that_differs_is_found_in_a_dataset_and_in_the_weights(tmp_path: Path) -> None:
    weights = {"weight": torch.tensor([1.0, 0.0])}
    old = write_run(tmp_path / "old", losses=[0.5, 1.0], weights=weights)
    new = write_run(tmp_path / "new", losses=[0.5, np.nextafter(1.0, 2.0)], weights={"weight": torch.tensor([1.0, -0.0])})
    assert compare_runs(old, new).differing == ["batches/loss", "final_model.pth: weight"]


def test_a_missing_dataset_and_missing_weights_are_named(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", losses=[0.5], datasets=("snapshots/step",), weights={"weight": torch.zeros(1)})
    new = write_run(tmp_path / "new", losses=[0.5])
    differing = compare_runs(old, new).differing
    assert compare_runs(old, old).verdict() == "equal"
    assert Comparison(differing=list("abcde")).verdict() == "a, b, c, and 2 more"
    assert differing[:2] == ["snapshots/step (missing)", "final_model.pth: weight (missing)"]


def test_bits_of_no_commit_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bits", "no-such-commit"]) == 2
    assert capsys.readouterr().err == "error: no-such-commit: no such commit\n"
