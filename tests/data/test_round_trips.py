"""What is written to a file of any usual kind is read back as it was: texts, columns, labels."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from longread.data.labels import placeholders, read_labels
from longread.data.sources import Table, read_table
from longread.data.stream import blocks_of_file
from longread.data.targets import read_targets
from longread.errors import UserError

same = budget(max_examples=200, derandomize=True, deadline=None, database=None)
# Every character but halves of surrogate pairs, which are none, and NUL, which tables refuse; quotes, delimiters and
# line breaks more often than chance would have them.
CHARACTER = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("\",;\t\n\r'\\ |")
)
TEXT = st.text(CHARACTER, max_size=30)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30)
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12)
LATIN = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)
PACKED = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


def both(path: Path, **how: Any) -> list[tuple[str, str]]:
    """The columns text and other by the reader of predictions, after the reader of training has said the same."""
    blocks = list(blocks_of_file(path, ["text"], ["other"], **how))
    found = [row for block in blocks for row in zip(block.texts, block.kept["other"], strict=True)]
    table = read_table(path, str(path), **how)
    assert list(zip(table.columns["text"], table.columns["other"], strict=True)) == found
    return found


@same
@given(
    ROWS,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(list(PACKED)),
    st.booleans(),
)
def test_a_table_is_read_as_it_was_written(
    place: Path, rows: list[tuple[str, str]], delimiter: str, end: str, encoding: str, packed: str, quoted: bool
) -> None:
    written = io.StringIO(newline="")
    # The csv module itself writes a lone carriage return without quotes where only needed ones are written.
    quoting = csv.QUOTE_ALL if quoted or any("\r" in cell for row in rows for cell in row) else csv.QUOTE_MINIMAL
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("text", "other"), *rows])
    path = place / f"rows.csv{packed}"
    path.write_bytes(PACKED[packed](written.getvalue().encode(encoding)))
    assert both(path, delimiter=delimiter) == rows


@same
@given(st.lists(st.tuples(LATIN, LATIN), min_size=1, max_size=8))
def test_an_encoding_that_is_given_is_used(place: Path, rows: list[tuple[str, str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([("text", "other"), *rows])
    path = place / "latin.csv"
    path.write_bytes(written.getvalue().encode("latin-1"))
    assert both(path, encoding="latin-1", delimiter=",") == rows


@same
@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n"]), st.sampled_from(list(PACKED)))
def test_objects_are_read_as_they_were_written(
    place: Path, rows: list[tuple[str, str]], escaped: bool, end: str, packed: str
) -> None:
    lines = [json.dumps({"text": text, "other": other}, ensure_ascii=escaped) + end for text, other in rows]
    path = place / f"rows.jsonl{packed}"
    path.write_bytes(PACKED[packed]("".join(lines).encode()))
    assert both(path) == rows


@same
@given(ROWS)
def test_parquet_is_read_as_it_was_written(place: Path, rows: list[tuple[str, str]]) -> None:
    path = place / "rows.parquet"
    pq.write_table(pa.table({"text": [row[0] for row in rows], "other": [row[1] for row in rows]}), path)
    assert both(path) == rows


@same
@given(
    st.lists(LINE.filter(str.strip), min_size=1, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_a_text_a_line(place: Path, lines: list[str], end: str, encoding: str, last: bool) -> None:
    path = place / "lines.txt"
    path.write_bytes((end.join(lines) + (end if last else "")).encode(encoding))
    assert [text for block in blocks_of_file(path) for text in block.texts] == lines


@same
@given(st.lists(st.sampled_from(["utf-8", "latin-1", "ascii"]), min_size=1, max_size=6))
def test_lines_of_two_encodings_are_refused_and_not_read_as_other_letters(place: Path, encodings: list[str]) -> None:
    path = place / "mixed.csv"
    words = {"utf-8": "schön", "latin-1": "schön", "ascii": "plain"}
    path.write_bytes(b"text,other\n" + b"".join(f"{words[e]},a\n".encode(e) for e in encodings))
    if {"utf-8", "latin-1"} <= set(encodings):
        for read in (lambda: read_table(path, "mixed.csv"), lambda: list(blocks_of_file(path, ["text"], ["other"]))):
            with pytest.raises(UserError, match=f"line {encodings.index('latin-1') + 2}: this is not UTF-8 text"):
                read()
    else:
        assert [text for text, _ in both(path)] == [words[e] for e in encodings]


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8).filter(
    lambda name: name.strip("+-.0123456789_eE") != "" and name.lower() not in ("nan", "inf", "infinity")
)


@same
@given(st.lists(NAME, min_size=2, max_size=6, unique_by=str.casefold), st.data())
def test_a_class_is_the_one_that_is_named_in_any_order(names: list[str], data: st.DataObject) -> None:
    given_names = [*names, *data.draw(st.lists(st.sampled_from(names), max_size=20))]
    table = Table("rows", {"label": given_names})
    numbers, found = read_labels(table, "label")
    assert [found[number] for number in numbers] == given_names and set(found) == set(names)
    assert found == read_labels(Table("rows", {"label": given_names[::-1]}), "label")[1], "the order of rows is none"
    known = tuple(data.draw(st.permutations(names)))
    again, kept = read_labels(table, "label", known=known)
    assert kept == known and [known[number] for number in again] == given_names
    several, _ = read_labels(table, "label", own=known, known=placeholders(len(known)))
    np.testing.assert_array_equal(several, again)


@same
@given(st.lists(NAME.filter(lambda n: ";" not in n), min_size=2, max_size=5, unique_by=str.casefold), st.data())
def test_several_labels_of_a_cell_are_those_that_stand_in_it(names: list[str], data: st.DataObject) -> None:
    sets = [set(names), *data.draw(st.lists(st.sets(st.sampled_from(names), min_size=1), min_size=1, max_size=10))]
    cells = [data.draw(st.sampled_from([";", "; "])).join(sorted(own)) for own in sets]
    targets = read_targets(Table("rows", {"label": cells}), ["label"], separator=";")
    found = [{targets.names[c] for c in np.flatnonzero(row)} for row in targets.labels]
    assert found == sets
