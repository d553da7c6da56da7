"""What is drawn, read back from the figures: lines, images and surfaces, not pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from batchnorm.analysis.bn_plot_functions import (
    bn_params_3Dsurface,
    compare_3Dsurface_betas,
    compare_ablation_performance,
    compare_contour_betas,
    compare_multiple_lr,
    paramMean_perLayer,
    performance_across_ablations,
)
from batchnorm.analysis.looks import DPI
from batchnorm.analysis.variants import FULL_ROW, VANILLA_ROW
from batchnorm.errors import RunError
from batchnorm.store import Run, Status
from tests.analysis.conftest import MODES, cut_off, record
from tests.recorded import Spike

Find = Callable[..., Path]


def lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def heading(figure: Figure) -> str:
    return figure.get_suptitle()


@pytest.fixture
def all_modes(at: Find) -> list[Path]:
    return [at("0,0,0"), *(at("0,0,1", mode) for mode in MODES)]


class TestPerformance:
    def test_the_recorded_metrics_are_drawn(self, all_modes: list[Path]) -> None:
        figure = performance_across_ablations(all_modes, save=False)
        names = ["vanilla", "BN", r"BN $\gamma$", r"BN $\beta$", r"BN $\gamma\beta$"]
        assert legend(figure) == names
        for axes, metric in zip(figure.axes, ("train_loss", "test_loss", "train_acc", "test_acc"), strict=True):
            epochs = Run(all_modes[1]).epochs
            line = lines(axes)[r"BN $\gamma\beta$"]
            np.testing.assert_array_equal(line.get_xdata(), epochs["step"])
            np.testing.assert_array_equal(line.get_ydata(), epochs[metric])
            assert list(lines(axes)) == names
        assert figure.axes[0].get_yscale() == "log"
        assert "digits_2c2d_bn, SGD, seed 1, learning rate 0.1585, batch size 64" in heading(figure).replace("\n", ", ")

    def test_order_and_path_do_not_matter(self, all_modes: list[Path], tmp_path: Path) -> None:
        disguised = tmp_path / "vanilla" / "fixed_gamma"
        disguised.mkdir(parents=True)
        (disguised / "run.h5").write_bytes((all_modes[1] / "run.h5").read_bytes())
        figure = performance_across_ablations([disguised, *all_modes[:1]], save=False)
        assert legend(figure) == ["vanilla", r"BN $\gamma\beta$"]

    def test_seeds_become_mean_and_band(self, at: Find) -> None:
        paths = [at("0,0,1", "fixed_bn", seed) for seed in (1, 2)]
        figure = performance_across_ablations(paths, save=False)
        both = np.array([Run(path).epochs["test_loss"] for path in paths])
        axes = figure.axes[1]
        np.testing.assert_allclose(np.asarray(lines(axes)["BN (2 seeds)"].get_ydata()), both.mean(axis=0))
        (band,) = [item for item in axes.collections if isinstance(item, PolyCollection)]
        drawn = np.asarray(band.get_paths()[0].vertices)[:, 1]
        assert drawn.min() == both.min() and drawn.max() == both.max()

    def test_smoothing_keeps_the_recorded_line_faint_and_says_so(self, tmp_path: Path) -> None:
        path = record(tmp_path, epochs=30)
        figure = performance_across_ablations([path], smooth_curve=True, save=False)
        assert "Savitzky-Golay" in heading(figure)
        faint, smooth = figure.axes[1].get_lines()
        np.testing.assert_array_equal(faint.get_ydata(), Run(path).epochs["test_loss"])
        assert faint.get_alpha() is not None and faint.get_alpha() < 0.5  # type: ignore[operator]
        assert (
            np.abs(np.diff(np.asarray(smooth.get_ydata()), 2)).sum() < np.abs(np.diff(np.asarray(faint.get_ydata()), 2)).sum()
        )

    def test_a_run_too_short_to_smooth_is_drawn_as_recorded(self, tmp_path: Path) -> None:
        path = cut_off(tmp_path)
        figure = performance_across_ablations([path], smooth_curve=True, save=False)
        (line,) = figure.axes[0].get_lines()
        np.testing.assert_array_equal(line.get_ydata(), Run(path).epochs["train_loss"])

    def test_unfinished_runs_are_drawn_as_far_as_they_go(self, tmp_path: Path) -> None:
        paths = [
            record(tmp_path, position="0,0,1"),
            cut_off(tmp_path, position="0,0,1", ablation="fixed_bn"),
            record(tmp_path, position="none", recorded_epochs=-1, status=Status.CUT_OFF),
        ]
        figure = performance_across_ablations(paths, save=False)
        assert legend(figure) == [
            "vanilla (interrupted, no epoch yet)",
            "BN (interrupted, epoch 2 of 4)",
            r"BN $\gamma\beta$",
        ]
        assert [len(np.asarray(line.get_xdata())) for line in lines(figure.axes[0]).values()] == [0, 3, 5]

    def test_a_diverged_run_is_drawn_without_what_is_not_finite(self, tmp_path: Path) -> None:
        path = record(tmp_path, recorded_epochs=3, status=Status.DIVERGED, last_loss=np.inf)
        figure = performance_across_ablations([path], save=False)
        (line,) = figure.axes[0].get_lines()
        assert np.isfinite(np.asarray(line.get_ydata())).tolist() == [True, True, True, False]
        assert legend(figure) == [r"BN $\gamma\beta$ (diverged, epoch 3 of 4)"]

    def test_two_masks_are_too_many(self, all_modes: list[Path], at: Find) -> None:
        with pytest.raises(RunError, match=r"0,0,1.*mask 0,0,1, others have 1,0,0; .* compare_ablation_performance"):
            performance_across_ablations([*all_modes, at("1,0,0")], save=False)

    def test_settings_that_differ_are_in_the_legend(self, tmp_path: Path) -> None:
        paths = [record(tmp_path, position="none", lr=0.5), record(tmp_path, position="0,0,1", lr=0.125)]
        assert legend(performance_across_ablations(paths, save=False)) == ["vanilla (lr 0.5)", r"BN $\gamma\beta$ (lr 0.125)"]


class TestAblations:
    def test_a_panel_for_each_mask_with_dashed_references(self, output: Path) -> None:
        figure = compare_ablation_performance([path.parent for path in output.rglob("run.h5")], save=False)
        first, second = figure.axes
        assert [axes.get_title() for axes in (first, second)] == ["mask 1,0,0", "mask 0,0,1"]
        assert {axes.get_yscale() for axes in (first, second)} == {"log"}
        for axes in (first, second):
            drawn = lines(axes)
            assert len(drawn) == 6
            assert drawn["vanilla"].get_color() == VANILLA_ROW.colour and drawn["vanilla"].is_dashed()
            assert drawn["full BN"].get_color() == FULL_ROW.colour and drawn["full BN"].is_dashed()
        np.testing.assert_array_equal(lines(first)["vanilla"].get_ydata(), lines(second)["vanilla"].get_ydata())
        assert len(legend(figure)) == 6

    def test_the_end_of_an_unfinished_run_is_marked(self, tmp_path: Path) -> None:
        paths = [record(tmp_path, position="0,0,1"), cut_off(tmp_path, position="0,0,1", ablation="fixed_bn")]
        figure = compare_ablation_performance(paths, save=False)
        assert legend(figure) == ["BN", r"BN $\gamma\beta$", "interrupted"]
        (end,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "_end"]
        assert np.asarray(end.get_xdata()).tolist() == [40]

    def test_four_panels_stand_two_by_two(self, tmp_path: Path) -> None:
        paths = [record(tmp_path, position=mask) for mask in ("100", "010", "001", "110")]
        figure = compare_ablation_performance(paths, save=False)
        places = [axes.get_subplotspec() for axes in figure.axes]
        assert [(place.rowspan.start, place.colspan.start) for place in places if place] == [(0, 0), (0, 1), (1, 0), (1, 1)]

    def test_another_metric(self, at: Find) -> None:
        figure = compare_ablation_performance([at("0,0,1")], metric="valid_acc", save=False)
        assert figure.axes[0].get_yscale() == "linear"
        assert figure.axes[0].get_ylabel() == "Validation accuracy"
        with pytest.raises(RunError, match="did you mean test_acc"):
            compare_ablation_performance([at("0,0,1")], metric="test_ac", save=False)

    @pytest.mark.parametrize("masks", [1, 3, 5, 7])
    def test_as_many_panels_as_masks(self, tmp_path: Path, masks: int) -> None:
        paths = [record(tmp_path, position=f"{number + 1:03b}") for number in range(masks)]
        figure = compare_ablation_performance(paths, save=False)
        assert len(figure.axes) == (masks if masks < 7 else 6)  # the full one turns into the reference


class TestRates:
    def test_curves_and_final_accuracy_over_the_rate(self, tmp_path: Path) -> None:
        rates = (0.01, 0.1, 1.0)
        paths = [record(tmp_path, lr=rate, random_seed=seed) for rate in reversed(rates) for seed in (1, 2)]
        figure = compare_multiple_lr(paths, save=False)
        loss, _, final = figure.axes
        assert list(lines(loss)) == [f"{rate:.4g}, 2 seeds" for rate in rates]
        assert len({str(line.get_color()) for line in lines(loss).values()}) == 3
        assert final.get_xscale() == "log"
        drawn = {str(container.get_label()): container[0] for container in final.containers}
        np.testing.assert_array_equal(drawn["test"].get_xdata(), rates)
        expected = [
            np.mean([Run(path).epochs["test_acc"][-1] for path in paths if Run(path).config.lr == rate]) for rate in rates
        ]
        np.testing.assert_allclose(drawn["test"].get_ydata(), expected)

    def test_equal_seeds_have_no_spread_and_only_finished_runs_count(self, tmp_path: Path) -> None:
        """Three times 0.1 has a mean above 0.1."""
        paths = [record(tmp_path, random_seed=seed) for seed in (1, 2, 3)]
        for path in paths:
            with h5py.File(path / "run.h5", "r+") as file:
                file["epochs/test_acc"][-1] = 0.1
        started = record(tmp_path, random_seed=4, recorded_epochs=1, status=Status.CUT_OFF)
        final = compare_multiple_lr([*paths, started], save=False).axes[-1]
        drawn = {str(container.get_label()): container[0] for container in final.containers}
        assert list(drawn["test"].get_ydata()) == [0.1]
        young = compare_multiple_lr([started], save=False).axes[-1]
        assert not young.axison and [text.get_text() for text in young.texts] == ["no run has finished"]

    def test_optimizers_side_by_side_with_what_else_differs(self, tmp_path: Path) -> None:
        lr = {"SGD": 0.1, "Adam": 0.001}
        paths = [record(tmp_path, optimizer=name, lr=rate, random_seed=seed) for name, rate in lr.items() for seed in (1, 2)]
        figure = compare_multiple_lr(paths, "optimizer", save=False)
        assert legend(figure) == ["Adam, lr 0.001, 2 seeds", "SGD, lr 0.1, 2 seeds"]
        final = figure.axes[2]
        assert [label.get_text() for label in final.get_xticklabels()] == ["Adam", "SGD"]
        assert final.get_xlabel() == "Optimizer" and final.get_xscale() == "linear"
        drawn = {str(container.get_label()): container[0] for container in final.containers}
        expected = np.mean([Run(path).epochs["test_acc"][-1] for path in paths[:2]])
        assert np.asarray(drawn["test"].get_ydata())[1] == pytest.approx(expected)

    def test_hyperparameters_are_told_where_one_optimizer_has_several(self, tmp_path: Path) -> None:
        adams = [record(tmp_path, optimizer="Adam", lr=0.001 * beta, opt_hpars={"beta1": beta}) for beta in (0.5, 0.9)]
        figure = compare_multiple_lr([*adams, record(tmp_path, lr=0.1)], save=False)
        assert [text.partition(", beta2")[0] for text in legend(figure)] == [
            "lr 0.0005, Adam, beta1 0.5",
            "lr 0.0009, Adam, beta1 0.9",
            "lr 0.1, SGD",
        ]

    def test_no_line_joins_two_optimizers(self, tmp_path: Path) -> None:
        rates = {"Adam": (0.001, 0.01), "SGD": (0.1, 0.5)}
        paths = [record(tmp_path, optimizer=name, lr=lr) for name, each in rates.items() for lr in each]
        final = compare_multiple_lr(paths, save=False).axes[2]
        drawn = [container[0].get_xdata().tolist() for container in final.containers if "test" in str(container.get_label())]
        assert drawn == [[0.001, 0.01], [0.1, 0.5]]
        named = final.get_legend()
        assert named is not None and [text.get_text() for text in named.get_texts()] == ["train", "test"]

    def test_numbers_have_an_axis_with_ticks_at_them(self, tmp_path: Path) -> None:
        paths = [record(tmp_path, batch_size=size) for size in (256, 32, 64)]
        final = compare_multiple_lr(paths, "BATCH_SIZE", save=False).axes[2]
        assert final.get_xscale() == "log" and final.get_xticks().tolist() == [32, 64, 256]

    def test_norms_are_called_by_their_names(self, tmp_path: Path) -> None:
        paths = [record(tmp_path, norm=norm, position="0,0,1") for norm in ("batch", "layer", "group:4")]
        figure = compare_multiple_lr(paths, "NORM", save=False)
        assert legend(figure) == ["norm batch", "norm group:4", "norm layer"]
        assert heading(figure).replace("\n", ", ").endswith(r"norm $\gamma\beta$, mask 0,0,1")

    def test_settings_of_an_optimizer_are_keys(self, tmp_path: Path) -> None:
        paths = [record(tmp_path, optimizer="Momentum", opt_hpars={"momentum": value}) for value in (0.5, 0.9)]
        assert legend(compare_multiple_lr(paths, "opt_hpars.momentum", save=False)) == ["momentum 0.5", "momentum 0.9"]

    def test_what_is_no_key(self, at: Find) -> None:
        with pytest.raises(RunError, match="by=OPTIMISER: no key that decides a result; did you mean OPTIMIZER"):
            compare_multiple_lr([at("0,0,1")], "OPTIMISER", save=False)
        with pytest.raises(RunError, match="by=POSITION: .* ablations compares masks"):
            compare_multiple_lr([at("0,0,1")], "POSITION", save=False)

    def test_two_variants_are_too_many(self, at: Find) -> None:
        with pytest.raises(RunError, match="one variant across learning rates"):
            compare_multiple_lr([at("0,0,1"), at("0,0,1", "fixed_bn")], save=False)

    def test_one_rate_with_two_batch_sizes_is_refused(self, tmp_path: Path) -> None:
        paths = [record(tmp_path / "a", batch_size=32), record(tmp_path / "b", batch_size=64)]
        with pytest.raises(RunError, match="BATCH_SIZE"):
            compare_multiple_lr(paths, save=False)


class TestMeans:
    def test_mean_and_band_over_channels(self, at: Find) -> None:
        modes = [at("0,0,1", mode) for mode in MODES]
        figure = paramMean_perLayer(at("0,0,0"), at("1,1,1"), modes, save=False)
        panels = np.array(figure.axes).reshape(3, 2)
        assert list(lines(panels[0, 0])) == ["full BN"]
        assert "vanilla" in lines(panels[0, 1])
        gamma = Run(modes[0]).gamma("dense1")
        line = lines(panels[2, 0])[r"BN $\gamma\beta$"]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), gamma.mean(axis=1, dtype=float))
        np.testing.assert_array_equal(line.get_xdata(), Run(modes[0]).snapshot_steps)
        edges = [edge for edge in panels[2, 0].get_lines() if edge.get_label() == r"_BN $\gamma\beta$, band"]
        for edge, share in zip(edges, (0.1, 0.9), strict=True):
            np.testing.assert_allclose(np.asarray(edge.get_ydata()), np.quantile(gamma, share, axis=1), rtol=1e-5)
        frozen = np.asarray(lines(panels[2, 0])["BN"].get_ydata())
        assert (frozen == 1).all()
        bias = np.asarray(lines(panels[0, 1])["vanilla"].get_ydata())
        np.testing.assert_allclose(bias, Run(at("0,0,0")).bias("conv1").mean(axis=1, dtype=float))

    def test_seeds_are_pooled(self, at: Find) -> None:
        seeds = [at("0,0,1", "trained_bn", seed) for seed in (1, 2)]
        figure = paramMean_perLayer(at("0,0,0"), at("1,1,1"), seeds, slots=["dense1"], save=False)
        pooled = np.concatenate([Run(path).beta("dense1") for path in seeds], axis=1)
        line = lines(figure.axes[1])[r"BN $\gamma\beta$ (2 seeds)"]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), pooled.mean(axis=1, dtype=float))

    def test_nothing_to_compare(self, at: Find) -> None:
        with pytest.raises(RunError, match="empty"):
            paramMean_perLayer(at("0,0,0"), at("1,1,1"), [], save=False)


class TestSurface:
    @pytest.mark.parametrize("parameter", ["gamma", "beta"])
    def test_the_heat_map_holds_the_trajectory_sorted_by_its_end(self, at: Find, parameter: str) -> None:
        run = Run(at("0,0,1"))
        figure = bn_params_3Dsurface(True, parameter, run.directory, save=False)
        flat = figure.axes[0]
        values = getattr(run, parameter)("dense1")
        image = np.asarray(flat.get_images()[0].get_array())
        assert image.shape[1] == len(run.snapshot_steps)
        assert image.max() == values.max() and image.min() == values.min()
        assert flat.get_images()[0].get_extent() == pytest.approx((0, 80, 0.5, 1024.5))
        assert np.all(np.diff(image[:, -1]) > -0.2)
        assert flat.get_images()[0].norm.vcenter == {"gamma": 1, "beta": 0}[parameter]  # type: ignore[attr-defined]

    def test_any_quantity_of_channels_is_drawn_over_its_own_steps(self, at: Find) -> None:
        run = Run(at("0,0,1"))
        figure = bn_params_3Dsurface(False, "running_var", run.directory, save=False)
        (image,) = figure.axes[0].get_images()
        assert image.get_extent() == pytest.approx((0, 80, 0.5, 1024.5))
        assert np.asarray(image.get_array()).shape[1] == len(run.epochs["step"])
        assert image.norm.vcenter == 1  # type: ignore[attr-defined]

    def test_unsorted_few_channels_are_drawn_as_recorded(self, at: Find) -> None:
        run = Run(at("1,1,1"))
        figure = bn_params_3Dsurface(False, "gamma", run.directory, slots=["conv1"], save=False)
        np.testing.assert_array_equal(np.asarray(figure.axes[0].get_images()[0].get_array()), run.gamma("conv1").T)

    @pytest.mark.parametrize(("problem", "mask", "slots"), [("digits_2c2d_bn", "0,0,1", 1), ("digits_2c2d_bn", "all", 3)])
    def test_each_slot_has_a_map_a_bar_and_a_surface(self, tmp_path: Path, problem: str, mask: str, slots: int) -> None:
        figure = bn_params_3Dsurface(True, "gamma", record(tmp_path, problem=problem, position=mask), save=False)
        assert sum(len(axes.get_images()) for axes in figure.axes) == slots
        assert sum(axes.name == "3d" for axes in figure.axes) == slots

    def test_a_spike_of_a_few_steps_stays_visible(self, tmp_path: Path) -> None:
        spike = Spike("gamma", "conv5", first=2345, rows=3, channel=77, value=-4.5)
        path = record(
            tmp_path,
            problem="cifar100_allcnnc_bn",
            position="0,0,0,0,1,0,0,0,0",
            epochs=100,
            steps_per_epoch=156,
            spikes=[spike],
        )
        figure = bn_params_3Dsurface(True, "gamma", path, save=False)
        image = np.asarray(figure.axes[0].get_images()[0].get_array())
        assert image.shape[1] < len(Run(path).snapshot_steps) / 4
        rows, columns = np.nonzero(image == np.float32(-4.5))
        assert len(set(rows.tolist())) == 1 and len(columns) <= 2
        assert pytest.approx(columns[0] / image.shape[1], abs=0.01) == 2345 / 3121
        deep = next(axes for axes in figure.axes if axes.name == "3d")
        assert deep.get_zlim()[0] < -4  # type: ignore[attr-defined]

    def test_a_frozen_parameter_is_said_to_be_fixed(self, at: Find) -> None:
        figure = bn_params_3Dsurface(True, "gamma", at("0,0,1", "fixed_gamma"), save=False)
        assert figure.axes[0].get_title() == "3: dense1 (fixed)"
        assert np.all(np.asarray(figure.axes[0].get_images()[0].get_array()) == 1)

    def test_one_snapshot_does_not_make_a_parameter_fixed(self, tmp_path: Path) -> None:
        path = record(tmp_path, recorded_epochs=0, status=Status.CUT_OFF)
        figure = bn_params_3Dsurface(True, "gamma", path, slots=["dense1"], save=False)
        assert figure.axes[0].get_title() == "3: dense1"

    def test_a_run_with_one_snapshot(self, tmp_path: Path) -> None:
        path = record(tmp_path, recorded_epochs=0, status=Status.CUT_OFF)
        figure = bn_params_3Dsurface(True, "beta", path, save=False)
        assert "interrupted, epoch 0 of 4" in heading(figure)

    def test_what_is_not_there(self, at: Find, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"0,0,0.*: has no gamma: it has BatchNorm in no slot \(mask 0,0,0\)"):
            bn_params_3Dsurface(True, "gamma", at("0,0,0"), save=False)
        with pytest.raises(RunError, match="has no bias"):
            bn_params_3Dsurface(True, "bias", at("1,1,1"), save=False)
        with pytest.raises(RunError, match="did you mean gamma"):
            bn_params_3Dsurface(True, "gama", at("1,1,1"), save=False)
        with pytest.raises(RunError, match="slots=conv1: no such slot here; valid: dense1"):
            bn_params_3Dsurface(True, "gamma", at("0,0,1"), slots=["conv1"], save=False)
        with pytest.raises(RunError, match="no snapshot yet"):
            bn_params_3Dsurface(True, "gamma", record(tmp_path, recorded_epochs=-1, status=Status.CUT_OFF), save=False)

    def test_a_trajectory_that_breaks_off_in_nan(self, tmp_path: Path) -> None:
        spike = Spike("beta", "conv1", first=10, rows=100, channel=3, value=np.nan)
        path = record(tmp_path, position="1,0,0", spikes=[spike], status=Status.DIVERGED)
        figure = bn_params_3Dsurface(True, "beta", path, save_dir=tmp_path)
        image = figure.axes[0].get_images()[0].get_array()
        assert isinstance(image, np.ma.MaskedArray)
        assert np.asarray(image.mask).sum() == len(Run(path).snapshot_steps) - 10


class TestCompareBetas:
    @pytest.mark.parametrize("function", [compare_3Dsurface_betas, compare_contour_betas])
    def test_four_columns_by_what_the_runs_are(self, at: Find, function: Callable[..., Figure]) -> None:
        four = [at("0,0,0"), at("1,1,1"), at("0,0,1"), at("0,0,1", "fixed_gamma")]
        figure = function(True, *four, save=False)
        titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
        assert titles[0] == "vanilla\nconv1, bias"
        assert titles[1] == "BN $\\gamma\\beta$\n111\nconv1, $\\beta$"
        assert titles[3] == "BN $\\beta$\n001\nconv1, bias"
        assert titles[-1] == "dense1, $\\beta$"
        assert len(titles) == 12

    def test_one_scale_per_slot(self, at: Find) -> None:
        four = [at("0,0,0"), at("1,1,1"), at("0,0,1"), at("0,0,1", "fixed_gamma")]
        figure = compare_3Dsurface_betas(False, *four, slots=["conv2"], save=False)
        deep = [axes for axes in figure.axes if axes.name == "3d"]
        assert len({axes.get_zlim() for axes in deep}) == 1  # type: ignore[attr-defined]
        assert len({axes.collections[0].norm.vmax for axes in deep}) == 1

    def test_contours_are_of_the_recorded_values(self, at: Find) -> None:
        four = [at("0,0,0"), at("1,1,1"), at("0,0,1"), at("0,0,1", "fixed_gamma")]
        figure = compare_contour_betas(False, *four, slots=["conv1"], save=False)
        beta = Run(at("1,1,1")).beta("conv1")
        drawn = figure.axes[1].collections[0]
        assert drawn.zmax == beta.max() and drawn.zmin == beta.min()  # type: ignore[attr-defined]

    def test_columns_of_different_lengths_share_the_axis(self, at: Find, tmp_path: Path) -> None:
        four = [at("0,0,0"), at("1,1,1"), at("0,0,1"), cut_off(tmp_path, position="0,0,1", ablation="fixed_gamma")]
        figure = compare_contour_betas(True, *four, slots=["dense1"], save=False)
        assert "interrupted, epoch 2 of 4" in figure.axes[3].get_title().replace("\n", " ")
        assert {axes.get_xlim() for axes in figure.axes[:4]} == {(0, 80)}

    def test_what_stands_twice_and_what_differs_is_said(self, at: Find, tmp_path: Path) -> None:
        other = record(tmp_path, position="1,1,1", lr=0.5)
        figure = compare_contour_betas(True, at("0,0,0"), at("1,1,1"), at("1,1,1"), other, slots=["dense1"], save=False)
        titles = [axes.get_title().replace("\n", " ") for axes in figure.axes[:4]]
        assert titles[1] == r"BN $\gamma\beta$ lr 0.1585 dense1, $\beta$"
        assert titles[2] == r"BN $\gamma\beta$ lr 0.1585 same run as column 2 dense1, $\beta$"
        assert titles[3] == r"BN $\gamma\beta$ lr 0.5 dense1, $\beta$"

    def test_runs_without_a_common_step(self, at: Find, tmp_path: Path) -> None:
        last_only = [
            record(tmp_path, position="0,0,1", ablation="fixed_gamma", log_every_steps=0, epochs=epochs) for epochs in (3, 4)
        ]
        with pytest.raises(RunError, match=f"{last_only[1].parent.parent.name}.*no common step"):
            compare_contour_betas(True, at("0,0,0"), at("1,1,1"), last_only[0], last_only[1], save=False)


def everything(at: Find) -> Iterator[Callable[..., Figure]]:
    modes = [at("0,0,1", mode) for mode in MODES]
    four = (at("0,0,0"), at("1,1,1"), modes[0], modes[2])
    yield lambda **look: performance_across_ablations([at("0,0,0"), *modes], **look)
    yield lambda **look: compare_ablation_performance([at("0,0,0"), at("1,0,0"), *modes], **look)
    yield lambda **look: compare_multiple_lr([at("0,0,1")], **look)
    yield lambda **look: paramMean_perLayer(at("0,0,0"), at("1,1,1"), modes, **look)
    yield lambda **look: bn_params_3Dsurface(True, "gamma", at("1,1,1"), **look)
    yield lambda **look: compare_3Dsurface_betas(True, *four, slots=["dense1"], **look)
    yield lambda **look: compare_contour_betas(True, *four, slots=["dense1"], **look)


def test_figures_are_saved_next_to_the_runs_as_png_and_pdf(output: Path, at: Find) -> None:
    for figure in (bn_params_3Dsurface(True, "gamma", at("0,0,1")), compare_multiple_lr([at("0,0,1")])):
        for suffix in ("png", "pdf"):
            assert (output / "plots" / f"{figure.get_label()}.{suffix}").stat().st_size > 5000
    assert len(list((output / "plots").iterdir())) == 4


def test_pixels_suffice_and_no_label_leaves_the_page(at: Find) -> None:
    for draw in everything(at):
        figure = draw(style="icml", save=False)
        figure.set_dpi(DPI)
        figure.draw_without_rendering()
        page = figure.bbox
        for axes in figure.axes:
            for image in axes.get_images():
                rows, columns = np.asarray(image.get_array()).shape
                assert columns <= axes.bbox.width and rows <= axes.bbox.height
            box = axes.get_tightbbox()
            assert box is not None
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, axes.get_title()


def test_a_line_under_another_shows_in_its_gaps(tmp_path: Path) -> None:
    """All variants of the same numbers: each line's colour is somewhere on the page, outside of the legend."""
    paths = [
        record(tmp_path, position=mask, ablation=mode) for mask, mode in (("000", MODES[0]), *(("001", mode) for mode in MODES))
    ]
    for path in paths[1:]:
        with h5py.File(path / "run.h5", "r+") as file, h5py.File(paths[0] / "run.h5") as first:
            file["epochs/test_acc"][...] = first["epochs/test_acc"][...]
    figure = compare_ablation_performance(paths, "test_acc", save=False)
    drawn = [line for line in figure.axes[0].get_lines() if not str(line.get_label()).startswith("_")]
    assert len({str(line.get_ydata()) for line in drawn}) == 1 and len(drawn) == 5
    figure.legends[0].remove()
    figure.set_dpi(200)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].reshape(-1, 3)  # type: ignore[attr-defined]
    for line in drawn:
        colour = np.round(255 * np.array(to_rgb(line.get_color())))
        assert (np.abs(pixels - colour).max(axis=1) <= 2).sum() > 20, line.get_label()


