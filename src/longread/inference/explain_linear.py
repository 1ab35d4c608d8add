"""Which words decided, of a linear model: the score is a sum over terms, so each term's part in it is exact.

A pair of words gives half of its part to either word; a term that occurs several times shares it among them. The parts
add up to the score less the bias, which is the score of a text without a known word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from longread.inference.explain import Explanation, Token, all_sentences, check_explained, unexplained
from longread.inference.prediction import EMPTY, is_empty, strongest
from longread.models.linear import WORD, LinearModel

BASELINE = "no known word"


def explain_linear(
    model: LinearModel, texts: Sequence[str], pairs: Sequence[str] | None = None, *, label: str | None = None
) -> list[Explanation]:
    """One explanation for each text, of the predicted label or of `label`. UserError as in `explain`."""
    check_explained(texts, label, model.label_names)
    partners: Sequence[str | None] = [None] * len(texts) if pairs is None else pairs
    return [_explain_one(model, text, pair, label) for text, pair in zip(texts, partners, strict=True)]


def _explain_one(model: LinearModel, text: str, pair: str | None, label: str | None) -> Explanation:
    parts = (text,) if pair is None else (text, pair)
    if is_empty(text, pair):
        return unexplained(EMPTY)
    encoded, _ = model.encode([text], None if pair is None else [pair])
    features = model.features(encoded).tocoo()
    logits = model.scores(encoded)
    predicted, said = strongest(model, logits)
    target = predicted if label is None else model.label_names.index(label)
    row, factor = (0, (-0.5, 0.5)[target]) if model.halves else (target, 1.0)
    added = dict(
        zip(features.col.tolist(), (factor * model.weights[row, features.col] * features.data).tolist(), strict=True)
    )
    times = np.bincount(encoded.tokens, minlength=1)
    tokens = tuple(
        token
        for part, whole in enumerate(parts)
        for token in _words(whole, part, model.columns[part], {t: value / times[t] for t, value in added.items()})
    )
    return Explanation(
        label=model.label_names[predicted],
        explained_label=model.label_names[target],
        logit=float(logits[0, target]),
        baseline_logit=float(factor * model.bias[row]),
        baseline=BASELINE,
        steps=0,
        completeness_gap=0.0,
        truncated=False,
        tokens=tokens,
        sentences=all_sentences(parts, tokens),
        **said,
    )


def _words(text: str, part: int, columns: dict[str, int], added: dict[int, float]) -> list[Token]:
    """The words of a text with what they add. `added`: of one occurrence of a term, by its place."""
    lower, places = _lowered(text)
    found = [(match[0], *match.span()) for match in re.finditer(WORD, lower)]
    values = [added.get(columns.get(word, -1), 0.0) for word, _, _ in found]
    for place, ((one, *_), (other, *_)) in enumerate(pairwise(found)):
        half = added.get(columns.get(f"{one} {other}", -1), 0.0) / 2
        values[place] += half
        values[place + 1] += half
    spans = [(places[begin], places[end - 1] + 1) for _, begin, end in found]
    return [Token(text[b:e], b, e, part, value) for (b, e), value in zip(spans, values, strict=True)]


def _lowered(text: str) -> tuple[str, Sequence[int]]:
    """The text in lower case, and where each of its letters stood before: a few become two."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower, range(len(text))
    return lower, [place for place, letter in enumerate(text) for _ in letter.lower()]
