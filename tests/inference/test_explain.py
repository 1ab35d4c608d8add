"""Attributions add up, belong to the right words, and name what decided."""

from __future__ import annotations

import dataclasses
import html
import re
from typing import Any

import pytest
import torch

import longread
from longread.data.config import Cut
from longread.data.tokenizer import train_tokenizer
from longread.errors import UserError
from longread.inference.explain import explain
from longread.inference.explain_page import page
from longread.inference.predictor import Predictor
from longread.inference.scoring import TorchScorer
from longread.models.int8 import to_int8
from longread.problems import MULTI_LABEL, SINGLE_LABEL
from mechanisms import label, sparse_settings
from pair_tokenizers import roberta_like

TEXT = 'He said "no." The film was good!  It was long, bad and\nlong; we slept... End'


def predictor(attention: str, options: dict[str, Any], **config: Any) -> Predictor:
    tokenizer = train_tokenizer([TEXT] * 3, 300, True)
    shape = {"vocab_size": 300, "hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2, "max_length": 64}
    model = longread.build(attention, **shape, type_vocab_size=2, **options, **config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return Predictor(TorchScorer(model), tokenizer, ("bad", "good"), "given")


@pytest.mark.parametrize(("attention", "options"), sparse_settings(), ids=label)
def test_attributions_add_up_to_the_difference_of_the_logits(attention: str, options: dict[str, Any]) -> None:
    model = predictor(attention, options)
    for pair in (None, "was it good?"):
        (found,) = explain(model, [TEXT], None if pair is None else [pair])
        total = sum(token.attribution for token in found.tokens)
        assert total == pytest.approx(found.logit - found.baseline_logit, rel=0.1, abs=1e-3)
        assert found.completeness_gap < 0.1
        (answer,) = model.predict([TEXT], None if pair is None else [pair])
        assert found.label == answer.label and found.probability == pytest.approx(answer.probabilities[found.label])
        assert sum(s.attribution for s in found.sentences) == pytest.approx(total)
        assert {token.part for token in found.tokens} == ({0} if pair is None else {0, 1})


def test_the_word_that_decides_has_the_largest_attribution() -> None:
    """A model whose logits are a linear function of one word's presence."""
    model = predictor("dense", {})
    word = model.tokenizer.encode([" good"], None, 64).tokens[1]
    with torch.no_grad():
        for block in model.model.blocks:
            block.attention.output.weight.zero_(), block.attention.output.bias.zero_()
            block.down.weight.zero_(), block.down.bias.zero_()
        table = model.model.embeddings.word.weight
        table[word] = 8 * torch.sign(torch.randn(12, generator=torch.Generator().manual_seed(0)))
        model.model.head.classifier.weight[1] = table[word]
        model.model.head.classifier.weight[0] = -table[word]
    (found,) = explain(model, ["it was so good it was"])
    best = max(found.tokens, key=lambda token: token.attribution)
    assert best.text and "good".startswith(best.text.strip()) and found.label == "good"


def test_places_in_the_text_and_sentences() -> None:
    (found,) = explain(predictor("dense", {}), [TEXT])
    assert all(TEXT[token.start : token.end] == token.text for token in found.tokens)
    assert [s.text for s in found.sentences] == [
        'He said "no."', "The film was good!", "It was long, bad and", "long; we slept...", "End",
    ]  # fmt: skip


def test_long_texts_are_cut_and_say_so_and_wrong_orders_are_refused() -> None:
    model = predictor("linformer", {"projection_size": 4})
    (found,) = explain(model, [TEXT * 20], label="bad")
    assert found.truncated and found.explained_label == "bad" and len(found.tokens) < 64
    with pytest.raises(UserError, match="knows bad, good"):
        explain(model, [TEXT], label="fine")
    with pytest.raises(UserError, match="list"):
        explain(model, TEXT)
    with pytest.raises(UserError, match="a model in int8 has none; take float32"):
        explain(dataclasses.replace(model, scorer=TorchScorer(to_int8(model.model), "int8")), [TEXT])


def test_a_text_without_words_has_an_answer_of_its_own() -> None:
    model = predictor("linformer", {"projection_size": 4})
    before, empty, behind = explain(model, [TEXT, " ", TEXT])
    assert before == behind == explain(model, [TEXT])[0]
    assert empty.to_json() == {"label": None, "why": "the text is empty"}
    assert empty.heading() == "no answer: the text is empty"
    assert "No answer <small>the text is empty</small>" in page([before, empty], [(TEXT,), (" ",)])


def test_the_model_is_left_as_it_was() -> None:
    model = predictor("bigbird", {"block_size": 4})
    before = model.predict([TEXT])
    explain(model, [TEXT])
    assert model.predict([TEXT]) == before
    assert model.model.embeddings.lookup is None
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_the_page_shows_hostile_text_as_text() -> None:
    hostile = '<script>alert(1)</script> & "good" film'
    model = predictor("dense", {}, label_names=("<b>bad", "good"))
    model.label_names = ("<b>bad", "good")
    found = explain(model, [hostile], label="<b>bad")
    text = page(found, [(hostile,)])
    assert "<script" not in text and "<b>bad" not in text
    shown = html.unescape(re.sub(r"<[^>]+>", "", re.findall(r'<p class="text">.*?</p>', text, re.S)[0]))
    assert shown == hostile


def test_a_pair_without_token_types_is_explained_where_its_first_text_is_global() -> None:
    """The boundary of the pair comes from the tokenizer: all token types are 0."""
    options = {"attention_window": 4, "global_tokens": "first_text"}
    model = longread.build("longformer", vocab_size=8, hidden_size=12, num_attention_heads=2, max_length=64,
                           type_vocab_size=1, **options).eval()  # fmt: skip
    reader = Predictor(TorchScorer(model), roberta_like(), ("bad", "good"), "given")
    (found,) = explain(reader, ["a b a"], ["b " * 30])
    (answer,) = reader.predict(["a b a"], ["b " * 30])
    assert found.label == answer.label and found.probability == pytest.approx(answer.probabilities[found.label])


@pytest.mark.parametrize("problem", [SINGLE_LABEL, MULTI_LABEL])
@pytest.mark.parametrize("way", ["tail", "head_tail", "chunk"])
def test_what_is_read_of_a_long_text_is_explained(way: Any, problem: Any) -> None:
    model = predictor("bigbird", {"block_size": 4})
    model.problem_type, model.cut = problem, Cut(truncation=way, chunk_stride=8 if way == "chunk" else 0)
    text = " ".join([TEXT] * 3)
    (found,) = explain(model, [text], label="good")
    (answer,) = model.predict([text])
    assert found.truncated == answer.truncated == (way != "chunk")
    assert len(found.tokens) == answer.tokens - len(model.tokenizer.marks)
    total = sum(token.attribution for token in found.tokens)
    assert total == pytest.approx(found.logit - found.baseline_logit, rel=0.1, abs=1e-3)
    places = [token.start for token in found.tokens]
    assert places == sorted(places) and (places[0] > 0) == (way == "tail")
    reading = model.read([text], None)
    logits = reading.pooled(model.scorer.logits(reading.encoded, 8192), problem)
    assert found.logit == pytest.approx(logits[0, 1], abs=1e-5)


def test_the_page_colours_words_and_no_space_before_them() -> None:
    model = predictor("dense", {})
    shown = page(explain(model, [TEXT]), [(TEXT,)])
    words = [html.unescape(found) for found in re.findall(r"<mark[^>]* title=[^>]*>(.*?)</mark>", shown)]
    assert words and not [word for word in words if word != word.lstrip()]
