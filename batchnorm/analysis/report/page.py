"""One HTML file from a manifest and blobs: styles and scripts stand in it, and nothing else may run or be fetched."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

_OWN = (
    "dom",
    "numbers",
    "data",
    "colours",
    "ink",
    "save",
    "state",
    "overview",
    "effects",
    "runs",
    "curves",
    "parameters",
    "pairs",
    "main",
)
SCRIPTS = ("language.js", "vendor/uPlot.iife.min.js", *(f"{name}.js" for name in _OWN))
"""In the order in which they run."""
STYLES = ("vendor/uPlot.min.css", "page.css")
_TEMPLATE = "page.html"
_CHARSET = '<meta charset="utf-8">'
_MARKS = (_CHARSET, "<title>Report</title>", "<!--style-->", "<!--data-->", "<!--scripts-->")
"""What stands in the template for what is put there, in this order."""


def page(manifest: Mapping[str, Any], blobs: Mapping[str, str]) -> list[bytes]:
    """Return the page in pieces.

    Texts of the manifest are data: its JSON has no letter that ends a script. The Content-Security-Policy lets run what
    stands in this page alone, by its hash, and lets nothing be fetched.

    Args:
        manifest: see manifest.d.ts.
        blobs: base64 by name.
    """
    styles, scripts = ([_asset(name) for name in names] for names in (STYLES, SCRIPTS))
    beside = [text.encode() for text in _parts(_asset(_TEMPLATE))]
    title = html.escape(str(manifest["title"])).encode("utf-8", "replace")
    data = [f'<script type="application/json" id="manifest">{inert_json(manifest)}</script>\n'.encode()]
    data += [f'<script type="text/plain" id="{name}">{blob}</script>\n'.encode() for name, blob in blobs.items()]
    put = [
        f"{_CHARSET}\n{_policy(styles, scripts)}".encode(),
        b"<title>" + title + b"</title>",
        "\n".join(f"<style>{text}</style>" for text in styles).encode(),
        b"".join(data),
        "\n".join(f"<script>{text}</script>" for text in scripts).encode(),
        b"",
    ]
    return [piece for pair in zip(beside, put, strict=True) for piece in pair]


def inert_json(value: Any) -> str:
    r"""Write JSON that a script element holds as it is: ASCII, `<`, `>` and `&` as `\u003c` and so on.

    >>> inert_json({"host": "</script>"})
    '{"host":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _parts(template: str) -> list[str]:
    """Cut the template at its marks, each of which stands in it once."""
    parts = []
    for mark in _MARKS:
        before, found, template = template.partition(mark)
        assert found and mark not in template, f"{_TEMPLATE} needs {mark} once, in the order {_MARKS}"
        parts.append(before)
    return [*parts, template]


def _policy(styles: list[str], scripts: list[str]) -> str:
    sources = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": " ".join(map(_hash, styles)),
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    policy = "; ".join(f"{name} {value}" for name, value in sources.items())
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
