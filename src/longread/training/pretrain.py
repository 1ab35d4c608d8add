"""An encoder learns to guess masked tokens of a task's own texts, without their labels.

The loss is in training/masked.py. There is no next-sentence prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from longread.config import RunConfig
from longread.data.dataset import make_tokenizer, tokenize
from longread.data.load import load_texts
from longread.data.masking import Masking, with_mask_token
from longread.errors import UserError
from longread.inference.meter import Meter
from longread.models.classifier import build
from longread.models.masked import add_masked_head, forget_classifier, share_dense
from longread.problems import SINGLE_LABEL
from longread.records import Run
from longread.records.record import Kind
from longread.system import processes, runtime
from longread.training.events import Listener, ignore
from longread.training.lineage import provenance_of
from longread.training.masked import HeldOut, masked_trainer
from longread.training.resolve import resolve
from longread.training.run import run_work, say_what_is_cut
from longread.training.start import OVERRIDES, SHAPE, load_model, tokenizer_for
from longread.training.trainer import Trainer
from longread.training.unlabelled import READ, UnlabelledWork, check_enough, check_unread, work_done

MASK_FRACTION = 0.15
LEARNING_RATES = {True: 1e-3, False: 1e-4}  # from scratch, and from a checkpoint
# Fields of RunConfig that it reads, beside the mechanism's own settings; no other may be given.
USED = (*READ, "num_hidden_layers", "hidden_size", "num_attention_heads", "head_dim", "intermediate_size",
        "norm_position", "vocab_size", "lowercase", "dropout", "embedding_dropout", "attention_dropout", "eval_file",
        "truncation", "chunk_stride")  # fmt: skip


def pretrain(
    config: RunConfig, *, steps: int, mask_fraction: float = MASK_FRACTION, resume: bool = False,
    restart: bool = False, on_event: Listener = ignore,
) -> Run:  # fmt: skip
    """Masked-language modelling on the task's training texts, from scratch or from the checkpoint `config.init`.

    The record (kind "pretrain") is in `OUT/runs/<run_id>/`, and the encoder in its `checkpoint`, which `init` takes;
    its classifier is untrained. Labels decide at most which rows are held out for evaluation. Stops, resumes and is
    skipped as `train`. UserError for settings that pretraining does not use, for too few rows, for a tokenizer without
    a mask token, and as in `train`.
    """
    if steps < 1:
        raise UserError(f"--steps {steps}: must be 1 or more")
    if not 0 < mask_fraction < 1:
        raise UserError(f"--mask-fraction {mask_fraction:g}: must be between 0 and 1; BERT's is {MASK_FRACTION}")
    config = _resolve(config)
    with processes.joined():
        meter = Meter(runtime.pick_device(config.device))
        with processes.first_goes_ahead():
            work = _work(config, steps, mask_fraction)
        say_what_is_cut(work.split, work.config)
        return run_work(work, resume=resume, restart=restart, on_event=on_event, meter=meter)


def _resolve(config: RunConfig) -> RunConfig:
    check_unread(config, USED, "pretraining")
    if config.is_baseline:
        raise UserError(f"--attention {config.attention}: a linear model has no hidden states to guess words from")
    rate = config.learning_rate or LEARNING_RATES[config.init == "scratch"]
    return replace(resolve(config), learning_rate=rate)


def _work(config: RunConfig, steps: int, mask_fraction: float) -> PretrainWork:
    examples = load_texts(config.data_config())
    check_enough(len(examples), "pretraining")
    scratch, model = config.init == "scratch", None
    if scratch:
        tokenizer = with_mask_token(make_tokenizer(config.data_config(), examples))
        assert config.max_length
        limit, reads = config.max_length, tokenizer
    else:
        model = load_model(config, None)
        tokenizer = tokenizer_for(model, config)
        limit = min(config.max_length or tokenizer.limit(model.config.max_length), model.config.max_length)
        config = replace(config, **vars(model.cut if config.truncation is None else config.cut))
        reads = tokenizer.reading(limit) if config.truncation is None else tokenizer.cutting(limit)
    masking = Masking.of(tokenizer, mask_fraction, config.seed)
    split = tokenize(examples, reads, limit, config.out / "cache", config.cut, config.workers)
    if model is None:
        model = build(
            config.attention,
            **{name: getattr(config, name) for name in SHAPE},
            **config.options,
            vocab_size=tokenizer.vocab_size,
            type_vocab_size=0 if split.encoded.types is None else 2,
        )
    model.cut = config.cut
    head_is_trained = add_masked_head(model, config.init)
    forget_classifier(model)
    provenance = None if scratch else provenance_of(config.init)
    known = {} if scratch else {name: getattr(model.config, name) for name in OVERRIDES}
    return PretrainWork(
        config=replace(config, max_length=limit, **known),
        model=model,
        split=replace(split, labels=np.zeros(len(split), dtype=np.uint8), label_names=(), problem_type=SINGLE_LABEL),
        masking=masking,
        steps=steps,
        head_is_trained=head_is_trained,
        tokenizer=reads,
        fingerprints=(split.fingerprint, tokenizer.fingerprint),
        lineage=provenance.as_parent() if provenance else (),
        earlier=provenance.trainings() if provenance else (),
    )


@dataclass(frozen=True, kw_only=True)
class PretrainWork(UnlabelledWork):
    """Masked-language modelling for a number of steps."""

    read = USED
    masking: Masking
    head_is_trained: bool  # of masked-language modelling: the checkpoint brought one

    @property
    def kind(self) -> Kind:
        return "pretrain"

    def named(self, config: RunConfig) -> dict[str, Any]:
        return super().named(config) | {"mask_fraction": self.masking.fraction}

    def trainer(self, config: RunConfig, directory: Path, on_event: Listener) -> Trainer:
        return masked_trainer(self.model, self.split, self.masking, config, self.steps, directory, on_event)

    def results(self, trainer: Trainer) -> dict[str, Any]:
        held_out = trainer.evaluation
        assert isinstance(held_out, HeldOut)
        share_dense(self.model)
        before, after = held_out.before, held_out.after
        return {
            "pretraining": {
                **work_done(trainer),
                "mask_fraction": self.masking.fraction,
                "held_out_rows": len(held_out.rows),
                "held_out_tokens": held_out.count,
                "head_was_trained": self.head_is_trained,
            },
            "metrics": {
                "masked_loss": after.loss,
                "masked_perplexity": after.perplexity,
                "masked_accuracy": after.accuracy,
                "masked_loss_before": before.loss,
                "masked_perplexity_before": before.perplexity,
                "masked_accuracy_before": before.accuracy,
            },
            "head_is_untrained": True,
        }
