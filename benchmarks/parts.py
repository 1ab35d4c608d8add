"""What is compared, row by row: the work, the peer, the goal. Read by `run.py` and `worker.py`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

SMALL = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
BASE = {"num_hidden_layers": 2, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
STUDY = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256}
# The peers' vocabularies, so that embeddings weigh as much as they do there.
ROBERTA, STUDY_VOCABULARY = 50_265, 50_272
# ModernBERT-base has 22 such layers, in a period of three; MPNet-base 12 of BASE's shape.
MODERNBERT = {"num_hidden_layers": 22, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 1152}
MODERNBERT_PERIOD = MODERNBERT | {"num_hidden_layers": 3}
MPNET = BASE | {"num_hidden_layers": 12}
PADDED = 4096
SIZES = {"longformer": " (window 512)", "bigbird": " (blocks of 64, 3 random)"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    rows: "sentences", "reviews", or "length:N" (one text of N random tokens); count: how many. phase: "inference", or
    "training" (forward, backward, AdamW; dropout 0.1 on hidden states, none on attention, on both sides). batch: texts
    of a peer's batch and of an optimizer step. sorted: the peer's inference gets its texts sorted by length. pad: to
    the longest text of a batch, or to so many tokens. goal: least ratio of the peer's seconds to ours. allocators: the
    ones it is measured with, each on both sides; the first leads. family: of the checkpoint; empty: as the attention
    and the shape say. max_length: positions of both sides.
    """

    name: str
    what: str
    part: str
    attention: str
    peer: str  # "transformers", "performer-pytorch", "linformer"; "dense" is this project's own
    shape: dict[str, Any]
    rows: str
    count: int
    batch: int
    phase: str
    goal: float | None
    precision: str = "float32"
    pad: int | None = None
    sorted: bool = True
    repeats: int = 5
    vocab_size: int = ROBERTA
    options: dict[str, Any] = field(default_factory=dict)  # of the mechanism
    peer_options: dict[str, Any] = field(default_factory=dict)
    allocators: tuple[str, ...] = ("default",)
    family: str = ""
    max_length: int = PADDED

    @property
    def architecture(self) -> str:
        if self.family or self.attention == "bigbird":
            return self.family or self.attention
        if self.attention == "longformer":
            return self.attention
        return "roberta" if self.shape["hidden_size"] == 768 else "bert"

    def quick(self) -> Row:
        """A quarter of the texts, once, with the first allocator: whether everything runs, not a figure to quote."""
        count = -(-self.count // 4)
        return replace(self, count=count, batch=min(self.batch, count), repeats=1, allocators=self.allocators[:1])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _long(attention: str, phase: str, precision: str, goal: float | None, peer: str = "transformers") -> Row:
    beside = "" if peer == "transformers" else " beside our dense"
    name = {"bigbird": "BigBird", "longformer": "Longformer"}.get(attention, attention)
    return Row(
        name=f"{attention}-4096-{phase}-{precision}" + ("-dense" if beside else ""), part="long",
        what=f"{name}{SIZES.get(attention, '')}, base size, 2 layers, 4,096 tokens, {phase}, {precision}{beside}",
        attention=attention, peer=peer, shape=BASE, rows="length:4096", count=1, batch=1, phase=phase,
        precision=precision, goal=goal, repeats=3 if phase == "inference" else 2,
        allocators=("default", "tuned") if precision == "float32" else ("default",),
        options={"random_block_plan": "huggingface"} if attention == "bigbird" else {},
    )  # fmt: skip


def _encoder(family: str, texts: str, precision: str, peer_attention: str, goal: float) -> Row:
    """ModernBERT or MPNet beside transformers: sentences as they come, at full depth, or a text of 8,192 tokens."""
    modern, long = family == "modernbert", texts == "8192"
    title = "ModernBERT" if modern else "MPNet"
    shape = (MODERNBERT_PERIOD if modern else BASE) if long else (MODERNBERT if modern else MPNET)
    depth = f"{shape['num_hidden_layers']} layers"
    work = f"8,192 tokens, {depth}" if long else f"sentences as they come, {depth}, batch 32"
    return Row(
        name=f"{family}-{texts}-{precision}-{peer_attention}", part="encoders", peer="transformers", family=family,
        what=f"{title}, base size, {work}, inference, {precision}; peer {peer_attention}",
        attention="dense local local" if modern else "dense", shape=shape, phase="inference", precision=precision,
        rows="length:8192" if long else "sentences", count=1 if long else 64, batch=32, sorted=False, goal=goal,
        repeats=3, vocab_size=50_368 if modern else 30_527, max_length=8192 if long or modern else 512,
        peer_options={"attn_implementation": peer_attention},
    )  # fmt: skip


ENCODERS = tuple(
    _encoder(family, texts, precision, peer_attention, goal)
    for family, kinds in (("modernbert", ("sdpa", "eager")), ("mpnet", ("eager",)))
    for texts, goal in (("sentences", 2.0), ("8192", 1.2))
    for precision in ("float32", "bfloat16")
    for peer_attention in kinds
)


def _fine_tuning(family: str, texts: str, peer_attention: str) -> Row:
    """The training step of a base-size encoder: phrases of SST-2 as they come, or 8 texts of 512 tokens."""
    modern, long = family == "modernbert", texts == "512"
    title, shape = ("ModernBERT", MODERNBERT) if modern else ("MPNet", MPNET)
    work = "8 texts of 512 tokens" if long else "phrases as they come, batch 32"
    return Row(
        name=f"{family}-{texts}-training-{peer_attention}", part="encoders-training", peer="transformers",
        family=family, what=f"{title}, base size, {work}, training, bfloat16; peer {peer_attention}",
        attention="dense local local" if modern else "dense", shape=shape, phase="training", precision="bfloat16",
        rows="length:512" if long else "phrases", count=8 if long else 96, batch=32, sorted=False, goal=3.0,
        repeats=3, vocab_size=50_368 if modern else 30_527, max_length=512,
        peer_options={"attn_implementation": peer_attention},
    )  # fmt: skip


FINE_TUNINGS = (
    _fine_tuning("mpnet", "phrases", "eager"), _fine_tuning("mpnet", "512", "eager"),
    _fine_tuning("modernbert", "phrases", "sdpa"), _fine_tuning("modernbert", "512", "sdpa"),
)  # fmt: skip

ROWS: tuple[Row, ...] = (
    Row(name="longformer-sentences-inference", part="sentences", attention="longformer", peer="transformers",
        what="Longformer, sentences, 6 layers of 384, batch 32, inference", shape=SMALL, rows="sentences", count=32,
        batch=32, phase="inference", goal=60, repeats=2),
    Row(name="longformer-sentences-training", part="sentences", attention="longformer", peer="transformers",
        what="Longformer, sentences, 6 layers of 384, batch 16, training", shape=SMALL, rows="sentences", count=16,
        batch=16, phase="training", goal=40, repeats=2),
    Row(name="longformer-reviews-inference", part="reviews", attention="longformer", peer="transformers",
        what="Longformer, reviews up to 4,096 tokens, batch 8, inference", shape=SMALL, rows="reviews", count=16,
        batch=8, phase="inference", goal=8, repeats=3),
    Row(name="bigbird-reviews-inference", part="reviews", attention="bigbird", peer="transformers",
        what="BigBird, reviews up to 4,096 tokens, batch 8, inference", shape=SMALL, rows="reviews", count=16,
        batch=8, phase="inference", goal=2.2, repeats=3, options={"random_block_plan": "huggingface"}),
    Row(name="dense-reviews-inference", part="reviews", attention="dense", peer="transformers",
        what="dense, reviews up to 4,096 tokens, batch 8, inference", shape=SMALL, rows="reviews", count=16,
        batch=8, phase="inference", goal=1.15, repeats=3),
    _long("longformer", "inference", "float32", 1.6),
    _long("longformer", "training", "float32", 2.3),
    _long("longformer", "inference", "bfloat16", 2.1),
    _long("longformer", "training", "bfloat16", 2.3),
    _long("bigbird", "inference", "float32", 2.8),
    _long("bigbird", "training", "float32", 1.9),
    _long("dense", "inference", "float32", 1.0),
    _long("dense", "training", "float32", 1.0),
    _long("dense", "inference", "bfloat16", None),
    _long("dense", "training", "bfloat16", None),
    _long("bigbird", "inference", "bfloat16", None, "dense"),
    _long("bigbird", "training", "bfloat16", None, "dense"),
    Row(name="linformer-study-training", part="study", attention="linformer", peer="linformer",
        what="the student study's Linformer, reviews, peer padded to 4,096, training", shape=STUDY, rows="reviews",
        count=32, batch=32, phase="training", goal=25, pad=PADDED, repeats=3, vocab_size=STUDY_VOCABULARY),
    Row(name="performer-study-training", part="study", attention="performer", peer="performer-pytorch",
        what="the student study's Performer, reviews, peer padded to 4,096, training", shape=STUDY | {"head_dim": 64},
        rows="reviews", count=32, batch=32, phase="training", goal=25, pad=PADDED, repeats=3,
        vocab_size=STUDY_VOCABULARY),
    Row(name="performer-sorted-training", part="study", attention="performer", peer="performer-pytorch",
        what="the same Performer, the peer given length-sorted batches with a mask, training",
        shape=STUDY | {"head_dim": 64}, rows="reviews", count=64, batch=16, phase="training", goal=2, repeats=3,
        vocab_size=STUDY_VOCABULARY),
    Row(name="dense-sst2-training", part="fine-tuning", attention="dense", peer="transformers",
        what="dense fine-tuning, sentences, 6 layers of 384, batch 64, bfloat16; peer as it comes", shape=SMALL,
        rows="phrases", count=192, batch=64, phase="training", precision="bfloat16", goal=2.2, sorted=False, repeats=2,
        vocab_size=30_522),
    Row(name="dense-sst2-training-eager", part="fine-tuning", attention="dense", peer="transformers",
        what="the same, peer with eager attention", shape=SMALL, rows="phrases", count=192, batch=64, phase="training",
        precision="bfloat16", goal=1.3, sorted=False, repeats=2, vocab_size=30_522,
        peer_options={"attn_implementation": "eager"}),
    *ENCODERS,
    *FINE_TUNINGS,
)  # fmt: skip


def record_name(row: str, allocator: str) -> str:
    """The folder of a record, and its key."""
    return row if allocator in ("default", "") else f"{row}-{allocator}"


PARTS = tuple(dict.fromkeys(row.part for row in ROWS))
