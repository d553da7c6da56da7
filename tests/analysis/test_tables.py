from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
from pathlib import Path

import h5py
import pandas as pd
import pytest

from batchnorm.analysis.cells import columns_of
from batchnorm.analysis.summary import paired_difference, summary
from batchnorm.analysis.tables import export, render
from batchnorm.errors import RunError
from tests.analysis.conftest import record


def assert_latex_adds_up(text: str) -> None:
    """Check that braces, environments and rows of cells are whole."""
    bare = re.sub(r"%.*", "", text.replace(r"\%", ""))
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", bare):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        opened.append(name) if kind == "begin" else None
        assert kind == "begin" or opened.pop() == name
    assert opened == []
    (alignment,) = re.findall(r"\\begin\{tabular\}\{([lcr]+)\}", bare)
    rows = [line for line in bare.splitlines() if line.endswith("\\\\")]
    assert rows and all(len(re.findall(r"(?<!\\)&", row)) + 1 == len(alignment) for row in rows)
    assert not re.findall(r"(?<!\\)[#_]", re.sub(r"\\label\{.*?\}", "", bare))
    assert len(re.findall(r"(?<!\\)\$", bare)) % 2 == 0


def test_csv_holds_all_digits(output: Path, tmp_path: Path) -> None:
    table = summary(output)
    export(table, tmp_path / "new" / "table.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "table.csv"), table)


def test_markdown_and_latex_print_as_papers_do(tmp_path: Path) -> None:
    record(tmp_path / "runs", random_seed=1)
    record(tmp_path / "runs", random_seed=2)
    table = summary(tmp_path / "runs")
    table[["test_acc_final_mean", "test_acc_final_std"]] = 0.91234, 0.00321
    export(table, tmp_path / "table.md")
    export(table, tmp_path / "table.tex")
    header, rule, row = (tmp_path / "table.md").read_text().splitlines()
    assert header.startswith("| problem | mask | mode | variant |") and rule.count("---") == row.count("|") - 1
    assert "| 91.23 ± 0.32 |" in row
    latex = (tmp_path / "table.tex").read_text().splitlines()
    assert latex[0] == r"% needs \usepackage{booktabs} in the preamble"
    header, row = latex[latex.index(r"\toprule") + 1], latex[latex.index(r"\midrule") + 1]
    assert r"final test accuracy (\%)" in header
    assert r"digits\_2c2d\_bn" in row and r"BN $\gamma\beta$" in row and r"91.23 $\pm$ 0.32" in row
    assert latex.count(r"\label{tab:table}") == 1
    assert_latex_adds_up("\n".join(latex))


def test_a_paired_table_is_printed_too(output: Path) -> None:
    text = render(paired_difference(output), "text")
    assert "95 % interval" in text.splitlines()[0]
    assert len(io.StringIO(text).readlines()) == 10


def test_a_table_that_cannot_be_written(output: Path, tmp_path: Path) -> None:
    table = summary(output)
    with pytest.raises(RunError, match=r"table.xls: a table is written as .csv, .md, .tex"):
        export(table, tmp_path / "table.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        export(table, tmp_path / "file" / "table.csv")


def test_equal_seeds_have_no_deviation(tmp_path: Path) -> None:
    runs = [record(tmp_path, random_seed=seed) for seed in (1, 2, 3)]
    for path in runs:
        with h5py.File(path / "run.h5", "r+") as file:
            file["epochs/test_acc"][1:] = 0.1
            file["epochs/train_loss"][1:] = 2.302585
    table = summary(tmp_path)
    assert table["test_acc_final_mean"].item() == table["test_acc_best_mean"].item() == 0.1
    assert table["test_acc_final_std"].item() == table["train_loss_final_std"].item() == 0
    for form, sign in (("text", "±"), ("markdown", "±"), ("latex", r"$\pm$")):
        text = render(table, form)
        assert f"10.00 {sign} 0.00" in text and f"2.30259 {sign} 0.00000" in text
        assert not re.search(r"\d\.\d{6,}", text)
    record(tmp_path, ablation="fixed_bn", random_seed=1), record(tmp_path, ablation="fixed_bn", random_seed=2)
    for path in tmp_path.rglob("fixed_bn/run.h5"):
        with h5py.File(path, "r+") as file:
            file["epochs/test_acc"][1:] = 0.1 + 1e-17
    paired = render(paired_difference(tmp_path, "trained_bn"), "text").splitlines()[1]
    assert paired.split()[-4:] == ["0.00", "0.00", "to", "0.00"]


@pytest.mark.parametrize(
    ("measure", "mean", "deviation", "shown"),
    [
        ("test_acc_final", 0.91234, 0.00321, "91.23 ± 0.32"),
        ("test_acc_final", 0.91234, 0.0321, "91.2 ± 3.2"),
        ("test_acc_final", 0.5, 0.25, "50 ± 25"),
        ("test_acc_final", 0.91234, 0.0000321, "91.23 ± 0.00"),  # one image of 10,000 is 0.01 %
        ("test_acc_last10", 0.912346, 0.0000321, "91.235 ± 0.003"),
        ("test_acc_final", 1.0, 0.0, "100.00 ± 0.00"),
        ("test_acc_final", 0.91234, math.nan, "91.23"),
        ("train_loss_final", 0.0123456789, 1e-9, "0.0123457 ± 0.0000000"),  # a float32 holds no more
        ("train_loss_final", 1.2e-5, 2.5e-6, "0.0000120 ± 0.0000025"),
        ("train_loss_final", 0.0, 0.0, "0.00000 ± 0.00000"),
        ("seconds", 12345.678, 0.001, "12345.7 ± 0.0"),
        ("seconds", 12345.678, math.nan, "12346"),
    ],
)
def test_digits_follow_the_deviation_and_end_at_what_is_measured(
    tmp_path: Path, measure: str, mean: float, deviation: float, shown: str
) -> None:
    record(tmp_path)
    table = summary(tmp_path)
    table[[f"{measure}_mean", f"{measure}_std"]] = mean, deviation
    row = render(table, "markdown").splitlines()[2]
    assert f"| {shown} |" in row


def test_a_difference_has_the_digits_of_its_interval(tmp_path: Path) -> None:
    for mode, values in (("trained_bn", (0.9, 0.9, 0.9)), ("fixed_bn", (0.8, 0.81, 0.82)), ("fixed_beta", (0.7,))):
        for seed, value in enumerate(values):
            path = record(tmp_path, ablation=mode, random_seed=seed)
            with h5py.File(path / "run.h5", "r+") as file:
                file["epochs/test_acc"][-1] = value
    rows = render(paired_difference(tmp_path), "markdown").splitlines()[2:]
    assert "| -9.0 | -11.5 to -6.5 |" in rows[0]  # 9 +- 4.30 * 1 / sqrt(3)
    assert "| -20.0 | - | one seed: no interval |" in rows[1]  # as many as the other rows have


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return runs with a rate for each variant: vanilla 0.1, two modes 0.03; three seeds."""
    for seed in range(3):
        for mode, value in (("vanilla", 0.85), ("trained_bn", 0.9), ("fixed_gamma", 0.8999)):
            keys = {"position": "none", "lr": 0.1} if mode == "vanilla" else {"ablation": mode, "lr": 0.03}
            path = record(tmp_path / "study", random_seed=seed, **keys)
            with h5py.File(path / "run.h5", "r+") as file:
                file["epochs/test_acc"][-1] = value + 0.002 * (seed * len(mode) % 3)
    return tmp_path / "study"


def test_columns_are_chosen_and_ordered(study: Path) -> None:
    table = summary(study, mark_best=True)
    names = ["Test_acc_final", "variant", "seeds"]
    lines = render(table, "markdown", columns=names).splitlines()
    assert lines[0] == "| final test accuracy (%) | variant | seeds |"
    assert [line.split(" | ")[1] for line in lines[2:5]] == ["vanilla", "1,1,1 BN beta", "1,1,1 BN gamma beta"]
    raw = pd.read_csv(io.StringIO(render(table, "csv", columns=names)))
    assert list(raw) == ["test_acc_final_mean", "test_acc_final_std", "test_acc_final_vs_best", "variant", "seeds"]
    with pytest.raises(RunError, match="columns=test_acc: no such column; did you mean test_acc_"):
        render(table, "text", columns=["test_acc"])
    paired = paired_difference(study, "vanilla")
    assert render(paired, "csv", columns=["interval", "n"]).startswith("low,high,n\n")


def test_latex_lifts_what_is_the_same_into_the_caption_and_says_the_count(study: Path) -> None:
    latex = render(summary(study, measures=["test_acc_final"]), "latex", label="tab:x")
    assert_latex_adds_up(latex)
    (caption,) = re.findall(r"\\caption\{(.*)\}", latex)
    assert caption.startswith(r"Problem: digits\_2c2d\_bn, optimizer: SGD, epochs: 4, diverged: 0, unfinished: 0. ")
    assert caption.endswith(r"Mean $\pm$ standard deviation over 3 seeds.")
    header = latex.splitlines()[latex.splitlines().index(r"\toprule") + 1]
    assert header == r"mask & mode & variant & lr & final test accuracy (\%) \\"
    assert "problem &" in render(summary(study), "latex", whole=True)
    record(study, random_seed=9, lr=0.03)
    assert "over 3 to 4 seeds" in render(summary(study), "latex", columns=["variant", "test_acc_final"])


def test_latex_has_a_real_minus_and_escapes_names(study: Path) -> None:
    latex = render(paired_difference(study, "111 trained_bn"), "latex")
    assert_latex_adds_up(latex)
    assert re.search(r"& \$-\$\d+\.\d+ & \$-\$\d+\.\d+ to \$-\$\d+\.\d+ ", latex) and "& -" not in latex
    assert "over 3 pairs of runs with one seed" in latex
    table = summary(study)
    table["problem"] = ["a_b&c", "50%#{x}", r"~^\$"]
    table["lr"] = [1e-05, 0.1, 0.2]
    latex = render(table, "latex")
    assert_latex_adds_up(latex)
    assert r"a\_b\&c" in latex and r"50\%\#\{x\}" in latex and r"\textasciitilde{}\textasciicircum{}\textbackslash{}\$" in latex
    assert r"$1 \times 10^{-5}$" in latex


def test_the_best_is_marked_in_each_form(study: Path) -> None:
    table = summary(study, measures=["test_acc_final"], mark_best=True)
    assert dict(zip(table["mode"], table["test_acc_final_vs_best"], strict=True)) == {
        "vanilla": "not tested", "fixed_gamma": "not different", "trained_bn": "best",
    }  # fmt: skip  # vanilla is 5 points below in each seed
    columns = ["variant", "test_acc_final"]
    text = render(table, "text", columns=columns)
    assert re.search(r"BN beta .* ~\n", text) and re.search(r"BN gamma beta .* \*\n", text)
    assert "paired t test over common seeds" in text and "Holm" in text
    markdown = render(table, "markdown", columns=columns)
    assert re.search(r"\| \*\*9\S+ ± \S+\*\* \|", markdown) and re.search(r"\| \*\d\S+ ± \S+\* \|", markdown)
    latex = render(table, "latex", columns=columns)
    assert_latex_adds_up(latex)
    assert latex.count(r"\textbf{") == latex.count(r"\underline{") == 1
    one = table.assign(test_acc_final_vs_best=["best", "not tested", "not tested"])
    assert "Nothing is tested" in render(one, "latex", columns=columns)


def test_decimals_are_equal_down_a_column(study: Path) -> None:
    table = summary(study, measures=["test_acc_final"])
    table["test_acc_final_std"] = [0.0312, 0.00312, 0.00212]
    cells = [line.split(" | ")[-1] for line in render(table, "markdown").splitlines()[2:]]
    assert [len(number) for cell in cells for number in re.findall(r"(?<=\.)\d+", cell)] == [2] * 6


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex and booktabs")
def test_latex_compiles(study: Path, tmp_path: Path) -> None:
    if subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode:
        pytest.skip("needs booktabs")
    export(summary(study, mark_best=True), tmp_path / "best.tex", columns=["problem", "variant", "lr", "test_acc_final"])
    export(paired_difference(study, "vanilla"), tmp_path / "paired.tex")
    inputs = r"\input{best.tex}\input{paired.tex}"
    (tmp_path / "paper.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{inputs}\end{{document}}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_another_norm_has_a_column_and_its_name(tmp_path: Path) -> None:
    for norm, mode in (("layer", "fixed_gamma"), ("group:4", "trained_bn")):
        record(tmp_path, norm=norm, position="1,1,0", ablation=mode, **({"beta_init": 0.5} if norm == "layer" else {}))
    record(tmp_path, position="none")
    table = summary(tmp_path)
    assert sorted(table["norm"].fillna("")) == ["", "group:4", "layer"]  # vanilla has none
    columns = ["variant", "norm", "beta_init", "test_acc_final"]
    text = render(table, "text", columns=columns)
    assert "1,1,0 LN beta" in text and "1,1,0 GN(4) gamma beta" in text
    assert not {"nan", "None"} & set(text.split())
    latex = render(table, "latex", columns=columns)
    assert r"1,1,0 LN $\beta$" in latex and r"1,1,0 GN(4) $\gamma\beta$" in latex
    assert "norm" not in summary(tmp_path / "1__digits_2c2d_bn__0,0,0")


def test_a_paired_table_names_its_reference_and_marks_what_differs(study: Path) -> None:
    table = paired_difference(study, "vanilla", mark_different=True)
    table["vs_reference"] = ["differs", *["not different"] * (len(table) - 1)]
    latex = render(table, "latex", columns=["variant", "difference", "p"])
    (caption,) = re.findall(r"\\caption\{(.*)\}", latex)
    assert caption.startswith(r"Difference from vanilla in final test accuracy (\%): mean over 3 pairs")
    assert latex.count(r"\textbf{") == 1 and r"\underline" not in latex
    assert "Bold: differs from the reference at level 0.05" in latex and r"n $-$ 1 degrees" in latex
    text = render(table, "text", columns=["variant", "difference"])
    assert text.count(" *\n") == 1 and " ~" not in text
    assert [column.name for column in columns_of(table)][-3:-1] == ["interval", "p"]
    one = paired_difference(study, "111 trained_bn")
    assert "Difference from 1,1,1 BN gamma beta in" in render(one, "latex", columns=["variant", "difference"])
