"""Rows that stay in files: the same as in memory, from any files; nothing damaged is believed."""

from __future__ import annotations

import csv
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from longread.data import encoding, label_codes, mapped, rows, shards
from longread.data.config import DataConfig
from longread.data.dataset import Prepared, Split, prepare
from longread.data.examples import stratified_sample
from longread.data.load import load_split
from longread.errors import UserError
from longread.problems import MULTI_LABEL

WORDS = ("parcel", "bill", "späť", "late", "broken", "never", "again", 'a "quoted" word', "two\nlines")


def table(count: int, labels: tuple[Any, ...] = ("no", "yes", "maybe"), seed: int = 0) -> dict[str, list[Any]]:
    drawn = np.random.default_rng(seed)
    texts = [f"{row} " + " ".join(drawn.choice(WORDS, drawn.integers(1, 30))) for row in range(count)]
    return {
        "text": texts,
        "label": [labels[int(i)] for i in drawn.integers(0, len(labels), count)],
        "id": [*range(count)],
    }


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=50)
    elif path.suffix == ".arrow":
        with pyarrow.ipc.new_file(path, pa.table(columns).schema) as file:
            file.write_table(pa.table(columns))
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def write_shards(folder: Path, columns: dict[str, list[Any]], count: int, ending: str) -> Path:
    size = len(columns["text"])
    for number in range(count):
        own = slice(number * size // count, (number + 1) * size // count)
        write(folder / f"part-{number}{ending}", {name: values[own] for name, values in columns.items()})
    return folder


def config(task: Path | str, cache: Path, stream: bool | None = True, **more: Any) -> DataConfig:
    return DataConfig(str(task), vocab_size=300, cache=cache, stream=stream, **more)


def equal(one: Split, other: Split) -> bool:
    a, b = one.encoded, other.encoded
    pairs = [(one.labels, other.labels), (one.rows, other.rows), (one.lengths, other.lengths)]
    pairs += [
        (getattr(a, name), getattr(b, name)) for name in ("tokens", "offsets", "truncated", "types", "first_texts")
    ]
    pairs += [(a.sequences, b.sequences), (a.whole, b.whole), (a.first_sequences, b.first_sequences)]
    return one.fingerprint == other.fingerprint and all(
        (x is None) == (y is None) and np.array_equal(0 if x is None else x, 0 if y is None else y) for x, y in pairs
    )


def same(one: Prepared, other: Prepared) -> bool:
    both = zip(
        (one.train, one.evaluation, one.selection), (other.train, other.evaluation, other.selection), strict=True
    )
    return one.fingerprints == other.fingerprints and all(
        a is b or (a is not None and b is not None and equal(a, b)) for a, b in both
    )


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".arrow", ".csv.gz"])
def test_any_files_give_the_rows_of_one_table_in_memory(ending: str, tmp_path: Path) -> None:
    columns = table(230)
    memory = prepare(config(write(tmp_path / "all.jsonl", columns), tmp_path / "a", None, selection_fraction=0.2), 24)
    folder = write_shards(tmp_path / "shards", columns, 3, ending.removesuffix(".gz"))
    if ending == ".csv.gz":
        import gzip

        for path in list(folder.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    for task in (folder, f"{folder}/part-*{ending}", f"file://{folder}"):
        found = prepare(config(task, tmp_path / "b", selection_fraction=0.2), 24)
        assert found.train.encoded.maps is not None
        assert [s.label_names for s in (found.train, found.evaluation)] == [("maybe", "no", "yes")] * 2
        assert same(found, replace(memory, train=memory.train))


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pairs": ({"text1": table(90)["text"], "text2": table(90, seed=1)["text"], "label": [0, 1] * 45}, {}),
    "regression": ({"text": table(90)["text"], "label": [i / 7 for i in range(90)]}, {}),
    "separator": (
        table(90) | {"label": ["a;b", "b", "", "c;a;b", "c", "a"] * 15},
        {"label_separator": ";"},
    ),
    "columns": (
        {"text": table(90)["text"], "late": [0, 1, 1] * 30, "rude": [1, 0, 1] * 30},
        {"label_columns": ("rude", "late")},
    ),
    "chunks": (table(90), {"truncation": "chunk", "chunk_stride": 2}),
    "head_tail": (table(90), {"truncation": "head_tail"}),
    "rows": (table(90), {"train_rows": 40, "eval_rows": 7}),
    "tuning": (table(90), {"tuning_fraction": 0.3}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_rows_is_the_same_as_in_memory(name: str, tmp_path: Path) -> None:
    columns, more = CASES[name]
    path = write(tmp_path / "rows.csv", columns)
    memory = prepare(config(path, tmp_path / "a", False, **more), 16)
    found = prepare(config(path, tmp_path / "b", **more), 16)
    assert found.train.problem_type == memory.train.problem_type
    assert found.train.encoded.maps is not None and same(found, memory)
    assert same(prepare(config(path, tmp_path / "b", **more), 16), memory)  # from the cache


def test_a_file_may_have_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", table(60), 2, ".csv")
    try:
        (folder / "part-1.csv").rename(folder / "part-\udce9.csv")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such names")
    memory = prepare(config(folder, tmp_path / "a", False), 16)
    assert same(prepare(config(folder, tmp_path / "b"), 16), memory)
    (folder / "part-\udce9.csv").write_text("text,label\nwhole,\n")
    for stream in (False, True):
        with pytest.raises(UserError, match=r"part-\\udce9\.csv"):
            prepare(config(folder, tmp_path / "b", stream), 16)


@pytest.mark.parametrize("name", ["first texts", "tokens"])
def test_a_full_disk_is_the_caches_not_the_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = mapped.NewFolder.array

    def array(self: mapped.NewFolder, own: str, *how: Any) -> mapped.Writer:
        writer = new(self, own, *how)
        if own == name:
            with open("/dev/full", "wb") as full:
                os.dup2(full.fileno(), writer.file.fileno())
        return writer

    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(mapped.NewFolder, "array", array)
    with pytest.raises(OSError, match="No space left") as error:
        prepare(config(write(tmp_path / "rows.csv", table(500)), tmp_path / "cache"), 16)
    assert error.value.filename == str(tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]


def test_a_second_file_and_a_part_are_read_as_in_memory(tmp_path: Path) -> None:
    path, test = write(tmp_path / "rows.csv", table(80)), write(tmp_path / "test.parquet", table(30, seed=2))
    both = [prepare(config(path, tmp_path / "c", stream, eval_file=test), 16) for stream in (False, True)]
    assert same(*both) and len(both[0].evaluation) == 30
    for split in ("train", "validation", None):
        memory, found = (load_split(config(path, tmp_path / "c", stream), split) for stream in (False, True))
        assert found.fingerprint == memory.fingerprint and list(found.texts) == list(memory.texts)
        assert found.texts[3] == memory.texts[3] and list(found.texts[5:2:-1]) == list(memory.texts[5:2:-1])


def test_the_labels_of_a_model_are_columns_where_there_are_such(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", CASES["columns"][0])
    both = [
        load_split(config(path, tmp_path / "c", stream, problem_type=MULTI_LABEL), None, ("late", "rude"))
        for stream in (False, True)
    ]
    assert both[0].fingerprint == both[1].fingerprint and np.array_equal(both[0].labels, both[1].labels)


def test_numbers_of_very_many_rows_are_no_labels_to_tell_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_codes, "MOST_DIFFERENT", 20)
    columns, _ = CASES["regression"]
    path = write_shards(tmp_path / "shards", columns, 3, ".jsonl")
    assert same(prepare(config(path, tmp_path / "b"), 16), prepare(config(path, tmp_path / "a", False), 16))
    mixed = columns | {"label": [f"t{i}" if i == 7 else i / 7 for i in range(90)]}
    with pytest.raises(UserError, match="more than 20 different values, such as 't7'"):
        prepare(config(write(tmp_path / "mixed.jsonl", mixed), tmp_path / "b"), 16)


def test_the_number_of_processes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PIECE_ROWS", 16)
    path = write(tmp_path / "rows.parquet", table(150))
    more: dict[str, Any] = {"truncation": "chunk"}
    one, three = (prepare(config(path, tmp_path / str(count), workers=count, **more), 16) for count in (1, 3))
    assert same(one, three) and same(one, prepare(config(path, tmp_path / "memory", False, **more), 16))
    assert not [file for file in (tmp_path / "3").iterdir() if file.name.startswith(".")]


def test_rows_of_a_process_that_dies_are_tokenized_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encoding, "PIECE_ROWS", 16)
    path = write(tmp_path / "rows.parquet", table(100))
    one = prepare(config(path, tmp_path / "a", workers=1), 16)
    monkeypatch.setattr(encoding.sys, "executable", "/bin/false")
    assert same(prepare(config(path, tmp_path / "b", workers=2), 16), one)
    assert "a process that tokenizes has ended (1)" in caplog.text


def test_files_are_opened_once_and_not_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = shards.opened
    monkeypatch.setattr(rows, "opened", lambda shard, *more: opened.append(shard.source) or real(shard, *more))
    encoded: list[int] = []
    encode = encoding.encode_to
    monkeypatch.setattr("longread.data.dataset.encode_to", lambda *all: encoded.append(1) or encode(*all))
    folder = write_shards(tmp_path / "shards", table(60), 3, ".csv")
    first = prepare(config(folder, tmp_path / "c"), 16)
    assert (len(opened), len(encoded)) == (3, 2)
    assert same(prepare(config(folder, tmp_path / "c"), 16), first) and (len(opened), len(encoded)) == (3, 2)
    folder = folder.rename(tmp_path / "moved")  # the same content elsewhere: read again, tokenized no more
    found = prepare(config(folder, tmp_path / "c"), 16)
    assert found.fingerprints == first.fingerprints and (len(opened), len(encoded)) == (6, 2)
    path = folder / "part-1.csv"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"bill", b"pill"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as large and as old as before
    found = prepare(config(folder, tmp_path / "c"), 16)
    assert found.fingerprints != first.fingerprints and len(encoded) == 4


def test_a_torn_or_edited_cache_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "rows.csv", table(60))
    first = prepare(config(path, tmp_path / "c"), 16)
    wanted = [np.array(first.train.encoded.tokens), np.array(first.train.labels)]
    folders = [folder for folder in (tmp_path / "c").iterdir() if folder.is_dir()]
    assert sorted(folder.name.split("-")[0] for folder in folders) == ["rows", "tokens", "tokens"]
    files = [file for folder in folders for file in folder.iterdir() if file.stat().st_size]
    assert len(files) > 15
    caplog.set_level(logging.WARNING)
    for number, file in enumerate(files):
        whole = file.read_bytes()
        turned = bytearray(whole)
        turned[len(whole) // 2] ^= 1
        if number % 3 == 0:
            file.unlink()
        else:
            file.write_bytes(bytes(turned) if number % 3 == 1 else whole[:-2])
        caplog.clear()
        found = prepare(config(path, tmp_path / "c"), 16)
        assert str(file.parent) in caplog.text and "made anew" in caplog.text
        assert file.read_bytes() == whole or file.name == "about.json"  # which has the times of the new files
        assert np.array_equal(found.train.encoded.tokens, wanted[0]) and np.array_equal(found.train.labels, wanted[1])


def test_a_copied_cache_is_read_through_once_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "rows.csv", table(60))
    first = prepare(config(path, tmp_path / "c"), 16)
    for file in (tmp_path / "c").glob("*/*"):
        os.utime(file)
    assert same(prepare(config(path, tmp_path / "c"), 16), first) and "made anew" not in caplog.text


