from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image as plt_image
import matplotlib.style
import pytest
from matplotlib import font_manager

from batchnorm.analysis import looks
from batchnorm.analysis.bn_plot_functions import bn_params_3Dsurface, performance_across_ablations
from batchnorm.analysis.runs import output_folder
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
    assert output_folder(Run(at("0,0,1"))) == output
    moved = tmp_path / "elsewhere"
    record(moved / "output")
    (moved / "output").rename(moved / "renamed")
    (run,) = (moved / "renamed").rglob("run.h5")
    assert output_folder(Run(run)) == moved / "renamed"
    (moved / "alone").mkdir()
    run.rename(moved / "alone" / "run.h5")
    assert output_folder(Run(moved / "alone")) == moved / "alone"


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


HOUSE_STYLES: dict[str, Any] = {
    "axes.formatter.use_locale": True,
    "axes.unicode_minus": False,
    "font.family": "monospace",
    "font.size": 20,
    "lines.linewidth": 6,
    "mathtext.fontset": "cm",
    "savefig.bbox": "tight",
    "savefig.dpi": 50,
    "savefig.pad_inches": 1.0,
    "savefig.transparent": True,
    "text.color": "red",
}


def pictures(at: Callable[..., Path], folder: Path) -> dict[str, bytes]:
    """Draw a figure of panels and one of surfaces; return all files, what notebooks show, and what is saved later."""
    drawn = [
        performance_across_ablations([at("0,0,0"), at("0,0,1")], save_dir=folder),
        bn_params_3Dsurface(True, "gamma", at("1,1,1"), slots=["conv1"], style="icml", save_dir=folder),
    ]
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    for number, figure in enumerate(drawn):
        figure.savefig(folder / "later.png")
        found[f"later {number}"] = (folder / "later.png").read_bytes()
        found[f"notebook {number}"] = figure._repr_png_()  # type: ignore[attr-defined]
    return found


def test_the_users_style_has_no_say(at: Callable[..., Path], tmp_path: Path) -> None:
    plain = pictures(at, tmp_path / "plain")
    with matplotlib.style.context(["dark_background", HOUSE_STYLES]):
        assert pictures(at, tmp_path / "dark") == plain


def test_the_papers_width_stays_under_a_matplotlibrc(at: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("savefig.bbox: tight\nsavefig.facecolor: black\n")
    script = "import sys; from batchnorm.analysis.bn_plot_functions import performance_across_ablations as draw\n"
    script += "draw(sys.argv[1:], style='icml', save_dir='.').savefig('later.png')"
    command = [sys.executable, "-c", script, str(at("0,0,0"))]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    with looks.page("icml", None, False) as page:
        width = page.width
    for path in tmp_path.glob("*.png"):
        picture = plt_image.imread(path)
        assert picture.shape[1] == int(width * looks.DPI)
        assert (picture[0, 0] == 1).all()


def test_what_is_given_while_saving_counts(at: Callable[..., Path], tmp_path: Path) -> None:
    figure = performance_across_ablations([at("0,0,0")], save=False)
    figure.savefig(tmp_path / "red.png", facecolor="red", dpi=50)
    picture = plt_image.imread(tmp_path / "red.png")
    assert picture[0, 0].tolist() == [1, 0, 0, 1] and picture.shape[1] == int(50 * figure.get_size_inches()[0])


def test_a_notebook_shows_each_figure_without_pyplot(at: Callable[..., Path]) -> None:
    script = "import sys; from batchnorm.analysis.bn_plot_functions import compare_multiple_lr as draw\n"
    script += "shown = draw(sys.argv[1:], save=False)._repr_png_()\n"
    script += "print(shown[1:4], 'matplotlib.pyplot' in sys.modules)"
    command = [sys.executable, "-c", script, str(at("0,0,0"))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "b'PNG' False\n"


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_another_style_and_other_formats_are_other_files(at: Callable[..., Path], tmp_path: Path) -> None:
    for style in (None, "neurips"):
        performance_across_ablations([at("0,0,0")], style=style, formats=["svg"], save_dir=tmp_path)
    usual, neurips = saved(tmp_path)
    assert usual.endswith("__seed1.svg") and neurips == usual.replace(".svg", "__neurips.svg")
    drawn = (tmp_path / usual).read_bytes()
    performance_across_ablations([at("0,0,0")], formats=["svg"], save_dir=tmp_path)
    assert (tmp_path / usual).read_bytes() == drawn
    with pytest.raises(RunError, match=r"formats=jpg: no such format; .*alid: png, pdf, svg"):
        performance_across_ablations([at("0,0,0")], formats=["png", "jpg"], save_dir=tmp_path)


def test_a_title_of_ones_own_or_none() -> None:
    with looks.page("icml", title="Where BatchNorm is needed, and where it does no harm at all in the end", save=False) as page:
        figure = page.figure(height=2)
        assert page.title(figure, ["what", "the runs are"]) == 2
        assert figure.get_suptitle().split() == page.heading.split()  # type: ignore[union-attr]
    with looks.page(title="", save=False) as page:
        figure = page.figure(height=2)
        assert page.title(figure, ["what", "the runs are"]) == 0
        assert figure.get_suptitle() == ""
        assert page.sheet(["what"]).top < page.figure(height=2).bbox.height / 100
    with looks.page(title=r"$\nonsense$", save=False) as page, pytest.raises(RunError, match="a formula that cannot be read"):
        page.title(page.figure(height=2), [])


def test_a_part_that_is_longer_than_a_line_is_broken() -> None:
    with looks.page("icml", save=False) as page:
        figure = page.figure(height=2)
        lines = looks.lines_of(figure, ["a_network_with_a_name_that_does_not_go_into_a_line_of_a_column", "SGD"], between=", ")
        assert len(lines) == 2 and lines[0].endswith("_") and lines[1].endswith(", SGD")
        assert "".join(looks.lines_of(figure, ["x" * 200], between=", ")) == "x" * 200
        formula = "$" + r"\gamma" * 9 + "$"
        assert looks.lines_of(figure, [f"{formula} {formula}"], between="", room=0.2) == [formula, formula]


def test_a_long_list_of_modes_goes_into_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 slots, a mode each."""
    runs = [Run(record(tmp_path, random_seed=seed)) for seed in (1, 2)]
    monkeypatch.setattr(Run, "mode", ",".join(["trained_bn", "fixed_gamma"] * 10))
    names = [looks.file_name("figure", [run]) for run in runs]
    assert all(len(f"{name}.png") < 255 for name in names) and len(set(names)) == 2


def test_one_formula_wider_than_the_page_stays_whole() -> None:
    title = "$" + "+".join([r"\gamma_{i}"] * 60) + "$"
    with looks.page("icml", None, False) as page:
        assert looks.lines_of(page.figure(height=2), [title], between=", ", size="axes.titlesize") == [title]
