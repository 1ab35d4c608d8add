"""A converted model follows the dense one: exact gradients, and a run like any other."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_cli import TINY
from test_convert import MODERN, dense, tokens

from longread import records
from longread.cli import main as cli
from longread.config import RunConfig
from longread.data.dataset import Split
from longread.data.tokenizer import Encoded
from longread.errors import UserError
from longread.inference.run import evaluate
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.classifier import Classifier
from longread.models.convert import convert
from longread.problems import MULTI_LABEL
from longread.training import trainer as training
from longread.training.distill import distill
from longread.training.distillation import ROUNDING, HeldOut, distillation_trainer, divergence
from longread.training.run import train
from longread.training.trainer import Trainer

CONFIG = RunConfig(
    tokens_per_micro_batch=400, batch_size=8, learning_rate=3e-3, warmup_fraction=0.05, weight_decay=0.0
)  # fmt: skip


def texts(rows: int = 60, longest: int = 36) -> Split:
    generator = np.random.default_rng(0)
    lengths = generator.integers(12, longest, rows)
    ids = generator.integers(4, 60, lengths.sum()).astype(np.int32)
    encoded = Encoded(ids, np.concatenate([[0], np.cumsum(lengths)]), None, np.zeros(rows, dtype=np.bool_))
    return Split(encoded, np.zeros(rows, dtype=np.int64), np.arange(rows), "train", "made", ("a", "b", "c"), "")


def following(
    student: Classifier, teacher: Classifier, directory: Path, steps: int = 20, split: Split | None = None,
    **changes: Any,
) -> tuple[Trainer, HeldOut]:  # fmt: skip
    config = replace(CONFIG, **changes)
    trainer = distillation_trainer(student, teacher, split or texts(), config, steps, directory, lambda event: None)
    assert isinstance(trainer.evaluation, HeldOut)
    return trainer, trainer.evaluation


@pytest.mark.parametrize("attention", ["linformer", "bigbird"])
def test_gradients_are_the_whole_batchs_at_any_token_budget(attention: str, tmp_path: Path) -> None:
    options = {"projection_size": 6} if attention == "linformer" else {"block_size": 2, "num_random_blocks": 1}
    teacher, found = dense().double(), []
    for budget in (1000, 20, 1):
        student = convert(teacher, attention, 64, **options)
        trainer, _ = following(student, teacher, tmp_path, tokens_per_micro_batch=budget)
        assert trainer.objective.with_outputs  # type: ignore[attr-defined]  # both parts of the loss are there
        rows = trainer.rows[:8]
        loss, _ = trainer.gradients.accumulate(rows, trainer.gradients.planned([rows], 0), 0)
        gradients = [p.grad.flatten() for p in trainer.gradients.trained if p.grad is not None]
        found.append(torch.cat([loss.reshape(1), *gradients]))
    assert found[0].abs().max() > 0.01
    for other in found[1:]:
        assert (other - found[0]).abs().max() / found[0].abs().max() < 1e-10


@pytest.mark.parametrize(
    ("attention", "options"),
    [
        ("linformer", {"projection_size": 6}),
        ("performer", {"num_features": 8}),
        ("performer", {"num_features": 8, "centred": True, "learned_features": True}),
    ],
)
def test_the_hidden_states_come_nearer(attention: str, options: dict[str, int], tmp_path: Path) -> None:
    teacher = dense()
    student = convert(teacher, attention, 64, **options)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    teachers = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    trainer, held_out = following(student, teacher, tmp_path, steps=30)
    trainer.run()
    assert trainer.step == 30 and held_out.kept
    assert held_out.after < 0.8 * held_out.before
    assert all(torch.equal(teachers[name], tensor) for name, tensor in teacher.state_dict().items())
    for name, tensor in student.state_dict().items():
        drawn = ("draws",) if options.get("learned_features") else ("features", "draws")
        trained = name.startswith("blocks.") and not name.endswith(drawn)
        assert torch.equal(before[name], tensor) != trained, name


@pytest.mark.parametrize("attention", ["performer", "linformer"])
@pytest.mark.parametrize(
    "teacher",
    [{"relative_buckets": 16, "relative_max_distance": 30}, MODERN],
    ids=["a bias by offset", "rotary positions"],
)
def test_encoders_with_other_positions_are_distilled(attention: str, teacher: dict[str, Any], tmp_path: Path) -> None:
    """As MPNet and ModernBERT have them."""
    options = {"projection_size": 6} if attention == "linformer" else {"num_features": 8, "learned_features": True}
    made = dense(**teacher)
    if made.relative_bias is not None:
        torch.nn.init.normal_(made.relative_bias.weight, generator=torch.Generator().manual_seed(0))
    student = convert(made, attention, 64, **options)
    trainer, held_out = following(student, made, tmp_path, steps=30)
    trainer.run()
    assert held_out.kept and held_out.after < 0.8 * held_out.before


def test_the_divergence_of_several_labels_is_of_each() -> None:
    generator = torch.Generator().manual_seed(0)
    given, wanted = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    ours, theirs = (torch.distributions.Bernoulli(logits=logits) for logits in (given, wanted))
    expected = torch.distributions.kl_divergence(theirs, ours).sum()
    torch.testing.assert_close(divergence(given, wanted, MULTI_LABEL), expected)
    halves = divergence(given[:2], wanted[:2], MULTI_LABEL) + divergence(given[2:], wanted[2:], MULTI_LABEL)
    torch.testing.assert_close(halves, expected)


def test_projections_learn_slower_on_longer_rows(tmp_path: Path) -> None:
    teacher, factors = dense(), []
    for split in (texts(), texts(longest=200)):  # 24 and 106 tokens on average
        student = convert(teacher, "linformer", 256)
        trainer, held_out = following(student, convert(teacher, "dense", 256), tmp_path, split=split)
        assert {name.rpartition(".")[2] for name in held_out.factors} == {"key_projection", "value_projection"}
        factors.append(held_out.factors["0.attention.key_projection"])
        assert max(trainer.base_rates) == pytest.approx(3e-3 * factors[-1])
    assert factors[0] == 10 and 1 < factors[1] < 5


def test_a_distillation_that_leads_away_is_undone(tmp_path: Path) -> None:
    teacher = dense()
    student = convert(teacher, "linformer", 64, projection_size=16)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    trainer, held_out = following(student, teacher, tmp_path, learning_rate=3.0)
    trainer.run()
    assert held_out.after > held_out.before and not held_out.kept
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


def test_nothing_is_dropped(tmp_path: Path) -> None:
    teacher = dense(dropout=0.5)
    student = convert(teacher, "longformer", 64, attention_window=80).train()  # dense, on rows as short as these
    trainer, held_out = following(student, teacher, tmp_path, steps=1)
    student.train(trainer.objective.drops)
    rows = trainer.rows[:8]
    loss, _ = trainer.gradients.accumulate(rows, trainer.gradients.planned([rows], 0), 0)
    assert loss < 1e-6 and held_out.distance() < 1e-6


@pytest.fixture
def teacher(tmp_path: Path) -> records.Run:
    return train(RunConfig(train_rows=32, eval_rows=16, epochs=1, hidden_size=16, num_attention_heads=2, vocab_size=300,
                           max_length=96, threads=1, dropout=0.0, out=tmp_path / "teacher"))  # fmt: skip


def distilling(teacher: records.Run, out: Path, **changes: Any) -> RunConfig:
    given = {"train_rows": 40, "batch_size": 8, "threads": 1, "projection_size": 8, "max_length": 128}
    return RunConfig(attention="linformer", init=str(teacher.directory / "checkpoint"), out=out, **(given | changes))


def test_it_is_a_run_like_any_other(
    teacher: records.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Recorded, skipped when finished, resumed to the same bits; what begins from it names it and its teacher."""
    monkeypatch.setattr(training, "SECONDS_BETWEEN_EVENTS", 0.0)
    whole = distill(distilling(teacher, tmp_path / "whole"), steps=7)
    record = whole.record
    assert (record["kind"], record["status"], record["attention"]) == ("distill", "ok", "linformer")
    assert record["config"]["steps"] == record["distillation"]["steps"] == 7
    assert record["distillation"]["rows_seen"] == 7 * 8 - 2  # 30 rows in four batches, the last one of six
    assert [line["step"] for line in whole.history()] == [4, 7]
    ancestor = {"run_id": teacher.record["run_id"], "kind": "train", "seconds": teacher.record["train_seconds"]}
    assert record["lineage"] == [{"role": "teacher", **ancestor}]
    events: list[dict[str, Any]] = []
    distill(distilling(teacher, tmp_path / "whole"), steps=7, on_event=events.append)
    assert [event["event"] for event in events] == ["skipped"]

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = distill(distilling(teacher, tmp_path / "stopped"), steps=7, on_event=stop)
    assert (stopped.record["status"], stopped.record["run_id"]) == ("interrupted", record["run_id"])
    resumed = distill(distilling(teacher, tmp_path / "stopped"), steps=7, resume=True)
    a, b = (load_file(run.directory / "checkpoint" / "model.safetensors") for run in (whole, resumed))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert resumed.record["distillation"]["distance_before"] == record["distillation"]["distance_before"]

    tuned = train(RunConfig(attention="linformer", init=str(resumed.directory / "checkpoint"), train_rows=32,
                            eval_rows=16, epochs=1, threads=1, out=tmp_path / "tuned"))  # fmt: skip
    assert [(a["role"], a["run_id"]) for a in tuned.record["lineage"]] == [
        ("distillation", record["run_id"]),
        ("teacher", teacher.record["run_id"]),
    ]
    assert tuned.record["lineage"][0]["seconds"] == resumed.record["train_seconds"] > 0
    assert tuned.record["conversion"]["distillation"] == resumed.record["distillation"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_covered_is_not_distilled(
    precision: Any, teacher: records.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The learning rate is not to blame: the converted model answers as its teacher, and is kept."""
    config = distilling(teacher, tmp_path, precision=precision)
    config = replace(config, attention="longformer", options={"attention_window": 256})
    run = distill(config, steps=3)
    done = run.record["distillation"]
    assert (run.record["status"], done["steps"], done["rows_seen"], done["kept"]) == ("ok", 0, 0, True)
    assert done["distance_after"] == done["distance_before"] < ROUNDING
    assert "nothing to distil: the new attention covers" in caplog.text and "learning rate" not in caplog.text
    made = from_pretrained(run.directory / "checkpoint")
    own = convert(from_pretrained(teacher.directory / "checkpoint"), "longformer", 128, attention_window=256)
    assert all(torch.equal(own.state_dict()[name], tensor) for name, tensor in made.state_dict().items())


@pytest.mark.parametrize(("asked", "expected"), [(40, 40), (96, 96), (128, 128), (None, 96)])
def test_the_new_model_is_as_long_as_was_asked_for(
    asked: int | None, expected: int, teacher: records.Run, tmp_path: Path
) -> None:
    """Shorter than its teacher, too: then the texts are cut."""
    run = distill(distilling(teacher, tmp_path, max_length=asked), steps=1)
    assert run.record["config"]["max_length"] == run.record["encoder"]["max_length"] == expected
    assert run.record["dataset"]["tokens_per_row"]["longest"] <= expected
    assert from_pretrained(run.directory / "checkpoint").config.max_length == expected


def test_rows_that_the_teacher_was_not_trained_on_stay_unseen(tmp_path: Path) -> None:
    lines = [f"{word} number {i},{label}" for i in range(30) for label, word in (("a", "good"), ("b", "bad"))]
    (tmp_path / "own.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    first = train(RunConfig(task=str(tmp_path / "own.csv"), validation_fraction=0.3, sample_seed=5, epochs=1, threads=1,
                            hidden_size=16, num_attention_heads=2, vocab_size=300, out=tmp_path / "first"))  # fmt: skip
    config = RunConfig(task=str(tmp_path / "own.csv"), init=str(first.directory / "checkpoint"), attention="local",
                       options={"local_window": 8}, threads=1, batch_size=8, out=tmp_path / "second")  # fmt: skip
    run = distill(config, steps=1)
    assert run.record["dataset"]["train"]["rows"] == first.record["dataset"]["train"]["rows"] == 42
    scored = evaluate(RunConfig(task=str(tmp_path / "own.csv"), out=tmp_path), run.directory).record["dataset"]["eval"]
    assert scored["fingerprint"] == first.record["dataset"]["eval"]["fingerprint"]


def test_what_a_distillation_cannot_use_is_refused(teacher: records.Run, tmp_path: Path) -> None:
    config = distilling(teacher, tmp_path / "out")
    for steps, wrong, message in (
        (0, config, "--distill-steps 0: must be 1 or more"),
        (5, replace(config, epochs=3), "epochs: a distillation does not use it"),
        (5, replace(config, init="scratch"), "names no teacher"),
        (5, replace(config, train_rows=3), "3 rows are too few"),
        (5, replace(config, attention="dense", options={}, max_length=96), "dense attention of this length already"),
    ):
        with pytest.raises(UserError, match=message):
            distill(wrong, steps=steps)
    assert not (tmp_path / "out" / "runs").exists()


def test_the_command_converts_distils_and_can_be_trained_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "--out", "first"]) == 0
    (first,) = records.load_runs(Path("first"))
    order = ["convert", str(first.directory / "checkpoint"), "--attention", "linformer", "--projection-size", "8",
             "--max-length", "128"]  # fmt: skip
    assert cli.main([*order, "--out", "plain"]) == 0
    assert cli.main([*order, "--out", "plain"]) == 2  # what is there is not overwritten
    assert cli.main([*order, "--out", "other", "--batch-size", "4"]) == 2
    assert "--batch-size: of a distillation alone; give --distill-task" in capsys.readouterr().err
    distilled = [*order, "--out", "made", "--threads", "1", "--distill-task", "reviews", "--distill-rows", "24"]
    assert cli.main(distilled) == 2
    assert cli.main([*distilled, "--distill-steps", "3"]) == 0
    (run,) = records.load_runs(Path("made"))
    made = str(run.directory / "checkpoint")
    conversion = json.loads(Path(made, "config.json").read_text())["longread_conversion"]
    assert (conversion["from"], conversion["to"], conversion["max_length"]) == ("dense", "linformer", 128)
    assert conversion["distillation"]["steps"] == 3
    assert from_pretrained(made).loading.converted == conversion
    model = [given for n, given in enumerate(TINY) if not {"--hidden-size", "--num-attention-heads", "--vocab-size",
             "--num-hidden-layers"} & {TINY[n], TINY[n - 1]}]  # fmt: skip
    assert cli.main(["train", *model, "--init", made, "--attention", "linformer", "--out", "second"]) == 0
    (second,) = records.load_runs(Path("second"))
    assert second.record["conversion"] == conversion
    tiny = [given if model[n - 1] != "--max-length" else "200" for n, given in enumerate(model)]
    longer = ["train", *tiny, "--init", made, "--attention", "linformer", "--out", "third"]
    assert cli.main(longer) == 0
    assert "positions 129 to 200 are copies of the 128 trained ones" in capsys.readouterr().err
    (third,) = records.load_runs(Path("third"))
    assert third.record["encoder"]["max_length"] == 200
    assert (third.record["conversion"]["from"], third.record["conversion"]["trained"]) == ("linformer", 128)
    assert cli.main([*longer, "--projection-size", "4"]) == 2  # not ignored: the checkpoint has eight


def test_a_conversion_is_remembered_in_hugging_faces_layout_too(tmp_path: Path) -> None:
    converted = convert(dense(), "longformer", 64, attention_window=8)
    save_pretrained(converted, tmp_path / "made", layout="huggingface")
    again = from_pretrained(tmp_path / "made")
    assert again.loading.converted == converted.loading.converted
    with torch.no_grad():
        assert torch.allclose(again.classify(*tokens(30, 9)), converted.classify(*tokens(30, 9)), atol=1e-6)
