"""Small tables of HTML, as which objects show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def facts_table(title: str, facts: Iterable[tuple[str, object]]) -> str:
    """Return a table of two columns, what and which; all text is escaped."""
    rows = "".join(f"<tr><th style='text-align:left'>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts)
    return f"<table><caption>{_text(title)}</caption><tbody>{rows}</tbody></table>"


def rows_table(title: str, header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table of rows under their names; all text is escaped."""
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{_text(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: object) -> str:
    """Escape it; of a file's name, bytes that are no text become signs that are."""
    return escape(str(value).encode(errors="backslashreplace").decode())
