"""A trained checkpoint calibrated afterwards, on rows of its own; and what a conversion keeps."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longread
from longread.cli import main as cli
from longread.config import RunConfig
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.convert import convert
from longread.models.decision import Decision
from longread.training.calibrate import calibrate
from longread.training.run import train

WORDS = ("late", "never", "broken", "thanks", "great", "quick")


def table(path: Path, seed: int, rows: int = 120, names: Sequence[str] = ("bad", "good")) -> str:
    """The second half of the words is good, three times in four."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "topic"])
        for row in range(rows):
            word = int(random.integers(6))
            label = names[int(word > 2) if random.random() < 0.75 else int(random.integers(len(names)))]
            writer.writerow([f"{WORDS[word]} {row}", label])
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("calibrate")
    task = table(made / "own.csv", 0)
    for seed in (1, 2):
        table(made / f"more-{seed}.csv", seed)
    config = RunConfig(
        task=task, eval_file=str(made / "more-2.csv"), text_columns=("body",), label_columns=("topic",), out=made,
        hidden_size=8, num_attention_heads=2, epochs=4, learning_rate=3e-2, max_length=16, threads=1, batch_size=8,
        choose_threshold="f1",
    )  # fmt: skip
    shutil.move(train(config).directory, made / "run")
    return made


def logits(checkpoint: Path, texts: list[str]) -> Any:
    p = longread.load(checkpoint).predict_proba(texts)
    return np.log(p[:, 1] / p[:, 0])


def test_a_temperature_is_chosen_on_the_rows_and_kept(place: Path, tmp_path: Path) -> None:
    run, out = place / "run", tmp_path / "calibrated"
    assert cli.main(["calibrate", str(run), str(place / "more-1.csv"), "--out", str(out)]) == 0
    before, after = longread.load(run), longread.load(out)
    texts = [f"{word} 7" for word in WORDS]
    temperature = after.decision.temperature
    assert temperature is not None and temperature != 1 and after.decision.rows == 120
    np.testing.assert_allclose(logits(out, texts), logits(run, texts) / temperature, rtol=1e-4, atol=1e-5)
    assert [one.label for one in after.predict(texts)] == [one.label for one in before.predict(texts)]
    assert after.decision.thresholds != before.decision.thresholds, "moved with the probabilities"
    found = {
        name: longread.evaluate(RunConfig(eval_file=str(place / "more-1.csv"), task=str(place / "own.csv"),
                                          text_columns=("body",), label_columns=("topic",), out=tmp_path), run)
        for name in ("before",)
    }  # fmt: skip
    with pytest.raises(longread.UserError, match="rows that its temperature was chosen on"):
        longread.evaluate(RunConfig(task=str(place / "more-1.csv"), eval_file=str(place / "more-1.csv"), out=tmp_path,
                                    text_columns=("body",), label_columns=("topic",)), out)  # fmt: skip
    assert found["before"].record["metrics"]["loss"] > 0
    twice = calibrate(str(out), table(tmp_path / "again.csv", 3), tmp_path / "twice", config=RunConfig(
        text_columns=("body",), label_columns=("topic",)), choose_threshold="f1")  # fmt: skip
    assert twice.temperature is not None and twice.threshold_metric == "f1"
    np.testing.assert_allclose(
        logits(tmp_path / "twice", texts), logits(run, texts) / twice.temperature, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("own.csv", "was trained or evaluated on this file"),
        ("more-2.csv", "was trained or evaluated on this file"),
        ("copy.csv", "was trained or evaluated on these rows"),
        ("three.csv", "the checkpoint's labels|label"),
        ("nowhere.csv", "nowhere.csv"),
    ],
)
def test_rows_that_it_knows_or_cannot_read_are_refused(
    rows: str, told: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(place / "more-2.csv", place / "copy.csv")
    table(place / "three.csv", 4, names=("bad", "good", "ugly"))
    out = tmp_path / "out"
    assert cli.main(["calibrate", str(place / "run"), str(place / rows), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert any(part in error for part in told.split("|")) and error.splitlines()[-1].startswith("longread: ")
    assert not out.exists()


def test_rows_that_tell_nothing_leave_nothing(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "easy.csv").write_text("body,topic\n" + "late 1,bad\nthanks 2,good\n" * 5)
    out = tmp_path / "out"
    assert cli.main(["calibrate", str(place / "run"), str(tmp_path / "easy.csv"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "10 rows tell no temperature: all of them are answered right; give more" in error and not out.exists()
    assert error.count("temperature") == 1
    assert cli.main(["calibrate", str(place / "run"), str(place / "more-1.csv"), "--out", str(place)]) == 2


@pytest.mark.parametrize("attention", ["tfidf", "nbsvm"])
def test_a_linear_model_is_calibrated_alike(place: Path, tmp_path: Path, attention: str) -> None:
    config = RunConfig(task=str(place / "own.csv"), text_columns=("body",), label_columns=("topic",), out=tmp_path)
    run, out = train(replace(config, attention=attention)).directory, tmp_path / "out"
    assert cli.main(["calibrate", str(run), str(place / "more-1.csv"), "--out", str(out)]) == 0
    after = longread.load(out)
    temperature, texts = after.decision.temperature, [f"{word} 7" for word in WORDS]
    assert temperature is not None and temperature != 1 and after.decision.rows == 120
    np.testing.assert_allclose(logits(out, texts), logits(run, texts) / temperature, rtol=1e-6)
    assert after.origin is not None and after.origin.text_columns == ("body",)
    with pytest.raises(longread.UserError, match="rows that its temperature was chosen on"):
        longread.evaluate(replace(config, eval_file=str(place / "more-1.csv")), out)


def test_a_conversion_keeps_what_was_chosen(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = Decision({"good": 0.9}, "f1", 1.5, 40)
    model = from_pretrained(place / "run")
    model.decision = own
    assert convert(model, "longformer", 64).decision == own
    save_pretrained(model, tmp_path / "dense")
    arguments = ["convert", str(tmp_path / "dense"), "--attention", "bigbird", "--out", str(tmp_path / "sparse")]
    assert cli.main(arguments) == 0
    assert "thresholds: kept" in capsys.readouterr().err
    texts = [f"{word} {n}" for word in WORDS for n in range(9)]
    dense, sparse = (longread.load(tmp_path / name).predict(texts) for name in ("dense", "sparse"))
    assert [one.label for one in dense] == [one.label for one in sparse]
    assert longread.load(tmp_path / "sparse").decision == own