def test_saving_elsewhere_or_not_at_all(at: Find, tmp_path: Path) -> None:
    figure = performance_across_ablations([at("0,0,1")], save_dir=tmp_path / "here")
    assert sorted(path.suffix for path in (tmp_path / "here").iterdir()) == [".pdf", ".png"]
    assert isinstance(figure, Figure)
    performance_across_ablations([at("0,0,1")], save_dir=tmp_path / "there", save=False)
    assert not (tmp_path / "there").exists()


def test_a_place_that_cannot_be_written_is_named(at: Find, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"{tmp_path / 'file'}: the figure cannot be written"):
        performance_across_ablations([at("0,0,1")], save_dir=tmp_path / "file")


def test_a_damaged_file_and_a_newer_format_are_named(at: Find, tmp_path: Path) -> None:
    damaged, newer = tmp_path / "damaged", tmp_path / "newer"
    for folder in (damaged, newer):
        folder.mkdir()
        (folder / "run.h5").write_bytes((at("0,0,1") / "run.h5").read_bytes())
    (damaged / "run.h5").write_bytes(b"\0" * 2000)
    with h5py.File(newer / "run.h5", "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(RunError, match=f"{damaged}/run.h5: is damaged"):
        performance_across_ablations([damaged], save=False)
    with pytest.raises(RunError, match=f"{newer}/run.h5: has format version 99"):
        performance_across_ablations([newer], save=False)


def test_the_readmes_examples_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study: dict[str, object] = {"random_seed": 4842821, "lr": 0.16579130972807002, "epochs": 350, "recorded_epochs": 2}
    for mask, modes in (("0,0,0,0,0", MODES[:1]), ("0,0,1,1,1", MODES)):
        for mode in modes:
            record(tmp_path / "output", problem="cifar100_3c3d_bn", position=mask, ablation=mode, **study)
    for mode in ("trained_bn", "fixed_gamma"):
        record(tmp_path / "output", problem="cifar100_allcnnc_bn", position="1,0,0,0,0,0,0,0,0", ablation=mode, **study)
    monkeypatch.chdir(tmp_path)

    model_paths = [
        f"output/4842821__cifar100_3c3d_bn__{x}/Lr_0.16579130972807002/Ep_350/{y}"
        for x, y in zip(
            ["0,0,0,0,0", *["0,0,1,1,1"] * 4],
            ["trained_bn", "trained_bn", "fixed_bn", "fixed_gamma", "fixed_beta"],
            strict=True,
        )
    ]
    performance_across_ablations(model_paths, smooth_curve=False)
    for path in [
        "output/4842821__cifar100_allcnnc_bn__1,0,0,0,0,0,0,0,0/Lr_0.16579130972807002/Ep_350/trained_bn",
        "output/4842821__cifar100_allcnnc_bn__1,0,0,0,0,0,0,0,0/Lr_0.16579130972807002/Ep_350/fixed_gamma",
    ]:
        bn_params_3Dsurface(True, "gamma", path)
    assert len(list((tmp_path / "output" / "plots").iterdir())) == 6
