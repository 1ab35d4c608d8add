"""What a file may not do to its reader: never end, unpack without end, take all memory, or hold half a character."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longread.data import limits, reading
from longread.data.config import DataConfig
from longread.data.load import load_split, load_task
from longread.data.stream import blocks_of_file
from longread.data.tokenizer import LONGEST_RUN, in_short_runs, train_tokenizer
from longread.errors import UserError

GOOD = "text,label\n" + "a film,good\nno film,bad\n" * 30
ENDLESS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a pipe": ("a.csv", os.mkfifo),
    "a pipe of Parquet": ("a.parquet", os.mkfifo),
    "zeros": ("a.csv.gz", lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_refused(what: str, tmp_path: Path) -> None:
    name, make = ENDLESS[what]
    make(tmp_path / name)
    for read in (lambda path: load_split(DataConfig("t.csv", eval_file=path)), lambda path: list(blocks_of_file(path))):
        with pytest.raises(UserError, match=rf"{name}: is a pipe or a device; write what it gives to a file first"):
            read(tmp_path / name)


def test_a_bomb_an_endless_line_and_a_full_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    data = DataConfig(str(path))
    rows = len(load_task(data)[0])
    with monkeypatch.context() as patch:
        patch.setattr(limits, "UNPACKED_BYTES", 100)
        assert len(load_task(data)[0]) == rows  # text that packs well is none
        patch.setattr(limits, "UNPACKED_TIMES", 2)
        with pytest.raises(UserError, match=r"a\.csv\.gz: unpacks to more than .* 2 times its size"):
            load_task(data)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "LONGEST_TEXT", 12)
        with pytest.raises(UserError, match=r"a\.csv\.gz, line 2: has more than 12 characters"):
            load_task(data)
    monkeypatch.setattr(limits, "CHECK_BYTES", 1000)
    monkeypatch.setattr(limits, "memory", lambda: (100 * 2**30, 4 * 2**30))
    with pytest.raises(UserError, match=r"memory is full after \d+ rows .4\.0 GiB of 100\.0 are free.; give a part"):
        load_task(data)
    assert sum(map(len, blocks_of_file(path))) == 60  # block by block it takes none


def test_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("max", "1000000"), ("now", "600000"), ("memory.stat", "anon 9\ninactive_file 50000\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(limits, "CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "now"), "inactive_file"),))
    assert limits.memory() == (1_000_000, 450_000)
    (tmp_path / "max").write_text("max\n")
    assert limits.memory()[0] > 1_000_000


@pytest.mark.parametrize(
    "line", ['"label": "\\ud800"', '"lab\\ud800el": 1, "label": 2', '"label": 1, "more": ["\\udc00"]']
)
def test_half_a_character_is_refused_wherever_it_is(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good \\ud83d\\ude00", "label": 1}\n{"text": "a", ' + line + "}\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: column .* holds half a character"):
        load_split(DataConfig("t.csv", eval_file=path))


def test_shards_of_a_split_are_one_table_and_a_missing_one_is_named(tmp_path: Path) -> None:
    rows = GOOD.splitlines(keepends=True)[1:]
    for number in range(3):
        shard = tmp_path / f"train-0000{number}-of-00003.csv"
        shard.write_text("text,label\n" + "".join(rows[number * 20 : number * 20 + 20]))
    (tmp_path / "test.csv").write_text(GOOD)
    train, test = load_task(DataConfig(str(tmp_path)))
    assert (train.texts, train.labels.tolist()) == (test.texts, test.labels.tolist())
    (tmp_path / "train-00002-of-00003.csv").write_text("text,label\nfine,good\n,bad\n")
    with pytest.raises(UserError, match=r"train-00002-of-00003\.csv, line 3: column 'text' is empty"):
        load_task(DataConfig(str(tmp_path)))
    for other in ("train-2-of-00003.csv", "train-00002-of-99999999999999.csv"):
        (tmp_path / other).write_text(GOOD)
        with pytest.raises(UserError, match="split 'train' is to have 3 shards"):
            load_task(DataConfig(str(tmp_path)))
        (tmp_path / other).unlink()
    (tmp_path / "train-00001-of-00003.csv").unlink()
    with pytest.raises(UserError, match="split 'train' is to have 3 shards"):
        load_task(DataConfig(str(tmp_path)))


@given(st.lists(st.tuples(st.sampled_from("aé1 \n.,_日"), st.integers(1, 2500)), max_size=4))
def test_texts_are_learned_from_in_runs_of_bounded_length(runs: list[tuple[str, int]]) -> None:
    text = "".join(mark * count for mark, count in runs)
    pieces = list(in_short_runs([text]))
    assert "".join(pieces) == text
    assert all(len(run[0]) <= LONGEST_RUN for piece in pieces for run in re.finditer(r"(.)\1*", piece, re.S))
    if not any(count > LONGEST_RUN for _, count in runs) and len(text) <= LONGEST_RUN:
        assert pieces == [text]


def test_a_million_characters_without_a_space_are_learned_from_in_seconds() -> None:
    normal = ["a long warm film", "日本語のレビュー。" * 300, "http://" + "a1b2" * 240] * 2
    assert list(in_short_runs(normal)) == normal
    endless = "ab" * 500_000
    assert {len(piece) for piece in in_short_runs([endless])} == {LONGEST_RUN}
    assert train_tokenizer([*normal, endless], 300, True).inner.token_to_id("abab") is not None
