"""From text to answer: tokenize, wait for the batcher, name the labels. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longread.data.cut import pooled
from longread.data.tokenizer import Encoded
from longread.inference.prediction import EMPTY, Prediction
from longread.inference.predictor import Predictor
from longread.serving.batcher import Batcher, Tokens
from longread.serving.settings import ServeSettings

SHORT_CHARACTERS = 2000
TOKENS_PER_BATCH = {"cpu": 1024}  # elsewhere 16,384


@dataclass(frozen=True)
class Item:
    """A text, or two of a pair, to classify."""

    text: str
    pair: str | None = None


@dataclass(frozen=True)
class Served:
    """One answer as it is sent, and how long each part of it took."""

    body: dict[str, Any]
    tokens: int
    tokenization_seconds: float
    queue_seconds: float
    inference_seconds: float


class Service:
    """A predictor behind a batcher. `close` answers what waits."""

    def __init__(self, predictor: Predictor, settings: ServeSettings) -> None:
        self.predictor = predictor
        told = predictor.origin.pairs if predictor.origin else None
        self.needs_pairs = told is True
        # Where nothing is known of the training: a model that was made to tell two texts apart takes both.
        self.pairs = predictor.scorer.token_types if told is None else told
        self._threads = settings.threads or max(1, torch.get_num_threads() // settings.workers)
        self.batcher = Batcher(
            self._logits,
            tokens_per_batch=settings.tokens_per_batch or TOKENS_PER_BATCH.get(predictor.device.type, 16_384),
            max_waiting=settings.max_concurrent,
            before_batch=self._before_batch,
        )

    def _before_batch(self, lane: int, alone: bool) -> None:
        """All cores for a lane that is alone, else one for short texts and the others for long ones."""
        if self.predictor.device.type == "cpu":
            torch.set_num_threads(self._threads if alone else 1 if lane == 0 else max(1, self._threads - 1))

    def _logits(self, batch: Sequence[Tokens]) -> npt.NDArray[np.floating[Any]]:
        offsets = np.cumsum([0, *map(len, batch)])
        types = [one.types for one in batch if one.types is not None]
        encoded = Encoded(
            np.concatenate([one.ids for one in batch]),
            offsets,
            np.concatenate(types) if types else None,
            np.zeros(len(batch), dtype=np.bool_),
            np.array([one.first_text for one in batch]),
        )
        return self.predictor.scorer.logits(encoded, int(offsets[-1]))

    async def predict(self, item: Item) -> Served:
        """Raises Overloaded or Closed; a text without any token has no label, and says so."""
        start = time.monotonic()
        if len(item.text) + len(item.pair or "") <= SHORT_CHARACTERS:  # quicker than another thread would begin
            sequences, tokens, whole = self._encode(item)
        else:
            sequences, tokens, whole = await asyncio.to_thread(self._encode, item)
        tokenized = time.monotonic() - start
        if not item.text.strip():
            tokens = whole = 0  # marks around nothing
        read = {"tokens": tokens, "tokens_in_text": whole, "truncated": tokens < whole}
        if not item.text.strip():
            nothing = Prediction(None, {}).answer(self.predictor.problem_type)
            body: dict[str, Any] = nothing | {"why": EMPTY} | read
            return Served(body, 0, tokenized, 0.0, 0.0)
        answers = await asyncio.gather(*map(self.batcher.submit, sequences))
        chunks = np.stack([answer.logits.astype(np.float64) for answer in answers])
        logits = pooled(chunks, np.zeros(len(chunks), dtype=np.int64), 1, self.predictor.problem_type)
        said = self.predictor.told(logits)[0].answer(self.predictor.problem_type)
        queued, computed = (
            max(getattr(answer, name) for answer in answers) for name in ("queue_seconds", "inference_seconds")
        )
        return Served(said | read, tokens, tokenized, queued, computed)

    def _encode(self, item: Item) -> tuple[list[Tokens], int, int]:
        """Sequences as the model reads them, several for a text in chunks; tokens read, and tokens of the text."""
        pairs = None if item.pair is None else [item.pair]
        reading = self.predictor.read([item.text], pairs)
        encoded = reading.encoded
        sequences = [
            Tokens(
                encoded.tokens[begin:end],
                None if encoded.types is None else encoded.types[begin:end],
                0 if encoded.first_texts is None else int(encoded.first_texts[row]),
            )
            for row, (begin, end) in enumerate(pairwise(encoded.offsets.tolist()))
        ]
        return sequences, int(reading.tokens[0]), int(reading.tokens_in_text[0])

    def close(self) -> None:
        self.batcher.close()
