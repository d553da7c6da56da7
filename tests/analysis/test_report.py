from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import zlib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from batchnorm.analysis.__main__ import main
from batchnorm.analysis.decimate import reduce_map
from batchnorm.analysis.effects import of_runs
from batchnorm.analysis.report import blobs, parameters, report
from batchnorm.analysis.report.data import on_dark
from batchnorm.analysis.report.page import SCRIPTS, STYLES, inert_json
from batchnorm.analysis.runs import LEFT_OUT
from batchnorm.analysis.summary import paired_difference
from batchnorm.errors import RunError
from batchnorm.quantities import METRICS
from batchnorm.store import Run, RunDirectory, Status
from tests.analysis.conftest import MODES, cut_off, record
from tests.recorded import Spike, as_version_1

VENDOR = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of uPlot 1.6.32, as npm has it."""
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\u2028\"'"


class Elements(HTMLParser):
    """What a browser finds in a page: its elements, with what stands in scripts, styles and the title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside: list[tuple[str, dict[str, str | None], str]] = []
        self.open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.open = tag
        if tag in ("script", "style", "title"):
            self.inside.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open in ("script", "style", "title"):
            tag, attributes, before = self.inside[-1]
            self.inside[-1] = (tag, attributes, before + data)

    def texts(self, tag: str, **attributes: str | None) -> list[str]:
        return [text for name, has, text in self.inside if name == tag and attributes.items() <= has.items()]


@dataclass(frozen=True)
class Page:
    text: str
    elements: Elements
    manifest: dict[str, Any]

    @classmethod
    def of(cls, path: Path) -> Page:
        text = path.read_bytes().decode("utf-8")
        elements = Elements(text)
        (manifest,) = elements.texts("script", type="application/json", id="manifest")
        return cls(text, elements, json.loads(manifest))

    def blob(self, name: str, dtype: str) -> NDArray[Any]:
        (packed,) = self.elements.texts("script", type="text/plain", id=name)
        return np.frombuffer(zlib.decompress(base64.b64decode(packed), -zlib.MAX_WBITS), dtype)

    def run(self, mask: str, mode: str = "trained_bn", seed: int = 1) -> dict[str, Any]:
        variants = [(each["mask"], each["mode"]) for each in self.manifest["variants"]]
        (found,) = [run for run in self.manifest["runs"] if (variants[run["variant"]], run["seed"]) == ((mask, mode), seed)]
        return dict(found)


