from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.errors import ExitCode
from batchnorm.store import RunDirectory, Status
from batchnorm.study.__main__ import main
from batchnorm.study.grid import Study, read_study
from batchnorm.study.watch import watch
from tests.recorded import record_run
from tests.study.commands import Started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "three.yaml"
    path.write_text(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [0, 1, 2]\nNUM_EPOCHS: 4\nOUTPUT_DIR: {tmp_path / 'output'}\n")
    return path


@pytest.fixture
def study(path: Path) -> Study:
    return read_study(path, {})


def record(study: Study, seed: int, **how: object) -> None:
    output = Path(study.runs[0].config.output_dir)
    record_run(output, problem="digits_2c2d_bn", random_seed=seed, **how)  # type: ignore[arg-type]


def between(*steps: Callable[[], object]) -> Callable[[float], None]:
    """Return what happens while `watch` waits, one thing each time; then Ctrl-C."""
    left = iter(steps)

    def wait(seconds: float) -> None:
        assert seconds >= 2
        step = next(left, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    return wait


def nothing() -> None:
    """Nothing happens."""


def test_elsewhere_than_on_a_terminal_each_change_is_printed_once(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    cut = {"status": Status.CUT_OFF, "recorded_epochs": 2}
    further = between(nothing, lambda: record(study, 0, **cut), nothing, lambda: record(study, 0), nothing)
    watch(study, wait=further)
    shown = capsys.readouterr().out.split("three: 3 runs\n")
    assert [text.count("missing         3") for text in shown] == [0, 1, 0, 0]
    assert "0 interrupted: 1,1,1 trained_bn RANDOM_SEED=0  epoch 2/4" in shown[2]
    assert "33.3% done" in shown[3] and "\x1b" not in "".join(shown)


def test_it_ends_when_nothing_is_left(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        record(study, seed, status=Status.DIVERGED if seed else Status.FINISHED)
    record(study, 2)
    RunDirectory(study.runs[2].config.directory).record.write_bytes(b"no record")
    watch(study, wait=between())
    assert "nothing is left but what is unusable (1)" in capsys.readouterr().out


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *, columns: int = 80, lines: int = 24) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))


def screen(text: str) -> list[str]:
    """Return what a terminal shows: a line goes on, `A` goes up, `J` clears what is below."""
    shown: list[str] = []
    for part in text.split("\x1b["):
        if part[:1].isdigit():
            shown = shown[: len(shown) - int(part.partition("A")[0])]
        else:
            shown += part.removeprefix("J").splitlines()
    return shown


def test_a_terminal_is_refreshed_in_place(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal(monkeypatch)
    watch(study, wait=between(nothing, lambda: record(study, 1), nothing))
    shown = screen(capsys.readouterr().out)
    assert shown[:2] == ["three: 3 runs", "  finished        1  1"]
    assert len(shown) == 8 and shown[-1].endswith("Ctrl-C ends this")


def test_a_terminal_too_small_for_all_is_not_scrolled(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1, 2):
        record(study, seed, status=Status.CUT_OFF, recorded_epochs=1)
    on_a_terminal(monkeypatch, columns=24, lines=8)
    watch(study, wait=between(nothing))
    shown = screen(capsys.readouterr().out)
    assert len(shown) == 7 and max(map(len, shown)) <= 23
    assert shown[4] == "  ... and 5 lines more" and shown[5].startswith("  25.0% done")


def test_watching_changes_nothing(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        record(study, seed, status=Status.CUT_OFF, recorded_epochs=1)
    output = Path(study.runs[0].config.output_dir)

    def files() -> dict[Path, tuple[int, bytes]]:
        return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in output.rglob("*") if file.is_file()}

    with RunDirectory(study.runs[0].config.directory).claim():
        before = files()
        watch(study, wait=between(nothing, nothing))
        assert files() == before
    assert "running         1  0" in capsys.readouterr().out


def test_json_has_all_that_is_known(study: Study, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(study, 0)
    record(study, 1, status=Status.CUT_OFF, recorded_epochs=2)
    assert main(["status", str(path), "--json"]) == ExitCode.FINISHED
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"study", "counts", "share_done", "seconds_left", "runs"}
    assert (told["study"], told["share_done"], told["seconds_left"]) == ("three", 0.5, 60.0)
    assert set(told["counts"]) == {status.value for status in Status}
    assert {name: count for name, count in told["counts"].items() if count} == {"finished": 1, "interrupted": 1, "missing": 1}
    assert told["runs"][1] == {
        "index": 1,
        "variant": "1,1,1 trained_bn RANDOM_SEED=1",
        "directory": str(study.runs[1].config.directory),
        "status": "interrupted",
        "epochs_done": 2,
        "epochs": 4,
        "seconds_per_epoch": 10.0,
        "reason": "",
    }
    assert told["runs"][2]["seconds_per_epoch"] is None
    assert main(["status", str(path), "--json", "--watch"]) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == "error: --json: goes without --watch; call it again for what is new\n"


def test_ctrl_c_ends_it_as_it_should_end(path: Path, tmp_path: Path) -> None:
    command = Started("status", str(path), "--watch", output=tmp_path / "printed")
    command.wait_until(lambda: "time left" in command.text)
    assert (command.stop(signal.SIGINT), command.text.count("\n")) == (ExitCode.FINISHED, 7)


def test_a_reader_that_goes_away_ends_it(study: Study, path: Path) -> None:
    arguments = [sys.executable, "-m", "batchnorm.study", "status", str(path), "--watch"]
    done = subprocess.run(["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash", *arguments], capture_output=True)
    assert (done.returncode, done.stderr) == (ExitCode.FINISHED, b"")
