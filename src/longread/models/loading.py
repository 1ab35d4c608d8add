"""How a classifier's weights and labels came about, and what that allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from longread.data.labels import placeholders
from longread.data.tokenizer import Tokenizer
from longread.errors import UserError
from longread.models.classifier import Classifier
from longread.problems import REGRESSION, SINGLE_LABEL, ProblemType

OWN = "longread"
LISTED_KEYS = 12  # of an error; the rest is counted


@dataclass(frozen=True)
class Loading:
    """How a classifier's weights came about. `initialised` has our names, `ignored` and `renamed` the file's."""

    source: str
    family: str
    ignored: tuple[str, ...] = ()  # not used by a classifier
    renamed: tuple[str, ...] = ()  # gamma and beta
    initialised: tuple[str, ...] = ()  # not in the file: drawn anew, or zero for a bias
    head: str = ""  # what was done with the classifier's labels; "" where they are as they were
    architecture: str | None = None  # the class that transformers had of it, where that was no text classifier
    token_ids: Mapping[str, int] = field(default_factory=dict)
    converted: Mapping[str, Any] | None = None  # what `convert` did since

    @property
    def head_is_untrained(self) -> bool:
        return any(name.startswith("head.") for name in self.initialised)

    def __str__(self) -> str:
        parts = [f"loaded {self.source} ({self.family})", *([self.head] if self.head else [])]
        for what, names in (("initialised", self.initialised), ("not for the classifier:", self.ignored)):
            if names:
                parts.append(f"{what} {listed(names)}")
        if self.renamed:
            parts.append(f"{len(self.renamed)} old names")
        return "; ".join(parts)


@dataclass(frozen=True)
class Labels:
    """The classes of a model that is read, and where they come from."""

    count: int
    names: tuple[str, ...] | None  # None: nameless
    rows: tuple[int, ...] | None  # of the file's classifier, in the model's order; None: the classifier is a new one
    head: str = ""  # what `Loading` says of it
    problem_type: ProblemType | None = None  # None: as their number says


def match_labels(
    known: tuple[str, ...] | None,
    count: int,
    wanted: int | None,
    names: tuple[str, ...] | None,
    problem_type: ProblemType | None,
    wanted_type: ProblemType | None,
) -> Labels:
    """The checkpoint's `count` labels (`known`: None for nameless ones) against those that are asked for, by name.

    Names are the same in other letters, too: negative and NEGATIVE. Nameless ones are taken in their order, and the
    number that a regression gives by any name. A classifier of another problem type is not taken.
    """
    own_type = problem_type or (REGRESSION if count == 1 else SINGLE_LABEL)
    if names is None:
        kept = wanted_type or (problem_type if wanted in (None, count) else None)
        same = wanted in (None, count) and wanted_type in (None, own_type)
        return Labels(wanted or count, known if same else None, tuple(range(count)) if same else None, "", kept)
    asked = wanted_type or (REGRESSION if len(names) == 1 else SINGLE_LABEL)
    return replace(_match_names(known, count, wanted, names, own_type == asked), problem_type=asked)


def _match_names(
    known: tuple[str, ...] | None, count: int, wanted: int | None, names: tuple[str, ...], same_type: bool
) -> Labels:
    if wanted not in (None, len(names)):
        raise UserError(f"num_labels is {wanted} and there are {len(names)} label_names; leave one of them out")
    listing = ", ".join(names)
    new = Labels(len(names), names, None, f"a new classifier for {listing}, in place of {', '.join(known or ())}")
    if known is None:
        new = Labels(len(names), names, None, f"a new classifier for {listing}")
    if not same_type or len(names) != count:
        return new
    if known is None or count == 1:
        named = names != placeholders(count)
        head = f"its labels, which had no names, called {listing}" if named else ""
        return Labels(count, names, tuple(range(count)), head)
    places = {name.casefold(): row for row, name in enumerate(known)} | {name: row for row, name in enumerate(known)}
    rows = tuple(places.get(name, places.get(name.casefold(), -1)) for name in names)
    if sorted(rows) != list(range(count)):
        return new
    return Labels(count, names, rows, "" if rows == tuple(range(count)) else f"its labels reordered to {listing}")


def check_answers(model: Classifier, *, untrained_head: bool = False) -> None:
    """UserError where the model's answers would mean nothing, because its classifier is untrained.

    untrained_head: that is asked for, to measure what the model costs.
    """
    loading = model.loading
    source = loading.source if loading else "the model"
    if loading and loading.head_is_untrained and not untrained_head:
        kind = f" (it is a {loading.architecture})" if loading.architecture else ""
        raise UserError(
            f"{source}: the checkpoint has no trained text classifier{kind}; "
            f"train one: longread train --init {source} --task TASK"
        )


def check_tokenizer(model: Classifier, tokenizer: Tokenizer) -> None:
    """UserError for a vocabulary larger than the model's embedding: it is another model's."""
    entries = 1 + max(tokenizer.inner.get_vocab(with_added_tokens=False).values(), default=0)
    if entries > model.config.vocab_size:
        raise UserError(
            f"{model.loading.source if model.loading else 'the model'}: embeds {model.config.vocab_size} tokens and "
            f"the tokenizer has {entries}; give the tokenizer that the model was trained with"
        )


def listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED_KEYS} more" if len(names) > LISTED_KEYS else ""
    return ", ".join(names[:LISTED_KEYS]) + more
