"""Tasks: reading files, samples, generated texts, and what is said of wrong input."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longread.data import hub, listops, reviews
from longread.data.config import DataConfig
from longread.data.examples import stratified_sample
from longread.data.load import load_split, load_task
from longread.data.sources import check_format
from longread.data.tasks import TASKS, find_task
from longread.errors import UserError

DATA_DIR = os.environ.get("LONGREAD_DATA_DIR", "")
ROWS = [(f'"NA", said {number}\n\u2028and 007', "abc"[number % 3]) for number in range(60)]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("LONGREAD_DATA_DIR", raising=False)


def delimited(separator: str, text: str = "text") -> bytes:
    quoted = [f'"{words.replace(chr(34), chr(34) * 2)}"{separator}{label}\n' for words, label in ROWS]
    return "".join([f"{text}{separator}label\n", *quoted]).encode()


def json_lines() -> bytes:
    return "".join(
        json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in ROWS
    ).encode()


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.csv": lambda path: path.write_bytes(delimited(",")),
    "bom.csv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + delimited(",")),
    "utf16.csv": lambda path: path.write_bytes(delimited(",").decode().encode("utf-16")),
    "semicolon.csv": lambda path: path.write_bytes(delimited(";")),
    "tab.csv": lambda path: path.write_bytes(delimited("\t")),
    "a.tsv": lambda path: path.write_bytes(delimited("\t", "review")),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(delimited(","))),
    "a.jsonl": lambda path: path.write_bytes(json_lines()),
    "a.jsonl.zst": lambda path: pa.output_stream(str(path), compression="zstd").write(json_lines()),
    "a.parquet": lambda path: pq.write_table(
        pa.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}), path
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    whole = load_split(DataConfig(str(path), text_columns=("review" if ".tsv" in name else "text",), eval_file=path))
    assert whole.texts == [text for text, _ in ROWS]
    assert whole.label_names == ("a", "b", "c")
    assert whole.labels.tolist() == [number % 3 for number in range(60)]
    train, validation = load_task(DataConfig(str(path), validation_fraction=0.2))
    assert sorted([*train.rows, *validation.rows]) == list(range(60))
    assert np.bincount(validation.labels).tolist() == [4, 4, 4]
    for again in (load_split(DataConfig(str(path), validation_fraction=0.2), split) for split in (None, "validation")):
        assert again.fingerprint == validation.fingerprint != train.fingerprint


def test_a_western_spreadsheet_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Semicolons and Windows-1252, as Excel writes them in half of Europe; --encoding and --delimiter overrule."""
    path = tmp_path / "a.csv"
    path.write_bytes("text;label\n5 € für Käse;gut\nÄrger, viel;schlecht\n".encode("cp1252"))
    caplog.set_level("INFO")
    found = load_split(DataConfig(str(path), eval_file=path))
    assert found.texts == ["5 € für Käse", "Ärger, viel"]
    assert "not UTF-8, read as Windows-1252" in caplog.text
    assert "delimiter ';'" in caplog.text
    path.write_bytes("text|label\nЖара|да\nнет|нет\n".encode("cp1251"))
    found = load_split(DataConfig(str(path), eval_file=path, encoding="cp1251", delimiter="|"))
    assert (found.texts, found.label_names) == (["Жара", "нет"], ("да", "нет"))


def test_directory_and_eval_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nx,b\ny,a\nz,a\n")
    (tmp_path / "test.jsonl").write_text('{"text": "w", "label": "b"}\n')
    train, evaluation = load_task(DataConfig(str(tmp_path)))
    assert (train.label_names, evaluation.labels.tolist(), evaluation.split) == (("a", "b"), [1], "test")
    _, evaluation = load_task(DataConfig(str(tmp_path / "train.csv"), eval_file=tmp_path / "test.jsonl"))
    assert evaluation.texts == ["w"]
    assert evaluation.labels.tolist() == [1]
    with pytest.raises(UserError, match="label 'b' is not one of: yes, no"):
        load_split(DataConfig("t.csv", eval_file=tmp_path / "test.jsonl"), label_names=("yes", "no"))


