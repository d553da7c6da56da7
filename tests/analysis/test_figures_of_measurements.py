"""What the figures of measurements draw, read back from them and held against sums over the records that numpy makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import norm

from batchnorm.analysis.__main__ import main
from batchnorm.analysis.bn_plot_functions import loss_landscape, norms_per_slot, sharpness, statistics_gap, thresholds_per_slot
from batchnorm.analysis.curves import trajectory
from batchnorm.analysis.figures._measured import epoch_axis, value_axis
from batchnorm.errors import RunError
from batchnorm.store import Run, Status
from tests.analysis.conftest import MODES, cut_off, record
from tests.analysis.test_bn_plot_functions import heading, legend, lines
from tests.recorded import Spike

VANILLA, BN = "vanilla", r"BN $\gamma\beta$"
SLOTS = ("conv1", "conv2", "dense1")
OF_SHARES = ("share_off", "acc_")


def measured(folder: Path, **keys: object) -> Path:
    """Invent a run with measurements, and return its directory."""
    path = record(folder, measured=True, **{"measure": "full,sharpness", **keys})
    rng = np.random.default_rng(sum(map(ord, "/".join(path.parts[-4:]))))
    with h5py.File(path / "run.h5", "r+") as file:

        def fill(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and not name.endswith(("step", "epoch")):
                of_shares = any(part in name for part in OF_SHARES)
                item[...] = rng.random(item.shape) if of_shares else rng.lognormal(0, 1, item.shape)

        for axis in ("updates", "probes"):
            if axis in file:
                file[axis].visititems(fill)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with vanilla, full BatchNorm and its gamma fixed, and one mask; two seeds of the first two."""
    folder = tmp_path_factory.mktemp("measured") / "output"
    for mask, mode, seed in (
        ("0,0,0", MODES[0], 1), ("0,0,0", MODES[0], 2), ("1,1,1", MODES[0], 1), ("1,1,1", MODES[0], 2),
        ("1,1,1", "fixed_gamma", 1), ("0,0,1", MODES[0], 1),
    ):  # fmt: skip
        measured(folder, position=mask, ablation=mode, random_seed=seed)
    return folder


@pytest.fixture(scope="module")
def at(folder: Path) -> Callable[..., Path]:
    def find(mask: str, mode: str = MODES[0], seed: int = 1) -> Path:
        (found,) = folder.glob(f"{seed}__digits_2c2d_bn__{mask}/*/*/{mode}")
        return found

    return find


Find = Callable[..., Path]


def y(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), np.float64)


def grid(figure: Figure, rows: int) -> np.ndarray:
    return np.array(figure.axes, dtype=object).reshape(rows, -1)


