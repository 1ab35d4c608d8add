"""The documents as the tests read them: their prose, their blocks of code, their links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"(?m)^(<!-- not run: [^\n]* -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    run: bool


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    return [Block(f[2], f[3], f[1] is None) for f in FENCE.finditer(page.read_text("utf-8"))]


def links(page: Path) -> list[str]:
    return LINK.findall(FENCE.sub("", page.read_text("utf-8")))


BLOCKS = (
    "rows", "table", "peers", "lengths", "goals", "student study", "data", "machines", "faithfulness", "reliability",
    "serving", "scaling", "predict", "exports", "int8", "threads", "cost", "fields",
)  # fmt: skip


def prose(page: Path) -> str:
    """What a person typed: no code, no tables and numbers that were filled in, no quotations, no addresses."""
    text = FENCE.sub("", page.read_text("utf-8"))
    text = re.sub(r"<!--= .*?<!--/-->", "", text, flags=re.DOTALL)
    text = re.sub(rf"(?s)<!-- ({'|'.join(BLOCKS)})\b.*?<!-- end -->", "", text)
    text = re.sub(r"(?s)<!--.*?-->", "", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"`[^`\n]*`", "", text)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    text = re.sub(r"[`*]", "", heading.strip().lower())
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))