@pytest.fixture(scope="module")
def written(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page.of(report(output, tmp_path_factory.mktemp("report") / "page.html"))


def test_the_curves_and_final_values_are_those_of_the_record(written: Page, output: Path) -> None:
    assert len(written.manifest["runs"]) == 20
    names = [metric["name"] for metric in written.manifest["metrics"]]
    assert names == list(METRICS)
    curves = written.blob("curves", "<f4")
    for entry in written.manifest["runs"]:
        run = Run(output / entry["path"])
        rows, offset = entry["curves"]["rows"], entry["curves"]["offset"]
        for place, name in enumerate(names):
            values = run.epochs[name] * (100 if name.endswith("acc") else 1)
            np.testing.assert_array_equal(curves[offset + place * rows :][:rows], values.astype(np.float32))
            assert entry["final"][place] == values[-1]
        assert entry["epochsOf"] is None and rows == 5
        assert (entry["seed"], entry["status"], entry["epochs"], entry["of"]) == (run.config.random_seed, "finished", 4, 4)
        variant = written.manifest["variants"][entry["variant"]]
        assert (variant["mask"], variant["mode"], variant["problem"]) == (run.config.position, run.mode, "digits_2c2d_bn")
        assert ["LR", "0.15849"] in entry["config"] and ["device", "cpu"] in entry["versions"]
    assert curves.size == 20 * 5 * len(names)


def test_maps_of_bytes_give_the_values_back_and_their_extremes_exactly(written: Page, output: Path) -> None:
    entry = written.run("1,0,0", "fixed_beta", seed=2)
    gamma, beta, *running = [each for each in entry["parameters"] if each["slot"] == "conv1" and each["channels"] > 1]
    values = Run(output / entry["path"]).gamma("conv1")
    assert (gamma["quantity"], gamma["trained"], gamma["channels"], gamma["neutral"]) == ("gamma", True, 32, 1.0)
    assert (gamma["rows"], gamma["columns"], gamma["steps"]) == (32, len(values), [0, 80])
    found = written.blob(gamma["map"], "u1").reshape(32, -1)
    step = (gamma["high"] - gamma["low"]) / 254
    back = gamma["low"] + step * found
    assert np.abs(back - values.T).max() <= step / 2 + 1e-12
    assert (gamma["low"], gamma["high"]) == (values.min(), values.max())
    assert (back.min(), back.max()) == (values.min(), pytest.approx(values.max(), rel=1e-15))
    quantiles = written.blob(gamma["quantiles"], "<f4").reshape(5, -1)
    np.testing.assert_allclose(quantiles, np.quantile(values, (0, 0.25, 0.5, 0.75, 1), axis=1), rtol=1e-6)
    assert (beta["quantity"], beta["trained"], beta["constant"], beta["map"]) == ("beta", False, 0.0, None)
    assert [(each["label"], each["constant"]) for each in running] == [("running mean", 0.0), ("running variance", 1.0)]
    assert {each["slot"] for each in entry["parameters"] if each["quantity"] == "bias"} == {"conv2", "dense1"}


def test_a_gamma_that_was_drawn_and_stays_has_a_value_for_each_channel(tmp_path: Path) -> None:
    path = record(tmp_path, position="1,1,1", ablation="fixed_gamma", gamma_init="uniform")
    (run,) = Page.of(report(tmp_path)).manifest["runs"]
    (gamma,) = (each for each in run["parameters"] if (each["quantity"], each["slot"]) == ("gamma", "conv1"))
    values = Run(path).gamma("conv1")
    assert (values[0] == values).all() and np.ptp(values[0]) > 0.5
    assert (gamma["trained"], gamma["constant"], gamma["low"], gamma["high"]) == (False, None, values.min(), values.max())


def test_variants_are_named_as_everywhere(written: Page, output: Path) -> None:
    names = {variant["name"] for variant in written.manifest["variants"]}
    assert names == {Run(output / run["path"]).variant for run in written.manifest["runs"]}
    assert "vanilla" in names


def test_a_spike_stays_in_a_small_map_and_in_the_quantiles(tmp_path: Path) -> None:
    spike = Spike("gamma", "dense1", first=11, rows=1, channel=700, value=9.0)
    run = Run(record(tmp_path, position="0,0,1", epochs=8, spikes=[spike]))
    places = [place for place in parameters.places_in(run) if place[:2] == ("gamma", "dense1")]
    found = parameters.gather(run, places, parameters.Size(8, 8), first=0)
    (entry,) = found.entries
    assert found.reduced and (entry["rows"], entry["columns"], entry["high"]) == (8, 8, 9.0)
    data = [np.frombuffer(zlib.decompress(base64.b64decode(blob), -15), np.uint8) for blob in found.blobs.values()]
    assert (data[0].reshape(8, 8)[700 * 8 // 1024] == blobs.HIGHEST).sum() == 1
    assert (data[1].view("<f4").reshape(5, 8)[-1] == 9.0).sum() == 1


def test_quantiles_of_uneven_steps_with_gaps_are_those_of_each_column() -> None:
    rng = np.random.default_rng(1)
    steps = np.sort(rng.choice(np.r_[0:300, 700:1000], 80, replace=False))
    values = rng.normal(size=(80, 9)).astype(np.float32)
    values[20:40, 3] = np.nan
    values[60] = np.nan
    columns = reduce_map(steps, values, columns=16, rows=9).values.shape[1]
    found = parameters.quantiles(steps, values, columns)
    place = np.minimum(((steps - steps[0]) / (steps[-1] - steps[0]) * columns).astype(int), columns - 1)
    rows = np.array([], dtype=int)
    for column in range(columns):
        rows = np.flatnonzero(place == column) if (place == column).any() else rows[-1:]
        expected = [np.nanmin(values[rows]), *np.nanquantile(values[rows[-1]], (0.25, 0.5, 0.75)), np.nanmax(values[rows])]
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-6)


def test_bytes_have_a_mark_for_no_value_and_one_value_is_no_division_by_zero() -> None:
    found = blobs.quantise(np.array([[1.0, np.nan], [np.inf, 3.0]]))
    assert found.values.tolist() == [[0, blobs.NO_VALUE], [blobs.NO_VALUE, blobs.HIGHEST]]
    assert (found.low, found.high) == (1.0, 3.0)
    assert blobs.quantise(np.full((2, 2), 7.0)).values.tolist() == [[0, 0], [0, 0]]
    assert blobs.quantise(np.full(2, np.nan)).values.tolist() == [blobs.NO_VALUE] * 2


def test_what_a_slot_has_one_number_of_is_a_map_of_one_row(tmp_path: Path) -> None:
    run = record(tmp_path, position="1,1,1", measured=True)
    with h5py.File(run / "run.h5", "r+") as file:
        norms = file["updates/weight_squared/conv2"]
        norms[:] = np.arange(len(norms)) ** 2.0
        file["updates/weight_gradient/conv2"][:] = 0.0
    found = Page.of(report(tmp_path))
    (norm,) = [
        each for each in found.run("1,1,1")["parameters"] if (each["quantity"], each["slot"]) == ("weight_norm", "conv2")
    ]
    values = Run(run).read("weight_norm", "conv2")
    assert (norm["label"], norm["channels"], norm["rows"], norm["columns"]) == ("weight norm", 1, 1, len(values))
    assert (norm["low"], norm["high"], norm["steps"]) == (0.0, len(values) - 1, [0, Run(run).index("updates")["step"][-1]])
    np.testing.assert_array_equal(found.blob(norm["quantiles"], "<f4").reshape(5, -1), [values.astype(np.float32)] * 5)


@pytest.mark.parametrize("runs", [1, 20, 200, 1000])
def test_maps_of_many_runs_find_room_in_a_page(runs: int) -> None:
    slots = (64, 96, 128, 512, 256)
    places = [parameters.Place(name, "slot", 7800, width, None) for name in ("gamma", "beta") for width in slots] * runs
    size = parameters.size_for(places)
    cells = sum(size.columns * min(size.rows, place.channels) for place in places)
    assert cells + 5 * 4 * size.columns * len(places) < 16e6
    assert size.columns >= 40 or runs > 200
    assert runs > 1 or size == parameters.Size(240, 240)


def test_effects_and_pairs_are_those_of_the_tables(written: Page, output: Path) -> None:
    (found,) = written.manifest["effects"]
    assert (found["heading"], found["metric"], found["unit"]) == ("digits_2c2d_bn", "final test accuracy", "points")
    table = of_runs(output).set_index(["name"])
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) <= set(table.index) and "gamma" in rows and "conv1" in rows
    assert all(" x " not in name for name in rows if name != "gamma x beta")  # no four masks for any pair of slots
    for name, row in rows.items():
        expected = table.loc[name]
        if row["estimate"] is not None:
            values = [row[column] for column in ("estimate", "low", "high")]
            np.testing.assert_allclose(values, 100 * expected[["estimate", "low", "high"]].astype(float), rtol=1e-9)
            np.testing.assert_allclose(row["p"], expected["p_holm"])
        assert (row["seeds"], row["pairs"], row["note"]) == (expected["n_seeds"], expected["n_pairs"], expected["note"])
    assert "Seeds 1, 2; 20 runs." in found["note"] and "Not estimable: slot x slot" in found["note"]

    variants = [(each["mask"], each["mode"]) for each in written.manifest["variants"]]
    for reference, heading in (
        ("trained_bn", "digits_2c2d_bn: against trained_bn at the same mask"),
        ("vanilla", "digits_2c2d_bn: against vanilla"),
    ):
        expected = paired_difference(output, reference)
        expected = expected[expected["mode"] != "vanilla"].set_index(["mask", "mode"])
        pairs = [pair for pair in written.manifest["pairs"] if pair["heading"] == heading]
        assert {variants[pair["variant"]] for pair in pairs} == set(expected.index)
        for pair in pairs:
            row = expected.loc[variants[pair["variant"]]]
            values = [pair[column] for column in ("difference", "low", "high")]
            np.testing.assert_allclose(values, 100 * row[["difference", "low", "high"]].astype(float), rtol=1e-9)
            assert pair["p"] <= pair["pHolm"] <= len(pairs) * pair["p"] and pair["seeds"] == 2
            assert (pair["low"] > 0 or pair["high"] < 0) == (pair["p"] < 0.05)
        assert min(pair["pHolm"] for pair in pairs) == pytest.approx(min(1, len(pairs) * min(pair["p"] for pair in pairs)))


def test_one_seed_has_estimates_without_intervals_and_other_settings_stand_apart(tmp_path: Path) -> None:
    for mode in MODES:
        record(tmp_path, position="0,0,1", ablation=mode)
    record(tmp_path, position="0,0,1", lr=0.01)
    record(tmp_path, position="0,0,1", lr=0.02, problem="fmnist_2c2d_bn")
    page = Page.of(report(tmp_path))
    (found,) = page.manifest["effects"]
    assert found["heading"] == "digits_2c2d_bn, lr 0.1585" and "One seed: no intervals." in found["note"]
    assert {(row["low"], row["p"]) for row in found["rows"]} == {(None, None)}
    assert all(row["estimate"] is not None for row in found["rows"])
    assert all(pair["difference"] is not None and pair["note"] == "one seed: no interval" for pair in page.manifest["pairs"])
    assert page.manifest["keys"] == [
        {"name": "LR", "values": ["0.01", "0.02", "0.15849"]},
        {"name": "BATCH_SIZE", "values": ["64", "128"]},
    ]
    assert sorted(run["settings"] for run in page.manifest["runs"]) == [[0, 0], [1, 1], *[[2, 0]] * 4]
    assert "1 of 2 settings have fewer than two variants" in " ".join(page.manifest["notes"])


def test_a_young_seed_does_not_empty_the_effects_of_a_study_that_goes_on(tmp_path: Path) -> None:
    for seed in (1, 2):
        for mode in MODES[:2]:
            record(tmp_path, position="0,0,1", ablation=mode, random_seed=seed)
    record(tmp_path, position="0,0,1", random_seed=3)
    record(tmp_path, position="0,0,1", ablation="fixed_bn", random_seed=4, status=Status.DIVERGED, last_loss=float("nan"))
    page = Page.of(report(tmp_path))
    (found,) = page.manifest["effects"]
    assert "Seeds 3, 4 left out" in found["note"]
    assert {row["seeds"] for row in found["rows"]} == {2}
    run = page.run("0,0,1", "fixed_bn", seed=4)
    assert run["status"] == "diverged" and None not in run["final"]


def test_runs_that_go_on_are_marked_and_nothing_is_written_among_them(tmp_path: Path) -> None:
    whole, half = record(tmp_path, position="none"), cut_off(tmp_path, position="1,1,1")
    young = record(tmp_path, position="0,0,1", recorded_epochs=-1, status=Status.CUT_OFF)
    (whole / "run.log").write_text("2026-01-02 03:04:05,678 INFO fine\n2026-01-02 03:04:06,789 WARNING other conditions\n")
    old = as_version_1(record(tmp_path, position="0,1,1"))

    def state() -> list[tuple[str, int]]:
        return [(str(path), path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*")) if path.suffix != ".html"]

    before = state()
    with RunDirectory(half).claim():
        claimed = state()
        page = Page.of(report(tmp_path))
        assert state() == claimed
    assert page.run("1,1,1")["status"] == "running" and page.run("1,1,1")["epochs"] == 2
    page = Page.of(report(tmp_path))
    assert [path for path, _ in state()] == sorted({path for path, _ in before} | {str(half / ".lock")})
    assert (page.run("1,1,1")["status"], page.run("1,1,1")["of"]) == ("interrupted", 4)
    nothing = page.run("0,0,1")
    assert (nothing["epochs"], nothing["curves"], nothing["parameters"]) == (0, None, []), young
    assert set(nothing["final"]) == {None}
    assert page.run("0,0,0", "vanilla")["warnings"] == ["2026-01-02 03:04:06,789 WARNING other conditions"]
    assert page.run("0,1,1")["path"] == str(old.relative_to(tmp_path)) and page.run("0,1,1")["parameters"]


def plant(run: Path) -> None:
    """Put markup into all texts of a record that a user, a host or a later version may have written."""
    with h5py.File(run / "run.h5", "r+") as file:
        config = json.loads(file.attrs["config"])
        planted = {**config, "OUTPUT_DIR": HOSTILE, "ABLATION": HOSTILE, "DEVICE": HOSTILE, "OPTIMIZER": HOSTILE}
        fingerprint = {**json.loads(file.attrs["fingerprint"]), "OPTIMIZER": HOSTILE, "ABLATION": HOSTILE}
        for name, value in (("config", planted), ("fingerprint", fingerprint), ("versions", {"host": HOSTILE, HOSTILE: 1})):
            file.attrs[name] = np.bytes_(json.dumps(value).encode())
    (run / "run.log").write_text(f"2026-01-02 03:04:06,789 WARNING {HOSTILE}\n")


def test_markup_in_any_text_stays_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / HOSTILE.replace("/", "\u2215")
    record(folder, position="1,1,1")
    plain = Page.of(report(folder, title="plain"))
    for place, target in enumerate((HOSTILE.replace("/", "\u2215"), os.fsdecode(b"no text \xff"))):
        shutil.copytree(record(tmp_path / "other", position="1,1,1", random_seed=2 + place), folder / target)
        plant(folder / target)
    (folder / "<b>damaged").mkdir()
    (folder / "<b>damaged" / "run.h5").write_text(HOSTILE)
    page = Page.of(report(folder, title=HOSTILE))
    assert LEFT_OUT.name in {entry.name for entry in caplog.records}
    new = page.elements.tags.count("script") - plain.elements.tags.count("script")
    assert new == 2 * 6 * 2  # blobs of two runs more
    assert [tag for tag in page.elements.tags if tag != "script"] == [tag for tag in plain.elements.tags if tag != "script"]
    assert page.manifest["title"] == HOSTILE and page.manifest["root"] == str(folder)
    assert "\u2028" not in page.text.replace(HOSTILE[-3:-2], "", 1)
    planted = [run for run in page.manifest["runs"] if ["host", HOSTILE] in run["versions"]]
    assert len(planted) == 2 and all(HOSTILE in run["warnings"][0] for run in planted)
    assert {page.manifest["variants"][run["variant"]]["mode"] for run in planted} == {HOSTILE}
    assert HOSTILE in {value for key in page.manifest["keys"] for value in key["values"]}
    assert [each["path"] for each in page.manifest["unreadable"]] == ["<b>damaged"]


def test_only_what_stands_in_the_page_may_run_and_nothing_is_fetched(written: Page) -> None:
    (policy,) = [value for name, value in written.elements.attributes if name == "content" and "script-src" in (value or "")]
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag, rule, count in (("script", "script-src", len(SCRIPTS)), ("style", "style-src", len(STYLES))):
        texts = [text for name, has, text in written.elements.inside if name == tag and "type" not in has]
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
        assert rules.pop(rule).split() == hashes and len(hashes) == count
    assert rules == {"img-src": "data: blob:", "base-uri": "'none'", "form-action": "'none'"}
    assert written.text.index("Content-Security-Policy") < written.text.index("<style>")
    links = [value or "" for name, value in written.elements.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert all(link.startswith("#") for link in links)
    assert not [name for name, _ in written.elements.attributes if name.startswith("on") or name == "style"]
    assert all("type" in has or not has for name, has, _ in written.elements.inside if name == "script")


def test_vendored_files_are_as_they_came() -> None:
    folder = Path(report.__code__.co_filename).parent / "vendor"
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == VENDOR


def test_json_ends_no_script() -> None:
    text = inert_json([HOSTILE, "\udcff<!--"])
    assert text.isascii() and not set(text) & set("<>&")
    assert json.loads(text) == [HOSTILE, "\udcff<!--"]


def test_parameters_are_those_asked_for(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_parameters(*arguments: str) -> tuple[int, str]:
        assert main(["report", str(output), "--out", str(tmp_path / "page.html"), *arguments]) == 0
        manifest = Page.of(tmp_path / "page.html").manifest
        return sum(bool(run["parameters"]) for run in manifest["runs"]), " ".join(manifest["notes"])

    count, note = with_parameters("--parameters", "1__*fixed_beta", "fixed_gamma")
    assert count == 2 + 4 and "Parameters of 6 of 20 runs: 1__*fixed_beta fixed_gamma." in note
    monkeypatch.setattr("batchnorm.analysis.report.MOST_RUNS", 10)
    count, note = with_parameters()
    assert count == 0 and "more than 10 runs" in note and "--parameters" in note
    assert with_parameters("--mask", "1,0,0", "--mode", "fixed_beta")[0] == 2
    assert main(["report", str(output), "--out", str(tmp_path / "none.html"), "--parameters", "fixed_gama"]) == 2
    assert "error: --parameters fixed_gama: no run's path has it" in capsys.readouterr().err
    assert not (tmp_path / "none.html").exists()


def test_the_page_lies_in_the_folder_that_holds_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = record(tmp_path / "output")
    expected = tmp_path / "output" / "report.html"
    for paths in ([tmp_path / "output"], [run], [run / "run.h5"], [run.parent]):
        assert report(paths) == expected
    assert report(tmp_path) == tmp_path / "report.html"
    assert main(["report", str(tmp_path / "output"), "--title", "A <title>"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    page = Page.of(expected)
    assert "<title>A &lt;title&gt;</title>" in page.text and page.manifest["title"] == "A <title>"
    assert Page.of(report(run)).manifest["runs"][0]["path"] == str(run)


def test_what_holds_no_run_or_damaged_ones_alone_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: holds no run\n"
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.h5").write_text("rubbish")
    assert main(["report", str(tmp_path)]) == 2
    assert not list(tmp_path.glob("*.html"))
    record(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert "1 left out, named above" in capsys.readouterr().err
    (unreadable,) = Page.of(tmp_path / "report.html").manifest["unreadable"]
    assert unreadable["path"] == "damaged" and "damaged" in unreadable["reason"]
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report.html" / "page.html")]) == 2


def test_damaged_parameters_cost_these_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = record(tmp_path, position="0,0,1")
    with h5py.File(damaged / "run.h5", "r") as file:
        header = h5py.h5o.get_info(file["snapshots/gamma/dense1"].id).addr
    with (damaged / "run.h5").open("r+b") as file:
        file.seek(header + 10)
        file.write(b"\xff" * 64)
    page = Page.of(report(tmp_path))
    run = page.run("0,0,1")
    assert run["curves"]["rows"] == 5 and run["parameters"] == []
    assert str(damaged) in caplog.text and f"{run['path']}: its parameters cannot be read." in page.manifest["notes"]


def test_another_metric_is_compared_where_it_is_asked_for(output: Path, tmp_path: Path) -> None:
    manifest = Page.of(report(output, tmp_path / "page.html", metric="test_loss", last=2, parameters="none")).manifest
    assert {(each["metric"], each["unit"]) for each in (*manifest["effects"], *manifest["pairs"])} == {
        ("test loss (mean of the last 2 evaluations)", "nats")
    }
    with pytest.raises(RunError, match="no run's path"):
        report(output, tmp_path / "page.html", parameters=["all", "none"])


def test_measurements_are_metrics_and_absent_ones_have_no_value(tmp_path: Path) -> None:
    record(tmp_path, position="1,1,1", measured=True, measure="full", measure_every=2)
    record(tmp_path, position="none")
    page = Page.of(report(tmp_path, parameters="none"))
    names = [metric["name"] for metric in page.manifest["metrics"]]
    at = names.index("batch_sharpness")
    assert names[: len(METRICS)] == list(METRICS)
    metric = page.manifest["metrics"][names.index("probe_acc_batch")]
    assert (metric["label"], metric["unit"], metric["better"]) == ("probe accuracy batch", "%", "high")
    measured, absent = page.run("1,1,1"), page.run("0,0,0", "vanilla")
    assert (measured["final"][at], absent["final"][at]) == (1.0, None)
    curves = page.blob("curves", "<f4")
    assert np.isnan(curves[absent["curves"]["offset"] + at * absent["curves"]["rows"] :][: absent["curves"]["rows"]]).all()


def test_colours_are_those_of_the_figures_and_readable_on_a_dark_page(written: Page) -> None:
    looks = {(each["mask"], each["mode"]): each for each in written.manifest["variants"]}
    assert looks["0,0,0", "vanilla"]["color"] == "#000000" and looks["0,0,0", "vanilla"]["colorDark"] == "#ffffff"
    assert looks["1,1,1", "trained_bn"]["color"] == "#E69F00"  # the reference, beside other masks
    assert looks["0,0,1", "trained_bn"] | {"dash": []} == looks["0,0,1", "trained_bn"]
    assert looks["0,0,1", "trained_bn"]["color"] == looks["1,0,0", "trained_bn"]["color"] == "#0072B2"
    assert on_dark("#FFFF00") == "#ffff00" and int(on_dark("#332288")[1:3], 16) > 0x33