class TestThresholds:
    def test_quantiles_of_t_and_shares_off(self, at: Find) -> None:
        run = Run(at("1,1,1"))
        figure = thresholds_per_slot([run.directory], save=False)
        for slot, (fan, off) in zip(SLOTS, grid(figure, 3), strict=True):
            t = run.beta(slot).astype(np.float64) / np.abs(run.gamma(slot))
            assert fan.get_ylabel() == slot
            np.testing.assert_allclose(y(lines(fan)["median of t"]), np.median(t, axis=1), rtol=1e-5, atol=1e-7)
            edges = [y(line) for line in fan.get_lines() if line.get_label() == "_median of t, band"]
            for edge, percent in zip(edges, (5, 95, 25, 75), strict=True):
                np.testing.assert_allclose(edge, np.percentile(t, percent, axis=1), rtol=1e-5, atol=1e-7)
            expected, measured_line = lines(off).values()
            np.testing.assert_allclose(y(expected), norm.cdf(-t).mean(axis=1), rtol=1e-5)
            np.testing.assert_allclose(y(measured_line), run.read("share_off", slot).mean(axis=1), rtol=1e-5)
            np.testing.assert_array_equal(measured_line.get_xdata(), run.index("probes")["step"])
        assert legend(figure)[-1] == "measured, mean and middle 80 %"

    def test_seeds_are_pooled(self, at: Find) -> None:
        both = [at("1,1,1", seed=seed) for seed in (1, 2)]
        figure = thresholds_per_slot([*both, at("0,0,0")], slots=["conv2"], save=False)
        t = np.concatenate([Run(path).read("threshold", "conv2") for path in both], axis=1)
        np.testing.assert_allclose(y(lines(figure.axes[0])["median of t"]), np.median(t, axis=1), rtol=1e-5, atol=1e-6)
        assert "2 seeds (1 to 2)" in heading(figure)

    def test_a_fixed_gamma_and_a_slot_under_the_mask_alone(self, at: Find) -> None:
        assert len(thresholds_per_slot([at("1,1,1", "fixed_gamma")], save=False).axes) == 6
        figure = thresholds_per_slot([at("0,0,1")], save=False)
        assert [axes.get_ylabel() for axes in figure.axes] == ["dense1", ""]

    def test_infinite_thresholds_are_cut_and_that_is_said(self, tmp_path: Path) -> None:
        spikes = [Spike("gamma", "dense1", 0, 8, channel, 0.0) for channel in range(200)]
        figure = thresholds_per_slot([record(tmp_path, position="0,0,1", spikes=spikes)], save=False)
        assert "t beyond 5 not shown" in heading(figure)
        low, high = figure.axes[0].get_ylim()
        assert -5 <= low < high <= 5

    def test_what_is_not_measured_is_not_drawn(self, tmp_path: Path) -> None:
        figure = thresholds_per_slot([record(tmp_path)], save=False)
        assert not any("measured" in name for name in legend(figure))
        with pytest.raises(RunError, match="slots=conv9: no such slot here"):
            thresholds_per_slot([record(tmp_path)], slots=["conv9"], save=False)

    def test_two_variants_or_only_vanilla_are_errors(self, at: Find) -> None:
        with pytest.raises(RunError, match=r"fixed_gamma: is another variant or setting than .*|trained_bn: is another"):
            thresholds_per_slot([at("1,1,1"), at("1,1,1", "fixed_gamma")], save=False)
        with pytest.raises(RunError, match="0,0,0.*: has no threshold$"):
            thresholds_per_slot([at("0,0,0")], save=False)


class TestNorms:
    def test_lines_of_each_slot(self, at: Find) -> None:
        vanilla, full = Run(at("0,0,0")), Run(at("1,1,1"))
        figure = norms_per_slot([full.directory, vanilla.directory], save=False)
        assert legend(figure) == [VANILLA, BN]
        for slot, panels in zip(SLOTS, grid(figure, 3), strict=True):
            for axes, squared in zip(panels, ("weight_squared", "gradient_squared"), strict=False):
                for label, run in ((VANILLA, vanilla), (BN, full)):
                    np.testing.assert_allclose(y(lines(axes)[label]), np.sqrt(run.read(squared, slot)))
                    np.testing.assert_array_equal(lines(axes)[label].get_xdata(), run.index("updates")["step"])
            assert list(lines(panels[3])) == [BN]
            rate = full.read("update_lr") / full.read("weight_squared", slot)
            np.testing.assert_allclose(y(lines(panels[3])[BN]), rate)

    def test_seeds_become_mean_and_band(self, at: Find) -> None:
        both = [at("0,0,0", seed=seed) for seed in (1, 2)]
        figure = norms_per_slot(both, slots=["conv1"], save=False)
        assert len(figure.axes) == 3, "vanilla alone has no effective rate"
        lengths = [np.sqrt(Run(path).read("weight_squared", "conv1")) for path in both]
        np.testing.assert_allclose(y(lines(figure.axes[0])["vanilla (2 seeds)"]), np.mean(lengths, axis=0))

    def test_slots_outside_the_mask_have_no_panel_of_the_effective_rate(self, at: Find) -> None:
        figure = norms_per_slot([at("0,0,0"), at("0,0,1")], save=False)
        rates = grid(figure, 3)[:, 3]
        assert [bool(axes.lines) for axes in rates] == [False, False, True]
        assert [axes.axison for axes in rates] == [False, False, True]
        assert rates[2].get_xlabel() == "Training step"

    def test_runs_without_measurements_are_named(self, tmp_path: Path) -> None:
        paths = [record(tmp_path, random_seed=seed) for seed in (1, 2)]
        with pytest.raises(
            RunError, match=r"has no weight norm, nor have the other 1 runs; a run with MEASURE=full records it"
        ):
            norms_per_slot(paths, save=False)


