"""Where settings come from: every search, chosen on rows held out of train, never on evaluation rows.

Run:     python experiments/run.py settings --data-dir DIR
Look at: the accuracy on the selection rows in each run's history; the evaluation rows are no part of a choice.
Expect:  SST-2: the mean of the tokens, which these weights were trained with, at least as good as the first token.
         QNLI: Linformer's projections and classifier at a faster rate ahead, because with 16 projected positions the
         conversion shows the tokens behind the 16th to nobody but faintly, and at 1e-4 that takes long to change.
         Performer: neither rate teaches it these pairs; centred features ahead of plain ones (they were), learned ones
         ahead of drawn ones (they were not).
         IMDB, pretrained: with 256 projected positions the conversion is dense on more than half of the reviews;
         projections that learn ten times as fast as the rest unlearn that.
         IMDB, from scratch: half a point from folding Linformer's projections; a steadier loss from less embedding
         dropout. 10,000 training reviews and 5,000 more of train to choose by: good to half a point either way.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.long_documents import BASE as IMDB
from experiments.pairs import QNLI
from experiments.recipes import FEATURES
from experiments.sentences import BASE as SST2
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("qnli-settings", "imdb-settings", "imdb-pretrained-settings")
SCRATCH = RunConfig(
    task="imdb", attention="linformer", num_hidden_layers=1, hidden_size=64, num_attention_heads=4, train_rows=15_000,
    selection_fraction=1 / 3, choose_epoch="best", eval_rows=500, batch_size=32, learning_rate=5e-4, epochs=5,
    max_length=4096, weight_decay=0.1, dropout=0.2, embedding_dropout=0.5, token_dropout=0.4, vocab_size=16_000,
    threads=1,
)  # fmt: skip


def steps() -> list[Step]:
    return [Step(config) for config in (*sst2(), *qnli(), *imdb_pretrained(), *imdb_from_scratch())]


def sst2() -> list[RunConfig]:
    """Learning rate and pooling. The runs were made, their records not kept (figures in docs/log.md)."""
    base = replace(SST2, train_rows=13_400, choose_epoch="best")
    choices = (("mean", 1e-4), ("first", 1e-4), ("mean", 5e-5), ("mean", 2e-4))
    return [replace(base, pooling=pooling, learning_rate=rate) for pooling, rate in choices]


def qnli() -> list[RunConfig]:
    """Rates of what pretraining has not seen, and Performer's features."""
    base = replace(QNLI, epochs=1, train_rows=8_000, eval_rows=500, choose_epoch="best", selection_fraction=0.25)
    linformer = replace(base, attention="linformer", projection_size=16)
    performer = replace(base, attention="performer", num_features=64)
    return [
        *(replace(linformer, new_weights_rate=rate) for rate in (10.0, 1.0, 30.0)),
        *(replace(performer, learning_rate=rate) for rate in (3e-4, 1e-4)),
        replace(performer, centred=True),
        replace(performer, new_weights_rate=10.0, **FEATURES),
        replace(performer, new_weights_rate=10.0, learned_features=True),
        replace(performer, new_weights_rate=30.0, **FEATURES),
    ]


def imdb_pretrained() -> list[RunConfig]:
    """How fast a converted Linformer's projections learn on long texts; the classifier learns ten times as fast."""
    base = replace(IMDB, train_rows=2_500, eval_rows=500, choose_epoch="best", selection_fraction=0.2)
    linformer = replace(base, attention="linformer", new_weights_rate=10.0)
    return [replace(linformer, projection_rate=rate) for rate in (0.1, 0.01)]


def imdb_from_scratch() -> list[RunConfig]:
    folded = replace(SCRATCH, projection_init="fold", projection_rate=0.1, embedding_dropout=0.1)
    return [
        SCRATCH,
        replace(SCRATCH, average_weights=0.99),
        replace(SCRATCH, average_weights=0.99, label_smoothing=0.1),
        # The default of 128 has a million weights in its projections, more than all else but the embedding.
        replace(SCRATCH, projection_size=32),
        replace(SCRATCH, projection_size=256),
        # Projections that begin as sums of tokens, and learn slowly.
        replace(SCRATCH, projection_init="fold", new_weights_rate=0.1),
        # With half of the embedding dropped the loss on held-out rows rises, the more so the deeper the model.
        *(replace(SCRATCH, attention="performer", num_hidden_layers=d, embedding_dropout=0.1) for d in (1, 3)),
        *(replace(folded, num_hidden_layers=d) for d in (1, 3)),
    ]
