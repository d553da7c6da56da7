"""How long the report takes to write and how large it is: invented runs, many short ones and a few of a real length."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.many import measure, record_all
from benchmarks.measuring import spread, table

REPEATS = 3


@dataclass(frozen=True)
class Task:
    """Runs, and the seconds and MB that their page should stay below; none where there is no such goal."""

    name: str
    keys: str
    steps_per_epoch: int
    seconds: str = ""
    megabytes: str = ""


MODES = "ABLATION: [trained_bn, fixed_bn, fixed_gamma, fixed_beta]"
DIGITS = f"PROBLEM: digits_2c2d_bn\nPOSITION: all\n{MODES}"
TASKS = (
    Task("200 runs of 100 epochs, 440 snapshots each", f"{DIGITS}\nRANDOM_SEED: 1-50\nNUM_EPOCHS: 100", 22, "30", "25"),
    Task("1,000 runs of 10 epochs, no parameters", f"{DIGITS}\nRANDOM_SEED: 1-250\nNUM_EPOCHS: 10", 22),
    Task(
        "4 runs of 100 epochs, 7,800 snapshots each",
        f"PROBLEM: fmnist_2c2d_bn\nPOSITION: all\n{MODES}\nRANDOM_SEED: 1\nNUM_EPOCHS: 100",
        390,
    ),
)


def report(folder: Path) -> str:
    """Time `analysis report` and weigh its page, each a process of its own, imports and all."""
    rows = []
    for number, task in enumerate(TASKS):
        output, study = folder / f"output{number}", folder / f"study{number}.yaml"
        study.write_text(f"{task.keys}\nOUTPUT_DIR: {output}\n")
        record_all(study, steps_per_epoch=task.steps_per_epoch)
        page = folder / f"page{number}.html"
        command = [sys.executable, "-m", "batchnorm.analysis", "report", str(output), "--out", str(page)]
        seconds, processor = zip(*(measure(command) for _ in range(REPEATS)), strict=True)
        megabytes = f"{page.stat().st_size / 1e6:.1f}"
        rows.append((task.name, spread(seconds), task.seconds, spread(processor), megabytes, task.megabytes))
    return table(("", "s", "to stay below", "CPU s", "MB", "to stay below"), rows)
