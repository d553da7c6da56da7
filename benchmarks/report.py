"""How the report keeps its goals: its writing, its size, and how a browser takes it, of invented runs that hardly deflate."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.many import measure, record_all
from benchmarks.measuring import spread, table

if TYPE_CHECKING:
    from playwright.sync_api import Page

REPEATS = 2
MODES = "ABLATION: [trained_bn, fixed_bn, fixed_gamma, fixed_beta]"
MASKS = 'POSITION: ["0,0,0", "1,1,1", "0,0,1", "0,1,0", "1,0,0", "0,1,1", "1,0,1"]'
"""With four modes, vanilla's one among them: 25 variants."""


@dataclass(frozen=True)
class Task:
    """Runs, what the command is asked for, and what their page should stay below; nothing where there is no such goal."""

    name: str
    keys: str
    steps_per_epoch: int
    arguments: tuple[str, ...] = ()
    seconds: str = ""
    megabytes: str = ""


TASKS = (
    Task(
        "200 runs of 100 epochs, 440 snapshots each",
        f"PROBLEM: digits_2c2d_bn\n{MASKS}\n{MODES}\nRANDOM_SEED: 1-8\nNUM_EPOCHS: 100",
        22,
        seconds="30",
        megabytes="25",
    ),
    Task(
        "1,000 runs of 10 epochs, parameters of 25",
        f"PROBLEM: digits_2c2d_bn\n{MASKS}\n{MODES}\nRANDOM_SEED: 1-40\nNUM_EPOCHS: 10",
        22,
        ("--parameters", "1__*"),
    ),
    Task(
        "4 runs of 100 epochs, 7,800 snapshots each",
        f"PROBLEM: fmnist_2c2d_bn\nPOSITION: all\n{MODES}\nRANDOM_SEED: 1\nNUM_EPOCHS: 100",
        390,
    ),
)


def report(folder: Path) -> str:
    """Write pages with `analysis report`, each in a process of its own, and use them in Chromium where it is installed."""
    written, used = [], []
    for number, task in enumerate(TASKS):
        output, study = folder / f"output{number}", folder / f"study{number}.yaml"
        study.write_text(f"{task.keys}\nOUTPUT_DIR: {output}\n")
        record_all(study, steps_per_epoch=task.steps_per_epoch, wandering=True)
        page = folder / f"page{number}.html"
        command = [sys.executable, "-m", "batchnorm.analysis", "report", str(output), "--out", str(page), *task.arguments]
        seconds, processor = zip(*(measure(command) for _ in range(REPEATS)), strict=True)
        megabytes = f"{page.stat().st_size / 1e6:.1f}"
        written.append((task.name, spread(seconds), task.seconds, spread(processor), megabytes, task.megabytes))
        used += [(task.name, *row) for row in in_chromium(page)]
        shutil.rmtree(output)
    tables = [table(("written", "s", "to stay below", "CPU s", "MB", "to stay below"), written)]
    if used:
        tables.append(table(("in Chromium", "what", "ms", "to stay below", "CPU ms of the page's thread"), used))
    return "\n\n".join(tables)


OPENINGS = 3
PAINTED = "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
"""When the next frame has been painted."""
FILTERS = {
    "filter by a mask or a mode": """() => {
        const boxes = [...document.querySelectorAll('[data-facet=mask] input, [data-facet=mode] input')];
        boxes[window.turn++ % boxes.length].click();
    }""",
    "find a word": """() => {
        const box = document.querySelector('#runs-section input[type=search]');
        box.value = ['fixed', 'fixed_g', '0,1', ''][window.turn++ % 4];
        box.dispatchEvent(new Event('input', { bubbles: true }));
    }""",
    "sort": """() => {
        const heads = document.querySelectorAll('#runs-section button.sort');
        heads[window.turn++ % heads.length].click();
    }""",
    "choose a run": "() => { document.querySelectorAll('tr[data-run] input')[window.turn++ % 9].click(); }",
    "colour by another metric": """() => {
        const list = document.querySelector('#overview-section select');
        list.selectedIndex = window.turn++ % 4;
        list.dispatchEvent(new Event('change', { bubbles: true }));
    }""",
}
TURNS = 8


def in_chromium(page: Path) -> list[tuple[str, str, str, str]]:
    """Open a page, and do what its reader does.

    Returns what was done, milliseconds until the next frame is painted, their goal, and the thread's until all is drawn.
    """
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("no chromium, or no playwright: the page is not opened", flush=True)
        return []
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = []
        for _ in range(OPENINGS):
            tab = browser.new_page(viewport={"width": 1280, "height": 800})
            thread = _Thread(tab)
            tab.goto(page.as_uri())
            opened.append((tab.evaluate(PAINTED), thread.milliseconds()))
            if len(opened) < OPENINGS:
                tab.close()
        rows.append(_row("open, to the first frame", opened, "2000"))
        for section in ("curves", "parameters", "runs"):
            tab.evaluate(f"goTo('{section}')")
            tab.wait_for_timeout(1500)
        for name, act in FILTERS.items():
            answers = []
            tab.evaluate("window.turn = 0")
            for _ in range(TURNS):
                before = thread.milliseconds()
                took = tab.evaluate(
                    f"async () => {{ const start = performance.now(); ({act})(); return await {PAINTED} - start; }}"
                )
                tab.wait_for_timeout(300)
                answers.append((took, thread.milliseconds() - before))
            rows.append(_row(name, answers, "100"))
            tab.evaluate("document.querySelector('#runs-section .clear').click()")
        browser.close()
    return rows


class _Thread:
    """The processor time of a page's main thread."""

    def __init__(self, tab: Page) -> None:
        self.session = tab.context.new_cdp_session(tab)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def milliseconds(self) -> float:
        """Return what it has taken since it began."""
        found: dict[str, Any] = self.session.send("Performance.getMetrics")
        (seconds,) = [each["value"] for each in found["metrics"] if each["name"] == "TaskDuration"]
        return 1e3 * float(seconds)


def _row(name: str, measured: Sequence[tuple[float, float]], limit: str) -> tuple[str, str, str, str]:
    painted, processor = zip(*measured, strict=True)
    return name, spread(painted, 0), limit, f"{statistics.median(processor):.0f}"