def test_public_task_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "qqp").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "qqp" / f"{split}.tsv").write_text("id\tquestion1\tquestion2\tlabel\n1\ta\t\t1\n2\tb\td\t0\n")
    train, _ = load_task(DataConfig("qqp", data_dir=tmp_path))
    assert (train.texts, train.pairs, train.labels.tolist()) == (["a", "b"], ["", "d"], [1, 0])
    assert train.label_names == ("not_duplicate", "duplicate")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 220), st.integers(0, 9))
def test_sample_is_stratified_and_its_own_seeds(labels: list[int], size: int, seed: int) -> None:
    numbers = np.array(labels)
    chosen = stratified_sample(numbers, size, seed, "train")
    assert len(chosen) == len(set(chosen.tolist())) == min(size, len(labels))
    exact = np.bincount(numbers) * len(chosen) / len(labels)
    assert (np.abs(np.bincount(numbers[chosen], minlength=len(exact)) - exact) < 1).all()
    np.testing.assert_array_equal(chosen, stratified_sample(numbers, size, seed, "train"))


def test_sample_of_sorted_labels_is_shuffled() -> None:
    labels = np.repeat([0, 1], 500)
    chosen = labels[stratified_sample(labels, 200, 0, "train")]
    assert 30 < chosen[:100].sum() < 70
    other = stratified_sample(labels, 200, 1, "train")
    assert set(other.tolist()) != set(stratified_sample(labels, 200, 0, "train").tolist())


# Golden values: a generated text must be the same on every machine, for ever.
GOLDEN = {"reviews": "bb25b405b4a9a408", "reviews:2048": "122ba8b0e5a2a57d", "listops:128": "e9f01b883904870d"}


@pytest.mark.parametrize("name", GOLDEN)
def test_generated_tasks(name: str) -> None:
    train, evaluation = load_task(DataConfig(name, train_rows=60, eval_rows=30))
    assert train.fingerprint == GOLDEN[name]
    assert load_split(DataConfig(name, eval_rows=20), "train").texts == train.texts[:20]
    assert load_task(DataConfig(name, train_rows=5, eval_rows=5, sample_seed=1))[0].texts != train.texts[:5]
    texts = train.texts + evaluation.texts
    assert len(set(texts)) == len(texts)  # none twice, none in both splits
    limit = find_task(name).length
    lengths = [len(text.replace(".", " .").replace(",", " ,").split()) for text in texts]
    assert max(lengths) <= limit
    assert np.mean(lengths) > limit / 3


def test_reviews_classes_hold_the_same_words() -> None:
    """In a review that is taken back most words speak for the other class."""
    train, _ = load_task(DataConfig("reviews", train_rows=600, eval_rows=1))
    assert np.bincount(train.labels).tolist() == [300, 300]
    votes = np.array([sum((w in reviews.GOOD) - (w in reviews.BAD) for w in t.replace(".", "").split())
                      for t in train.texts])  # fmt: skip
    marks = ("wrong", "nonsense")
    back = np.array([any(mark in text for mark in marks) for text in train.texts])
    kind = train.labels == 1
    said = np.where(kind != back, votes, -votes)  # above 0: most words agree with what is said of the film
    assert (said >= 0).all()
    assert abs((said == 0).mean() - reviews.BALANCED) < 0.06
    assert abs(back.mean() - reviews.TAKEN_BACK) < 0.06


def value_of(text: str) -> int:
    """ListOps evaluated apart from the generator: rewritten as Python and handed to it."""
    names = {"[MIN": "min", "[MAX": "max", "[MED": "med", "[SM": "sm"}
    code = "".join(f"{names[s]}([" if s in names else "])," if s == "]" else f"{s}," for s in text.split())
    functions = {"min": min, "max": max, "med": lambda v: int(np.median(v)), "sm": lambda v: sum(v) % 10}
    return int(eval(code, {"__builtins__": {}}, functions)[0])


