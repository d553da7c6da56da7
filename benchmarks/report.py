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
    is_used: bool = True


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
        is_used=False,
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
        used += [(task.name, *row) for row in in_chromium(page)] if task.is_used else []
        shutil.rmtree(output)
    tables = [table(("written", "s", "to stay below", "CPU s", "MB", "to stay below"), written)]
    if used:
        tables.append(
            table(("in Chromium", "what", "ms to the next frame", "to stay below", "CPU ms of the page's thread"), used)
        )
    return "\n\n".join(tables)


OPENINGS = 3
TURNS = 7
SHORTEST = 16.0
"""Milliseconds below which a browser does not tell how long an answer took."""
PAINTED = "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
OBSERVE = f"""() => {{
    window.took = [];
    new PerformanceObserver(list => {{
        for (const entry of list.getEntries()) if (entry.interactionId) window.took.push(entry.duration);
    }}).observe({{ type: 'event', durationThreshold: {SHORTEST:g} }});
}}"""
ANSWERS = {
    "filter by a mask or a mode": ("[data-facet=mask] input, [data-facet=mode] input", "Space"),
    "find a word, letter by letter": ("#runs-section input[type=search]", "0,1 fixed"),
    "sort": ("#runs-section button.sort", "Enter"),
    "choose a run": ("tbody tr[data-run] input", "Space"),
    "open a cell of the overview": ("button.cell", "Enter"),
}
"""What a reader does by keys: where, and which; of several places one after the other, of several letters likewise."""


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
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = []
        for _ in range(OPENINGS):
            tab = browser.new_page(viewport={"width": 1280, "height": 800})
            thread = _Thread(tab)
            tab.goto(page.as_uri())
            opened.append((float(tab.evaluate(PAINTED)), thread.milliseconds()))
            if len(opened) < OPENINGS:
                tab.close()
        rows = [_row("open", opened, "2000")]
        for section in ("curves", "parameters", "runs"):
            tab.evaluate(f"goTo('{section}')")
            tab.wait_for_timeout(1500)
        for box in tab.locator("[data-facet=mask], [data-facet=mode]").all():
            box.evaluate("box => { box.open = true; }")
        tab.evaluate(OBSERVE)
        for name, (places, keys) in ANSWERS.items():
            rows.append(_row(name, [_answer(tab, thread, places, keys, turn) for turn in range(TURNS)], "100"))
            tab.evaluate("document.querySelector('#runs-section .clear').click()")
        browser.close()
    return rows


def _answer(tab: Page, thread: _Thread, places: str, keys: str, turn: int) -> tuple[float, float]:
    """Press a key, and return how long the browser says that the answer took, and what the thread took."""
    there = tab.locator(places)
    there.nth(turn % there.count()).evaluate("element => element.focus({ preventScroll: true })")
    tab.evaluate(PAINTED)
    before = thread.milliseconds()
    tab.evaluate("window.took = []")
    tab.keyboard.press(keys if keys in ("Space", "Enter") else keys[turn % len(keys)])
    tab.wait_for_timeout(500)
    return max(tab.evaluate("window.took"), default=SHORTEST), thread.milliseconds() - before


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
