"""Rows that a checkpoint was trained on are not scored, whatever was made of it and wherever the rows lie."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import longread
from longread import records
from longread.cli.main import main
from longread.config import RunConfig
from longread.errors import UserError
from longread.inference import run as evaluation
from longread.inference.origin import origin_of
from longread.inference.unseen import default_task
from longread.training.calibrate import calibrate
from longread.training.distill import distill
from longread.training.pretrain import pretrain

WORDS = {"bug": "it crashes at once", "praise": "works so well", "wish": "please add this"}
TINY: dict[str, Any] = {"epochs": 1, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 300, "max_length": 16,
                        "threads": 1}  # fmt: skip
COLUMNS: dict[str, Any] = {"text_columns": ("body",), "label_columns": ("team",)}


def table(path: Path, numbers: Sequence[int], wrong: int = 1000) -> Path:
    """Three rows a number: of each a text that no other row has, its team, and what a second reader took it for.

    One row in `wrong` has another team.
    """
    path.parent.mkdir(exist_ok=True)
    teams = ["bug" if row % wrong == wrong - 1 else team for row, team in enumerate(list(WORDS) * len(numbers))]
    texts = [f"{words} {n}" for n in numbers for words in WORDS.values()]
    rows = [f"{text},{team}" for text, team in zip(texts, teams, strict=True)]
    others = random.Random(len(rows)).choices(list(WORDS), k=len(rows))
    lines = [f"{row},{other}" for row, other in zip(rows, others, strict=True)]
    path.write_text("\n".join(["body,team,checked", *lines]) + "\n")
    return path


def texts_of(*paths: Path) -> list[str]:
    return [line.split(",")[0] for path in paths for line in path.read_text().splitlines()[1:]]


def scored(run: records.Run, *paths: Path) -> set[str]:
    """The texts of these files that a run has scored."""
    found, texts = run.predictions(), texts_of(*paths)
    assert found is not None
    return {texts[row] for row in found["row"]}


def trained_on(task: Path, out: Path, **changes: Any) -> records.Run:
    values = TINY | COLUMNS | {"task": str(task), "out": out, "validation_fraction": 0.2, "sample_seed": 3}
    return longread.train(RunConfig(**values | changes))


def evaluated(checkpoint: Path, out: Path, task: Path | str, **changes: Any) -> records.Run:
    return longread.evaluate(RunConfig(task=str(task), out=out, **changes), checkpoint)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file and what was trained on it: run, linear."""
    made = tmp_path_factory.mktemp("seen")
    task = table(made / "mail.csv", range(30))
    table(made / "new.csv", range(100, 110))
    for name, changes in (("run", {}), ("linear", {"attention": "tfidf"})):
        shutil.move(trained_on(task, made / "out", **changes).directory, made / name)
    return made


def held_out_of(directory: Path) -> str:
    run = records.load_run(directory)
    assert run is not None
    return str(run.record["dataset"]["eval"]["fingerprint"])


def convert(checkpoint: Path, out: Path, *options: str) -> Path:
    assert main(["convert", str(checkpoint), "--out", str(out), *options]) == 0
    return out


def make(kind: str, place: Path, out: Path) -> Path:
    """What the name says, of a checkpoint that was converted before."""
    linear = kind == "linear, calibrated"
    first = place / "linear" if linear else convert(place / "run", out / "longer", "--max-length", "32")
    if kind == "converted":
        return convert(first, out / kind, "--attention", "local")
    rows = table(out / "more.csv", range(200, 240), wrong=5)
    if kind == "distilled":
        config = RunConfig(task=str(rows), init=str(first), attention="local", options={"local_window": 4}, threads=1,
                           batch_size=8, out=out, **COLUMNS)  # fmt: skip
        return convert(distill(config, steps=1).directory, out / kind, "--max-length", "64")
    calibrate(str(first), str(rows), out / kind, config=RunConfig(**COLUMNS))
    return out / kind


