"""The head of masked-language modelling: read from a checkpoint or made anew, and written as its family has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from longread.models import weights
from longread.models.assign import initial
from longread.models.classifier import Classifier
from longread.models.config import ClassifierConfig
from longread.models.families import FAMILIES, OTHER_HEADS, Family
from longread.models.families import MASKED_HEAD as PREFIX
from longread.models.layers import MaskedHead
from longread.models.loading import OWN, Loading
from longread.models.locate import locate

log = logging.getLogger("longread")

AS_THE_LAYERS = ("bert", "big_bird", "distilbert", OWN)  # other families' heads have GELU whatever their layers have


def add_masked_head(model: Classifier, init: str) -> bool:
    """Gives the model a head; whether it is a trained one, of the checkpoint `init`.

    It is a new one from scratch, and where the checkpoint has none, or one with a table that is not its embedding's.
    """
    source = model.loading.family if model.loading else OWN
    head = MaskedHead(model.config, activation(model.config, source))
    shapes = {name: tensor.shape for name, tensor in head.state_dict(prefix=PREFIX).items()}
    found = {} if init == "scratch" else _in_checkpoint(shapes, init, FAMILIES.get(source), model)
    drawn = {name: initial(name, tuple(shape), model.config) for name, shape in shapes.items()}
    state = {name.removeprefix(PREFIX): found.get(name, drawn[name]) for name in shapes}
    head.load_state_dict(state)
    model.masked_head = head.to(model.embeddings.word.weight)
    return bool(found)


def activation(config: ClassifierConfig, family: str) -> str:
    """Of the head's dense layer."""
    if config.head_norm and config.head_activation is not None:  # ModernBERT's classifier and this head are one
        return config.head_activation
    return config.hidden_act if family in AS_THE_LAYERS else "gelu"


def _in_checkpoint(
    shapes: Mapping[str, torch.Size], init: str, family: Family | None, model: Classifier
) -> dict[str, Tensor]:
    """The head's tensors under our names; nothing where they are not all there, or do not fit the model."""
    tensors = weights.read_weights(locate(init))
    current = {family.current_name(key) if family else key: tensor for key, tensor in tensors.items()}
    theirs = family.names(shapes, 0) if family else {name: name for name in shapes}
    found = {own: current[name].float() for own, name in theirs.items() if name in current}
    made_for_it = family is not None and model.loading and model.loading.architecture == family.masked_architecture
    if made_for_it and set(shapes) - set(found) == {f"{PREFIX}bias"}:  # ModernBERT's decoder_bias=False
        found[f"{PREFIX}bias"] = torch.zeros(shapes[f"{PREFIX}bias"])
    if len(found) < len(shapes):
        log.info("%s: has no head of masked-language modelling; a new one is made", init)
        return {}
    place = theirs[f"{PREFIX}bias"].removesuffix(".bias")
    word = model.embeddings.word.weight
    for name in (f"{place}.decoder.weight", f"{place}.weight"):
        table = current.get(name)
        if table is not None and (table.shape != word.shape or not torch.equal(table.to(word), word)):
            log.warning("%s: its decoder is not tied to its embedding; a new, tied head is made", init)
            return {}
    if any(tensor.shape != shapes[name] for name, tensor in found.items()):
        log.warning("%s: its head of masked-language modelling does not fit its config.json; a new one is made", init)
        return {}
    log.info("%s: goes on with its own head of masked-language modelling", init)
    return found


def forget_classifier(model: Classifier) -> None:
    """A new classifier in place of one that was trained: the layers below it are about to change.

    It is known as untrained: a checkpoint leaves it out, and who reads that draws the same.
    """
    loading = model.loading or Loading("pretraining", OWN)
    state = model.head.state_dict(prefix="head.")
    scratch = model.loading is None
    new = [name for name in state if scratch or name.startswith("head.classifier.") or name in loading.initialised]
    with torch.no_grad():
        for name in new:
            tensor = model.get_parameter(name)
            tensor.copy_(initial(name, tuple(tensor.shape), model.config))
    kept = tuple(name for name in loading.initialised if name not in new)
    model.loading = replace(loading, initialised=(*kept, *new), head="")


def share_dense(model: Classifier) -> None:
    """Where classifier and masked head have one dense layer, as in ModernBERT, the classifier's is what was learned."""
    head = model.masked_head
    if head is None or model.head.dense is None or model.head.norm is None:
        return
    model.head.dense.load_state_dict(head.dense.state_dict())
    model.head.norm.load_state_dict(head.norm.state_dict())
    if model.loading is not None:
        learned = ("head.dense.", "head.norm.")
        still = tuple(name for name in model.loading.initialised if not name.startswith(learned))
        model.loading = replace(model.loading, initialised=still)


def their_head(state: dict[str, Tensor], family: Family, model: Classifier) -> dict[str, Tensor]:
    """What of a model's state goes into a file of this family, as one of its models for masked-language modelling."""
    if model.masked_head is None:
        return state
    head_names = [name for name in state if name.startswith(("head.", PREFIX))]
    theirs = family.names(head_names, 0)
    of_masked = {name for own, name in theirs.items() if own.startswith(PREFIX)}
    doubled = [
        own
        for own in head_names
        if own.startswith("head.") and (theirs[own] in of_masked or theirs[own].startswith(OTHER_HEADS))
    ]
    fits = model.masked_head.activation == activation(model.config, family.model_type)
    if not fits:
        log.info("the head of masked-language modelling has another activation than %s's: left out", family.model_type)
    gone = {*doubled, *(() if fits else (own for own in head_names if own.startswith(PREFIX)))}
    return {own: tensor for own, tensor in state.items() if own not in gone}
