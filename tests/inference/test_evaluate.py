"""A checkpoint on rows: which are scored, and against which names their labels are read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longread
from longread import records
from longread.config import RunConfig
from longread.data.config import Cut
from longread.errors import UserError
from longread.inference.metrics import per_class
from longread.inference.run import evaluate
from longread.inference.unseen import default_task
from longread.models.convert import convert
from longread.problems import f1_name

WORDS = {"bug": "it crashes at once", "praise": "works so well", "wish": "please add this"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> records.Run:
    folder = tmp_path_factory.mktemp("mail")
    lines = [f"{words} number {i},{label}" for i in range(30) for label, words in WORDS.items()]
    (folder / "mail.csv").write_text("body,team\n" + "\n".join(lines) + "\n")
    config = RunConfig(
        task=str(folder / "mail.csv"), text_columns=("body",), label_columns=("team",), validation_fraction=0.2,
        sample_seed=3,
        epochs=4, learning_rate=3e-3, hidden_size=16, num_attention_heads=2, vocab_size=300, max_length=32, threads=1,
        out=folder / "out",
    )  # fmt: skip
    run = longread.train(config)
    assert run.record["metrics"]["accuracy"] == 1
    return run


def scored(trained: records.Run, **changes: Any) -> dict[str, Any]:
    config = RunConfig(**({"task": trained.record["task"], "out": trained.directory.parents[1]} | changes))  # type: ignore[arg-type]
    return evaluate(config, trained.directory).record


def test_the_rows_held_out_of_training_are_scored(trained: records.Run) -> None:
    eval_of = lambda record: record["dataset"]["eval"]["fingerprint"]  # noqa: E731
    assert eval_of(scored(trained)) == eval_of(trained.record)
    assert trained.record["dataset"]["eval"]["rows"] == 18


@pytest.mark.parametrize("changes", [{"validation_fraction": 0.5}, {"sample_seed": 5, "eval_rows": 500}])
def test_rows_that_it_was_trained_on_are_not_scored(changes: dict[str, Any], trained: records.Run) -> None:
    with pytest.raises(UserError, match=rf"--{next(iter(changes)).replace('_', '-')} .* rows that it has seen; leave"):
        scored(trained, **changes)


def test_a_copy_of_the_training_file_is_that_file(trained: records.Run, tmp_path: Path) -> None:
    shutil.copy(trained.record["task"], tmp_path / "copy.csv")
    record = scored(trained, task=str(tmp_path / "copy.csv"))
    assert record["dataset"]["eval"]["fingerprint"] == trained.record["dataset"]["eval"]["fingerprint"]


def test_where_all_of_the_file_was_trained_on_the_other_one_is_scored(trained: records.Run, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(
        "body,team\n" + "works so well,praise\nplease add this,wish\nit crashes,bug\n" * 2
    )
    config = RunConfig(
        task=trained.record["task"], eval_file=str(tmp_path / "new.csv"), text_columns=("body",), threads=1,
        label_columns=("team",), epochs=1, hidden_size=16, num_attention_heads=2, vocab_size=300, out=tmp_path,
    )  # fmt: skip
    run = longread.train(config)
    assert scored(run, out=tmp_path)["dataset"]["eval"] == run.record["dataset"]["eval"]


def test_all_rows_are_scored_where_it_is_not_known_what_was_trained_on(
    trained: records.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a checkpoint alone; and another file of the training file's name is another one."""
    shutil.copytree(trained.directory / "checkpoint", tmp_path / "alone")
    (tmp_path / "alone" / "longread_run.json").unlink()
    other = tmp_path / Path(trained.record["task"]).name
    other.write_text("text,label\n" + "works so well,praise\nplease add this,wish\nit crashes,bug\n" * 2)
    config = RunConfig(task=str(other), out=tmp_path)
    assert evaluate(config, tmp_path / "alone").record["dataset"]["eval"]["rows"] == 6
    assert "it is not known what" in caplog.text
    assert evaluate(config, trained.directory).record["dataset"]["eval"]["rows"] == 6


def test_more_tokens_than_it_reads_are_refused(trained: records.Run) -> None:
    with pytest.raises(UserError, match=r"--max-length 4096: .* reads 32 tokens; give fewer"):
        scored(trained, max_length=4096)
    assert scored(trained, max_length=8)["config"]["max_length"] == 8


