"""How far every family's models are from transformers'.

    python -m benchmarks.parity [--out results/parity/families.json]

A minute of one core. Random models of the shapes and batches that tests/models/test_parity.py holds to a bound; a row
each, with the largest error of all hidden states, of the logits and of the gradients of all weights, in parts of the
largest number there, in float32.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "tests" / "models")]
COMMAND = "python -m benchmarks.parity --out results/parity/families.json"
LONGEST = 400  # of a row, but for Longformer, whose windows need more


def measure(family: str, settings: dict[str, Any], lengths: tuple[int, ...], seed: int) -> dict[str, Any]:
    from peers import compare, ours_from, random_peer

    peer = random_peer(family, seed=seed, **settings)
    with tempfile.TemporaryDirectory() as directory:
        errors = compare(peer, ours_from(peer, Path(directory)), lengths, gradients=True)
    found = {"logits": errors.pop("logits"), "gradients": errors.pop("gradients")}
    return {"family": family, "settings": settings, "lengths": lengths, "hidden_states": max(errors.values())} | found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    import torch
    import transformers
    from test_parity import BLOCKS, FAMILIES, LENGTHS

    from longread.records import write_json
    from longread.system.measure import environment

    short = tuple(min(length, LONGEST) for length in LENGTHS)
    cases = [(name, own, LENGTHS if name == "longformer" else short, len(str(own))) for name, own in FAMILIES]
    cases += [("big_bird", own, (length, length), length) for own, length in BLOCKS]
    rows = [measure(*case) for case in cases]
    for row in rows:
        print({name: value for name, value in row.items() if name != "lengths"}, file=sys.stderr)
    if given.out:
        made_on = environment(torch.device("cpu"), "float32") | {"transformers": transformers.__version__}
        write_json(given.out, {"command": COMMAND, "rows": rows, "environment": made_on})
    return 0


if __name__ == "__main__":
    sys.exit(main())