class TestStatisticsGap:
    def test_three_lines_in_a_row_for_each_variant(self, at: Find) -> None:
        paths = [at("0,0,0"), at("1,1,1"), at("1,1,1", "fixed_gamma"), at("0,0,1")]
        figure = statistics_gap(paths, save=False)
        rows = grid(figure, 3)
        names = [axes.get_ylabel() for axes in rows[:, 0]]
        assert sorted(names) == sorted([BN + "\nmask 1,1,1", "BN $\\beta$\nmask 1,1,1", BN + "\nmask 0,0,1"])
        (panels,) = (panels for panels, name in zip(rows, names, strict=True) if name == BN + "\nmask 1,1,1")
        run = Run(at("1,1,1"))
        for axes, metric in zip(panels, ("acc", "loss"), strict=True):
            for statistics in ("running", "precise", "batch"):
                drawn = lines(axes)[f"{statistics} statistics"]
                np.testing.assert_array_equal(y(drawn), run.read(f"probe_{metric}_{statistics}"))
        assert legend(figure) == ["running statistics", "precise statistics", "batch statistics"]

    def test_only_vanilla_is_an_error(self, at: Find) -> None:
        with pytest.raises(RunError, match="only runs of vanilla given"):
            statistics_gap([at("0,0,0")], save=False)


class TestLandscape:
    def test_three_panels_over_epochs(self, at: Find) -> None:
        figure = loss_landscape([at("0,0,0"), at("1,1,1"), at("1,1,1", seed=2)], save=False)
        assert legend(figure) == [VANILLA, f"{BN} (2 seeds)"]
        names = ("loss_variation", "gradient_predictiveness", "effective_smoothness")
        for axes, name in zip(figure.axes, names, strict=True):
            both = [Run(at("1,1,1", seed=seed)).read(name) for seed in (1, 2)]
            np.testing.assert_allclose(y(lines(axes)[f"{BN} (2 seeds)"]), np.mean(both, axis=0))
            np.testing.assert_array_equal(y(lines(axes)[VANILLA]), Run(at("0,0,0")).read(name))
            assert axes.get_xlabel() == "Epoch" and axes.get_title() == name.replace("_", " ")

    def test_what_records_it_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="has no loss variation; a run with MEASURE=full records it"):
            loss_landscape([record(tmp_path)], save=False)

    def test_a_run_that_was_cut_off_is_drawn_so_far(self, tmp_path: Path) -> None:
        path = cut_off(tmp_path, measure="full", measured=True)
        figure = loss_landscape([path], save=False)
        assert legend(figure) == [f"{BN} (interrupted, epoch 2 of 4)"]
        assert len(y(figure.axes[0].get_lines()[0])) == 3


