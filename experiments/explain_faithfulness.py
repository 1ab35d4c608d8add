"""Do the tokens that `explain` names decide? IMDB: they are removed, and as many others in their place.

Run:     python experiments/run.py explain_faithfulness --data-dir DIR
Expect:  removing the tenth of a review's tokens that speaks most for the predicted label costs much of its probability,
         removing a random tenth next to nothing.
200 test reviews, of which no model has seen any. What is removed is left out of the text (comprehensiveness; DeYoung et
al. 2020, "ERASER", section 4.2). The random tenth is drawn ten times for each review and the mean is taken. The models
are small and trained here in minutes; how accurate they are is in their records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.recipes import faster_from_scratch
from longread.config import RunConfig
from longread.data.load import load_split
from longread.data.tokenizer import Encoded
from longread.inference.explain import Explanation
from longread.inference.metrics import answers_of
from longread.inference.predictor import Predictor, load
from longread.records import Run, rewrite_record
from longread.study.chain import Step
from longread.system.allocator import tune_allocator
from longread.training.run import train

RECORDS = ("explain-faithfulness",)
BASE = faster_from_scratch("imdb", train_rows=6_000, eval_rows=1_000, epochs=4, learning_rate=1e-3)
TEXTS, FRACTION, DRAWS = 200, 0.1, 10


def steps() -> list[Step]:
    return [
        Step(replace(BASE, attention=name)) for name in ("dense", "longformer", "bigbird", "performer", "linformer")
    ]


def run(config: RunConfig, on_event: Callable[[dict[str, Any]], None]) -> Run:
    """Trains, then measures; the record of the training carries both. What is there already is not done again."""
    tune_allocator()
    done = train(config, resume=True, on_event=on_event)
    if done.record["status"] == "ok" and "faithfulness" not in done.record:
        texts = load_split(replace(config, eval_rows=min(TEXTS, config.eval_rows or TEXTS)).data_config())
        done.record["faithfulness"] = faithfulness(load(done.directory), texts.texts) | {"rows": texts.rows.tolist()}
        rewrite_record(done)
    return done


def faithfulness(predictor: Predictor, texts: Sequence[str]) -> dict[str, Any]:
    """Probability of each text's predicted label: of the whole text, without its most important tokens, without others.

    `without_random` is the mean over the draws.
    """
    begin = time.monotonic()
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {"probability": [], "without_top": [], "without_random": []}
    gaps = []
    for text in texts:
        (explanation,) = predictor.explain([text])
        left_out = [most_important(explanation), *(drawn(explanation, random) for _ in range(DRAWS))]
        probabilities = probability_without(predictor, explanation, text, left_out)
        for name, value in zip(
            found, (explanation.probability, probabilities[0], probabilities[1:].mean()), strict=True
        ):
            found[name].append(round(float(value), 6))
        gaps.append(explanation.completeness_gap)
    return {
        "texts": len(texts),
        "fraction": FRACTION,
        "draws": DRAWS,
        "largest_completeness_gap": max(gaps),
        "seconds": time.monotonic() - begin,
    } | found


def most_important(explanation: Explanation) -> npt.NDArray[np.int64]:
    """Places, among the text's own tokens, of the tenth that speaks most for the label."""
    attributions = np.array([token.attribution for token in explanation.tokens])
    return np.argsort(-attributions, kind="stable")[: _count(explanation)]


def drawn(explanation: Explanation, random: np.random.Generator) -> npt.NDArray[np.int64]:
    return random.choice(len(explanation.tokens), _count(explanation), replace=False)


def _count(explanation: Explanation) -> int:
    return max(1, round(FRACTION * len(explanation.tokens)))


def probability_without(
    predictor: Predictor, explanation: Explanation, text: str, left_out: Sequence[npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    """Of the explained label, for each way of leaving tokens out of the text; the tokenizer's own marks stay."""
    encoding = predictor.tokenizer.inner.encode(text)
    ids = np.array(encoding.ids, dtype=np.int32)
    own = np.array([place for place, part in enumerate(encoding.sequence_ids) if part is not None])
    own, cut = own[: len(explanation.tokens)], own[len(explanation.tokens) :]
    sequences = [np.delete(ids, np.concatenate([own[places], cut])) for places in left_out]
    offsets = np.cumsum([0, *map(len, sequences)])
    encoded = Encoded(np.concatenate(sequences), offsets, None, np.zeros(len(sequences), dtype=bool))
    logits = predictor.scorer.logits(encoded, predictor.tokens_per_micro_batch)
    probabilities = answers_of(logits)
    column = predictor.label_names.index(explanation.explained_label)
    return probabilities[:, column].astype(np.float64)
