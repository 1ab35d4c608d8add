"""A run's first weights and its data, as its configuration asks for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from longread.attention.pattern import canonical
from longread.config import RunConfig
from longread.data.dataset import Prepared, prepare
from longread.data.load import load_task
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.errors import UserError
from longread.inference.origin import Origin
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier, build
from longread.models.decision import Decision
from longread.models.loading import check_tokenizer
from longread.problems import SINGLE_LABEL, ProblemType
from longread.records import Ancestor
from longread.training.choice import check_choices
from longread.training.lineage import provenance_of
from longread.training.numbers import begin_at
from longread.training.resolve import check_depth

log = logging.getLogger("longread")

SHAPE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "intermediate_size", "dropout",
         "embedding_dropout", "attention_dropout", "norm_position", "pooling", "max_length", "seed")  # fmt: skip
# What a run may change of a checkpoint; what it leaves open stays the checkpoint's own.
OVERRIDES = ("dropout", "embedding_dropout", "attention_dropout", "pooling")


@dataclass(frozen=True)
class Start:
    """`config` is resolved but for the machine."""

    config: RunConfig
    model: Classifier
    data: Prepared
    lineage: tuple[Ancestor, ...] = ()
    earlier: tuple[Origin, ...] = ()


def start(config: RunConfig) -> Start:
    """UserError for what cannot be read or built, before anything is written."""
    if config.init == "scratch":
        return _from_scratch(config)
    rows = load_task(config.data_config())
    train = rows[0]
    check_choices(config, train.label_names, train.problem_type)
    model = load_model(config, train.label_names, train.problem_type)
    tokenizer = tokenizer_for(model, config)
    limit = min(config.max_length or tokenizer.limit(model.config.max_length), model.config.max_length)
    config = replace(config, **vars(model.cut if config.truncation is None else config.cut))
    reads = tokenizer.reading(limit) if config.truncation is None else tokenizer.cutting(limit)
    data = prepare(config.data_config(), limit, reads, rows)
    model.cut = config.cut
    if model.loading is None or model.loading.head_is_untrained:
        begin_at(model, data.train)
    provenance = provenance_of(config.init)
    resolved = replace(config, max_length=limit, **{name: getattr(model.config, name) for name in OVERRIDES})
    if provenance is None:
        return Start(resolved, model, data)
    return Start(resolved, model, data, provenance.as_parent(), provenance.trainings())


def _from_scratch(config: RunConfig) -> Start:
    assert config.max_length
    data = prepare(config.data_config(), config.max_length)
    check_choices(config, data.train.label_names, data.train.problem_type)
    return Start(config, new_model(config, data), data)


def new_model(config: RunConfig, data: Prepared) -> Classifier:
    """As `config`, which is resolved, and the data shape it; its weights are random."""
    model = build(
        config.attention,
        **{name: getattr(config, name) for name in SHAPE},
        **config.options,
        vocab_size=data.tokenizer.vocab_size,
        type_vocab_size=0 if data.train.encoded.types is None else 2,
        num_labels=len(data.train.label_names),
        label_names=data.train.label_names,
        problem_type=data.train.problem_type,
    )
    begin_at(model, data.train)
    model.cut = config.cut
    return model


def load_model(
    config: RunConfig, label_names: tuple[str, ...] | None, problem_type: ProblemType = SINGLE_LABEL
) -> Classifier:
    """`config.init` with the attention and the length asked for; `label_names` None: the checkpoint's own labels."""
    overrides: dict[str, Any] = {name: getattr(config, name) for name in OVERRIDES}
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if "dropout" in overrides:
        overrides["classifier_dropout"] = None  # the head's is then the same
    if label_names is not None:
        overrides |= {"num_labels": len(label_names), "label_names": label_names, "problem_type": problem_type}
    model = from_pretrained(config.init, seed=config.seed, **overrides)
    model.decision = Decision()  # thresholds of other weights than those that training makes
    found = converted(model, config)
    found.cut = model.cut
    return found


def converted(model: Classifier, config: RunConfig, max_length: int | None = None) -> Classifier:
    """The model itself where it already has the attention, its settings and the length.

    max_length: of the new model; default the model's own, or the configuration's where that is longer.
    """
    check_depth(config.attention, model.config.num_hidden_layers, is_fixed=True)
    own = dict(config.options)
    longest = max_length or max(config.max_length or 0, model.config.max_length)
    from longread.models.convert import convert, pattern_of

    wanted = (canonical(pattern_of(model.config, config.attention)), longest, model.config.own_settings() | own)
    if wanted == (model.config.attention, model.config.max_length, model.config.own_settings()):
        return model
    found, trained = convert(model, config.attention, longest, **own), model.config.max_length
    if longest > trained and model.config.position_kind == "learned":
        log.info("positions %d to %d are copies of the %d trained ones", trained + 1, longest, trained)
    return found


def tokenizer_for(model: Classifier, config: RunConfig) -> Tokenizer:
    """What the configuration names, or the checkpoint's own. UserError for ids that the model does not have."""
    place = config.tokenizer or model.tokenizer_file
    if place is None:
        raise UserError(f"--init {config.init}: the checkpoint brings no tokenizer; give one with --tokenizer DIR")
    if config.tokenizer in ("train", "bytes"):
        raise UserError(
            f"--tokenizer {config.tokenizer}: for a new model; --init brings its own tokenizer; leave --tokenizer out"
        )
    tokenizer = load_tokenizer(place)
    check_tokenizer(model, tokenizer)
    return tokenizer
