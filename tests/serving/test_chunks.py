"""A long text in chunks has the answer of the predictor, whatever they were computed with."""

from __future__ import annotations

import asyncio

import pytest
import torch

from longread.data.config import Cut
from longread.data.tokenizer import byte_tokenizer
from longread.inference.predictor import Predictor
from longread.inference.scoring import TorchScorer
from longread.models.classifier import build
from longread.serving.service import Item, Service
from longread.serving.settings import ServeSettings


def test_chunks_are_one_answer() -> None:
    torch.manual_seed(0)
    model = build("dense", vocab_size=260, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=2,
                  max_length=32).eval()  # fmt: skip
    model.head.classifier.weight.data.normal_()
    names, cut = ("no", "yes"), Cut(truncation="chunk", chunk_stride=3)
    predictor = Predictor(TorchScorer(model), byte_tokenizer(), names, "the model", cut=cut)
    service = Service(predictor, ServeSettings(threads=1))
    text = "a" * 40 + "b" * 60

    async def ask() -> list[dict]:
        return [served.body for served in await asyncio.gather(*(service.predict(Item(one)) for one in (text, "c")))]

    try:
        found, short = asyncio.run(ask())
    finally:
        service.close()
    for body, one in ((found, text), (short, "c")):
        (expected,) = predictor.predict([one])
        assert body["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert (body["tokens"], body["tokens_in_text"]) == (expected.tokens, expected.tokens_in_text)
    assert (found["tokens_in_text"], found["truncated"]) == (103, False)
