"""The page of `analysis report` in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

from batchnorm.analysis.report import report
from batchnorm.analysis.report.blobs import packed
from batchnorm.analysis.report.page import page as page_of
from batchnorm.store import Run, RunDirectory
from tests.analysis.conftest import cut_off, record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = Path(".ci/node_modules/axe-core/axe.min.js")
HOSTILE = '</script><img src=x onerror="window.hit=1"><script>window.hit=1</script>&lt;"\''
SECTIONS = ("overview", "effects", "runs", "curves", "parameters", "pairs")


def lacks(reason: str) -> None:
    """Skip a test; on CI what it needs must be there."""
    assert not os.environ.get("CI"), reason
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return one Chromium for all tests of this file."""
    chromium = shutil.which("chromium")
    if not chromium:
        lacks("needs a browser: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacks("needs playwright: pip install playwright")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """Return the one tab in which all pages are opened: a tab of its own for each would cost more than most tests."""
    context = browser.new_context()
    context.set_default_timeout(15_000)
    return context.new_page()


Opener = Callable[..., "Page"]


@pytest.fixture
def opened(tab: Page) -> Iterator[Opener]:
    """Return a function that opens a page. At the end nothing was said on its console, and nothing but its file asked for."""
    trouble: list[str] = []
    files: list[str] = []
    hear: dict[Any, Any] = {
        "console": lambda message: trouble.append(message.text),
        "pageerror": lambda error: trouble.append(str(error)),
        "request": lambda request: None if request.url.startswith(tuple(files)) else trouble.append(request.url),
    }

    def open_page(file: Path, at: str = "", *, width: int = 1280, dark: bool = False) -> Page:
        tab.goto("about:blank")  # the same file with another address would not be read again
        tab.mouse.move(0, 0)
        tab.set_viewport_size({"width": width, "height": 800})
        tab.emulate_media(color_scheme="dark" if dark else "light")
        files.append(file.as_uri())
        tab.goto(f"{file.as_uri()}#{at}")
        tab.wait_for_selector("html[data-ready]")
        return tab

    tab.goto("about:blank")
    for event, handle in hear.items():
        tab.on(event, handle)
    yield open_page
    tab.goto("about:blank")
    for event, handle in hear.items():
        tab.remove_listener(event, handle)
    assert trouble == []


@pytest.fixture(scope="module")
def study(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of an invented study of 20 runs."""
    return report(output, tmp_path_factory.mktemp("page") / "study.html", title="A study")


def parts_of(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a page holds: its manifest and its blobs."""
    text = file.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="manifest">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1]), dict(re.findall(r'<script type="text/plain" id="([^"]*)">(.*?)</script>', text))


def written(file: Path, manifest: dict[str, Any], blobs: dict[str, str]) -> Path:
    """Write a page of what it shall hold."""
    file.write_bytes(b"".join(page_of(manifest, blobs)))
    return file


def until(page: Page, holds: str) -> None:
    """Wait until an expression holds, frame by frame. The page's policy forbids what `wait_for_function` evaluates."""
    end = time.monotonic() + 30
    while not page.evaluate(holds):
        assert time.monotonic() < end, holds
        page.evaluate("() => new Promise(requestAnimationFrame)")


HEAT_IS_DRAWN = "document.querySelector('canvas.heat').width > 300"


def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_text_contents()]


def accuracies(page: Page) -> list[float]:
    rows = page.locator("table.runs:not(.pairs) tbody tr[data-run]")
    place = texts(page, "table.runs:not(.pairs) thead th").index("Test accuracy (%)")
    return [float(text) for text in rows.locator(f"td:nth-child({place + 1})").all_text_contents()]


def see_all(page: Page) -> None:
    """Go to each section, so that its charts are drawn."""
    for section in SECTIONS:
        page.evaluate("section => goTo(section)", section)
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    page.wait_for_selector("#curves-section .u-over")


def test_all_sections_are_drawn(study: Path, opened: Opener) -> None:
    page = opened(study)
    see_all(page)
    assert page.title() == "A study" and texts(page, "h1") == ["A study"]
    assert page.locator("#counts").text_content() == "20 runs20 finished"
    assert page.locator("button.cell").count() == 10
    assert page.locator(".forest svg circle").count() > 0
    assert page.locator("#curves-section .panel").count() == 3  # masks, with vanilla in each
    page.wait_for_selector("#parameters-section .u-over")
    painted = "canvas => new Set(new Uint32Array(canvas.getContext('2d').getImageData(60, 20, 200, 100).data.buffer)).size"
    assert page.locator("canvas.heat").first.evaluate(painted) > 50
    assert page.locator("#pairs-section tbody tr").count() > 0


def test_runs_are_sorted_and_filtered(study: Path, opened: Opener) -> None:
    page = opened(study)
    page.get_by_role("button", name="Test accuracy (%)").click()
    rising = accuracies(page)
    assert len(rising) == 20 and rising == sorted(rising)
    page.keyboard.press("Enter")  # the button has kept the focus
    assert accuracies(page) == rising[::-1]
    assert page.locator("th[aria-sort=descending]").text_content() == "Test accuracy (%)"
    page.locator("[data-facet=mask] summary").click()
    page.locator("[data-facet=mask]").get_by_role("button", name="None").click()
    assert texts(page, "#runs-section .empty") == ["No run is like this."]
    page.locator("[data-facet=mask]").get_by_label("0,0,1").check()
    assert len(accuracies(page)) == 8
    page.keyboard.press("Escape")
    page.locator("[data-facet=mode] summary").click()
    page.locator("[data-facet=mode]").get_by_label("fixed_bn").uncheck()
    assert len(accuracies(page)) == 6
    page.get_by_role("searchbox").fill("fixed_GAMMA")
    assert len(accuracies(page)) == 2
    assert (page.locator("#runs-count").text_content() or "").startswith("2 of 20 runs")
    page.get_by_role("button", name="Show all runs").click()
    assert accuracies(page) == rising[::-1]


def test_a_cell_has_the_mean_and_opens_its_runs(study: Path, output: Path, opened: Opener) -> None:
    page = opened(study)
    runs = [Run(path) for path in output.glob("*__1,0,0/*/*/fixed_beta")]
    values = [100 * run.epochs["test_acc"][-1] for run in runs]
    row = page.locator("table.grid tbody tr", has=page.get_by_role("rowheader", name="1,0,0"))
    heads = texts(page, "table.grid thead th")
    page.get_by_label("Metric").first.focus()
    page.get_by_label("Metric").first.select_option(label="Test loss (nats)")
    losses = [run.epochs["test_loss"][-1] for run in runs]
    assert row.get_by_text(f"{np.mean(losses):#.4g}").count() == 1
    page.get_by_label("Metric").first.select_option(label="Test accuracy (%)")
    assert page.evaluate("document.activeElement.closest('section').id") == "overview-section"
    cell = row.locator("td").nth(heads.index("fixed_beta") - 1).get_by_role("button")
    assert cell.locator(".mean").text_content() == f"{np.mean(values):.2f}"
    assert cell.locator(".notes").text_content() == f"± {np.std(values, ddof=1):.2f} · n 2"
    cell.focus()
    page.keyboard.press("Enter")
    assert sorted(accuracies(page)) == sorted(round(value, 2) for value in values)
    assert page.evaluate("document.activeElement.id") == "runs-title"
    page.locator(".opener").first.click()
    details = page.locator("tr.details")
    assert details.locator(".differences mark").all_text_contents() == ["2"]  # the neighbour's seed
    assert runs[0].directory.relative_to(output).name in (details.locator(".path").text_content() or "")


def test_vanilla_stands_beside_every_norm(study: Path, opened: Opener, tmp_path: Path) -> None:
    manifest, blobs = parts_of(study)
    manifest["keys"] = [{"name": "NORM", "values": ["batch", "group:8"]}]
    for run in manifest["runs"]:
        run["settings"] = [-1 if manifest["variants"][run["variant"]]["mode"] == "vanilla" else run["seed"] - 1]
    page = opened(written(tmp_path / "norms.html", manifest, blobs), "at=curves")
    assert texts(page, "#overview-section h4") == ["NORM=batch", "NORM=group:8"]
    assert texts(page, "table.grid tbody tr:first-child .notes")[0].endswith("n 2")
    assert texts(page, "table.grid tbody th") == 2 * ["0,0,0", "0,0,1", "1,0,0", "1,1,1"]
    page.locator("#curves-section .panel").first.wait_for()
    assert texts(page, "#curves-section figcaption")[:2] == ["0,0,1 · NORM=batch", "0,0,1 · NORM=group:8"]
    assert page.evaluate("[...charts].every(({ panel }) => panel.lines.some(({ name }) => name === 'vanilla'))")
    for run in manifest["runs"]:
        run["settings"] = [min(run["settings"][0], 0)]
    page = opened(written(tmp_path / "one.html", manifest, blobs))
    assert texts(page, "#overview-section h4") == []  # what vanilla alone lacks tells no runs apart


def test_a_link_shows_what_was_chosen(study: Path, opened: Opener) -> None:
    page = opened(study)
    for name in ("1,1,1 trained_bn, seed 1", "1,1,1 trained_bn, seed 2"):
        page.get_by_label(f"Choose {name}").check()
        assert page.evaluate("document.activeElement.ariaLabel") == f"Choose {name}"
    page.evaluate("goTo('curves')")
    page.locator("#curves-section .panel").first.wait_for()
    page.get_by_label("Lines").select_option("single runs")
    page.get_by_label("Axis").select_option("logarithmic")
    page.evaluate("zoomTo([2, 4])")
    again = opened(study, page.url.partition("#")[2])
    again.locator("#curves-section .panel").first.wait_for()
    assert again.locator("tbody input:checked").count() == 2
    assert again.get_by_label("Lines").input_value() == "runs"
    assert again.get_by_label("Axis").input_value() == "log"
    again.locator("#curves-section .u-over").first.wait_for()
    assert again.evaluate("[...charts][0].plot.scales.x.min") == 2
    assert "Of the 2 runs that are chosen." in (again.locator("#curves-section .note").text_content() or "")
    assert again.locator("#curves-section .panel").count() == 6  # one mask: a panel for each metric
    again.evaluate("location.hash = 'words=vanilla'")
    until(again, "document.querySelectorAll('tbody tr[data-run]').length === 2")
    assert again.locator("tbody input:checked").count() == 0


def test_curves_say_their_values_zoom_and_hide(study: Path, output: Path, opened: Opener) -> None:
    page = opened(study, "panels=masks&at=curves")
    over = page.locator("#curves-section .u-over").first
    over.wait_for()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 40)
    page.wait_for_selector(".tip:not([hidden])")
    (head,) = texts(page, ".tip:not([hidden]) strong")
    tip = dict(zip(texts(page, ".tip:not([hidden]) .what"), texts(page, ".tip:not([hidden]) .value"), strict=True))
    means = [100 * Run(path).epochs["test_acc"][-1] for path in output.glob("*__0,0,1/*/*/fixed_beta")]
    assert (head, tip["fixed_beta"], len(tip)) == ("epoch 4", f"{np.mean(means):.2f}", 5)
    page.locator("#curves-section .legend button", has_text="fixed_beta").click()
    page.wait_for_selector(".legend [aria-pressed=false]")
    chart = page.locator("#curves-section .plot").first
    chart.locator(".u-over").wait_for()
    chart.focus()
    page.keyboard.press("End")
    spoken = page.locator("#spoken").text_content() or ""
    assert spoken.startswith("Epoch 4: ") and "fixed_beta" not in spoken and "fixed_gamma" in spoken
    page.keyboard.press("+")
    assert page.locator(".unzoom:enabled").count() == 1
    assert page.evaluate("[...charts].map(({ plot }) => plot.scales.x.min)") == page.evaluate("[...charts].map(() => 3)")
    page.keyboard.press("0")
    assert page.locator(".unzoom:enabled").count() == 0