WRONG: dict[str, tuple[Any, str]] = {
    "column": (lambda f: write(f / "part-2.csv", {"text": ["a", "b"], "topic": [1, 2]}),
               r"part-2.csv: there is no column 'label', which \S+part-0.csv has; the columns there are: text, topic"),
    "header": (lambda f: write(f / "part-2.csv", {"text": [], "label": []}), r"part-2.csv: is empty; delete it"),
    "nothing": (lambda f: (f / "part-2.csv").write_text(""), r"part-2.csv: is empty; the first line should name"),
    "cells": (lambda f: (f / "part-2.csv").write_text("text,label\na,b\nc\n"), r"part-2.csv, line 3: 1 cells where"),
    "text": (lambda f: write(f / "part-2.csv", {"text": ["a", " "], "label": ["no", "no"]}),
             r"part-2.csv, line 3: column 'text' is empty; fill it in or drop the row"),
    "label": (lambda f: write(f / "part-2.csv", {"text": ["a", "b"], "label": ["no", ""]}),
              r"part-2.csv, line 3: column 'label' is empty; give every row a label"),
    "encoding": (lambda f: (f / "part-2.csv").write_bytes(b"text,label\ncaf\xe9,no\n"),
                 r"part-2.csv, after line 0: this is not UTF-8 text; save the file as UTF-8, or name its --enc"),
    "kinds": (lambda f: write(f / "part-2.jsonl", table(9)), r"holds .csv and .jsonl files; name one kind, such as '"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_shard_is_named(name: str, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", table(40), 2, ".csv")
    make, message = WRONG[name]
    make(folder)
    with pytest.raises(UserError, match=message) as caught:
        prepare(config(folder, tmp_path / "c"), 16)
    assert "\n" not in str(caught.value)
    assert not [file for file in (tmp_path / "c").glob(".*") if file.is_dir()]  # nothing half-written stays


def test_a_shard_of_another_kind_or_torn_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", table(40, (0, 1)), 2, ".parquet")
    other = write(folder / "part-2.parquet", table(20))
    with pytest.raises(UserError, match=r"part-2.parquet: column 'label' holds string, and in \S+part-0.parquet int64"):
        prepare(config(folder, tmp_path / "c"), 16)
    write(other, {"text": [], "label": []})  # of no kind at all
    with pytest.raises(UserError, match=r"part-2.parquet: column 'text' has no value in any row; delete the file"):
        prepare(config(folder, tmp_path / "c"), 16)
    write(other, table(20))
    other.write_bytes(other.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"part-2.parquet: not a whole Parquet file"):
        prepare(config(folder, tmp_path / "c"), 16)


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_link_is_not_left_out(stream: bool, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", table(60), 2, ".csv")
    (folder / "part-2.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"part-2\.csv: there is no such file"):
        prepare(config(folder, tmp_path / "cache", stream), 16)


def test_urls(tmp_path: Path) -> None:
    import fsspec

    columns = table(60)
    system = fsspec.filesystem("memory")
    for path in write_shards(tmp_path / "shards", columns, 11, ".parquet").iterdir():
        system.pipe(f"/bucket/{path.name}", path.read_bytes())
    memory = prepare(config(write(tmp_path / "all.parquet", columns), tmp_path / "a", False), 16)
    for task in ("memory://bucket", "memory://bucket/part-*.parquet"):
        assert same(prepare(config(task, tmp_path / "b", None), 16), memory)
    with pytest.raises(UserError, match=r"memory://bucket/none.parquet: there is no such file; check the address"):
        prepare(config("memory://bucket/none.parquet", tmp_path / "b"), 16)
    with pytest.raises(UserError, match=r"--no-stream: memory://bucket/part-0.parquet can only be streamed"):
        prepare(config("memory://bucket", tmp_path / "b", False), 16)
    with pytest.raises(UserError, match=r"nostore://x: .* and others are"):
        prepare(config("nostore://x", tmp_path / "b"), 16)


def test_what_is_not_in_files_is_not_streamed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--stream: task reviews makes its own rows; leave it out"):
        prepare(DataConfig("reviews", stream=True, cache=tmp_path), 16)
    with pytest.raises(UserError, match="--stream: task hub:a/b is read from the Hub; give files of your own"):
        prepare(DataConfig("hub:a/b", stream=True, cache=tmp_path), 16)
    held = write(tmp_path / "all.parquet", table(60))
    with pytest.raises(UserError, match="--workers: these rows are held in memory and tokenized there"):
        prepare(DataConfig(str(held), workers=2, cache=tmp_path), 16)


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"s3://bucket/a.csv: s3:// needs .* not installed: pip install s3fs"):
            prepare(config("s3://bucket/a.csv", tmp_path), 16)
    else:
        pytest.skip("s3fs is installed")


def test_a_sample_is_that_of_all_keys_sorted() -> None:
    """The sample as it is defined, over many sizes, classes and seeds."""
    import zlib

    drawn = np.random.default_rng(0)
    for seed in range(60):
        labels = drawn.integers(-1, drawn.integers(1, 20), drawn.integers(1, 3000))
        size = int(drawn.integers(1, len(labels) + 1))
        keys = np.random.PCG64([seed, zlib.crc32(b"s")]).random_raw(len(labels))
        order = np.argsort(keys, kind="stable")
        found = stratified_sample(labels, size, seed, "s")
        if size == len(labels):
            continue
        assert len(found) == size and np.array_equal(keys[found], np.sort(keys[found]))
        for label, count in zip(*np.unique(labels[found], return_counts=True), strict=True):
            members = order[labels[order] == label]
            assert np.array_equal(found[labels[found] == label], members[:count])
            assert abs(count - len(members) * size / len(labels)) < 1


@pytest.mark.parametrize("stream", [False, True])
def test_text_without_the_mark_of_the_encoding_that_was_named_is_told(stream: bool, tmp_path: Path) -> None:
    path = tmp_path / "mail.csv"
    path.write_text("text,label\nlate,no\nfine,yes\n", "utf-8")
    with pytest.raises(UserError, match=r"mail\.csv.* line \d: this is not utf-16 text; save the file as UTF-8"):
        load_split(DataConfig(task=str(path), encoding="utf-16", stream=stream, cache=tmp_path / "cache"))
