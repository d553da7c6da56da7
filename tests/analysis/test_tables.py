from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from batchnorm.analysis.summary import paired_difference, summary
from batchnorm.analysis.tables import export, render
from batchnorm.errors import RunError
from tests.analysis.conftest import record


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
    assert latex[1] == r"\toprule" and r"final test accuracy (\%)" in latex[2]
    assert r"digits\_2c2d\_bn" in latex[4] and r"BN $\gamma\beta$" in latex[4] and r"91.23 $\pm$ 0.32" in latex[4]
    assert latex[0].count("l") - 1 == latex[2].count("&") + 1 == latex[4].count("&") + 1


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