def test_another_problem_type_than_that_of_training_is_refused(trained: records.Run) -> None:
    with pytest.raises(UserError, match="was trained for single_label_classification"):
        scored(trained, problem_type="regression")


def test_int8_is_scored_and_said(trained: records.Run) -> None:
    exact, rounded = (scored(trained, precision=precision) for precision in ("float32", "int8"))
    assert rounded["environment"]["precision"] == rounded["config"]["precision"] == "int8"
    assert rounded["run_id"] != exact["run_id"]
    assert rounded["num_parameters"] == exact["num_parameters"]
    assert rounded["metrics"]["accuracy"] == 1
    assert 0 < abs(rounded["metrics"]["loss"] - exact["metrics"]["loss"]) < 0.05
    plain, small = (longread.load(trained.directory, "cpu", precision=p) for p in ("float32", "int8"))
    texts = [*WORDS.values()]
    assert [a.label for a in plain.predict(texts)] == [a.label for a in small.predict(texts)]
    assert small.scorer.fingerprint != plain.scorer.fingerprint


def test_a_pattern_of_mechanisms_is_scored_and_named(trained: records.Run, tmp_path: Path) -> None:
    model = convert(longread.from_pretrained(trained.directory / "checkpoint"), "dense local", local_window=4)
    longread.save_pretrained(model, tmp_path / "pattern")
    config = RunConfig(task=trained.record["task"], text_columns=("body",), label_columns=("team",), out=tmp_path)
    record = evaluate(config, tmp_path / "pattern").record
    assert (record["attention"], record["mechanism"]["title"]) == ("dense local", "Dense-Local")
    assert record["metrics"]["accuracy"] == 1  # one layer, which is the dense one


def test_labels_in_another_order_are_the_models_own(trained: records.Run, tmp_path: Path) -> None:
    """The model's order of names and the file's differ: a checkpoint that knows `wish` as its first class."""
    checkpoint = shutil.copytree(trained.directory / "checkpoint", tmp_path / "turned")
    settings = json.loads((checkpoint / "config.json").read_text())
    names = ["wish", "bug", "praise"]
    settings["id2label"] = {str(i): name for i, name in enumerate(names)}
    settings["label2id"] = {name: i for i, name in enumerate(names)}
    (checkpoint / "config.json").write_text(json.dumps(settings))
    order = [names.index(name) for name in sorted(names)]
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    for name in [name for name in weights if weights[name].shape[:1] == (3,)]:
        turned = weights[name].clone()
        turned[order] = weights[name]
        weights[name] = turned
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    (checkpoint / "longread_checksums.json").unlink()
    config = RunConfig(task=trained.record["task"], text_columns=("body",), label_columns=("team",), out=tmp_path)
    record = evaluate(config, checkpoint).record
    assert record["metrics"]["accuracy"] == 1
    assert record["dataset"]["label_names"] == names