def test_first_epochs_far_from_the_rest_lie_outside_and_it_is_said(study: Path, opened: Opener, tmp_path: Path) -> None:
    manifest, blobs = parts_of(study)
    metrics = len(manifest["metrics"])
    falling = (0.3 + 2 * np.exp(-np.arange(31) / 2)).astype("<f4")
    for run in manifest["runs"]:
        run["curves"] = {"offset": 0, "rows": 31}
    page = opened(written(tmp_path / "long.html", manifest, blobs | {"curves": packed(np.tile(falling, metrics))}), "at=curves")
    page.locator("#curves-section .u-over").first.wait_for()
    highest = "[...charts][0].plot.scales.y.max"
    assert page.evaluate(highest) == pytest.approx(falling[6] + 0.05 * (falling[6] - falling[30]))  # of 30, five lie outside
    above = page.locator("#curves-section .above").first
    assert above.text_content() == f"↑ up to {falling[1]:.2f} %"
    assert page.locator("#curves-section .below").first.text_content() == ""
    page.evaluate("zoomTo([1, 4])")
    until(page, f"{highest} > 1.5")
    assert above.text_content() == ""
    page.evaluate("zoomTo(null)")
    picture = page.evaluate("svgOf(panelPicture([...charts][0].panel)).outerHTML")
    assert "<clipPath" in picture and f"↑ up to {falling[1]:.2f} %" in picture
    page.get_by_label("Axis").select_option("linear, all values")
    until(page, f"charts.size && {highest} > 1.5")


