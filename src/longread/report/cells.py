"""What a table is: plain data that Markdown, the page and the terminal print alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    text: str
    sort: float | str | None = None  # what the page sorts by; None sorts last
    title: str = ""  # exact values, shown on hover
    bold: bool = False
    span: int = 1


@dataclass(frozen=True)
class Column:
    name: str
    unit: str = ""
    numeric: bool = True
    title: str = ""
    terminal: bool = True  # also in the terminal's narrower table


@dataclass(frozen=True)
class Row:
    cells: tuple[Cell, ...]
    kind: str = ""  # "", "baseline" or "failed"
    color: str = ""  # the mechanism whose colour stands beside the row


@dataclass(frozen=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