@pytest.mark.parametrize("kind", ["converted", "distilled", "calibrated", "linear, calibrated"])
def test_what_is_made_of_a_checkpoint_knows_its_rows(
    kind: str, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the bytes of the file, which has another name here."""
    made = make(kind, place, tmp_path)
    shutil.copy(place / "mail.csv", tmp_path / "renamed.csv")
    run = evaluated(made, tmp_path, tmp_path / "renamed.csv")
    assert run.record["dataset"]["eval"]["fingerprint"] == held_out_of(place / "run")
    assert len(scored(evaluated(made, tmp_path, place / "new.csv"), place / "new.csv")) == 30
    assert "it is not known" not in caplog.text
    if kind == "distilled":  # on texts of their own
        assert len(scored(evaluated(made, tmp_path, tmp_path / "more.csv"), tmp_path / "more.csv")) == 12
    else:
        with pytest.raises(UserError, match=r"was trained on mail.csv, which is not here; say with --task"):
            default_task(made, None)


def test_nothing_tells_where_the_file_lay(place: Path, tmp_path: Path) -> None:
    made = convert(place / "run", tmp_path / "made", "--attention", "local")
    assert not any(str(place) in path.read_text() for path in made.glob("*.json"))


def test_other_labels_are_read_of_the_rows_that_were_held_out(place: Path, tmp_path: Path) -> None:
    run = evaluated(place / "run", tmp_path, place / "mail.csv", label_columns=("checked",))
    plain = evaluated(place / "run", tmp_path, place / "mail.csv")
    assert scored(run, place / "mail.csv") == scored(plain, place / "mail.csv")
    assert run.record["metrics"] != plain.record["metrics"]
    with pytest.raises(UserError, match="another choice would score rows that it has seen"):
        evaluated(place / "run", tmp_path, place / "mail.csv", label_columns=("checked",), validation_fraction=0.4)


@pytest.mark.parametrize("where", ["folder", "pattern", "streamed", "eval_file", "in its place"])
def test_the_training_file_among_others(
    where: str, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Known by its bytes or, where they are others now, by its place."""
    caplog.set_level(logging.INFO, "longread")
    own = scored(evaluated(place / "run", tmp_path, place / "mail.csv"), place / "mail.csv")
    folder = tmp_path / "all"
    files = [table(folder / "a.csv", range(300, 310)), folder / "b.csv"]
    shutil.copy(place / "mail.csv", folder / "b.csv")
    run, changes = place / "run", {}
    if where == "in its place":
        run = trained_on(folder / "b.csv", tmp_path / "out").directory
        (folder / "b.csv").write_text((folder / "b.csv").read_text() + "works so well now,praise,wish\n")
        own = scored(evaluated(run, tmp_path, folder / "b.csv"), folder / "b.csv")
        assert "b.csv: was changed since" in caplog.text
    task = {"pattern": str(folder / "*.csv"), "eval_file": str(place / "mail.csv")}.get(where, str(folder))
    if where == "eval_file":
        changes = {"eval_file": str(folder)}
    found = evaluated(run, tmp_path, task, **changes, stream=True if where == "streamed" else None)
    assert scored(found, *files) == own | set(texts_of(files[0]))
    left = len(texts_of(*files)) - len(own) - 30
    assert f"{left} of {left + 30 + len(own)} rows were trained on; the others are scored" in caplog.text


def test_of_a_table_of_several_files(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Which rows were held out is known where all of them are here, one alone is given, and in another order."""
    own = [table(tmp_path / "mail" / f"{n}.csv", range(100 * n, 100 * n + 10)) for n in (1, 2)]
    run = trained_on(tmp_path / "mail", tmp_path / "out", stream=True)
    held_out = scored(run, *own)
    assert len(held_out) == 12
    again = trained_on(tmp_path / "mail", tmp_path / "out", stream=True, epochs=2)  # its rows are kept already
    assert origin_of(again.directory).files == origin_of(run.directory).files  # type: ignore[union-attr]
    one = scored(evaluated(run.directory, tmp_path, own[1]), own[1])
    assert one == held_out & set(texts_of(own[1])) and one
    (tmp_path / "moved").mkdir()
    moved = [
        Path(shutil.move(own[0], tmp_path / "moved" / "b.csv")),
        Path(shutil.move(own[1], tmp_path / "moved" / "a.csv")),
    ]
    assert scored(evaluated(run.directory, tmp_path, tmp_path / "moved"), *moved[::-1]) == held_out
    moved[0].unlink()
    table(tmp_path / "moved" / "c.csv", range(900, 905))
    rest = evaluated(run.directory, tmp_path, tmp_path / "moved")
    assert scored(rest, moved[1], tmp_path / "moved" / "c.csv") == set(texts_of(tmp_path / "moved" / "c.csv"))
    assert "a.csv was trained on with other files, which are not here" in caplog.text


def test_of_a_table_that_was_trained_on_whole_nothing_is_scored(place: Path, tmp_path: Path) -> None:
    run = trained_on(place / "mail.csv", tmp_path, eval_file=str(place / "new.csv"))
    shutil.copy(place / "mail.csv", tmp_path / "copy.csv")
    made = convert(run.directory, tmp_path / "made", "--attention", "local")
    with pytest.raises(UserError, match=r"copy.csv: the checkpoint was trained on all of its rows; give others"):
        evaluated(made, tmp_path, tmp_path / "copy.csv")
    assert len(scored(evaluated(made, tmp_path, place / "new.csv"), place / "new.csv")) == 30
    with pytest.raises(UserError, match="trained or evaluated on this file"):
        calibrate(str(made), str(tmp_path / "copy.csv"), tmp_path / "calibrated", config=RunConfig(**COLUMNS))


def test_rows_of_an_earlier_training_are_seen_and_those_of_a_pretraining_are_not(place: Path, tmp_path: Path) -> None:
    """The same file twice, with other rows held out: what neither has read is left."""
    first = scored(evaluated(place / "run", tmp_path, place / "mail.csv"), place / "mail.csv")
    values: dict[str, Any] = {"hidden_size": None, "num_attention_heads": None, "vocab_size": None}
    init = {"init": str(place / "run" / "checkpoint"), "sample_seed": 4, "out": tmp_path / "out"}
    kept = {name: value for name, value in (TINY | COLUMNS | init).items() if name not in values}
    run = longread.train(RunConfig(task=str(place / "mail.csv"), validation_fraction=0.2, **kept))
    second = scored(run, place / "mail.csv")
    both = scored(evaluated(run.directory, tmp_path, place / "mail.csv"), place / "mail.csv")
    assert both == first & second and both and both != second
    config = RunConfig(task=str(place / "mail.csv"), text_columns=("body",), sample_seed=5, out=tmp_path / "texts",
                       **{name: value for name, value in TINY.items() if name != "epochs"})  # fmt: skip
    texts = pretrain(config, steps=1)
    run = longread.train(RunConfig(task=str(place / "mail.csv"), **kept | {"init": str(texts.directory)}))
    assert scored(evaluated(run.directory, tmp_path, place / "mail.csv"), place / "mail.csv") == scored(
        run, place / "mail.csv"
    )


@pytest.mark.parametrize("given", [{"task": "none.csv"}, {"eval_file": "none.csv"}])
@pytest.mark.parametrize("known", ["another", "this", None])
def test_a_file_that_is_not_there_is_said_before_a_model_is_loaded(
    given: dict[str, str], known: str | None, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = shutil.copytree(place / "run", tmp_path / "run")
    if known == "this":  # it was trained on the file
        record = (checkpoint / "run.json").read_text()
        (checkpoint / "run.json").write_text(record.replace(str(place / "mail.csv"), "none.csv"))
    if known is None:
        checkpoint = shutil.copytree(place / "run" / "checkpoint", tmp_path / "alone")
        (checkpoint / "longread_run.json").unlink()
    monkeypatch.setattr(evaluation, "_network", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=r"none.csv: there is no such file"):
        evaluation.evaluate(RunConfig(**{"task": str(place / "mail.csv"), "out": tmp_path} | given), checkpoint)


def test_nothing_is_said_of_a_checkpoint_that_is_not_there(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="no such directory"):
        evaluated(tmp_path / "not here", tmp_path, place / "mail.csv")
    assert "not known" not in caplog.text
