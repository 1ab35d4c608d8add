"""What the cost model predicts for clusters of GPUs. Nothing here was measured: published figures and assumptions.

    python -m benchmarks.cost_predict [--price DOLLARS]        the tables, with another price of a GPU for an hour

The figures of the card are its maker's (CARD); what a program reaches of them, ASSUMED, is an assumption.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import cost
from benchmarks.cost import Machine, Part
from longread.models.classifier import Classifier

GPUS = (8, 64, 1024)
LENGTHS = (4096, 8192)
PRICE = 2.50  # dollars for a GPU for an hour; an assumption

# NVIDIA H100 SXM: nvidia.com/en-us/data-center/h100 (bfloat16 without sparsity is half of what stands there with it);
# its server, with a network card for each GPU: docs.nvidia.com/dgx/dgxh100-user-guide.
CARD_NAME = "NVIDIA H100 SXM"
CARD: dict[str, float] = {
    "bfloat16_per_second": 989e12,
    "bandwidth": 3.35e12,
    "memory_bytes": 80e9,
    "gpus_of_a_server": 8,
    "link_bytes_per_second": 450e9,  # NVLink, one direction of 900 GB/s
    "network_bytes_per_second": 50e9,  # InfiniBand, 400 Gb/s
}
# Dense attention: FlashAttention-2 reaches 35 % on this card (Shah et al. 2024, arxiv.org/abs/2407.08608, abstract).
ASSUMED = {
    "products": 0.5,
    "mixing": 0.35,
    "bandwidth": 0.7,
    "network": 0.7,
    "seconds_of_a_launch": 8e-6,  # the processor asks for one operator after the other
    "launches_of_a_layer": 40,  # forward; twice as many more backward
    "bytes_of_a_token": 4.5,  # of English text
    "tokenizer_bytes_per_second": 50e6,  # of a server: "less than 20 seconds to tokenize a GB" (huggingface/tokenizers)
    "read_bytes_per_second": 2e9,  # of a server
    "activations_of_a_layer": 16,  # of hidden_size numbers, that a training step keeps of a token; feed-forward apart
}
MODELS: dict[str, dict[str, Any]] = {
    "Longformer-base": {
        "attention": "longformer", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12,
        "vocab_size": 50265, "max_length": 8192, "attention_window": 512,
    },
    "ModernBERT-base": {
        "attention": "dense local local", "num_hidden_layers": 22, "hidden_size": 768, "num_attention_heads": 12,
        "intermediate_size": 1152, "gated": True, "position_kind": "rotary", "vocab_size": 50368, "max_length": 8192,
        "attention_bias": False, "feed_forward_bias": False, "norm_bias": False,
    },
}  # fmt: skip
BATCH = 1024  # documents that the optimizer sees at once
TRAINED_DOCUMENTS = 10_000_000
CLASSIFIED_DOCUMENTS = 1_000_000_000
MICRO_BATCH = 16_384  # tokens at most on a GPU at once
LARGER_BATCH = 8
# What moves each bottleneck.
SETTINGS = {
    "products": "--max-length halved",
    "attention": "--max-length halved",
    "gradients": f"--batch-size times {LARGER_BATCH}",
    "tokenizing": "twice the processor cores",
}
MECHANISMS = ("dense", "longformer", "bigbird", "performer", "linformer")


@dataclass(frozen=True)
class Step:
    """Seconds of each part of a step, on the GPU that has most to do; `together`: what runs beside one another."""

    parts: dict[str, float]
    together: dict[str, float]

    @property
    def seconds(self) -> float:
        return max(sum(self.parts.values()), *self.together.values()) if self.together else sum(self.parts.values())

    @property
    def bottleneck(self) -> str:
        alone = sum(self.parts.values())
        if self.together and max(self.together.values()) > alone:
            return max(self.together, key=lambda name: self.together[name])
        return max(self.parts, key=lambda name: self.parts[name])


def gpu(slower: float = 1.0) -> Machine:
    """slower: by how many times less than ASSUMED is reached."""
    peak = CARD["bfloat16_per_second"] / slower
    mixing = dict.fromkeys((*MECHANISMS, "local"), peak * ASSUMED["mixing"])
    bandwidth = CARD["bandwidth"] * ASSUMED["bandwidth"] / slower
    return Machine({"products": peak * ASSUMED["products"], **mixing}, bandwidth)


def of_parts(machine: Machine, parts: Sequence[Part]) -> dict[str, float]:
    """Seconds of products, of attention, and of what memory alone decides."""
    found = {"products": 0.0, "attention": 0.0, "memory": 0.0}
    for part in parts:
        kind = "attention" if part.name == "attention" else "products" if part.operations else "memory"
        found[kind] += machine.seconds(part)
    return found


def launches(model: Classifier, passes: int, training: bool) -> float:
    each = ASSUMED["launches_of_a_layer"] * (3 if training else 1)
    return len(model.blocks) * each * passes * ASSUMED["seconds_of_a_launch"]


def all_reduce_seconds(model: Classifier, gpus: int) -> float:
    """One ring; its slowest link decides."""
    inside = gpus <= CARD["gpus_of_a_server"]
    link = CARD["link_bytes_per_second" if inside else "network_bytes_per_second"]
    return cost.all_reduce_bytes(model, gpus) / (link * ASSUMED["network"])


def training_step(model: Classifier, length: int, gpus: int, batch: int = BATCH, slower: float = 1.0) -> Step:
    """Gradients are added up behind the backward pass, as training/gradients.py does, not beside it."""
    machine = gpu(slower)
    own = math.ceil(batch / gpus)
    passes = math.ceil(own * length / max(MICRO_BATCH, length))
    parts = of_parts(machine, cost.training(model, [length] * own, width=2, optimizer=False))
    asked = launches(model, passes, training=True)
    update = cost.Part("optimizer", 0.0, float(cost.ADAMW_BYTES * model.num_parameters))
    if asked > sum(parts.values()):  # the GPU waits for the processor
        parts = {"launches": asked}
    return Step({**parts, "gradients": all_reduce_seconds(model, gpus), "optimizer": machine.seconds(update)}, {})


def document(
    model: Classifier, length: int, slower: float = 1.0, cores: float = 1.0, written: int | None = None
) -> Step:
    """Seconds of one document on one GPU of a server, whose processor reads and tokenizes beside, for all its GPUs.

    length: tokens that the model sees of the `written` ones, all of which are read and tokenized.
    """
    at_once = max(1, MICRO_BATCH // length)
    parts = of_parts(gpu(slower), cost.inference(model, [length] * at_once, width=2))
    asked = launches(model, 1, training=False)
    if asked > sum(parts.values()):
        parts = {"launches": asked}
    text = (written or length) * ASSUMED["bytes_of_a_token"] * CARD["gpus_of_a_server"]
    beside = {
        "reading": text / ASSUMED["read_bytes_per_second"],
        "tokenizing": text / ASSUMED["tokenizer_bytes_per_second"] / cores,
    }
    return Step({name: own / at_once for name, own in parts.items()}, beside)


def memory_bytes(model: Classifier, length: int) -> float:
    """Of a training step on a GPU: weights, gradients, two moments, and what a micro-batch keeps for its gradients."""
    config, tokens = model.config, max(MICRO_BATCH, length)
    kept = ASSUMED["activations_of_a_layer"] * config.hidden_size + 3 * config.width_of_intermediate
    return 16.0 * model.num_parameters + 2.0 * tokens * kept * len(model.blocks)


def predictions(price: float = PRICE) -> dict[str, Any]:
    training, inference = [], []
    for name, config in MODELS.items():
        model = cost.model_of(**config)
        for length in LENGTHS:
            for gpus in GPUS:
                training.append(_training_row(name, model, length, gpus, price))
                inference.append(_inference_row(name, model, length, gpus, price))
    return {
        "card_name": CARD_NAME, "card": CARD, "assumed": ASSUMED, "price": price, "batch": BATCH,
        "micro_batch_tokens": MICRO_BATCH, "trained_documents": TRAINED_DOCUMENTS,
        "classified_documents": CLASSIFIED_DOCUMENTS, "work": work(), "training": training, "inference": inference,
    }  # fmt: skip


def work() -> list[dict[str, Any]]:
    """Operations and bytes of one document in bfloat16, by part, and what a training step sends, for each model."""
    base = {
        key: value for key, value in MODELS["Longformer-base"].items() if key not in ("attention", "attention_window")
    }
    models = {f"{name}, base size": base | {"attention": name} for name in MECHANISMS if name != "longformer"}
    models |= {"bigbird, base size": base | {"attention": "bigbird", "block_size": 64, "num_random_blocks": 3}}
    models |= {"linformer, base size": base | {"attention": "linformer", "projection_size": 256}}
    found = []
    for name, config in {**MODELS, **models}.items():
        model = cost.model_of(**config)
        for length in LENGTHS:
            parts = cost.inference(model, [length], width=2)
            named = cost.by_name(parts)
            step = cost.by_name(cost.trained(model, parts, 1))
            found.append({
                "model": name, "tokens": length, "parameters": model.num_parameters,
                "operations": {part: own for part, (own, _) in named.items() if own},
                "bytes": sum(moved for _, moved in named.values()),
                "training_operations": sum(own for own, _ in step.values()),
                "training_bytes": sum(moved for _, moved in step.values()),
                "gradient_bytes": cost.gradient_bytes(model),
                "training_memory_bytes": memory_bytes(model, length),
            })  # fmt: skip
    return found


def _training_row(name: str, model: Classifier, length: int, gpus: int, price: float) -> dict[str, Any]:
    step, slow = (training_step(model, length, gpus, slower=slower) for slower in (1.0, 2.0))
    hours = TRAINED_DOCUMENTS / BATCH / 3600
    if step.bottleneck == "gradients":
        moved = training_step(model, length, gpus, BATCH * LARGER_BATCH).seconds / LARGER_BATCH
    else:
        moved = training_step(model, length // 2, gpus).seconds
    return _row(name, length, gpus, step, [own * hours for own in (step.seconds, slow.seconds, moved)], price)


def _inference_row(name: str, model: Classifier, length: int, gpus: int, price: float) -> dict[str, Any]:
    one, slow = (document(model, length, slower) for slower in (1.0, 2.0))
    hours = CLASSIFIED_DOCUMENTS / gpus / 3600
    if one.bottleneck == "tokenizing":
        moved = document(model, length, cores=2.0)
    else:
        moved = document(model, length // 2, written=length)
    return _row(name, length, gpus, one, [own.seconds * hours for own in (one, slow, moved)], price)


def _row(name: str, length: int, gpus: int, step: Step, hours: Sequence[float], price: float) -> dict[str, Any]:
    as_assumed, at_half, with_setting = map(rounded, hours)
    return {
        "model": name, "tokens": length, "gpus": gpus,
        "seconds": {part: rounded(value) for part, value in {**step.parts, **step.together}.items()},
        "bottleneck": step.bottleneck, "setting": SETTINGS[step.bottleneck],
        "hours": as_assumed, "hours_at_half": at_half, "hours_with_setting": with_setting,
        "dollars": rounded(hours[0] * gpus * price),
    }  # fmt: skip


def rounded(value: float) -> float:
    """Four digits: what a solver leaves behind them differs from machine to machine."""
    return float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", type=float, default=PRICE, help="dollars for a GPU for an hour (%(default)s)")
    made = predictions(parser.parse_args().price)
    for kind in ("training", "inference"):
        print(f"{kind}, {made['trained_documents' if kind == 'training' else 'classified_documents']:,} documents")
        for row in made[kind]:
            seconds = ", ".join(f"{part} {value:.2g}" for part, value in row["seconds"].items())
            print(
                f"  {row['model']}, {row['tokens']:,} tokens, {row['gpus']:,} GPUs: {row['hours']:.3g} hours (at half "
                f"{row['hours_at_half']:.3g}), ${row['dollars']:,.0f}; {row['bottleneck']}, with {row['setting']} "
                f"{row['hours_with_setting']:.3g} hours; seconds: {seconds}"
            )


if __name__ == "__main__":
    main()
