"""From the tensors of a checkpoint's file to the state of a model, and what became of each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from longread.data.labels import placeholders
from longread.data.tokenizer import Tokenizer
from longread.errors import UserError
from longread.models import families
from longread.models.classifier import Classifier
from longread.models.config import ClassifierConfig
from longread.models.families import Family
from longread.problems import REGRESSION, SINGLE_LABEL, ProblemType

OWN = "longread"
LISTED_KEYS = 12  # of an error; the rest is counted


@dataclass(frozen=True)
class Loading:
    """How a classifier's weights came about. `initialised` has our names, `ignored` and `renamed` the file's."""

    source: str
    family: str
    ignored: tuple[str, ...] = ()  # not used by a classifier
    renamed: tuple[str, ...] = ()  # written without the family's prefix, or as gamma and beta
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
        for what, names in (("initialised", self.initialised), ("ignored", self.ignored)):
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


def assign(
    tensors: Mapping[str, Tensor], model: Classifier, family: Family | None, labels: Labels, loading: Loading
) -> tuple[dict[str, Tensor], Loading]:
    """The state of `model` out of a file's tensors. UserError for what is missing, left over or of another shape.

    `loading` comes back with what happened to each of them.
    """
    config = model.config
    made = model.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in made.items()}
    theirs = family.names(expected, config.num_hidden_layers) if family else {name: name for name in expected}
    ours = {name: own for own, name in theirs.items()}
    state: dict[str, Tensor] = {}
    ignored: list[str] = []
    renamed: list[str] = []
    left_over: list[str] = []
    misfits: list[str] = []
    for key, tensor in tensors.items():
        name = family.current_name(key) if family else key
        of_another_task = loading.architecture is not None and key.startswith(families.OTHER_HEADS)
        own = None if of_another_task else ours.get(name)
        if own is None:
            unread = families.ignored(key) if family else key.startswith(families.MASKED_HEAD)
            (ignored if of_another_task or unread else left_over).append(key)
        elif own.startswith("head.classifier.") and labels.rows is None:
            ignored.append(key)  # of other labels
        elif tuple(tensor.shape) != expected[own]:
            misfits.append(f"{key} is {list(tensor.shape)}, not {list(expected[own])}")
        elif tensor.is_floating_point() != made[own].is_floating_point():
            misfits.append(f"{key} is {tensor.dtype}, not {made[own].dtype}")
        else:
            state[own] = tensor.float() if tensor.is_floating_point() else tensor
            if not _is_finite(state[own]):
                broken = f"{key} holds NaN or infinite numbers"
                raise UserError(f"{loading.source}: {broken}; the file is damaged, or the training had diverged")
            if own.startswith("head.classifier.") and labels.rows != tuple(range(labels.count)):
                state[own] = state[own][list(labels.rows or ())]
            if name != key:
                renamed.append(key)
    missing = [own for own in expected if own not in state]
    free = [own for own in missing if _may_be_missing(own, family)]
    problems = [
        f"{what} {listed(keys)}"
        for what, keys in (
            ("missing", [theirs.get(own, own) for own in missing if own not in free] if not misfits else []),
            ("left over", left_over),
            ("of another shape or type:", misfits),
        )
        if keys
    ]
    if problems:
        raise UserError(f"{loading.source}: the weights do not fit its config.json: {'; '.join(problems)}")
    for own in free:
        state[own] = initial(own, expected[own], config)
    found = {"ignored": tuple(ignored), "renamed": tuple(renamed), "initialised": tuple(free)}
    return state, Loading(**(vars(loading) | found))


def _is_finite(tensor: Tensor) -> bool:
    """NaN and infinity show in the smallest or the largest number, without a mask as large as the tensor."""
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _may_be_missing(own: str, family: Family | None) -> bool:
    without_bias = (
        family is not None
        and family.model_type == "big_bird"
        and own.endswith(("attention.query.bias", "attention.key.bias", "attention.value.bias"))
    )  # use_bias=False
    return own.startswith("head.") or without_bias


def initial(name: str, shape: tuple[int, ...], config: ClassifierConfig) -> Tensor:
    """As a classifier initialises itself, but from the seed and the name alone."""
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    # torch's generator uses 32 bits of its seed: the name goes into the same ones.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{config.seed} {name}".encode()))
    return torch.randn(shape, generator=generator) * config.initializer_range


def still_untrained(model: Classifier, state: Mapping[str, Tensor]) -> list[str]:
    """Names of a head's tensors that are as they were drawn when the checkpoint was read."""
    names = [name for name in (model.loading.initialised if model.loading else ()) if name.startswith("head.")]
    drawn = all(
        torch.equal(state[name], initial(name, tuple(state[name].shape), model.config).to(state[name].dtype))
        for name in names
    )
    return names if drawn else []


def listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED_KEYS} more" if len(names) > LISTED_KEYS else ""
    return ", ".join(names[:LISTED_KEYS]) + more
