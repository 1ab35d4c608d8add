"""From the tensors of a checkpoint's file to the state of a model, and what became of each."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from longread.errors import UserError
from longread.models import families
from longread.models.classifier import Classifier
from longread.models.config import ClassifierConfig
from longread.models.families import Family
from longread.models.loading import Labels, Loading, listed

CLASSIFIER = "head.classifier."


def assign(
    tensors: Mapping[str, Tensor], model: Classifier, family: Family | None, labels: Labels, loading: Loading
) -> tuple[dict[str, Tensor], Loading]:
    """The state of `model` out of a file's tensors. UserError for what is missing, left over or of another shape.

    `loading` comes back with what happened to each of them.
    """
    read = _Assignment(model, family, labels, loading)
    for key, tensor in tensors.items():
        read.take(key, tensor)
    drawn = read.missing()
    for own in drawn:
        read.state[own] = initial(own, tuple(read.made[own].shape), model.config)
    done = dataclasses.replace(
        loading, ignored=tuple(read.ignored), renamed=tuple(read.renamed), initialised=tuple(drawn)
    )
    return read.state, done


class _Assignment:
    """The tensors read so far: in the model's state, ignored, or a fault."""

    def __init__(self, model: Classifier, family: Family | None, labels: Labels, loading: Loading) -> None:
        self.made, self.state = model.state_dict(), dict[str, Tensor]()
        self.ignored: list[str] = []
        self.renamed: list[str] = []
        self._left_over: list[str] = []
        self._misfits: list[str] = []
        self._family, self._labels, self._loading = family, labels, loading
        layers = model.config.num_hidden_layers
        self._theirs = family.names(self.made, layers) if family else {name: name for name in self.made}
        self._ours = {name: own for own, name in self._theirs.items()}

    def take(self, key: str, tensor: Tensor) -> None:
        name = self._family.current_name(key) if self._family else key
        own = self._ours.get(name)
        if self._loading.architecture is not None and key.startswith(families.OTHER_HEADS):
            self.ignored.append(key)
        elif own is None:
            unread = families.ignored(key) if self._family else key.startswith(families.MASKED_HEAD)
            (self.ignored if unread else self._left_over).append(key)
        elif own.startswith(CLASSIFIER) and self._labels.rows is None:
            self.ignored.append(key)  # of other labels
        elif tensor.shape != self.made[own].shape:
            self._misfits.append(f"{key} is {list(tensor.shape)}, not {list(self.made[own].shape)}")
        elif tensor.is_floating_point() != self.made[own].is_floating_point():
            self._misfits.append(f"{key} is {tensor.dtype}, not {self.made[own].dtype}")
        else:
            self.state[own] = self._sound(own, key, tensor)
            if key.endswith(tuple(families.OLD_NAMES)):
                self.renamed.append(key)

    def _sound(self, own: str, key: str, tensor: Tensor) -> Tensor:
        """In float32, a classifier's rows in the order of the labels."""
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        if not _is_finite(tensor):
            broken = f"{key} holds NaN or infinite numbers"
            raise UserError(f"{self._loading.source}: {broken}; the file is damaged, or the training had diverged")
        if own.startswith(CLASSIFIER) and self._labels.rows != tuple(range(self._labels.count)):
            return tensor[list(self._labels.rows or ())]
        return tensor

    def missing(self) -> list[str]:
        """What the file may lack and does. UserError where anything else is wrong."""
        missing = [own for own in self.made if own not in self.state]
        free = [own for own in missing if _may_be_missing(own, self._family)]
        keys = [self._theirs.get(own, own) for own in missing if own not in free]
        lacking = list(dict.fromkeys(map(self._family.in_file, keys) if self._family else keys))
        faults = {
            "missing": [] if self._misfits else lacking,
            "left over": self._left_over,
            "of another shape or type:": self._misfits,
        }
        problems = [f"{what} {listed(keys)}" for what, keys in faults.items() if keys]
        if problems:
            raise UserError(f"{self._loading.source}: the weights do not fit its config.json: {'; '.join(problems)}")
        return free


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
