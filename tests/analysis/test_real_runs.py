"""Each figure and table on short runs that the runner made: what is drawn is what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchnorm.analysis.__main__ import main
from batchnorm.analysis.bn_plot_functions import (
    bn_params_3Dsurface,
    compare_3Dsurface_betas,
    compare_ablation_performance,
    compare_contour_betas,
    compare_multiple_lr,
    paramMean_perLayer,
    performance_across_ablations,
)
from batchnorm.analysis.summary import paired_difference, summary
from batchnorm.store import Run
from tests.analysis.conftest import MODES
from tests.analysis.test_bn_plot_functions import legend, lines


def run(trained: Path, mask: str, mode: str = "trained_bn", seed: int = 1) -> Path:
    (found,) = trained.glob(f"{seed}__fmnist_2c2d_bn__{mask}/*/*/{mode}__BATCH_SIZE=32")
    return found


@pytest.fixture
def modes(trained: Path) -> list[Path]:
    return [run(trained, "0,0,1", mode) for mode in MODES]


def test_performance(trained: Path, modes: list[Path]) -> None:
    figure = performance_across_ablations([run(trained, "0,0,0"), *modes], save=False)
    line = lines(figure.axes[3])[r"BN $\gamma$"]
    epochs = Run(run(trained, "0,0,1", "fixed_beta")).epochs
    np.testing.assert_array_equal(line.get_xdata(), epochs["step"])
    np.testing.assert_array_equal(line.get_ydata(), epochs["test_acc"])
    assert legend(figure) == ["vanilla", "BN", r"BN $\gamma$", r"BN $\beta$", r"BN $\gamma\beta$"]


def test_ablations(trained: Path) -> None:
    paths = [record.parent for record in trained.rglob("run.h5")]
    figure = compare_ablation_performance(paths, save=False)
    assert [axes.get_title() for axes in figure.axes] == ["mask 0,0,1"]
    drawn = lines(figure.axes[0])
    assert set(drawn) == {"vanilla", "BN", r"BN $\gamma$", r"BN $\beta$", r"BN $\gamma\beta$", "full BN"}
    seeds = [Run(run(trained, "0,0,1", "trained_bn", seed)).epochs["test_loss"] for seed in (1, 2)]
    np.testing.assert_allclose(np.asarray(drawn[r"BN $\gamma\beta$"].get_ydata()), np.mean(seeds, axis=0))


def test_rates(trained: Path) -> None:
    figure = compare_multiple_lr([run(trained, "0,0,1", "trained_bn", seed) for seed in (1, 2)], save=False)
    assert [text for text in legend(figure) if "2 seeds" in text]


def test_means(trained: Path, modes: list[Path]) -> None:
    figure = paramMean_perLayer(run(trained, "0,0,0"), run(trained, "1,1,1"), modes, save=False)
    panels = np.array(figure.axes).reshape(3, 2)
    beta = Run(modes[0]).beta("dense1").mean(axis=1, dtype=float)
    np.testing.assert_allclose(np.asarray(lines(panels[2, 1])[r"BN $\gamma\beta$"].get_ydata()), beta)
    for axes, frozen in ((panels[2, 0], r"BN $\beta$"), (panels[2, 1], r"BN $\gamma$")):
        assert len(set(np.asarray(lines(axes)[frozen].get_ydata()).tolist())) == 1


@pytest.mark.parametrize(("parameter", "mask"), [("gamma", "1,1,1"), ("beta", "0,0,1"), ("bias", "0,0,0")])
def test_surface(trained: Path, parameter: str, mask: str) -> None:
    path = run(trained, mask)
    figure = bn_params_3Dsurface(True, parameter, path, save=False)
    slots = Run(path).slots_with(parameter)
    images = [axes.get_images()[0] for axes in figure.axes if axes.get_images()]
    assert len(images) == len(slots)
    for image, slot in zip(images, slots, strict=True):
        values = getattr(Run(path), parameter)(slot)
        drawn = np.asarray(image.get_array())
        assert np.isin(drawn, values).all()
        if len(drawn) == values.shape[1]:
            ordered = values[:, np.argsort(values[-1], kind="stable")]
            assert all(snapshot.tolist() in drawn.T.tolist() for snapshot in ordered)


def test_betas(trained: Path, modes: list[Path]) -> None:
    four = [run(trained, "0,0,0"), run(trained, "1,1,1"), modes[0], run(trained, "0,0,1", "fixed_gamma")]
    for function in (compare_3Dsurface_betas, compare_contour_betas):
        figure = function(True, *four, slots=["dense1"], save=False)
        assert [axes.get_title().split("\n")[0] for axes in figure.axes[:4]] == [
            "vanilla",
            r"BN $\gamma\beta$",
            r"BN $\gamma\beta$",
            r"BN $\beta$",
        ]


def test_tables(trained: Path) -> None:
    table = summary(trained)
    assert len(table) == 6
    row = table[(table["mask"] == "0,0,1") & (table["mode"] == "trained_bn")].iloc[0]
    finals = [Run(run(trained, "0,0,1", "trained_bn", seed)).epochs["test_acc"][-1] for seed in (1, 2)]
    assert row["seeds"] == 2 and row["test_acc_final_mean"] == pytest.approx(np.mean(finals))
    assert set(paired_difference(trained)["n"]) == {1}


def test_the_shell(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(trained)]) == 0
    assert capsys.readouterr().out.count("finished  ") == 7
    assert main(["performance", str(trained), "--mask", "none", "001", "--seed", "1", "--save-dir", str(tmp_path)]) == 0
    assert len(list(tmp_path.iterdir())) == 2
