"""`import longread.hf` makes every mechanism a citizen of transformers: Auto classes, pipeline(), Trainer, push_to_hub.

A checkpoint that `longread.save_pretrained` wrote in its own layout (`"model_type": "longread"`) then loads with
`AutoModelForSequenceClassification.from_pretrained(directory)`. The weights have the same names on both sides, so what
transformers saves is read by `longread.from_pretrained` again. Needs the extra `hf`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

try:
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput
except ImportError as error:
    raise ImportError("longread.hf needs transformers; pip install 'longread[hf]'") from error

from longread.errors import UserError
from longread.models.checkpoint import TOKEN_IDS
from longread.models.classifier import Classifier
from longread.models.config import ClassifierConfig
from longread.models.decision import DECISION
from longread.models.linear import MODEL_TYPE as LINEAR
from longread.models.loading import OWN
from longread.ops.packed import PackedBatch

log = logging.getLogger("longread")

# Fields that transformers keeps itself, under another name or in another form.
THEIRS = ("num_labels", "label_names", "problem_type")


class LongreadConfig(PreTrainedConfig):  # type: ignore[misc]
    """Every field of `ClassifierConfig` and of the mechanism's options, flat, as in our config.json."""

    model_type = OWN

    def __init__(self, **settings: Any) -> None:
        given = settings.pop("longread_fields", None)
        super().__init__(**settings)
        if given is None:
            known = set(ClassifierConfig.__dataclass_fields__) - {"options", *THEIRS}
            own = ClassifierConfig(attention=settings.get("attention", "dense")).to_dict()
            given = {name: settings[name] for name in {*known, *own} - set(THEIRS) if name in settings}
        if settings.get(DECISION):
            given = dict(given) | {DECISION: settings[DECISION]}
        self.longread_fields: dict[str, Any] = dict(given)

    def classifier_config(self) -> ClassifierConfig:
        """ValueError for fields that neither the classifier nor the mechanism has."""
        own = {name: value for name, value in self.longread_fields.items() if name != DECISION}
        return ClassifierConfig.from_dict(own | {"num_labels": self.num_labels})

    def to_dict(self) -> dict[str, Any]:
        """Flat and no more than is ours, so that `longread.from_pretrained` reads it too."""
        kept = ("architectures", "id2label", "label2id", "problem_type", "dtype", "transformers_version", *TOKEN_IDS)
        theirs = {name: value for name, value in super().to_dict().items() if name in kept and value is not None}
        return {"model_type": OWN} | self.longread_fields | {"num_labels": self.num_labels} | theirs

    def to_diff_dict(self) -> dict[str, Any]:
        return self.to_dict()


class LongreadForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """The classifier behind transformers' interface; masks and padding give the packed batch's results."""

    config_class = LongreadConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    classifier: Classifier

    def __init__(self, config: LongreadConfig) -> None:
        super().__init__(config)
        if (config.longread_fields.get(DECISION) or {}).get("thresholds"):
            log.warning(
                "this checkpoint has thresholds; transformers' pipeline does not apply them, longread.load does"
            )
        model = Classifier(config.classifier_config())
        for name, module in model.named_children():  # the same modules, so that weights have the same names
            self.add_module(name, module)
        object.__setattr__(self, "classifier", model)  # not a child: its weights are counted once
        self.post_init()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Of weights that a checkpoint lacks: a new classifier's."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.longread_fields.get("initializer_range", 0.02))
            nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """input_ids int64 [B, N], attention_mask [B, N] (1 = token) -> logits [B, num_labels], and the labels' loss.

        Hidden states, if asked for, are [B, N, hidden] each, zero where there is no token.
        """
        self.classifier.train(self.training)
        mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        types = token_type_ids if self.config.longread_fields.get("type_vocab_size") else None
        logits = self.classifier(input_ids, mask, types)
        states = self._states(input_ids, mask, types) if output_hidden_states else None
        loss = None
        if labels is not None:
            problem = str(self.config.problem_type or self._problem(labels))
            self.config.problem_type = problem  # type: ignore[assignment]
            loss = LOSSES[problem](logits.float(), labels)
        if return_dict is False:
            return tuple(part for part in (loss, logits, states) if part is not None)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=states)

    def _problem(self, labels: Tensor) -> str:
        """As in transformers' own classifiers."""
        if self.config.num_labels == 1:
            return "regression"
        return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"

    def _states(self, input_ids: Tensor, mask: Tensor, types: Tensor | None) -> tuple[Tensor, ...]:
        there = mask.any(1)
        kept = mask[there]
        batch = PackedBatch(tuple(kept.sum(1).tolist()), input_ids.device)
        own_types = None if types is None else types[there][kept]
        packed = self.classifier.hidden_states(input_ids[there][kept], batch, own_types)
        rows = (mask & there[:, None]).flatten().nonzero().squeeze(1)
        return tuple(
            state.new_zeros(mask.numel(), state.shape[1]).index_copy(0, rows, state).unflatten(0, mask.shape)
            for state in packed
        )


class LinearConfig(PreTrainedConfig):  # type: ignore[misc]
    """Of a linear model: no network, so transformers is told where it is read."""

    model_type = LINEAR

    def __init__(self, **settings: Any) -> None:
        if settings:  # transformers makes an empty one to see what its defaults are
            raise UserError(
                f"a linear model ({settings.get('attention')}) has no network for transformers; "
                "read it with longread.load"
            )
        super().__init__()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "regression": lambda logits, labels: nn.functional.mse_loss(logits.view_as(labels), labels.float()),
    "single_label_classification": lambda logits, labels: nn.functional.cross_entropy(logits, labels.view(-1)),
    "multi_label_classification": nn.functional.binary_cross_entropy_with_logits,
}

AutoConfig.register(OWN, LongreadConfig, exist_ok=True)
AutoConfig.register(LINEAR, LinearConfig, exist_ok=True)
AutoModelForSequenceClassification.register(LongreadConfig, LongreadForSequenceClassification, exist_ok=True)