class TestSharpness:
    def test_both_quantities_with_the_limit(self, at: Find) -> None:
        run = Run(at("1,1,1"))
        figure = sharpness([at("0,0,0"), run.directory], save=False)
        assert legend(figure) == [VANILLA, BN, "2 / learning rate"]
        for axes, name in zip(figure.axes, ("batch_sharpness", "sharpness"), strict=True):
            np.testing.assert_array_equal(y(lines(axes)[BN]), run.read(name))
            (limit,) = (line for line in axes.get_lines() if line.get_label() == "_limit")
            np.testing.assert_allclose(y(limit), 2 / run.config.lr)

    def test_one_panel_where_no_eigenvalue_was_recorded(self, tmp_path: Path) -> None:
        figure = sharpness([measured(tmp_path, measure="full")], save=False)
        assert [axes.get_title() for axes in figure.axes] == ["batch sharpness"]

    def test_a_schedule_moves_the_limit_and_other_optimizers_have_none(self, tmp_path: Path) -> None:
        path = measured(tmp_path, measure="full")
        with h5py.File(path / "run.h5", "r+") as file:
            file["epochs/lr"][2:] = 0.01
        limits = [line for line in sharpness([path], save=False).axes[0].get_lines() if line.get_label() == "_limit"]
        np.testing.assert_allclose(y(limits[0])[2:], 200)
        figure = sharpness([measured(tmp_path, measure="full", optimizer="Adam")], save=False)
        assert legend(figure) == [BN]

    def test_negative_values_are_shown(self, tmp_path: Path) -> None:
        path = measured(tmp_path, measure="full")
        with h5py.File(path / "run.h5", "r+") as file:
            file["probes/batch_sharpness"][0] = -33.5
        axes = sharpness([path], save=False).axes[0]
        assert axes.get_ylim()[0] < -33.5
        assert "\N{MINUS SIGN}10" in [label.get_text() for label in axes.get_yticklabels()]


def ticks(axes: Axes) -> list[tuple[float, str]]:
    low, high = axes.get_ylim()
    axes.get_figure(root=True).canvas.draw()  # type: ignore[union-attr]
    pairs = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    return [(float(value), label.get_text()) for value, label in pairs if low <= value <= high]


@pytest.mark.parametrize(
    "values",
    [(78.83, 78.885), (9.95, 10.39), (2.5468e-5, 2.5502e-5), (1.2, 2.1), (0.05, 9.0), (1e-4, 1e-2), (-33.5, 150.0), (3.0, 3.0)],
)
def test_the_ticks_say_what_they_stand_at(values: tuple[float, float]) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot(values)
    value_axis(axes)
    shown = ticks(axes)
    assert len(shown) >= 2
    for value, text in shown:
        assert float(text.replace("\N{MINUS SIGN}", "-")) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_nothing_finite_leaves_the_axis_alone() -> None:
    axes = Figure().subplots()
    axes.plot([np.nan, np.inf])
    value_axis(axes)
    assert axes.get_yscale() == "linear"


def test_epochs_are_counted_where_all_have_the_same_length(tmp_path: Path) -> None:
    runs = [Run(record(tmp_path, epochs=30, steps_per_epoch=steps, random_seed=steps)) for steps in (20, 40)]
    axes = Figure().subplots()
    axes.plot(runs[0].epochs["step"], runs[0].epochs["test_acc"])
    epoch_axis(axes, runs[:1])
    formatter, places = axes.xaxis.get_major_formatter(), axes.xaxis.get_majorticklocs()
    inside = [place for place in places if 0 <= place <= 600]
    assert [formatter(place) for place in inside] == ["0", "10", "20", "30"]
    epoch_axis(axes, runs)
    assert axes.get_xlabel() == "Training step"


