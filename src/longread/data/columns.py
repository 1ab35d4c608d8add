"""Which columns of a table hold the texts, and the texts in them."""

from __future__ import annotations

from collections.abc import Sequence

from longread.data.reading import check_unicode
from longread.data.sources import Table, file_format, short
from longread.errors import UserError

TEXT_NAMES = ("text", "sentence", "review", "document", "content", "body", "message", "comment")
PAIR_NAMES = (
    ("question1", "question2"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
)
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "coarse_label", "label-coarse")


def find_columns(
    table: Table,
    text_columns: Sequence[str] | None,
    label_columns: Sequence[str] | None,
    labels_optional: bool = False,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the text column (or the two of a pair) and the label columns: those given or the obvious.

    labels_optional: there may be no label column.
    """
    names = list(table.columns)
    there = f"the columns there are: {', '.join(names)}"
    usual = {*TEXT_NAMES, *LABEL_NAMES}.intersection(name.strip().lower() for name in names)
    if not usual and (file_format(table.source) or "").startswith((".csv", ".tsv")):
        there += " (is the first line a header?)"
    if text_columns and len(text_columns) > 2:
        raise UserError(
            f"{len(text_columns)} text columns given ({', '.join(text_columns)}); give one, or two for pairs"
        )
    for name in (*(text_columns or ()), *(label_columns or ())):
        if name not in table.columns:
            raise UserError(f"{table.source}: there is no column {name!r}; {there}")
    lower = {name.strip().lower(): name for name in reversed(names)}
    if not label_columns:
        found = next((lower[name] for name in LABEL_NAMES if name in lower), None)
        if found is None and not labels_optional:
            raise UserError(f"{table.source}: no column 'label'; name it with --label-columns; {there}")
        label_columns = () if found is None else (found,)
    texts = tuple(text_columns) if text_columns else obvious_texts(names, label_columns)
    if texts is None:
        raise UserError(f"{table.source}: no column 'text'; name it with --text-columns; {there}")
    return texts, tuple(label_columns)


def obvious_texts(names: Sequence[str], label_columns: Sequence[str] = ()) -> tuple[str, ...] | None:
    """The two columns of a pair or the one of a text: those with usual names, else the only one there is, else None."""
    if named := named_texts(names, label_columns):
        return named
    rest = [name for name in names if name not in label_columns]
    return (rest[0],) if len(rest) == 1 else None


def named_texts(names: Sequence[str], label_columns: Sequence[str] = ()) -> tuple[str, ...] | None:
    """The two columns of a pair or the one of a text, by their usual names."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    for first, second in PAIR_NAMES:
        if first in lower and second in lower:
            return lower[first], lower[second]
    for name in TEXT_NAMES:
        if name in lower and lower[name] not in label_columns:
            return (lower[name],)
    return None


def read_texts(table: Table, column: str, *, may_be_empty: bool) -> list[str]:
    """Column `column` as texts, unchanged; a missing value, a number or anything else is an error."""
    check_texts(table, column, may_be_empty=may_be_empty)
    values = table.columns[column]
    if all(is_number(value) for value in values):
        raise only_numbers(table, column)
    return list(values)


def check_texts(table: Table, column: str, *, may_be_empty: bool) -> None:
    """UserError for a value that is no text."""
    values = table.columns[column]
    for row, value in enumerate(values):
        if isinstance(value, str) and (value.strip() or may_be_empty):
            check_unicode(value, table.place(row), column)
            continue
        if value is None or isinstance(value, str):
            more = sum(one is None or not str(one).strip() for one in values[row + 1 :])
            also = f", and so in {more:,} more row{'s' * (more > 1)}; fill in or drop all of them"
            told = also if more else "; fill it in or drop the row"
            raise UserError(f"{table.place(row)}: column {column!r} is empty{told}")
        kind = "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
        raise UserError(
            f"{table.place(row)}: column {column!r} holds {kind} where text is expected ({short(value)}); "
            f"{other_columns(table, column)}"
        )


def only_numbers(table: Table, column: str) -> UserError:
    """What to say of a column that has a number in every row."""
    return UserError(
        f"{table.place(0)}: column {column!r} holds a number where text is expected "
        f"({short(table.columns[column][0])}), and so in every row; {other_columns(table, column)}"
    )


def is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def other_columns(table: Table, column: str) -> str:
    rest = [name for name in table.columns if name != column]
    return f"the other columns: {', '.join(rest)}" if rest else "there is no other column"