def test_the_file_given_is_scored_whole_and_may_lack_a_class(trained: records.Run, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("body,team\nworks so well,praise\nplease add this,wish\nworks so well,wish\n")
    record = scored(trained, eval_file=str(tmp_path / "new.csv"))
    as_task = scored(trained, task=str(tmp_path / "new.csv"), text_columns=("body",), label_columns=("team",))
    assert as_task["metrics"] == record["metrics"]  # none of its rows was held out
    assert scored(trained, task=str(tmp_path / "new.csv"))["metrics"] == record["metrics"]  # columns as in training
    (tmp_path / "other.csv").write_text((tmp_path / "new.csv").read_text().replace("body,team", "text,label"))
    assert scored(trained, task=str(tmp_path / "other.csv"))["metrics"] == record["metrics"]
    assert (record["dataset"]["eval"]["rows"], record["metrics"]["accuracy"]) == (3, pytest.approx(2 / 3))
    assert record["per_class"]["wish"] == {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert record["confusion_matrix"] == [[0, 0, 0], [0, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize("label", ["Wish", "0", "complaint"])
def test_a_label_that_the_model_does_not_know(trained: records.Run, tmp_path: Path, label: str) -> None:
    path = tmp_path / "new.csv"
    path.write_text(f"body,team\nworks so well,praise\nplease add this,{label}\n")
    with pytest.raises(UserError, match=f"new.csv, line 3: label '{label}' is not one of: bug, praise, wish"):
        scored(trained, eval_file=str(path))
    settings = {"text_columns": ("body",), "label_columns": ("team",), "out": tmp_path, "hidden_size": 16}
    with pytest.raises(UserError, match=f"line 3: label '{label}' is not one of: bug, praise, wish"):
        longread.train(RunConfig(task=trained.record["task"], eval_file=str(path), **settings))  # type: ignore[arg-type]


def test_long_texts_in_chunks(trained: records.Run, tmp_path: Path) -> None:
    noise = "zq " * 40
    (tmp_path / "new.csv").write_text(
        "body,team\n" + "".join(f"{noise}{f' {w}' * 9},{name}\n" for name, w in WORDS.items())
    )
    config = RunConfig(task=trained.record["task"], eval_file=str(tmp_path / "new.csv"), out=tmp_path)
    head = evaluate(config, trained.directory).record
    tail, chunks = (
        evaluate(replace(config, **vars(cut)), trained.directory).record
        for cut in (Cut(truncation="tail"), Cut(truncation="chunk", chunk_stride=4))
    )
    assert [record["metrics"]["accuracy"] for record in (head, tail)] == [pytest.approx(1 / 3), 1]
    assert [record["truncated_fraction"] for record in (head, tail, chunks)] == [1, 1, 0]
    assert (tail["config"]["truncation"], chunks["config"]["chunk_stride"]) == ("tail", 4)
    assert "truncation" not in head["config"]
    with pytest.raises(UserError, match="--chunk-stride: only with --truncation chunk"):
        evaluate(replace(config, chunk_stride=4), trained.directory)
    assert len({record["run_id"] for record in (head, tail, chunks)}) == 3
    assert chunks["dataset"]["eval"]["rows"] == 3
    found = longread.load(trained.directory)
    found.cut = Cut(truncation="chunk", chunk_stride=4)
    expected = found.predict_proba([noise + f" {words}" * 9 for words in WORDS.values()])
    assert chunks["metrics"]["loss"] == pytest.approx(-np.log(np.diag(expected)).mean(), abs=1e-5)


def test_measures_of_each_class() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 2, 0, 1])
    table, confusion = per_class(labels, np.eye(4)[predicted], ["a", "b", "c", "d"])
    assert table["a"] == {"precision": 2 / 3, "recall": 2 / 3, "f1": pytest.approx(2 / 3), "support": 3}
    assert table["b"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert table["c"] == table["d"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert confusion == ((2, 0, 1, 0), (1, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    assert f1_name(["no", "yes"]) == "F1 of 'yes'"
    assert f1_name("abc") == "macro F1"


def test_the_task_is_the_checkpoints_own(trained: records.Run, tmp_path: Path) -> None:
    assert default_task(trained.directory / "checkpoint", None) == trained.record["task"]
    assert default_task(tmp_path, "new.csv") == "new.csv"
    with pytest.raises(UserError, match="give --task or --eval-file"):
        default_task(tmp_path, None)


def test_mistakes_are_shown_where_they_are_asked_for_and_nowhere_else(
    trained: records.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from longread.cli.main import main

    secret = "it crashes at once <b>today</b>"
    (tmp_path / "new.csv").write_text(f"body,team\n{secret},praise\nworks so well,praise\nplease add this,wish\n")
    for asked in ([], ["--mistakes", "5"]):
        options = ["--eval-file", str(tmp_path / "new.csv"), "--out", str(tmp_path), *asked]
        assert main(["evaluate", str(trained.directory), *options]) == 0
        told = capsys.readouterr().err
        (folder,) = (tmp_path / "runs").iterdir()
        pages = list(folder.glob("mistakes.html"))
        assert (secret in told, len(pages)) == (bool(asked), len(asked) // 2)
        assert "Precision" in told and "Tokens of the text" in told and "expected calibration error" in told
        assert str(folder / "predictions.parquet") in told
    assert "1 of 1 mistakes" in told and "says bug" in told and "is praise" in told
    assert "&lt;b&gt;today" in pages[0].read_text("utf-8")
    others = [path for path in folder.iterdir() if path.name != "mistakes.html"]
    assert others and not any(b"crashes at once" in path.read_bytes() for path in others)
    record = records.load_runs(tmp_path)[0].record
    assert [one["rows"] for one in record["by_length"]["slices"]] == [3]
