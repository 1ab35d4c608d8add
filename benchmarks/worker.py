"""One side of one row in a process of its own: orders as JSON lines on stdin, answers on stdout."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    order = json.loads(sys.stdin.readline())
    row, own = order["row"], order["side"] == "ours" or order["row"]["peer"] == "dense"
    from longread.system.allocator import allocator, give_back_memory, tune_allocator

    if order["allocator"] == "tuned":  # on both sides, or on none
        tune_allocator()
    import numpy as np
    import torch

    from longread.system.measure import PeakMemory, matmul_rate

    torch.manual_seed(0)
    with np.load(order["rows"]) as file:
        ids = [file[f"row{i}"] for i in range(row["count"])]
    labels = np.arange(len(ids)) % 2
    if own:
        from benchmarks.ours import Side

        if order["side"] == "peer":
            row = row | {"own_attention": "dense"}
    else:
        from benchmarks.peers import Side  # type: ignore[assignment]
    side: Any = Side(row, ids, labels, order["checkpoint"])
    memory = PeakMemory(torch.device("cpu"))
    answer: dict[str, Any] = {"ready": True, "allocator": allocator(), "flops": side.flops() if own else None}
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        wanted = line.strip()
        if wanted == "logits":
            answer = {"logits": side.logits().tolist()}
        elif wanted == "work":
            begin = time.perf_counter()
            side.work()
            answer = {"seconds": time.perf_counter() - begin}
        elif wanted == "memory":
            answer = {"bytes": memory.bytes()}
        elif wanted == "start":  # what comparing outputs took is no part of the work's memory, nor may it hide that
            give_back_memory()
            memory = PeakMemory(torch.device("cpu"))
            answer = {"ok": True}
        elif wanted == "rate":
            answer = {"rate": matmul_rate(torch.device("cpu"), row["precision"])}
        else:
            break
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
