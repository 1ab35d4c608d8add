"""Pairs through the service, whose answers are the predictor's."""

from __future__ import annotations

import asyncio

import pytest

import longread
from longread.inference.origin import Origin
from longread.inference.predictor import Predictor
from longread.inference.scoring import TorchScorer
from pair_tokenizers import roberta_like

pytest.importorskip("fastapi")
from longread.serving.bodies import Refused
from longread.serving.service import Item, Service
from longread.serving.settings import ServeSettings
from longread.serving.state import check_pair


def test_a_pair_without_token_types_where_its_first_text_is_global() -> None:
    """RoBERTa's tokenizer gives both texts type 0: the pair's boundary comes with the tokens."""
    model = longread.build("longformer", vocab_size=8, hidden_size=12, num_attention_heads=2, max_length=64,
                           type_vocab_size=1, attention_window=4, global_tokens="first_text").eval()  # fmt: skip
    predictor = Predictor(TorchScorer(model), roberta_like(), ("bad", "good"), "given")
    service = Service(predictor, ServeSettings(threads=1))
    items = [Item("a b a", "b " * 30), Item("a", "b a"), Item("b a b")]

    async def ask() -> list[dict[str, float]]:
        return [one.body["probabilities"] for one in await asyncio.gather(*(service.predict(item) for item in items))]

    found = asyncio.run(ask())
    service.close()
    expected = [*predictor.predict(["a b a", "a"], ["b " * 30, "b a"]), *predictor.predict(["b a b"])]
    for own, answer in zip(expected, found, strict=True):
        assert answer == pytest.approx(own.probabilities, abs=1e-6)


@pytest.mark.parametrize(("trained_on_pairs", "pair"), [(True, None), (False, "b")])
def test_a_missing_or_superfluous_second_text_is_refused(trained_on_pairs: bool, pair: str | None) -> None:
    model = longread.build("dense", vocab_size=8, hidden_size=12, num_attention_heads=2, type_vocab_size=1).eval()
    origin = Origin("own.csv", {}, trained_on_pairs)
    predictor = Predictor(TorchScorer(model), roberta_like(), ("bad", "good"), "given", origin=origin)
    service = Service(predictor, ServeSettings(threads=1))
    with pytest.raises(Refused, match="pair"):
        check_pair(service, pair)
    service.close()