@pytest.mark.parametrize("command", ["thresholds", "norms", "statistics_gap", "landscape", "sharpness"])
@pytest.mark.parametrize("style", [(), ("--style", "icml")])
def test_each_is_drawn_from_the_shell(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str, style: tuple[str, ...]
) -> None:
    choice = ("--mask", "none", "all", "--mode", "vanilla", "trained_bn")
    assert main([command, str(folder), *choice, *style, "--save-dir", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert err == "" and sorted(out.split()) == sorted(str(path) for path in tmp_path.iterdir())
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf"}


def test_five_slots_and_a_diverged_run(tmp_path: Path) -> None:
    keys = {"problem": "cifar100_3c3d_bn", "optimizer": "SGD"}
    paths = [
        measured(tmp_path, position="none", **keys),
        measured(tmp_path, position="00111", **keys),
        measured(tmp_path, position="00111", ablation="fixed_gamma", status=Status.DIVERGED, last_loss=np.inf, **keys),
    ]
    assert len(norms_per_slot(paths, save=False).axes) == 20
    assert len(thresholds_per_slot(paths[1:2], save=False).axes) == 6
    assert r"BN $\beta$ (diverged, epoch 4 of 4)" in legend(sharpness(paths, save=False))


def test_what_was_measured_afterwards_is_drawn_at_its_steps(tmp_path: Path) -> None:
    one = record(tmp_path, position="1,1,1")
    last = int(Run(one).evaluations["step"][-1])
    with h5py.File(one / "measured.h5", "w") as file:
        file["representations/probes/epoch"], file["representations/probes/step"] = [4], [last]
        for slot in SLOTS:
            width = len(Run(one).gamma(slot)[-1])
            file[f"representations/probes/share_off/{slot}"] = np.full((1, width), 0.25)
        file["landscape/probes/epoch"], file["landscape/probes/step"] = [4], [last]
        for name in ("loss_variation", "gradient_predictiveness", "effective_smoothness"):
            file[f"landscape/probes/{name}"] = [2.0]
    steps, values = trajectory(Run(one), "share_off", "conv2")
    assert (steps.tolist(), values.shape, values[0, 0]) == ([last], (1, 64), 0.25)
    _, measured_line = lines(thresholds_per_slot([one], save=False).axes[1]).values()
    assert (list(np.asarray(measured_line.get_xdata())), list(y(measured_line))) == ([last], [0.25])
    landscape = loss_landscape([one], save=False)
    (line,) = lines(landscape.axes[0]).values()
    assert (list(np.asarray(line.get_xdata())), list(y(line))) == ([last], [2.0])


def test_a_record_with_probes_of_its_own_does_not_move_what_was_measured_afterwards(tmp_path: Path) -> None:
    path = measured(tmp_path, position="1,1,1", measure="batch_sharpness")
    steps = Run(path).index("probes")["step"]
    with h5py.File(path / "measured.h5", "w") as file:
        file["landscape/probes/epoch"], file["landscape/probes/step"] = [4], steps[-1:]
        file["landscape/probes/loss_variation"] = [2.0]
    assert [part.tolist() for part in trajectory(Run(path), "loss_variation", None)] == [steps[-1:].tolist(), [2.0]]
    assert len(trajectory(Run(path), "batch_sharpness", None)[0]) == len(steps) > 1


def test_the_fan_goes_on_after_the_shortest_seed(tmp_path: Path) -> None:
    whole, short = (record(tmp_path, position="1,1,1", random_seed=1), cut_off(tmp_path, position="1,1,1", random_seed=2))
    assert len(Run(short).snapshot_steps) < len(Run(whole).snapshot_steps)
    drawn = y(lines(thresholds_per_slot([whole, short], save=False).axes[0])["median of t"])
    alone = Run(whole).read("threshold", "conv1")
    assert len(drawn) == len(alone) and np.isfinite(drawn).all()
    assert drawn[-1] == pytest.approx(np.median(alone[-1]), rel=1e-5)


@pytest.mark.filterwarnings("error")
def test_a_rate_that_ends_at_0_has_no_limit_there(tmp_path: Path) -> None:
    path = measured(tmp_path, position="1,1,1", optimizer="SGD")
    with h5py.File(path / "run.h5", "r+") as file:
        file["epochs/lr"][-1] = 0.0
    drawn = [line for line in sharpness([path], save=False).axes[0].get_lines() if line.get_label() == "_limit"]
    assert np.isnan(y(drawn[0])[-1]) and np.isfinite(y(drawn[0])[:-1]).all()
