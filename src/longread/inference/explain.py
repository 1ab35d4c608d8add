"""Which tokens decided: integrated gradients on the word embeddings (Sundararajan et al. 2017, section 3).

The text's tokens are led, in straight line, from a baseline without content to what they are; the gradients of one
label's logit along that way, times the way, are the tokens' attributions. They add up to the difference of the two
logits (completeness); the fraction missing from that sum is reported as `completeness_gap`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longread.data.config import Cut
from longread.data.cut import places_read, pooled
from longread.data.tokenizer import Tokenizer, first_text
from longread.errors import UserError
from longread.inference.prediction import EMPTY, is_empty, strongest
from longread.models.classifier import Classifier
from longread.models.decision import Decision
from longread.ops.int8 import Int8Linear
from longread.ops.packed import PackedBatch
from longread.problems import MULTI_LABEL, ProblemType

FEWEST_STEPS, MOST_STEPS = 16, 256
WANTED_GAP = 0.02  # of the difference of the logits: more steps are taken until the sum is that near
SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+[\"')\]]*(?=\s|$)|\n|$)")


class Explained(Protocol):
    """What is asked why: a `Predictor`."""

    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    problem_type: ProblemType
    tokens_per_micro_batch: int
    cut: Cut
    decision: Decision

    @property
    def model(self) -> Classifier: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def max_length(self) -> int: ...


@dataclass(frozen=True)
class Token:
    """A piece of the text, `text[start:end]` of the first (part 0) or second (part 1) text, and its attribution."""

    text: str
    start: int
    end: int
    part: int
    attribution: float


@dataclass(frozen=True)
class Sentence:
    """The same for a sentence: the sum over its tokens."""

    text: str
    start: int
    end: int
    part: int
    attribution: float


@dataclass(frozen=True)
class _Sequence:
    """ids, types [N] (None: all are 0), and the tokens of a pair's first text, 0 for a single text."""

    ids: Tensor
    types: Tensor | None
    first_text: int


@dataclass(frozen=True)
class Explanation:
    """Attributions of one answer. They add up to `logit - baseline_logit`, but for `completeness_gap` of it."""

    label: str | None  # predicted; of several labels the most probable; of a regression the number's name; see why
    probability: float | None  # None: of a regression
    explained_label: str
    logit: float
    baseline_logit: float
    baseline: str
    steps: int
    completeness_gap: float
    truncated: bool
    tokens: tuple[Token, ...]
    sentences: tuple[Sentence, ...]
    value: float | None = None  # of a regression: the number itself
    why: str | None = None  # there is nothing to explain

    def to_json(self) -> dict[str, Any]:
        """Without what this problem type has not."""
        if self.why is not None:
            return {"label": None, "why": self.why}
        return {name: value for name, value in asdict(self).items() if value is not None}

    def heading(self) -> str:
        """`team a 0.973`, or `score 153.2`."""
        if self.why is not None:
            return f"no answer: {self.why}"
        return f"{self.label} {self.value:.4g}" if self.probability is None else f"{self.label} {self.probability:.3f}"

    def sides(self) -> tuple[str, str]:
        """What a positive and a negative attribution mean."""
        if self.probability is None:
            return f"raises {self.explained_label}", f"lowers {self.explained_label}"
        return f"speaks for {self.explained_label}", "speaks against it"


def explain(
    predictor: Explained, texts: Sequence[str], pairs: Sequence[str] | None = None, *, label: str | None = None
) -> list[Explanation]:
    """One explanation for each text, of the predicted label or of `label`.

    A text without any token has no label, and says why; the others are explained as if it were not there. UserError for
    a label that the model does not know, and for a model in int8.
    """
    if any(isinstance(module, Int8Linear) for module in predictor.model.modules()):
        raise UserError("explain: it asks for gradients, and a model in int8 has none; take float32 or bfloat16")
    check_explained(texts, label, predictor.label_names)
    partners: Sequence[str | None] = [None] * len(texts) if pairs is None else pairs
    return [_explain_one(predictor, text, pair, label) for text, pair in zip(texts, partners, strict=True)]


def check_explained(texts: Sequence[str], label: str | None, label_names: Sequence[str]) -> None:
    """UserError for a text in place of a list, and for a label that the model does not know."""
    if isinstance(texts, str):
        raise UserError("explain wants a list of texts; write explain([text])")
    if label is not None and label not in label_names:
        raise UserError(f"label {label!r}: the model knows {', '.join(label_names)}")


