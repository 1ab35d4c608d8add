"""Every mechanism behind transformers' Auto classes, pipeline and Trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import longread
from checkpoints import TALK, save_with_tokenizer
from mechanisms import label, sparse_settings

transformers = pytest.importorskip("transformers")
import longread.hf  # noqa: E402


def saved(directory: Path, attention: str, options: dict[str, Any], **config: Any) -> Path:
    return save_with_tokenizer(directory, attention, options, hidden_size=12, max_length=64, **config)


BIASED = ("linformer performer", {"projection_size": 5, "relative_buckets": 12})


@pytest.mark.parametrize(("attention", "options"), [*sparse_settings(), BIASED], ids=label)
def test_auto_classes_give_our_logits_and_save_what_we_read(
    attention: str, options: dict[str, Any], tmp_path: Path
) -> None:
    place = saved(tmp_path, attention, options, label_names=("no", "yes", "maybe"), num_labels=3)
    ours = longread.from_pretrained(place)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(place)
    assert theirs.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    ids = torch.randint(300, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(40) < torch.tensor([40, 7, 0])[:, None]
    with torch.inference_mode():
        expected = ours(ids, mask)
        given = theirs(ids, mask.long(), output_hidden_states=True)
    torch.testing.assert_close(given.logits, expected)
    assert [tuple(state.shape) for state in given.hidden_states] == [(3, 40, 12)] * 3
    assert not given.hidden_states[-1][1, 7:].any()
    theirs.save_pretrained(tmp_path / "again")
    with torch.inference_mode():
        torch.testing.assert_close(longread.from_pretrained(tmp_path / "again")(ids, mask), expected)


def test_thresholds_survive_and_it_is_said_that_a_pipeline_ignores_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = saved(tmp_path, "dense", {}, label_names=("no", "yes"))
    settings = json.loads((place / "config.json").read_text()) | {"longread_decision": {"thresholds": {"yes": 0.3}}}
    (place / "config.json").write_text(json.dumps(settings))
    (place / "longread_checksums.json").unlink()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(place)
    assert "pipeline does not apply them" in caplog.text
    theirs.save_pretrained(tmp_path / "again")
    again = longread.from_pretrained(tmp_path / "again")
    assert again.decision.thresholds == {"yes": 0.3}


def test_a_pipeline_reads_long_texts(tmp_path: Path) -> None:
    place = saved(tmp_path, "linformer", {"projection_size": 8}, label_names=("bad", "good"))
    texts = ["a warm film", " ".join(TALK * 20)]
    pipe = transformers.pipeline("text-classification", model=str(place), device="cpu")
    answers = pipe(texts, truncation=True, max_length=64, top_k=None)
    for answer, ours in zip(answers, longread.load(place).predict(texts), strict=True):
        assert {a["label"]: a["score"] for a in answer} == pytest.approx(ours.probabilities, abs=1e-5)


def test_a_linear_model_says_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "longread-linear", "attention": "nbsvm"}')
    for kind in ("AutoModel", "AutoModelForSequenceClassification"):
        with pytest.raises(ValueError, match=r"a linear model \(nbsvm\) .* longread.load"):
            getattr(transformers, kind).from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (torch.tensor([0, 1]), "single_label_classification"),
        (torch.tensor([[0.0, 1.0], [1.0, 1.0]]), "multi_label_classification"),
    ],
)
def test_the_loss_follows_the_problem(labels: torch.Tensor, problem: str, tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(saved(tmp_path, "performer", {}))
    done = model(torch.tensor([[1, 2, 3], [4, 5, 6]]), labels=labels)
    assert model.config.problem_type == problem
    by_hand = {
        "single_label_classification": torch.nn.functional.cross_entropy,
        "multi_label_classification": torch.nn.functional.binary_cross_entropy_with_logits,
    }[problem](done.logits, labels)
    torch.testing.assert_close(done.loss, by_hand)


@pytest.mark.parametrize(("names", "problem"), [(("a", "b"), "multi_label_classification"), (("y",), "regression")])
def test_a_pipeline_answers_as_the_problem_type_says(names: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    place = saved(tmp_path, "performer", {}, label_names=names, num_labels=len(names), problem_type=problem)
    pipe = transformers.pipeline("text-classification", model=str(place), device="cpu")
    ((*answers,),) = pipe(["a warm film"], top_k=None)
    (ours,) = longread.load(place).predict(["a warm film"])
    expected = ours.probabilities or {"y": ours.value}
    assert {a["label"]: a["score"] for a in answers} == pytest.approx(expected, abs=1e-5)
    pipe.model.save_pretrained(tmp_path / "again")
    assert longread.from_pretrained(tmp_path / "again").config.problem_type == problem


@pytest.mark.filterwarnings("default")  # of what Trainer uses inside
def test_trainer_trains(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        saved(tmp_path, "bigbird", {"block_size": 4})
    )
    rows = [{"input_ids": [i % 2 + 1] * 9, "attention_mask": [1] * 9, "labels": i % 2} for i in range(32)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=30, learning_rate=1e-2, report_to=[], use_cpu=True, save_steps=30,
        per_device_train_batch_size=8, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
    assert trainer.train().training_loss < 0.69
    with torch.inference_mode():
        answers = longread.from_pretrained(tmp_path / "out" / "checkpoint-30")(torch.tensor([[1] * 9, [2] * 9]))
    assert answers.argmax(1).tolist() == [0, 1]
