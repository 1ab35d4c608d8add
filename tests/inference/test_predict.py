"""Predictions for a file: one answer for each row, in order, in every format, and what is refused."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import torch

from longread.cli import logs
from longread.cli import main as cli
from longread.cli.live import AnswersView
from longread.data import stream
from longread.data.config import Cut
from longread.data.stream import Block, blocks_of_file
from longread.data.tokenizer import byte_tokenizer
from longread.errors import UserError
from longread.inference import outputs, resuming
from longread.inference import predictor as room
from longread.inference.answers import Answer
from longread.inference.origin import Origin
from longread.inference.prediction import Prediction
from longread.inference.predictor import Predictor
from longread.inference.scoring import TorchScorer
from longread.models.classifier import build
from longread.system.runtime import pick_device

PACK: dict[str, Any] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}  # fmt: skip
TEXTS = ["one film", "", "two\u2028\x0cfilms", "  ", "three", "four"]


def predictor(pairs: bool | None = None) -> Predictor:
    torch.manual_seed(0)
    model = build("dense", vocab_size=260, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=2,
                  max_length=32, type_vocab_size=2)  # fmt: skip
    model.head.classifier.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    origin = Origin("t.csv", {"text_columns": ["body"]}, pairs)
    return Predictor(TorchScorer(model.eval()), byte_tokenizer(), ("no", "yes"), "the model", origin=origin)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """`longread predict` on a small model, in blocks of two rows; (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stream, "BLOCK", 2)
    trained_on = {"pairs": True, "single": False, "any": None}
    monkeypatch.setattr(
        room, "load", lambda name, device, precision: pick_device(device) and predictor(trained_on[name])
    )

    def call(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["predict", *arguments])
        found = capsys.readouterr()
        return status, found.out, found.err

    return call