def unexplained(why: str) -> Explanation:
    """Of a text that has no answer."""
    return Explanation(None, None, "", 0.0, 0.0, "", 0, 0.0, False, (), (), why=why)


def _explain_one(predictor: Explained, text: str, pair: str | None, label: str | None) -> Explanation:
    model, texts = predictor.model, (text,) if pair is None else (text, pair)
    if is_empty(text, pair):
        return unexplained(EMPTY)
    encoding, parts, truncated = _read(predictor, text, pair)
    if not any(source is not None for source in encoding.sequence_ids):
        return unexplained("the text has no token")
    name, empty = _baseline(predictor)
    ways = [_way(model, encoding, places, empty, predictor.device, pair is not None) for places in parts]
    ends = [_logits(model, way.sequence, torch.stack([way.whole, way.start])).detach().double() for way in ways]
    logits = torch.stack(ends).cpu().numpy()  # [chunks, 2, C]: of the text, and of the baseline
    of_text = np.zeros(len(ways), dtype=np.int64)
    predicted, said = strongest(predictor, pooled(logits[:, 0], of_text, 1, predictor.problem_type))
    target = predicted if label is None else predictor.label_names.index(label)
    share = _shares(logits[:, 0, target], predictor.problem_type)
    attribution, steps = torch.zeros(len(encoding.ids), dtype=torch.float64), 0
    for way, places, ends_of, part in zip(ways, parts, logits, share, strict=True):
        if part:
            apart = float(ends_of[0, target] - ends_of[1, target])
            found, taken = _attributed(way, target, apart, predictor.tokens_per_micro_batch)
            attribution[torch.from_numpy(places)] += part * found.cpu()  # a token in two chunks has its share of both
            steps = max(steps, taken)
    logit, baseline_logit = (float((share * logits[:, end, target]).sum()) for end in (0, 1))
    tokens = tuple(
        Token(texts[source][begin:end], begin, end, source, float(attribution[place]))
        for place in np.unique(np.concatenate(parts)).tolist()
        if (source := encoding.sequence_ids[place]) is not None
        for begin, end in [encoding.offsets[place]]
    )
    wanted = logit - baseline_logit
    return Explanation(
        label=predictor.label_names[predicted],
        explained_label=predictor.label_names[target],
        logit=logit,
        baseline_logit=baseline_logit,
        baseline=name,
        steps=steps,
        completeness_gap=abs(float(attribution.sum()) - wanted) / max(abs(wanted), 1e-6),
        truncated=truncated,
        tokens=tokens,
        sentences=all_sentences(texts, tokens),
        **said,
    )


def _read(predictor: Explained, text: str, pair: str | None) -> tuple[Any, list[npt.NDArray[np.int64]], bool]:
    """The library's own encoding, which knows where each token stands in the text; the places in it that each sequence
    holds, several for a text in chunks; and whether a part of the text is not read."""
    inner = predictor.tokenizer.inner
    encoding, limit = inner.encode(text, pair), predictor.max_length
    if pair is None:
        parts = places_read(predictor.tokenizer, encoding, limit, predictor.cut)
        return encoding, parts, len(np.unique(np.concatenate(parts))) < len(encoding.ids)
    if truncated := len(encoding.ids) > limit:
        inner = type(inner).from_str(inner.to_str())
        inner.enable_truncation(limit, strategy="longest_first", direction=predictor.tokenizer.config.truncation_side)
        encoding = inner.encode(text, pair)
    return encoding, [np.arange(len(encoding.ids))], truncated


def _shares(logits: npt.NDArray[np.float64], problem_type: ProblemType) -> npt.NDArray[np.float64]:
    """[chunks]: what part of the text's logit each chunk's is, as `pooled` has it: the mean, or the greatest alone."""
    if problem_type == MULTI_LABEL:
        return np.eye(len(logits))[logits.argmax()]
    return np.full(len(logits), 1 / len(logits))


