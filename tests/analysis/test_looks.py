from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
from matplotlib import font_manager

from batchnorm.analysis import looks
from batchnorm.errors import RunError
from batchnorm.store import Run
from tests.analysis.conftest import record


@pytest.mark.parametrize("style", ["neurips", "icml", "aistats", "neurips2023", "jmlr", "tmlr2023", "cvpr2024"])
def test_a_paper_format_gives_width_and_fonts_without_latex(style: str) -> None:
    with looks.page(style, None, False) as page:
        assert 3 < page.width < 7
        assert not matplotlib.rcParams["text.usetex"]
        assert set(matplotlib.rcParams["font.family"]) <= set(font_manager.get_font_names())
        assert matplotlib.rcParams["xtick.labelsize"] >= 6


def test_a_format_without_a_year_is_the_newest() -> None:
    formats = looks.formats()
    assert formats["icml"] == max(name for name in formats if name.startswith("icml2"))


def test_wide_figures_span_both_columns() -> None:
    with looks.page("icml", None, False, wide=True) as page:
        assert page.width > 6


def test_a_misspelt_format_is_named_with_the_right_one() -> None:
    with (
        pytest.raises(RunError, match="style=nerips: no such paper format; did you mean neurips"),
        looks.page("nerips", None, False),
    ):
        pass


def test_global_parameters_stay_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    with looks.page("icml", None, False):
        pass
    assert dict(matplotlib.rcParams) == before


def test_the_output_folder_is_where_the_run_lies_now(tmp_path: Path, at: Callable[..., Path], output: Path) -> None:
    assert looks.output_folder(Run(at("0,0,1"))) == output
    moved = tmp_path / "elsewhere"
    record(moved / "output")
    (moved / "output").rename(moved / "renamed")
    (run,) = (moved / "renamed").rglob("run.h5")
    assert looks.output_folder(Run(run)) == moved / "renamed"
    (moved / "alone").mkdir()
    run.rename(moved / "alone" / "run.h5")
    assert looks.output_folder(Run(moved / "alone")) == moved / "alone"


def test_files_of_different_settings_have_different_names(tmp_path: Path) -> None:
    settings: list[dict[str, object]] = [
        {},
        {"lr": 0.1},
        {"batch_size": 32},
        {"random_seed": 2},
        {"ablation": "fixed_bn"},
        {"position": "0,0,1"},
    ]
    runs = [Run(record(tmp_path / str(number), **keys)) for number, keys in enumerate(settings)]
    assert len({looks.file_name("figure", [run]) for run in runs}) == len(settings)


def test_axes_are_named_by_quantity_and_unit() -> None:
    assert looks.metric_label("test_loss") == "Test loss (nats)"
    assert looks.metric_label("valid_acc") == "Validation accuracy"
    assert looks.metric_label("train_loss", split=False) == "Loss (nats)"
    assert [looks.symbol(name) for name in ("gamma", "bias", "running_var")] == [r"$\gamma$", "bias", "running var"]
