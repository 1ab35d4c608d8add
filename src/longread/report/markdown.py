"""The report as Markdown and its main table as plain text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from longread.report.cells import Column, Row, Table
from longread.report.document import Block, Report, Section


def markdown(report: Report) -> str:
    parts = [f"# {plain(report.title)}", plain(report.lead)]
    for section in report.sections:
        parts += section_parts(section)
    parts += ["## How to read and reproduce", READING.format(command=report.command)]
    parts.append("\n".join(f"- {plain(environment)}" for environment in report.environments))
    for card in report.cards:
        command = fenced("sh", card.command) + "\n\n" if card.command else ""
        body = command + fenced("json", card.details)
        title = f"{plain(card.title)} (<code>{plain(card.run_id)}</code>)"
        parts.append(f"<details><summary>{title}</summary>\n\n{body}\n\n</details>")
    return "\n\n".join(part for part in parts if part) + "\n"


READING = (
    "`{command}` makes this page again from the run records alone, byte for byte, with its figures. "
    "Each run below names its command and its whole configuration; the Parquet beside a record holds the rows, labels "
    "and probabilities from which its accuracy can be computed again. Times are comparable within this page only."
)


def section_parts(section: Section) -> list[str]:
    parts = [f"## {plain(section.title)}"]
    if section.recommendation:
        parts.append(f"**Recommendation.** {plain(section.recommendation)}")
    parts.append(plain(section.lead))
    if section.warnings:
        parts.append("> **Before you quote**\n>\n" + "\n".join(f"> - {plain(text)}" for text in section.warnings))
    for block in section.blocks:
        parts += block_parts(block)
    return parts


def block_parts(block: Block) -> list[str]:
    parts = [f"### {block.title}" if block.title else "", plain(block.text)]
    if block.table is not None:
        parts.append(markdown_table(block.table))
        parts.append("\n".join(f"- {plain(note)}" for note in block.table.notes))
    images = [f"![{plain(picture.title)}](figures/{picture.name}.svg)" for picture in block.pictures]
    if block.small:
        parts.append(" ".join(images))
        return parts
    for image, picture in zip(images, block.pictures, strict=True):
        parts += [image, f"*{plain(picture.caption)}*"]
    return parts


def plain(text: str) -> str:
    """The text as a reader of the Markdown sees it: no tag, no link, no column of a table begins in it."""
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)
    return text.replace("](", "]\\(").replace("|", "\\|")


def fenced(language: str, text: str) -> str:
    """A block of code; its fence is longer than any inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def heading(column: Column) -> str:
    return f"{column.name}, {column.unit}" if column.unit and column.name else column.name


def grid(table: Table, columns: Sequence[int], bold: str = "") -> list[list[str]]:
    """Texts of the chosen columns; a cell that spans many stands in the first of them."""
    lines = []
    for row in table.rows:
        texts: list[str] = []
        for cell in row.cells:
            text = f"{bold}{cell.text}{bold}" if cell.bold else cell.text
            texts += [text, *[""] * (cell.span - 1)]
        lines.append([texts[i] for i in columns])
    return lines


def spans(row: Row) -> bool:
    return any(cell.span > 1 for cell in row.cells)


def markdown_table(table: Table) -> str:
    chosen = range(len(table.columns))
    head = [plain(heading(column)) for column in table.columns]
    body = [[plain(text) for text in line] for line in grid(table, chosen, "**")]
    # a failed run's sentence would widen its column for every row
    measured = [line for line, row in zip(body, table.rows, strict=True) if not spans(row)]
    widths = [max(3, *(len(line[i]) for line in [head, *measured])) for i in chosen]
    right = [column.numeric for column in table.columns]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    lines = [head, rule, *body]
    return "\n".join(
        "| " + " | ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)) + " |"
        for line in lines
    )


def terminal_table(table: Table) -> str:
    """Aligned plain text: two header lines (name, unit), columns two spaces apart, no markup."""
    chosen = [i for i, column in enumerate(table.columns) if column.terminal]
    columns = [table.columns[i] for i in chosen]
    body = grid(table, chosen)
    measured = [line for line, row in zip(body, table.rows, strict=True) if not spans(row)]
    heads = [[c.name for c in columns], [c.unit for c in columns]]
    widths = [max(len(line[i]) for line in [*heads, *measured]) for i in range(len(columns))]
    widths[0] = max([widths[0], *(len(line[0]) for line in body)])
    lines = []
    all_rows: list[tuple[list[str], Row | None]] = [(head, None) for head in heads]
    for line, row in [*all_rows, *zip(body, table.rows, strict=True)]:
        texts = []
        for text, width, column in zip(line, widths, columns, strict=True):
            texts.append(text.rjust(width) if column.numeric and not (row and spans(row)) else text.ljust(width))
            if row and spans(row) and len(text) > width:
                break
        lines.append("  ".join(texts).rstrip())
    lines.insert(2, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