def test_listops_labels_and_limits() -> None:
    texts, labels = listops.generate("train", 40, 2000, 3)
    known = {*listops.OPERATORS, listops.END, *"0123456789"}
    assert labels == [value_of(text) for text in texts]
    for text in texts:
        symbols = text.split()
        depth = np.cumsum([symbol.startswith("[") - (symbol == "]") for symbol in symbols])
        assert 500 < len(symbols) < 2000
        assert depth.max() < listops.MAX_DEPTH
        assert depth[-1] == 0
        assert set(symbols) <= known
    assert {symbol for text in texts for symbol in text.split()} == known


# What is wrong: file name, its bytes, options, what the message must say.
Bad = tuple[str, bytes | None, dict[str, object], tuple[str, ...]]
BAD: dict[str, Bad] = {
    "missing file": ("a.csv", None, {}, ("a.csv", "no such file")),
    "other format": ("a.doc", b"x", {}, ("a.doc", ".parquet, .arrow")),
    "spreadsheet": ("a.xlsx", b"x", {}, ("a.xlsx", "save it as CSV")),
    "empty": ("a.csv", b"", {}, ("a.csv", "is empty")),
    "header only": ("a.csv", b"text,label\n", {}, ("a.csv", "is empty")),
    "no label column": ("a.csv", b"text,grade\nx,1\n", {}, ("--label-columns", "text, grade")),
    "no text column": ("a.csv", b"one,two,label\nx,y,1\n", {}, ("--text-columns", "one, two, label")),
    "column not there": ("a.csv", b"text,label\nx,1\n", {"label_columns": ("y",)}, ("'y'", "text, label")),
    "one class": ("a.csv", b"text,label\nx,1\ny,1\n", {}, ("'label'", "one value only", "two classes")),
    "too many classes": (
        "a.csv", b"text,label\n" + b"".join(b"x,%d\n" % i for i in range(50)), {}, ("50 different values",),
    ),
    "number for text": ("a.jsonl", b'{"text": "x", "label": 0}\n{"text": 3, "label": 1}\n', {},
                        ("line 2", "'text'", "a number where text is expected")),
    "numbers in csv": ("a.csv", b"text,label\n3,a\n4,b\n", {}, ("'text'", "a number where text is expected")),
    "broken quote": ("a.csv", b'text,label\n"x\nx",1\n"y,0\nz,1\n', {}, ("line 4", "broken row")),
    "too few cells": ("a.csv", b"text,label\nx,1\ny\n", {}, ("line 3", "1 cells", "2")),
    "column twice": ("a.csv", b"text,text\nx,1\n", {}, ("line 1", "twice")),
    "not utf-8": ("a.csv", "text,label\nété,1\n".encode() + b"\xe9t\xe9,0\n", {}, ("line 3", "UTF-8", "--encoding")),
    "not utf-8 json": ("a.jsonl", b'{"text": "x", "label": 0}\n{"text": "\xe9", "label": 1}\n', {},
                       ("line 2", "UTF-8")),
    "no delimiter": ("a.csv", b"text,label\nx,1\n", {"delimiter": ";;"}, ("--delimiter ';;'", "one character")),
    "not what is named": ("a.csv", b"text,label\nx,1\n\xe9t\xe9,0\n", {"encoding": "ascii"}, ("line 3", "ascii")),
    "no such encoding": ("a.csv", b"text,label\nx,1\n", {"encoding": "utf9"}, ("--encoding utf9", "not known")),
    "NUL": ("a.csv", b"text,label\nx,1\ny\0,0\n", {}, ("line 3", "NUL")),
    "null text": ("a.jsonl", b'{"text": null, "label": 1}\n', {}, ("line 1", "'text'", "empty")),
    "null texts": ("a.csv", b"text,label\nx,1\n,1\ny,0\n \t,0\n,1\n", {},
                   ("line 3: column 'text' is empty, and so in 2 more rows; fill in or drop all",)),
    "null label": ("a.csv", b"text,label\nx,1\ny,\n", {}, ("line 3", "'label'", "empty")),
    "fraction": ("a.jsonl", b'{"text": "x", "label": 0.3}\n{"text": "y", "label": "b"}\n', {}, ("0.3", "not a class")),
    "not json": ("a.jsonl", b'{"text": "x", "label": 1}\n{oops\n', {}, ("line 2", "not JSON")),
    "not an object": ("a.jsonl", b"[1]\n", {}, ("line 1", "not an object")),
    "not parquet": ("a.parquet", b"PAR1 no", {}, ("a.parquet", "Parquet")),
    "not gzip": ("a.csv.gz", b"text", {}, ("a.csv.gz", "cannot be read")),
    "half a gzip": ("a.csv.gz", gzip.compress(b"text,label\n" * 99)[:30], {}, ("a.csv.gz", "gzip")),
    "not zstd": ("a.csv.zst", b"text", {}, ("a.csv.zst", "cannot be read")),
    "too few rows": ("a.csv", b"text,label\nx,1\ny,0\n", {}, ("too few", "--eval-file")),
    "no such eval file": ("a.csv", b"text,label\nx,1\ny,0\n", {"eval_file": "b.csv"}, ("b.csv", "no such")),
    "no rows asked": ("a.csv", b"text,label\nx,1\ny,0\n", {"train_rows": 0}, ("--train-rows 0",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_wrong_files(case: str, tmp_path: Path) -> None:
    name, data, options, fragments = BAD[case]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        load_task(DataConfig(str(tmp_path / name), **options))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert not [fragment for fragment in fragments if fragment not in message], message


def test_that_more_is_held_out_than_was_asked_for_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def held_out(classes: int, rows: int, name: str = "19{}") -> int:
        lines = [f"words {number},{name.format(number % classes + 10)}" for number in range(rows)]
        (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]))
        caplog.clear()
        return len(load_task(DataConfig(str(tmp_path / "a.csv")))[1])

    assert held_out(31, 120) == 31
    assert "31 of 120 rows (26 %) are held out, not 10 %: as many as there are classes; --problem-type" in caplog.text
    assert held_out(31, 120, "topic {}") == 31 and "there are classes" in caplog.text
    assert "--problem-type" not in caplog.text
    assert held_out(13, 120) == 13 and not caplog.text  # about a tenth
    with pytest.raises(UserError, match=r"for 20 classes; .*; --problem-type regression would predict the number"):
        held_out(20, 20)


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("imbd", ("unknown task 'imbd'", "did you mean imdb?", "listops")),
        ("imdb:512", ("not generated",)),
        ("reviews:12", ("128", "16384")),
        ("listops:x", ("whole number",)),
        ("hub:alone", ("hub:OWNER/NAME",)),
        ("hub:owner/name", ("hub:owner/name", "HF_HUB_OFFLINE", "a file of your own")),
        ("imdb", ("imdb", "Hugging Face Hub", "--data-dir", "LONGREAD_DATA_DIR")),
    ],
)
def test_wrong_names(name: str, fragments: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        load_task(DataConfig(name))
    assert not [fragment for fragment in fragments if fragment not in str(caught.value)], str(caught.value)


def test_unreachable_hub_is_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be reached .*refused.*--data-dir"):
        load_task(DataConfig("sst2"))


def test_hub_layouts() -> None:
    shards = [f"data/{name}.parquet" for name in ("train-00000-of-00002", "train-00001-of-00002", "test-0-of-1")]
    assert hub.group_files([*shards, "README.md"], "") == ({"train": shards[:2], "test": shards[2:]}, set())
    several = ["a/train/0000.parquet", "b/train-00000-of-00001.parquet", "b/dev-00000-of-00001.parquet"]
    assert hub.group_files(several, "") == ({}, {"a", "b"})
    assert hub.group_files(several, "b")[0] == {"train": several[1:2], "validation": several[2:]}
    assert hub.group_files(["train.csv"], "")[0] == {"train": ["train.csv"]}


@pytest.mark.skipif(not DATA_DIR, reason="LONGREAD_DATA_DIR is not set: no real data here")
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.hub_id])
def test_real_data(name: str) -> None:
    if not (Path(DATA_DIR) / name).is_dir():
        pytest.skip(f"LONGREAD_DATA_DIR holds no {name}")
    evaluation = load_split(DataConfig(name, data_dir=DATA_DIR, eval_rows=500))
    assert len(evaluation) == 500
    assert len(set(evaluation.rows.tolist())) == 500
    assert (evaluation.pairs is not None) == (len(TASKS[name].text_columns) == 2)
    assert 0.3 < evaluation.labels.mean() < 0.7


