"""The page: one HTML file with everything inside, that opens offline."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from longread.report.figures import GRID, INK, MUTED, PAPER
from longread.report.markdown import READING
from longread.report.mechanisms import LISTED, LOOKS, color_of

if TYPE_CHECKING:
    from longread.report.document import Report
    from longread.report.figures import Picture

HERE = Path(__file__).parent
# colours of the drawings that follow the reader's light or dark setting
THEMED = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}


def page(report: Report) -> str:
    """The HTML text. Autoescape is on: a text from a record can never become markup."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              finalize=unbroken)  # fmt: skip
    environment.filters["inline"] = lambda picture: Markup(inline(picture))
    environment.filters["color"] = lambda name: f"var(--c-{name})" if name in LISTED else color_of(name)
    environment.filters["codes"] = codes
    maps = {p.name: p.data for p in report.pictures if p.data is not None}
    return environment.from_string(read("template.html.j2")).render(
        report=report,
        reading=READING.format(command=report.command),
        style=Markup(read("style.css")),
        script=Markup(read("page.js")),
        script_hash=base64.b64encode(hashlib.sha256(f"\n{read('page.js')}\n".encode()).digest()).decode(),
        # "<" as an escape, so that no token of a text can close the script element
        maps=Markup(json.dumps(maps, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")),
    )


def unbroken(value: object) -> object:
    """No line break between a number and its percent sign."""
    text = isinstance(value, str) and not hasattr(value, "__html__")  # the script's hash is of what it is
    return str(value).replace(" %", "\u00a0%") if text else value


@cache
def read(name: str) -> str:
    return (HERE / name).read_text("utf-8")


def inline(picture: Picture) -> str:
    """The drawing for a page: its fixed size goes (the page scales it), its colours follow the theme."""
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", picture.svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    for color, variable in THEMED.items():
        svg = svg.replace(color, variable)
    for name in LISTED:
        svg = svg.replace(LOOKS[name].color, f"var(--c-{name})")
    return svg


def codes(text: str) -> object:
    """`text` in backquotes as <code>; everything else escaped."""
    from markupsafe import Markup, escape

    parts = re.split(r"`([^`]*)`", text)
    return Markup("").join(Markup("<code>%s</code>") % part if i % 2 else escape(part) for i, part in enumerate(parts))
