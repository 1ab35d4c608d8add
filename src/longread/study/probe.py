"""How long runs take on this machine and on these texts: a few steps of each, on a sample of the training rows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from longread.config import RunConfig
from longread.data.batches import Indices
from longread.data.dataset import Prepared, Split, make_tokenizer, tokenize
from longread.data.examples import strata, stratified_sample
from longread.data.load import load_task
from longread.data.tokenizer import Tokenizer
from longread.models.classifier import Classifier
from longread.study.plan import LENGTHS, Cost, Texts
from longread.system.measure import foreign_load
from longread.system.runtime import pick_device
from longread.training.classification import classification_trainer
from longread.training.resolve import resolve, resolve_machine
from longread.training.signals import Interrupted
from longread.training.start import load_model, new_model, tokenizer_for

SAMPLE = 256  # rows
TOKENS = 4096  # of a measured step, about
STEPS = 2  # that are timed, behind one that is not
SPARE = 1.2  # what is planned for, against what was measured: other work on the machine, longer rows than the sample's


class Probe:
    """Costs of configurations on the rows of their task, which are read once."""

    def __init__(self, base: RunConfig) -> None:
        """`base`: the settings that all configurations have in common, resolved."""
        self.base = base
        if base.threads:
            torch.set_num_threads(base.threads)
        begin = time.perf_counter()
        self.train, self.evaluation = load_task(base.data_config())
        self.read_seconds = time.perf_counter() - begin
        self.sample = self.train.take(stratified_sample(strata(self.train), SAMPLE, base.sample_seed, "budget"))
        self.tokens_ready: set[int] = set()
        self.tokenizer_seconds = self.token_seconds = 0.0  # of the sample
        # Mechanism, depth and width -> the length that was measured, and seconds of a token in training and answering.
        self.per_token: dict[tuple[str, int, int], tuple[int, float, float]] = {}

    def texts(self) -> Texts:
        lengths = self.split(self.longest).lengths
        return Texts(len(self.train), lengths, self.train.problem_type, self.longest)

    def __call__(self, config: RunConfig) -> Cost:
        try:
            return self.linear(config) if config.is_baseline else self.transformer(config)
        except Interrupted:
            raise KeyboardInterrupt from None

    def forget(self, pace: float) -> None:
        """Steps are measured anew; a process starts `pace` times as slowly as it did."""
        self.per_token.clear()
        self.__dict__["start_seconds"] = pace * self.start_seconds

    def linear(self, config: RunConfig) -> Cost:
        """Fits the sample; all in one number."""
        from longread.inference.run_linear import score
        from longread.training import baselines  # scikit-learn with it, which each run loads

        begin = time.perf_counter()
        model = baselines.fit(config.attention, self.sample)
        fitted = time.perf_counter()
        score(model, self.sample)
        scored = time.perf_counter()
        seconds = (fitted - begin) * len(self.train) + (scored - fitted) * len(self.evaluation)
        return Cost(self.start_seconds + SPARE * seconds / len(self.sample))

    def transformer(self, config: RunConfig) -> Cost:
        """Of a length that is shorter than a measured one: a token takes at most as long."""
        config = resolve(config)
        length = config.max_length or self.longest
        whole = self.split(length)
        model = self.model(config, whole)
        key = (config.attention, model.config.num_hidden_layers, model.config.hidden_size)
        if key not in self.per_token or self.per_token[key][0] < length:
            self.per_token[key] = (length, *self.measured(model, whole, config, length))
        _, training, answering = self.per_token[key]
        tokens = SPARE * float(whole.lengths.mean())
        coverage = model.blocks[0].attention.coverage(whole.lengths.tolist())  # type: ignore[operator, union-attr]
        return Cost(
            self.start_seconds + SPARE * self.reading_seconds(length),
            epoch=training * tokens * len(self.train),
            evaluation=answering * tokens * len(self.evaluation),
            dense={name for name, count in coverage.items() if count} == {"full"},
        )

    def measured(self, model: Classifier, whole: Split, config: RunConfig, length: int) -> tuple[float, float]:
        """Seconds of a token in training and in answering."""
        config = resolve_machine(config, model.config.hidden_size)
        count = max(1, min(config.batch_size, len(whole) // 2, round(TOKENS / whole.lengths.mean())))
        config = replace(config, batch_size=count, epochs=1, max_length=length)
        model.to(pick_device(config.device))
        rows = np.arange(len(whole))
        self.timed(model, rows[:count], config)  # warms up
        chosen = rows[-min(STEPS * count, len(rows)) :]
        training, answering = self.timed(model, chosen, config)
        tokens = whole.lengths[chosen].sum()
        return training / tokens, answering / tokens

    def timed(self, model: Classifier, rows: Indices, config: RunConfig) -> tuple[float, float]:
        """Seconds of training on rows of the sample and of answering them."""
        assert config.max_length
        part = self.split(config.max_length, rows)
        data = Prepared(part, part, None, self.tokenizer, ())
        config = replace(config, class_weights="none", calibrate=False, choose_threshold=None, save_seconds=1e9)
        with tempfile.TemporaryDirectory() as folder:
            trainer = classification_trainer(model, data, config, Path(folder), lambda event: None)
            trainer.run()
        return trainer.watch.seconds, trainer.evaluation.watch.seconds

    def model(self, config: RunConfig, whole: Split) -> Classifier:
        if config.init == "scratch":
            return new_model(config, Prepared(whole, whole, None, self.tokenizer, ()))
        return load_model(config, whole.label_names, whole.problem_type)

    def split(self, length: int, rows: Indices | None = None) -> Split:
        """Rows of the sample (None: all) as tokens."""
        tokenizer = self.tokenizer
        begin = time.perf_counter()
        found = tokenize(self.sample if rows is None else self.sample.take(rows), tokenizer, length, None)
        if rows is None:
            self.token_seconds = time.perf_counter() - begin
        return found

    def reading_seconds(self, length: int) -> float:
        """Of making tokens of all texts, which the first run at a length does for the others."""
        if length in self.tokens_ready:
            return 0.0
        once = 0.0 if self.tokens_ready else self.tokenizer_seconds * len(self.train)
        self.tokens_ready.add(length)
        return (once + self.token_seconds * (len(self.train) + len(self.evaluation))) / len(self.sample)

    @cached_property
    def start_seconds(self) -> float:
        """Of a process with the program in it, which looks at the machine's load twice and reads the rows."""
        begin = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", "import longread.training.run, longread.training.baselines"]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        foreign_load()
        foreign_load()
        return time.perf_counter() - begin + self.read_seconds

    @cached_property
    def tokenizer(self) -> Tokenizer:
        if self.base.init != "scratch":
            return tokenizer_for(self.checkpoint, self.base)
        begin = time.perf_counter()
        found = make_tokenizer(replace(self.base.data_config(), cache=None), self.sample)
        self.tokenizer_seconds = time.perf_counter() - begin
        return found

    @cached_property
    def longest(self) -> int:
        """Tokens that a model can be given."""
        if self.base.max_length is not None or self.base.init == "scratch":
            return self.base.max_length or LENGTHS[-1]
        return min(LENGTHS[-1], self.tokenizer.limit(self.checkpoint.config.max_length))

    @cached_property
    def checkpoint(self) -> Classifier:
        return load_model(self.base, None)