def test_a_pooled_task_splits_both_halves_anew_and_keeps_each_text_once(tmp_path: Path) -> None:
    (tmp_path / "imdb").mkdir()
    halves = {"train": [f"train {n}" for n in range(40)], "test": [f"test {n}" for n in range(37)] + ["train 3"] * 3}
    for split, texts in halves.items():
        table = pa.table({"text": texts, "label": [n % 2 for n in range(40)]})
        pq.write_table(table, tmp_path / "imdb" / f"{split}.parquet")
    train, evaluation = load_task(DataConfig("imdb-pooled", data_dir=tmp_path))
    assert (len(train), len(evaluation)) == (62, 15)  # a fifth of 77 different texts
    both = halves["train"] + halves["test"]
    for part in (train, evaluation):
        assert part.texts == [both[row] for row in part.rows]
        assert any(row < 40 for row in part.rows)
        assert any(row >= 40 for row in part.rows)
    assert len({*train.texts, *evaluation.texts}) == 77
    sample, same = load_task(DataConfig("imdb-pooled", data_dir=tmp_path, train_rows=20, sample_seed=5))
    assert set(sample.rows) <= set(train.rows)
    assert list(same.rows) == list(evaluation.rows)  # the split does not move with the sample
    alone = load_split(DataConfig("imdb-pooled", data_dir=tmp_path), "validation")
    assert list(alone.rows) == list(evaluation.rows)
    with pytest.raises(UserError, match="no split 'test'; there are train and validation"):
        load_split(DataConfig("imdb-pooled", data_dir=tmp_path), "test")