def write_table(path: Path) -> None:
    rows = [{"text": text, "key": f"k{n}"} for n, text in enumerate(TEXTS)]
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, compression="zstd", chunksize=4)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as out:
            out.write_table(table)
    elif ".jsonl" in path.name:
        rows[1]["text"] = None  # type: ignore[assignment]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(PACK.get(path.suffix, bytes)(data))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "key"], delimiter="\t" if path.suffix == ".tsv" else ";")
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize(
    "name",
    [
        "a.txt", "a.csv", "a.tsv", "a.jsonl", "a.jsonl.gz", "a.jsonl.bz2", "a.jsonl.zst", "a.jsonl.xz", "a.parquet",
        "a.arrow", "a.feather",
    ],
)  # fmt: skip
def test_output_rows_are_input_rows(run: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    table = name != "a.txt"
    if table:
        write_table(Path(name))
    else:
        Path(name).write_text("\r\n".join(TEXTS) + "\n", newline="")
    status, out, _ = run("any", "--file", name, *(["--id-column", "key"] if table else []))
    assert status == 0
    lines = [json.loads(line) for line in out.split("\n")[:-1]]
    assert [line["row"] for line in lines] == list(range(6))
    assert [line["label"] is None for line in lines] == [False, True, False, True, False, False]
    assert lines[1]["why"] == "the text is empty"
    assert lines[1]["probabilities"] == {}
    if table:
        assert [line["key"] for line in lines] == [f"k{n}" for n in range(6)]
    expected = predictor().predict(TEXTS)
    for line, prediction in zip(lines, expected, strict=True):
        assert line["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
    assert "empty, and without an answer: 2 of 6 texts" in caplog.text


def rows_of(path: Path) -> list[dict[str, Any]]:
    """What was written, of any format."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    packed = path.suffix if path.suffix in PACK else None
    with pa.input_stream(str(path), compression={".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}.get(packed)) as file:
        text = file.read().decode()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in text.split("\n")[:-1]]
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if ".tsv" in path.name else ","))


OUTPUTS = ["new/out.jsonl", "out.csv", "out.parquet", "out.jsonl.gz", "out.tsv.bz2", "out.csv.zst"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_hold_the_same_and_appear_whole(run: Any, name: str) -> None:
    write_table(Path("a.csv"))
    status, out, err = run("any", "--file", "a.csv", "--id-column", "key", "--keep-columns", "text", "--out", name)
    assert (status, out) == (0, "")
    assert name in err
    rows = rows_of(Path(name))
    expected = predictor().predict(TEXTS)
    assert [row["text"][:3] for row in rows] == [text[:3] for text in TEXTS]
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(6)]
    assert [row["label"] or None for row in rows] == [prediction.label for prediction in expected]
    yes = [row["probabilities"].get("yes") if "probabilities" in row else row["probability_yes"] for row in rows]
    assert [float(value or 0) for value in yes] == pytest.approx([p.probabilities.get("yes", 0) for p in expected])
    before = Path(name).read_bytes()
    Path("b.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": 3}\n')
    status, _, err = run("any", "--file", "b.jsonl", "--out", name)
    assert (status, Path(name).read_bytes()) == (2, before)
    assert f"--out {name}: is there already; --overwrite replaces it" in err
    status, _, err = run("any", "--file", "b.jsonl", "--out", name, "--overwrite")
    assert (status, Path(name).read_bytes()) == (2, before)
    assert "b.jsonl, line 3: column 'text' holds 3 where text is expected" in err
    Path("b.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    assert run("any", "--file", "b.jsonl", "--out", name, "--overwrite")[0] == 0
    assert len(rows_of(Path(name))) == 2
    assert not [path for path in Path(name).parent.iterdir() if ".part" in path.name]


@pytest.mark.parametrize(
    ("names", "cell"), [(("late", "rude"), "late;rude"), (("late; lost", "rude"), '["late; lost", "rude"]')]
)
def test_several_labels_of_a_cell_can_be_told_apart(names: tuple[str, str], cell: str, tmp_path: Path) -> None:
    columns = outputs.Columns(names, problem_type="multi_label_classification")
    table = outputs.format_of(tmp_path / "out.csv", columns)
    answer = Answer(0, (), Prediction(None, dict.fromkeys(names, 0.9), labels=names))
    (row,) = csv.DictReader(io.StringIO((table.header + table.block([answer])).decode()))
    assert row["labels"] == cell


@pytest.mark.parametrize(("name", "how"), [("out.csv", "interrupted"), *((name, "killed") for name in OUTPUTS)])
def test_a_stopped_output_goes_on_behind_its_last_whole_block(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    out = Path(name)
    write_table(Path("a.csv"))
    command = ("any", "--file", "a.csv", "--out", name)
    assert run(*command)[0] == 0
    whole, answered = out.read_bytes(), 0
    out.unlink()
    own = Predictor._answer

    def stops(self: Predictor, *given: Any) -> Any:
        nonlocal answered
        answered += 1
        if answered == 3:
            raise KeyboardInterrupt
        return own(self, *given)

    def dies(self: resuming.Output, keep: bool) -> None:
        """As the file is after a kill: half a block stands behind what the notes know of."""
        self.file.write(b"half a block" * 200)
        self.file.close()

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "_answer", stops)
        if how == "killed":
            patch.setattr(resuming, "SAVE_SECONDS", 0.0)
            patch.setattr(resuming.Output, "stop", dies)
        assert run(*command)[0] == 130
        assert not out.exists()
    before = threading.active_count()
    monkeypatch.setattr(Predictor, "_answer", stops)  # from the third block on, which is now the first
    monkeypatch.setattr("time.time", lambda: 1e9)  # a file's bytes do not depend on when it was written
    caplog.clear()
    assert run(*command)[0] == 0
    assert answered == 4
    assert "goes on behind 4 texts" in caplog.text
    assert "empty, and without an answer: 2 of 6 texts" in caplog.text
    assert out.read_bytes() == whole
    assert not [path for path in out.parent.iterdir() if ".part" in path.name]
    assert threading.active_count() == before


@pytest.mark.parametrize("changed", ["the input", "an option"])
def test_an_output_of_something_else_begins_anew(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, changed: str
) -> None:
    def stops(self: resuming.Output, answers: Any, tally: Any) -> None:
        write(self, answers, tally)
        raise KeyboardInterrupt

    write_table(Path("a.csv"))
    write = resuming.Output.write
    command = ["any", "--file", "a.csv", "--out", "out.csv"]
    with monkeypatch.context() as patch:
        patch.setattr(resuming.Output, "write", stops)
        assert run(*command)[0] == 130
    assert Path(".out.csv.part.json").exists()
    if changed == "the input":
        Path("a.csv").write_text(Path("a.csv").read_text().replace("one film", "two films"))
    else:
        command += ["--id-column", "key"]
    assert run(*command)[0] == 0
    assert "begins anew" in caplog.text
    assert len(rows_of(Path("out.csv"))) == len(TEXTS)


def test_texts_of_the_command_line_and_of_standard_input(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = run("any", "fine", "")
    assert (status, [json.loads(line)["label"] is None for line in out.splitlines()]) == (0, [False, True])
    monkeypatch.setattr("sys.stdin", iter(["one\n", "\n", "two"]))
    status, out, _ = run("any")
    assert (status, [json.loads(line)["label"] is None for line in out.splitlines()]) == (0, [False, True, False])


def test_an_answer_says_how_much_it_read(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    clf, texts = predictor(), ["a" * 29, "a" * 300, ""]
    read = [(p.tokens, p.tokens_in_text, p.truncated) for p in clf.predict(texts)]
    assert read == [(32, 32, False), (32, 303, True), (0, 0, False)]
    _, out, _ = run("any", *texts)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["tokens"], line["tokens_in_text"]) for line in lines] == [found[:2] for found in read]
    assert "longer than the model reads, and cut: 1 of 3 texts" in caplog.text


@pytest.mark.parametrize("way", ["tail", "chunk"])
def test_a_long_text_is_read_as_asked_for(run: Any, way: Any) -> None:
    clf, text = predictor(), "a" * 30 + "b" * 29
    clf.cut = Cut(truncation=way)
    status, out, _ = run("any", text, "--truncation", way)
    found = json.loads(out)
    assert (status, found["probabilities"]) == (0, pytest.approx(clf.predict([text])[0].probabilities))
    assert (found["tokens"], found["tokens_in_text"]) == (62 if way == "chunk" else 32, 62)
    assert found["probabilities"] != pytest.approx(predictor().predict([text])[0].probabilities, abs=1e-4)
    assert len(clf.explain([text])[0].tokens) == found["tokens"] - 2


def test_probabilities_as_an_array() -> None:
    clf = predictor()
    found = clf.predict_proba(["one", "", "two"])
    assert (found.shape, clf.classes_.tolist()) == ((3, 2), ["no", "yes"])
    assert np.isnan(found[1]).all()
    assert found[2].tolist() == pytest.approx(list(clf.predict(["two"])[0].probabilities.values()), abs=1e-6)
    assert clf.predict_proba([]).shape == (0, 2)
    (why,) = clf.explain(["one"], label="no")
    assert why.explained_label == "no"


def test_explain_wants_a_pair_where_predict_does() -> None:
    with pytest.raises(UserError, match="trained on pairs of texts; give the second one"):
        predictor(pairs=True).explain(["a"])
    with pytest.raises(UserError, match="trained on single texts; leave the second one out"):
        predictor(pairs=False).explain(["a"], ["b"])


def test_pairs(run: Any) -> None:
    Path("a.csv").write_text("left,right,question\na,b,c\nd,e,f\n")
    Path("a.txt").write_text("a\nd\n")
    answers_of = lambda out: [json.loads(line)["probabilities"]["yes"] for line in out.splitlines()]  # noqa: E731
    _, both, _ = run("pairs", "--file", "a.csv", "--text-columns", "left", "right")
    expected = [p.probabilities["yes"] for p in predictor().predict(["a", "d"], ["b", "e"])]
    assert answers_of(both) == pytest.approx(expected)
    _, given, _ = run("pairs", "--file", "a.txt", "--pair", "b")
    assert answers_of(given)[0] == pytest.approx(expected[0])
    _, alone, _ = run("pairs", "a", "--pair", "b")
    assert answers_of(alone) == pytest.approx(expected[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pairs one", "trained on pairs of texts; give the second one"),
        ("single one --pair two", "trained on single texts; leave the second one out"),
        ("any --file a.csv --pair x --text-columns left right", "--pair: the file has two text columns already"),
        ("any --file a.csv --text-columns nothing", "no column 'nothing'; the columns there are: left, right"),
        ("any --file a.csv", "name one text column, or two, with --text-columns"),
        ("any --file a.csv --text-columns left --id-column id", "there is no column 'id'"),
        ("any text --keep-columns x", "--keep-columns: only with --file"),
        ("any --file a.txt --id-column id", "a.txt has no columns"),
        ("any --file b.txt", "nothing to classify"),
        ("any --file a.doc", "this kind of file cannot be read"),
        ("any text --file a.csv", "not both"),
        ("any text --id-column x", "--id-column: only with --file"),
        ("any text --out a.xml", "ends in .jsonl, .csv, .tsv (also with .gz, .zst or .bz2) or .parquet"),
        ("any text --out a.parquet.gz", "ends in"),
        ("any --file c.csv --keep-columns label", "column 'label' cannot be kept"),
        ("any text --device cuda:99", "--device cuda:99: torch sees no"),
    ],
)  # fmt: skip
def test_what_is_refused(run: Any, arguments: str, message: str) -> None:
    Path("a.csv").write_text("left,right\na,b\n")
    Path("c.csv").write_text("text,label\na,b\n")
    Path("a.txt").write_text("a\n")
    Path("b.txt").write_text("")
    status, out, err = run(*arguments.split())
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_only_column_is_no_other_one_than_the_model_was_trained_on(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("new.csv").write_text("body,team\nlate again,delivery\n")
    Path("team.csv").write_text("team\ndelivery\n")
    for file, wrong, mend in (("new.csv --delimiter ;", "body,team", ", or give the right --delimiter"),
                              ("team.csv", "team", "")):  # fmt: skip
        status, out, err = run("any", "--file", *file.split())
        assert (status, out, err) == (2, "", (
            f"longread: {file.split()[0]}: there is no column 'body', which the model was trained on; name another "
            f"with --text-columns{mend}; the columns there are: {wrong}\n"
        ))  # fmt: skip
    assert run("any", "--file", "team.csv", "--text-columns", "team")[0] == 0
    public = replace(predictor(), origin=Origin("imdb", {}, False, ("text",)))
    monkeypatch.setattr(room, "load", lambda *_, **__: public)
    assert run("public", "--file", "team.csv")[0] == 0
    assert "team.csv: the texts are read from column 'team'" in caplog.text


def test_a_file_is_read_no_further_than_it_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(50_000)))
    monkeypatch.setattr(stream, "BLOCK", 100)
    lines = 0
    own = json.loads

    def counted(text: str) -> Any:
        nonlocal lines
        lines += 1
        return own(text)

    monkeypatch.setattr(json, "loads", counted)
    blocks = blocks_of_file(path)
    assert next(blocks).texts[0] == "text 0"
    assert next(blocks).texts[-1] == "text 199"
    assert lines <= 200
    blocks.close()


def test_progress_is_said_often(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(logs, "SECONDS_OF_SILENCE", 0.01)
    logs.set_up(logs.LogSettings())
    with logs.never_silent("predict"), AnswersView(before=100) as view:
        view.on_progress(200, 0.5)
        time.sleep(0.2)
    assert "200 texts" in capsys.readouterr().err.splitlines()[-1]
    began = view.began
    assert view.state(began + 10) == "200 texts, 10 a second, 20 s left"
    view.on_progress(200, None)
    assert view.state(began + 100) == "200 texts, 1.0 a second"


def test_blocks_say_how_much_of_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 2)
    for name in ("a.csv", "a.jsonl.zst", "a.jsonl.xz", "a.parquet"):
        write_table(tmp_path / name)
        read = [block.read for block in blocks_of_file(tmp_path / name)]
        assert read == sorted(read)  # type: ignore[type-var]
        assert read[-1] == 1


def test_long_texts_make_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_CHARACTERS", 10)
    found = [block.texts for block in stream.blocks_of_texts(["aaaa", "bbbb", "cc", "d" * 30, "e"])]
    assert found == [["aaaa", "bbbb", "cc"], ["d" * 30], ["e"]]


def test_reading_overlaps_with_the_model_and_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a block is answered the next ones are read, but no more than two; an error comes where it belongs."""
    made: list[int] = []

    def blocks() -> Iterator[Block]:
        for number in range(9):
            made.append(number)
            if number == 6:
                raise UserError("row 6 is broken")
            yield Block([f"text {number}"])

    threads = threading.active_count()
    found = predictor().stream(blocks())
    for number in range(6):
        assert next(found)[0].texts == [f"text {number}"]
        assert len(made) <= number + 3
    with pytest.raises(UserError, match="row 6"):
        next(found)
    stopped = predictor().stream(blocks())
    next(stopped)
    assert threading.active_count() > threads
    stopped.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("texts", "pairs", "message"),
    [("one", None, "a list of texts"), ([None], None, "text 0 .* is None"), (["a"], ["b", "c"], "1 texts and 2")],
)
def test_wrong_texts_in_python(texts: Any, pairs: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predictor().predict(texts, pairs)


def test_arrays_are_texts_and_broken_weights_are_said() -> None:
    clf = predictor()
    assert [p.label for p in clf.predict(np.array(["a", "b"]))] == [p.label for p in clf.predict(["a", "b"])]
    clf.model.head.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match="not numbers"):
        clf.predict(["a"])


def test_half_a_character_is_an_error_that_names_the_text() -> None:
    from longread.inference.predictor import _checked

    with pytest.raises(UserError, match=r"text 1 \(from 0\) holds half a character at position 3"):
        _checked(["good", "no \ud800"], "text")


def test_a_line_without_the_texts_key_is_named(run: Any) -> None:
    Path("a.jsonl").write_text('{"text": "a", "id": 1}\n{"text": "b"}\n{"txt": "c", "id": 3}\n')
    status, out, err = run("any", "--file", "a.jsonl", "--id-column", "id")
    assert (status, out.count("\n")) == (2, 2)
    assert "a.jsonl, line 3: has no 'text'; its keys are: txt, id" in err
    assert "--overwrite: only with --out" in run("any", "a", "--overwrite")[2]


def test_damaged_arrow_files_are_named(run: Any) -> None:
    write_table(Path("a.feather"))
    Path("cut.feather").write_bytes(Path("a.feather").read_bytes()[:200])
    Path("old.feather").write_bytes(b"FEA1....FEA1")
    Path("empty.csv").touch()
    Path("cut.csv.xz").write_bytes(lzma.compress(b"text\na film\n")[:-9])
    Path("no.csv.xz").write_bytes(b"text\na film\n")
    found = {"cut.feather": "not a whole Arrow file", "old.feather": "version 2", "empty.csv": "is empty"}
    found |= {"cut.csv.xz": "broken xz data", "no.csv.xz": "broken xz data"}
    for name, said in found.items():
        status, _, err = run("any", "--file", name)
        assert (status, err.count("\n")) == (2, 1) and f"{name}: " in err and said in err
