"""What must hold on a GPU, for someone who has one: python stress/gpu.py      (make gpu-check; some minutes)

Without a card it says so and ends with status 2. Nothing published by this project was measured on a GPU, and this has
been tried with --device cpu alone, which computes everything twice on the processor.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]

from longread.models.classifier import build  # noqa: E402
from longread.ops.packed import PackedBatch  # noqa: E402
from longread.records import load_runs  # noqa: E402
from mechanisms import layer, normal, settings  # noqa: E402

LENGTHS = (1, 9, 9, 40, 17, 130, 300, 300, 290)
# Largest difference from the reference in float64, over the largest value.
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1}
SHAPE = (32, 2, 16)  # heads that variable-length kernels take
MODEL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 500, "max_length": 512}
TRAIN = ["--train-rows", "256", "--eval-rows", "64", "--epochs", "2", "--hidden-size", "64", "--num-attention-heads",
         "2", "--vocab-size", "500", "--max-length", "256"]  # fmt: skip


def contract(device: torch.device) -> str:
    """Every mechanism on the device beside its reference on the processor: outputs and gradients, in half precision

    by the kernels for packed sequences.
    """
    worst = dict.fromkeys(CLOSE, 0.0)
    ran: set[str] = set()
    for name, options in settings():
        exact = layer(name, options, shape=SHAPE)
        x = normal(sum(LENGTHS), SHAPE[0])
        wanted = _referred(exact, x)
        for dtype, limit in CLOSE.items():
            own = layer(name, options, shape=SHAPE, dtype=torch.float64).to(device, dtype)
            given = x.to(device, dtype).detach().requires_grad_()
            batch = PackedBatch(LENGTHS, device)
            out = own(given, batch)
            ran |= batch.kernels
            (out * _weights(out)).sum().backward()
            assert given.grad is not None
            for made, right in zip((out, given.grad), wanted, strict=True):
                far = float((made.detach().cpu().double() - right).abs().max() / right.abs().max())
                worst[dtype] = max(worst[dtype], far)
                assert far <= limit, f"{name} {options} in {dtype}: {far:.1e} from the reference, at most {limit}"
    assert device.type != "cuda" or ran == {"varlen_attn", "flex_attention"}, f"of torch's kernels ran {sorted(ran)}"
    far = ", ".join(f"{str(dtype).removeprefix('torch.')} {far:.0e}" for dtype, far in worst.items())
    return f"{far}; of torch's kernels ran {', '.join(sorted(ran)) or 'none'}"


def _referred(exact: torch.nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    given = x.detach().clone().requires_grad_()
    rows = [exact.reference(part)[0] for part in given.split(LENGTHS)]  # type: ignore[operator]
    out = torch.cat(rows)
    (out * _weights(out)).sum().backward()
    assert given.grad is not None
    return out.detach(), given.grad


def _weights(out: Tensor) -> Tensor:
    numbers = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).sin().view(out.shape)
    return numbers.to(out.device, out.dtype)


def parity(device: torch.device) -> str:
    """Whole models: the logits of the device beside those of the processor, and the way through the padded entrance."""
    worst = 0.0
    for name in sorted({name for name, _ in settings() if name != "local"}):
        model = build(name, **MODEL).eval()
        ids = torch.randint(5, 500, (6, 200), generator=torch.Generator().manual_seed(0))
        mask = torch.arange(200) < torch.tensor([200, 3, 150, 77, 200, 1])[:, None]
        with torch.no_grad():
            here, there = model(ids, mask), model.to(device)(ids.to(device), mask.to(device)).cpu()
        worst = max(worst, float((here - there).abs().max()))
        assert worst < 1e-4, f"{name}: logits differ by {worst:.1e}"
    return f"logits within {worst:.0e}"


def no_questions(device: torch.device) -> str:
    """A forward and backward pass over a planned batch never waits for the device."""
    for name in sorted({name for name, _ in settings() if name != "local"}):
        model = build(name, **MODEL).to(device)
        tokens = torch.randint(5, 500, (sum(LENGTHS),)).to(device)
        batch = PackedBatch(LENGTHS, device)
        model.plan(batch, gradients=True)
        model.classify(tokens, batch).sum().backward()  # what is made once, kernels among it
        with _waiting_refused(device):
            model.classify(tokens, batch).sum().backward()
    return "no wait"


@contextmanager
def _waiting_refused(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def training(device: torch.device) -> str:
    """`longread train` and `evaluate`, of every mechanism."""
    found = []
    with tempfile.TemporaryDirectory(prefix="longread-gpu-") as folder:
        for name in ("dense", "longformer", "bigbird", "performer", "linformer"):
            out = Path(folder) / name
            longread("train", "--attention", name, *TRAIN, "--device", device.type, "--out", str(out))
            (run,) = load_runs(out)
            losses = [line["train_loss"] for line in run.history()]
            assert math.isfinite(losses[-1]) and losses[-1] < losses[0], f"{name}: losses {losses}"
            longread("evaluate", str(run.directory), "--device", device.type, "--out", str(out / "evaluated"))
            found.append(f"{name} {run.record['train_seconds']:.1f} s")
    return ", ".join(found)


def benchmark(device: torch.device) -> str:
    """`longread benchmark`; its table is out/gpu/index.html."""
    longread("benchmark", "--device", device.type, "--seconds", "0.1", "--lengths", "512", "2048", "--out", "out/gpu")
    return "out/gpu"


def several(device: torch.device) -> str:
    """A run on two cards (NCCL), and sharded, beside one: the same losses."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        return "left out: one card"
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    losses = []
    with tempfile.TemporaryDirectory(prefix="longread-gpu-") as folder:
        for case, start, more in (("one", (), ()), ("two", torchrun, ()), ("sharded", torchrun, ("--shard",))):
            out = Path(folder) / case
            options = ("--attention", "longformer", *TRAIN, "--dropout", "0", "--precision", "float32", *more)
            longread("train", *options, "--device", device.type, "--out", str(out), start=start)
            (run,) = load_runs(out)
            losses.append([line["train_loss"] for line in run.history()])
    far = max(abs(a - b) for other in losses[1:] for a, b in zip(losses[0], other, strict=True))
    assert far < 1e-4, f"losses differ by {far:.1e}"
    return f"losses within {far:.0e}"


def longread(*command: str, start: tuple[str, ...] = ()) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    whole = [sys.executable, *start, "-m", "longread", *command]
    done = subprocess.run(whole, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"longread {command[0]}: {done.stderr[-2000:]}"


CHECKS: list[Callable[[torch.device], str]] = [contract, parity, no_questions, training, benchmark, several]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [check.__name__ for check in CHECKS]
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: to try this script")
    given = parser.parse_args()
    if unknown := [name for name in given.checks if name not in names]:
        parser.error(f"{', '.join(unknown)}: there is no such check; there are {', '.join(names)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        print(f"no GPU: torch {torch.__version__} sees no CUDA device here. Nothing was checked.", file=sys.stderr)
        return 2
    device = torch.device(given.device)
    card = torch.cuda.get_device_name() if given.device == "cuda" else "the processor, to try this script"
    print(f"{card}, torch {torch.__version__}", flush=True)
    failed = 0
    for check in CHECKS:
        if given.checks and check.__name__ not in given.checks:
            continue
        try:
            print(f"passed  {check.__name__}: {check(device)}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
