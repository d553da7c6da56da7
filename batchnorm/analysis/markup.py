"""Rows of text as Markdown and as LaTeX that a paper takes as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from batchnorm.analysis.streams import PLUS_MINUS
from batchnorm.modes import NORMS

Rows = Sequence[Sequence[str]]
_PACKAGES = r"% needs \usepackage{booktabs} in the preamble"
_LETTERS = {letter: f"\\{letter}" for letter in "&%#_{}$"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    PLUS_MINUS: r"$\pm$",
}
"""What LaTeX reads as its own, and what its usual fonts lack."""
_NUMBER = re.compile(r"(?<![\w.,-])-(?=\d)|(?<=\w )-(?= \d)")
_POWER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]?)0*(\d+)\b")


def as_markdown(rows: Rows) -> str:
    """Return rows, the header first, as a Markdown table."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in lines)


def as_latex(
    rows: Rows,
    *,
    alignment: str | None = None,
    caption: str | None = None,
    label: str = "",
    notes: Sequence[str] = (),
    commands: Sequence[Sequence[str]] = (),
) -> str:
    r"""Return rows, the header first, as a LaTeX table with booktabs.

    Args:
        rows: plain text; letters that LaTeX reads as its own are escaped, a number's hyphen becomes a minus.
        alignment: a letter for each column; all `l` by default.
        caption: plain text; makes it a float (`table`). Without one it is a `tabular` alone.
        label: of the float, for `\ref`; none where it is empty.
        notes: plain text, sentences below the table; of a float only.
        commands: for each row below the header and each column a command around its cell, as `\textbf`, or nothing.
    """
    cells = [[in_latex(cell) for cell in row] for row in rows]
    for row, wrapped in zip(cells[1:], commands, strict=False):
        row[:] = [f"{command}{{{cell}}}" if command else cell for cell, command in zip(row, wrapped, strict=True)]
    header, *body = [" & ".join(row) + r" \\" for row in cells]
    tabular = [
        rf"\begin{{tabular}}{{{alignment or 'l' * len(rows[0])}}}",
        *(r"\toprule", header, r"\midrule", *body, r"\bottomrule"),
        r"\end{tabular}",
    ]
    if caption is None:
        return "\n".join([_PACKAGES, *tabular, ""])
    parts = [r"\begin{table}", r"\centering", rf"\caption{{{in_latex(caption)}}}", r"\smallskip"]
    parts += [rf"\label{{{label}}}"] if label else []
    below = [rf"\par\smallskip\footnotesize {in_latex(' '.join(notes))}"] if notes else []
    return "\n".join([_PACKAGES, *parts, *tabular, *below, r"\end{table}", ""])


def in_latex(text: str) -> str:
    """Return plain text as LaTeX: a variant's title with Greek letters, everything else escaped."""
    if variant := _VARIANT.fullmatch(text):
        before, norm, letters, after = (part or "" for part in variant.groups())
        return _escaped(before + norm) + "".join(["$", *(f"\\{name}" for name in letters.split()), "$"]) + after
    return "--" if text == "-" else _escaped(text)


def _escaped(text: str) -> str:
    text = "".join(_LETTERS.get(letter, letter) for letter in text)
    text = _NUMBER.sub("$-$", text)  # before powers, whose minus stands in a formula
    return _POWER.sub(lambda found: rf"${found[1]} \times 10^{{{'-' * (found[2] == '-')}{found[3]}}}$", text)


_NORMS = "|".join(norm.short + (r"\(\d+\)" if norm.groups else "") for norm in NORMS.values())
_VARIANT = re.compile(rf"(.* )?(?:((?:{_NORMS}) )(?=gamma|beta)|(?=gamma beta))(gamma beta|gamma|beta)( alone| and head)?")
"""A variant's title, behind its mask: what a paper writes with Greek letters."""
