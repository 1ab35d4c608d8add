"""Builds the site: `make docs`, or `python docs/build.py` where requirements-docs.txt is installed.

The pages lie where GitHub shows them (README.md, docs/, results/STUDY/report.md). They are copied as they lie into
out/site-source, so that their links hold on the site too; links to files that are no pages (source code, notebooks)
become plain text there. `python docs/build.py reference` writes what is made from the source alone:
docs/reference/cli.md, from `--help`, and the fields in docs/reference/records.md, from dataclasses and their comments.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "out" / "site-source"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
REFERENCE = ROOT / "docs" / "reference" / "cli.md"
# What a type of a record is in its JSON.
AS_JSON = {
    "str": "text", "int": "whole number", "float": "number", "bool": "true or false", "tuple": "list",
    "Mapping": "object", "Kind": "text", "Status": "text", "ProblemType": "text", "Literal": "text",
    "SplitRecord": "object, below",
}  # fmt: skip
RECORDS = ROOT / "docs" / "reference" / "records.md"
FIELDS = re.compile(r"(<!-- fields: (\w+) -->\n).*?<!-- end -->", re.DOTALL)
HEAD = """# Command line

Made from `--help` by `python docs/build.py reference`. Exit status: 0 done; 2 the input is wrong (one line says what
would be right); 130 interrupted; 1 anything else, a grid in which a run failed among it.
"""


def pages() -> list[Path]:
    """Every page of the site, and what it shows."""
    found = [ROOT / name for name in PAGES if (ROOT / name).exists()]
    found += [p for p in (ROOT / "docs").rglob("*") if p.suffix in (".md", ".svg", ".css")]
    return found + sorted(ROOT.glob("results/*/report.md"))


def copied(page: Path, known: set[Path]) -> str:
    """The page with links to what is no page as plain text."""

    def link(found: re.Match[str]) -> str:
        if found[2].startswith(("http:", "https:", "mailto:")) or (page.parent / found[2]).resolve() in known:
            return found[0]
        return found[1]

    text = LINK.sub(link, page.read_text("utf-8"))
    if page.name == "report.md":  # its figures are made by `longread report`, not kept
        text = re.sub(r"(?m)^!\[[^\n]*\]\(figures/[^\n]*\n\n\*[^\n]*\*\n", "", text)
    return text


def stage() -> None:
    shutil.rmtree(SOURCE, ignore_errors=True)
    found = pages()
    known = {page.resolve() for page in found}
    for page in found:
        place = SOURCE / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if page.suffix == ".md":
            place.write_text(copied(page, known), "utf-8")
        else:
            shutil.copyfile(page, place)


def reference() -> str:
    """docs/reference/cli.md: what each command prints for --help."""
    sys.path.insert(0, str(ROOT / "src"))
    from longread.cli.main import COMMANDS

    parts = [HEAD]
    for name in sorted(COMMANDS):
        environment = os.environ | {"COLUMNS": "84", "NO_COLOR": "1", "PYTHONPATH": str(ROOT / "src"), "TERM": "dumb"}
        command = [sys.executable, "-m", "longread", name, "--help"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def records() -> str:
    """docs/reference/records.md with its tables of fields made anew."""
    return FIELDS.sub(lambda found: f"{found[1]}\n{fields_of(found[2])}\n\n<!-- end -->", RECORDS.read_text("utf-8"))


def fields_of(name: str) -> str:
    """A table of a dataclass of records/record.py: field, type, and the comment behind it."""
    source = (ROOT / "src" / "longread" / "records" / "record.py").read_text("utf-8")
    (found,) = (n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name)
    rows = ["| Field | In JSON | What it says |", "| --- | --- | --- |"]
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            _, _, comment = source.splitlines()[node.lineno - 1].partition("  # ")
            kind = ast.unparse(node.annotation).removesuffix(" | None")
            word = AS_JSON.get(kind) or AS_JSON.get(kind.split("[")[0]) or f"{kind.lower()}, below"
            rows.append(f"| `{node.target.id}` | {word} | {comment.replace('[', chr(92) + '[')} |")
    return "\n".join(rows)


def main() -> None:
    if sys.argv[1:] == ["reference"]:
        REFERENCE.write_text(reference(), "utf-8")
        RECORDS.write_text(records(), "utf-8")
        return
    stage()
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean"], cwd=ROOT, check=True)
    size = sum(path.stat().st_size for path in (ROOT / "out" / "site").rglob("*") if path.is_file())
    print(f"out/site/index.html, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