def _baseline(predictor: Explained) -> tuple[str, Tensor]:
    """Name and word embedding [hidden] of a token without content: the mask, the padding, or the mean of all words."""
    table = predictor.model.embeddings.word.weight.detach()
    for name in ("[MASK]", "<mask>", "[PAD]", "<pad>"):
        found = predictor.tokenizer.inner.token_to_id(name)
        if found is not None and found < len(table) and bool(table[found].any()):
            return name, table[found]
    return "mean of all words", table.mean(0)


def _logits(model: Classifier, sequence: _Sequence, embedded: Tensor) -> Tensor:
    """Of S copies of the sequence with their own word embeddings, [S, N, hidden] -> [S, num_labels]."""
    copies, length, _ = embedded.shape
    ids, types = sequence.ids, sequence.types
    batch = PackedBatch((length,) * copies, ids.device, first_text_lengths=[sequence.first_text] * copies)
    # A copy that shares all weights: other threads may use the model meanwhile.
    own, embeddings = copy.copy(model), copy.copy(model.embeddings)
    embeddings.lookup = lambda tokens: embedded.flatten(0, 1)
    own._modules = model._modules | {"embeddings": embeddings}
    return own.classify(ids.repeat(copies), batch, None if types is None else types.repeat(copies))


@dataclass(frozen=True)
class _Way:
    """From the embeddings of nothing, `start` [N, hidden], to the text's, `whole`."""

    model: Classifier
    sequence: _Sequence
    start: Tensor
    whole: Tensor


def _way(
    model: Classifier, encoding: Any, places: npt.NDArray[np.int64], empty: Tensor, device: torch.device, pairs: bool
) -> _Way:
    """Of the tokens of an encoding that one sequence holds."""
    chosen = places.tolist()
    ids = torch.tensor([encoding.ids[place] for place in chosen], device=device)
    types = None
    if pairs and model.config.type_vocab_size:
        types = torch.tensor([encoding.type_ids[place] for place in chosen], device=device)
    own = torch.tensor([encoding.sequence_ids[place] is not None for place in chosen], device=device)
    whole = model.embeddings.word(ids).detach()
    start = torch.where(own[:, None], empty, whole)  # the tokenizer's own marks stay where they are
    return _Way(model, _Sequence(ids, types, first_text(encoding) if pairs else 0), start, whole)


def _attributed(way: _Way, target: int, wanted: float, tokens: int) -> tuple[Tensor, int]:
    """What each token adds to the score of `target`, float64 [N], their sum as near to `wanted` as the steps bring it;
    and these."""
    steps = FEWEST_STEPS
    while True:
        attribution = _integrated(way, target, steps, tokens)
        gap = abs(float(attribution.sum()) - wanted) / max(abs(wanted), 1e-6)
        if gap <= WANTED_GAP or 2 * steps > MOST_STEPS:
            return attribution, steps
        steps *= 2


def _integrated(way: _Way, target: int, steps: int, tokens: int) -> Tensor:
    """float64 [N]: the midpoint rule over `steps` points of the way, as many at once as the token budget allows."""
    start, whole = way.start, way.whole
    at_once = max(1, tokens // len(way.sequence.ids))
    total = torch.zeros(whole.shape, dtype=torch.float64, device=whole.device)
    points = (torch.arange(steps, device=whole.device) + 0.5) / steps
    with torch.enable_grad():
        for part in points.split(at_once):
            embedded = (start + part[:, None, None] * (whole - start)).requires_grad_()
            score = _logits(way.model, way.sequence, embedded)[:, target].sum()
            (gradient,) = torch.autograd.grad(score, embedded)
            total += gradient.sum(0)
    return ((whole - start).double() * total / steps).sum(1)


def all_sentences(texts: Sequence[str], tokens: Sequence[Token]) -> tuple[Sentence, ...]:
    """Of a text, or of both of a pair."""
    return tuple(sentence for part, text in enumerate(texts) for sentence in sentences(text, part, tokens))


def sentences(text: str, part: int, tokens: Sequence[Token]) -> list[Sentence]:
    """A token belongs to the sentence in which it begins."""
    found = []
    for match in SENTENCE.finditer(text):
        begin, end = match.span()
        if not text[begin:end].strip():
            continue
        inside = [t.attribution for t in tokens if t.part == part and begin <= max(t.start, t.end - 1) < end]
        if inside:
            found.append(Sentence(text[begin:end].strip(), begin, end, part, sum(inside)))
    return found