@pytest.mark.parametrize("given", [{"text_columns": ("left", "right")}, {"label_columns": ("stars",)},
                                   {"delimiter": ";"}, {"label_separator": ";"},
                                   {"encoding": "utf-8"}, {"eval_file": "more.csv"}])  # fmt: skip
def test_a_generated_task_has_no_columns_to_choose(given: dict[str, Any]) -> None:
    option = "--" + next(iter(given)).replace("_", "-")
    with pytest.raises(UserError, match=option):
        load_task(DataConfig("reviews:128", train_rows=4, eval_rows=4, **given))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_delimiter_is_found_in_the_header_and_said(
    mark: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text{mark}label\n" + f"one, two{mark}x\nthree{mark}y\n" * 20)
    with caplog.at_level("INFO", "longread"):
        found = load_split(DataConfig(str(path), eval_file=path))
    assert found.texts[:2] == ["one, two", "three"] and f"delimiter {mark!r}" in caplog.text


def test_a_directory_in_place_of_a_file_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory; give a file"):
        check_format(tmp_path, "here")


def test_texts_that_are_held_out_and_trained_on_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mail.csv"
    path.write_text("text,label\n" + "".join(f"text {n % 5},{'ab'[n % 2]}\n" for n in range(40)))
    load_task(DataConfig(task=str(path)))
    assert "4 of 4 rows that are held out have a text that a training row has, too" in caplog.text
    caplog.clear()
    path.write_text("text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(40)))
    load_task(DataConfig(task=str(path)))
    assert not caplog.messages
