"""What becomes of a checkpoint's classifier: kept, reordered, made anew, and never answering untrained by accident."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import POSTNORM, edit, random_model, rewrite
from longread.data.tokenizer import byte_tokenizer
from longread.errors import UserError
from longread.inference.predictor import load
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.convert import convert


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """Labels bad, so so, good; a tokenizer of bytes."""
    model = random_model(POSTNORM | {"type_vocab_size": 2, "vocab_size": 300})
    save_pretrained(model, tmp_path / "bert", layout="huggingface", tokenizer=byte_tokenizer())
    return tmp_path / "bert"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(4, 40)[None])


@pytest.mark.parametrize("names", [("good", "bad", "so so"), ("GOOD", "Bad", "so so")])
def test_the_same_labels_in_another_order(names: tuple[str, ...], bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="longread"):
        model = from_pretrained(bert, label_names=names)
    assert model.config.label_names == names
    assert torch.equal(logits(model), logits(from_pretrained(bert))[:, [2, 0, 1]])
    assert model.loading.head == "its labels reordered to good, bad, so so".replace("good, bad", ", ".join(names[:2]))
    assert model.loading.head in caplog.text
    save_pretrained(model, bert.parent / "again")
    assert torch.equal(logits(from_pretrained(bert.parent / "again")), logits(model))


@pytest.mark.parametrize("names", [("neg", "pos"), ("bad", "so so", "fine")])
def test_other_labels_make_a_new_classifier(names: tuple[str, ...], bert: Path) -> None:
    model = from_pretrained(bert, len(names), label_names=names)
    assert model.loading.head == f"a new classifier for {', '.join(names)}, in place of bad, so so, good"
    assert model.loading.head in str(model.loading)
    assert model.loading.head_is_untrained
    assert model.head.classifier.weight.std() < 0.05
    assert torch.equal(model.head.dense.weight, from_pretrained(bert).head.dense.weight)
    with pytest.raises(UserError, match="num_labels is 4 and there are"):
        from_pretrained(bert, 4, label_names=names)


def test_labels_without_names_are_named_in_their_order(bert: Path) -> None:
    edit(bert, id2label={str(i): f"LABEL_{i}" for i in range(3)}, label2id=None)
    model = from_pretrained(bert, label_names=("x", "y", "z"))
    assert torch.equal(logits(model), logits(from_pretrained(bert)))
    assert model.loading.head == "its labels, which had no names, called x, y, z"
    assert load(bert, "cpu", label_names=("x", "y", "z")).predict(["a"])[0].label in "xyz"


def without_head(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor] | None:
    return None if name.startswith("classifier") else (name, tensor)


OTHER_TASKS: dict[str, tuple[dict[str, Any], Any]] = {
    "masked words": ({"architectures": ["BertForMaskedLM"]}, without_head),
    "tokens": ({"architectures": ["BertForTokenClassification"]}, lambda name, tensor: (name, tensor)),
    "questions": (
        {"architectures": ["BertForQuestionAnswering"]},
        lambda name, tensor: (name.replace("classifier", "qa_outputs"), tensor),
    ),
    "no pooler": ({}, lambda name, tensor: None if "pooler" in name else (name, tensor)),
}


@pytest.mark.parametrize("key", OTHER_TASKS)
def test_no_answer_from_an_untrained_classifier(key: str, bert: Path, tmp_path: Path) -> None:
    changes, change = OTHER_TASKS[key]
    edit(bert, **changes)
    rewrite(bert, change)
    with pytest.raises(UserError, match=r"no trained text classifier.*longread train --init") as caught:
        load(bert, "cpu")
    assert str(bert) in str(caught.value) and "\n" not in str(caught.value)
    assert load(bert, "cpu", untrained_head=True).predict(["a"])
    model = from_pretrained(bert, num_labels=2)
    assert model.loading.head_is_untrained
    # Converted and saved it is still untrained, and says so; trained and saved it is not.
    save_pretrained(convert(model, "longformer", attention_window=6), tmp_path / "long")
    with pytest.raises(UserError, match="no trained text classifier"):
        load(tmp_path / "long", "cpu")
    assert torch.equal(from_pretrained(tmp_path / "long").head.classifier.weight, model.head.classifier.weight)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter += 0.1
    save_pretrained(model, tmp_path / "trained")
    assert load(tmp_path / "trained", "cpu").predict(["a"])


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression", None])
def test_other_problem_types_are_read_answered_and_written(problem: str | None, bert: Path, tmp_path: Path) -> None:
    """transformers' own: several labels, a number, and a number by having one output alone."""
    several = problem == "multi_label_classification"
    edit(bert, problem_type=problem)
    if not several:
        edit(bert, id2label={"0": "LABEL_0"}, label2id=None)
        rewrite(bert, lambda name, tensor: (name, tensor[:1] if name.startswith("classifier") else tensor))
    model = from_pretrained(bert)
    assert not model.loading.initialised
    save_pretrained(model, tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "config.json").read_text())["problem_type"]
    assert written == (problem or "regression")
    for place in (bert, tmp_path / "copy"):
        answer = load(place, "cpu").predict(["a"])[0]
        given = logits(model)
        if several:
            assert answer.label is None and set(answer.probabilities) == set(model.config.label_names or ())
            chosen = {name for name, probability in answer.probabilities.items() if probability > 0.5}
            assert answer.labels is not None and set(answer.labels) == chosen
        else:
            assert answer.value is not None and answer.probabilities == {} and given.shape[1] == 1
    new = from_pretrained(bert, label_names=("bad", "so so", "good"))
    assert new.loading.head_is_untrained
    assert new.config.problem_type == "single_label_classification"
    same = from_pretrained(bert, label_names=model.config.label_names or ("score",), problem_type=written)
    assert torch.equal(logits(same), logits(model))


def test_several_numbers_are_refused(bert: Path) -> None:
    edit(bert, problem_type="regression")
    with pytest.raises(UserError, match="problem_type is regression and num_labels 3; one number is predicted"):
        from_pretrained(bert)


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = random_model(POSTNORM)  # 40 tokens
    save_pretrained(model, tmp_path, tokenizer=byte_tokenizer())
    with pytest.raises(UserError, match="embeds 40 tokens and the tokenizer has 260"):
        load(tmp_path, "cpu")
