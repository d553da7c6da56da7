from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from batchnorm.analysis.__main__ import main
from batchnorm.analysis.usage import in_bytes
from tests.analysis.conftest import cut_off, record

Usage = Callable[..., list[list[str]]]


@pytest.fixture
def usage(capsys: pytest.CaptureFixture[str]) -> Usage:
    """Return a function that runs the command, and gives back its rows, cut at two blanks."""

    def run(*arguments: object, code: int = 0) -> list[list[str]]:
        assert main(["usage", *map(str, arguments)]) == code
        return [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in capsys.readouterr().out.splitlines()]

    return run


def fill(folder: Path, sizes: Mapping[str, int]) -> None:
    """Put files of so many bytes into a run's directory."""
    for name, size in sizes.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * size)


def test_sizes_by_part_of_each_variant(usage: Usage, tmp_path: Path) -> None:
    for seed in (1, 2):
        sizes = {"final_model.pth": 3_000_000, "weights/epoch_0001.pth": 500_000, "run.log": 2_000}
        fill(record(tmp_path, random_seed=seed), sizes)
    sizes = {"checkpoint.pt": 7_000_000, "checkpoint.pt.new": 40_000, "notes.txt": 700_000}
    fill(cut_off(tmp_path, position="none"), sizes)
    (tmp_path / "plots").mkdir()
    fill(tmp_path, {"plots/figure.png": 123_000})
    header, vanilla, full, beside, total = usage(tmp_path)
    assert header[:5] == ["problem", "mask", "mode", "runs", "total"]
    parts = ["record", "final weights", "kept weights", "checkpoint", "log", "left over", "other"]
    assert header[5:] == parts
    assert vanilla[:4] == ["digits_2c2d_bn", "0,0,0", "vanilla", "1"]
    assert vanilla[6:] == ["7.0 MB", "40.0 kB", in_bytes(700_000 + size(tmp_path, "config.yaml", "0,0,0"))]
    assert full[:4] == ["digits_2c2d_bn", "1,1,1", "trained_bn", "2"]
    assert full[5:9] == [in_bytes(size(tmp_path, "run.h5", "1,1,1")), "6.0 MB", "1.0 MB", "4.0 kB"]
    assert beside == ["beside the runs", "123.0 kB", "123.0 kB"]
    assert total[:3] == ["total", "3", in_bytes(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))]


def size(folder: Path, name: str, mask: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(name) if f"__{mask}/" in str(path))


def test_keys_that_act_in_slots_make_variants_of_their_own(usage: Usage, tmp_path: Path) -> None:
    for keys in ({"position": "none"}, {}, {"norm": "layer"}, {"norm": "layer", "lr": 0.5}):
        record(tmp_path, **keys)
    header, *rows, _ = usage(tmp_path)
    assert header[:5] == ["problem", "mask", "mode", "norm", "runs"]
    assert [row[2:-3] for row in rows] == [["vanilla", "1"], ["trained_bn", "batch", "1"], ["trained_bn", "layer", "2"]]


def test_a_row_for_each_run_and_the_choice_among_them(usage: Usage, tmp_path: Path) -> None:
    runs = [record(tmp_path, random_seed=seed) for seed in (1, 2, 3)]
    assert [row[0] for row in usage(tmp_path, "--each", "--seed", 1, 3)] == ["run", str(runs[0]), str(runs[2]), "total"]


def test_what_is_inside_the_records(usage: Usage, tmp_path: Path) -> None:
    record(tmp_path, measured=True, measure="full")
    header, row, _ = usage(tmp_path, "--inside")
    assert header[5:] == ["batches", "epochs", "probes", "running", "snapshots", "structure", "updates"]
    assert row[4] == in_bytes(size(tmp_path, "run.h5", "1,1,1"))


def test_a_file_of_several_names_counts_once_and_links_lead_nowhere(usage: Usage, tmp_path: Path) -> None:
    run = record(tmp_path / "output")
    fill(run, {"final_model.pth": 3_000_000})
    fill(tmp_path, {"elsewhere/large.bin": 9_000_000})
    (run / "weights").mkdir()
    os.link(run / "final_model.pth", run / "weights" / "epoch_0004.pth")
    (run / "link").symlink_to(tmp_path / "elsewhere")
    (run / "loop").symlink_to(tmp_path / "output")
    (tmp_path / "output" / "again").symlink_to(run)
    whole = sum(path.lstat().st_size for path in run.iterdir() if not path.is_dir() or path.is_symlink())
    rows = usage(tmp_path / "output")
    assert rows[1][3:5] == ["1", in_bytes(whole)]


def test_a_run_that_cannot_be_read_has_a_size_all_the_same(usage: Usage, tmp_path: Path) -> None:
    record(tmp_path, random_seed=1)
    (record(tmp_path, random_seed=2) / "run.h5").write_bytes(b"x" * 5_000)
    rows = usage(tmp_path)
    assert rows[2][:2] == ["unreadable", "1"] and rows[2][3] == "5.0 kB"


def test_no_run_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path)
    assert main(["usage", str(tmp_path), "--seed", "7"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: no run there has --seed 7\n"