def test_heat_maps_say_channel_step_and_value(study: Path, output: Path, opened: Opener) -> None:
    page = opened(study, "at=parameters")
    page.locator("#parameters-section select").first.select_option(label="1,1,1 trained_bn, seed 2")
    page.get_by_label("Slot").select_option("conv1")
    heat = page.locator("canvas.heat").first
    until(page, HEAT_IS_DRAWN)
    heat.focus()
    for key in ("ArrowDown", "ArrowDown", "End"):
        page.keyboard.press(key)
    (run,) = (Run(path) for path in output.glob("2__*__1,1,1/*/*/trained_bn"))
    gamma = run.gamma("conv1")
    said = page.locator("#spoken").text_content() or ""
    assert said.startswith("channel 2, step ")
    assert float(said.partition(": ")[2]) == pytest.approx(gamma[-1, 2], abs=float(np.ptp(gamma)) / 200)
    page.get_by_label("Channels sorted by their final value").check()
    until(page, HEAT_IS_DRAWN)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    heat.focus()
    for key in ("End", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    assert (page.locator("#spoken").text_content() or "").startswith(f"channel {gamma[-1].argmax()}, ")


def test_charts_are_saved(study: Path, output: Path, opened: Opener, tmp_path: Path) -> None:
    page = opened(study, "panels=metrics&at=curves")
    page.locator("#curves-section .u-over").first.wait_for()

    def saved(place: str, kind: str) -> bytes:
        menu = page.locator(f"{place} .save").first
        menu.locator("summary").click()
        with page.expect_download() as download:
            menu.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
        return download.value.path().read_bytes()

    page.evaluate("goTo('parameters')")
    until(page, HEAT_IS_DRAWN)
    for place in ("#curves-section", "#parameters-section"):
        assert saved(place, "PNG").startswith(b"\x89PNG")
    for place in ("#overview-section", "#effects-section", "#curves-section", "#parameters-section"):
        root = ElementTree.fromstring(saved(place, "SVG"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and len(root) > 10
    rows = list(csv.DictReader(io.StringIO(saved("#curves-section", "CSV").decode())))
    for run in (Run(path) for path in output.glob("*/*/*/*")):
        own = [row for row in rows if row["path"] == str(run.directory.relative_to(output))]
        assert [int(row["epoch"]) for row in own] == [0, 1, 2, 3, 4]
        np.testing.assert_allclose([float(row["train_loss"]) for row in own], run.epochs["train_loss"], rtol=1e-6)
    table = list(csv.DictReader(io.StringIO(saved("#runs-section", "CSV").decode())))
    assert len(table) == 20 and {row["mode"] for row in table} == {
        "vanilla",
        "trained_bn",
        "fixed_bn",
        "fixed_gamma",
        "fixed_beta",
    }


def test_the_keyboard_reaches_everything_and_shows_where_it_is(study: Path, opened: Opener) -> None:
    page = opened(study, "words=0,0,1 fixed_bn&at=overview")
    see_all(page)
    wanted = """() => [...document.querySelectorAll('a[href], button, select, input, summary, [tabindex="0"]')]
        .filter(each => each.checkVisibility() && !each.disabled).length"""
    page.evaluate("""() => {
        [window.reached, window.dim, window.walked] = [new Set(), [], false];
        document.addEventListener('focusin', ({ target }) => {
            window.walked = window.reached.has(target);
            window.reached.add(target);
            const style = getComputedStyle(target);
            if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) window.dim.push(target.outerHTML);
        });
    }""")
    while not page.evaluate("window.walked"):
        for _ in range(10):
            page.keyboard.press("Tab")
    reached = page.evaluate("window.reached.size")
    assert page.evaluate("window.dim") == []
    assert reached == page.evaluate(wanted) > 60


def test_dark_by_the_system_or_the_switch(study: Path, opened: Opener) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    page = opened(study, dark=True)
    assert page.evaluate(paper) == "rgb(22, 24, 28)"
    page.get_by_label("Theme").select_option("light")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.get_by_label("Theme").select_option("system")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"


def serious(page: Page) -> list[str]:
    """Return what axe finds: its serious and critical findings, with the first place of each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:200]} ({len(rule['nodes'])})"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_narrow_page_stays_in_its_width_and_axe_finds_nothing_serious(
    study: Path, opened: Opener, width: int, dark: bool
) -> None:
    page = opened(study, width=width, dark=dark)
    page.locator(".opener").first.click()
    see_all(page)
    page.evaluate("for (const box of document.querySelectorAll('details.numbers')) box.open = true")
    page.locator("#curves-section .save summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if not AXE.exists():
        lacks("needs axe-core: make check-js")
    assert serious(page) == []


def test_an_ongoing_study_with_a_damaged_run(tmp_path: Path, opened: Opener) -> None:
    record(tmp_path / "output", position="1,1,1")
    cut_off(tmp_path / "output", position="1,1,1", random_seed=2)
    cut_off(tmp_path / "output", position="0,0,1", random_seed=2)
    damaged = record(tmp_path / "output", position="0,0,1", random_seed=3)
    RunDirectory(damaged).record.write_bytes(b"no record")
    manifest, blobs = parts_of(report(tmp_path / "output", tmp_path / "page.html"))
    manifest["runs"][0]["status"] = "running"
    page = opened(written(tmp_path / "ongoing.html", manifest, blobs))
    see_all(page)
    assert "1 record could not be read" in (page.locator("#notices").text_content() or "")
    assert texts(page, "button.cell .notes") == ["1 unfinished", "n 1 · 1 unfinished"]
    assert page.locator("progress").count() == 2
    assert {"running", "interrupted", "finished"} <= set(texts(page, "td .status span:nth-child(2)"))
    assert "1 unfinished run not in them" in (page.locator("#curves-section .note").text_content() or "")


def test_one_run_and_one_that_has_nothing_yet(tmp_path: Path, opened: Opener) -> None:
    record(tmp_path / "one", position="1,1,1")
    page = opened(report(tmp_path / "one", tmp_path / "one.html"))
    see_all(page)
    assert texts(page, "button.cell .notes") == ["n 1"]
    assert page.locator("#effects-section .empty, #pairs-section .empty").count() == 2
    manifest, blobs = parts_of(tmp_path / "one.html")
    (run,) = manifest["runs"]
    run.update(curves=None, status="running", epochs=0, parameters=[], final=[None] * len(run["final"]))
    page = opened(written(tmp_path / "none.html", manifest, blobs), "at=curves")
    page.wait_for_selector("#curves-section .empty")
    assert page.locator("#parameters-section .empty").count() == 1


def test_markup_in_any_field_is_text(study: Path, opened: Opener, tmp_path: Path) -> None:
    manifest, blobs = parts_of(study)
    kept = {"color", "colorDark", "map", "quantiles", "better", "version"}

    def plant(value: Any, name: str = "") -> Any:
        if isinstance(value, str):
            return value if name in kept else f"{value} {HOSTILE}"
        if isinstance(value, list):
            return [plant(each, name) for each in value]
        if isinstance(value, dict):
            return {key: plant(each, key) for key, each in value.items()}
        return value

    finished = copy.deepcopy(manifest)
    manifest = plant(finished)
    for run, before in zip(manifest["runs"], finished["runs"], strict=True):
        run["warnings"] = [HOSTILE]
        run["status"] = before["status"] if run["seed"] == 1 else HOSTILE
    manifest |= {"unreadable": [{"path": HOSTILE, "reason": HOSTILE}], "notes": [HOSTILE]}
    page = opened(written(tmp_path / "hostile.html", manifest, blobs), f"words={HOSTILE}&is.mask={HOSTILE}")
    page.get_by_role("button", name="Show all runs").click()
    page.locator(".opener").first.click()
    page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    see_all(page)
    page.locator("button.cell").first.click()
    page.evaluate("goTo('curves')")
    page.locator("#curves-section .u-over").first.wait_for()
    box = page.locator("#curves-section .u-over").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.scripts.length") == len(re.findall("<script", study.read_text(encoding="utf-8")))
    shown = page.evaluate("document.body.innerText")
    assert shown.count(HOSTILE) > 100
    assert page.title() == f"A study {HOSTILE}"


def test_a_thousand_runs(study: Path, opened: Opener, tmp_path: Path) -> None:
    manifest, blobs = parts_of(study)
    first = manifest["runs"]
    manifest["runs"] = [
        {**run, "seed": seed, "path": f"{seed}/{run['path']}", "parameters": []} for seed in range(50) for run in first
    ]
    page = opened(written(tmp_path / "thousand.html", manifest, blobs))
    see_all(page)
    assert (page.locator("#counts").text_content() or "").startswith("1,000 runs")
    assert page.locator("tbody tr[data-run]").count() == 50
    page.get_by_role("button", name="Next").click()
    assert "page 2 of 20" in (page.locator(".pager").text_content() or "")
    page.get_by_role("searchbox").fill("0,0,1 fixed_bn")
    assert page.locator("#runs-count").text_content() == (
        "100 of 1,000 runs; the charts below are of all these; choose some to see only them."
    )
    page.get_by_label("Choose all runs that are shown").check()
    assert page.locator("tbody input:checked").count() == 50
    assert page.evaluate("state.chosen.size") == 100
