"""Long Range Arena's ListOps (Tay et al. 2020, section 2.2.1; Nangia and Bowman 2018), made here.

Nested operators over digits, `[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]`; the class is the value. The tree,
its odds and limits are those of the published generator. Its parentheses are left out: its own reader drops
them before a model sees them, and its lengths do not count them either.
"""

from __future__ import annotations

import random
import zlib

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
END = "]"
SUBTREE_ODDS = 0.25  # of a node above the deepest level; the others are digits
MAX_ARGUMENTS = 10
MAX_DEPTH = 10
DEFAULT_LENGTH = 2000  # symbols; a text is longer than a quarter of it (LRA: 500 to 2000)
SHORTEST, LONGEST = 16, 8192  # trees of ten levels that are longer are rare
TRAIN_ROWS, EVAL_ROWS = 4000, 1000  # LRA: 96,000 and 2,000
EVAL_SHARE = 5  # one text in five belongs to the evaluation split, by its checksum: no text is in both


def generate(split: str, rows: int, length: int, seed: int) -> tuple[list[str], list[int]]:
    """`rows` different texts of more than `length // 4` and fewer than `length` symbols, and their values."""
    stream = random.Random(f"listops:{length}:{seed}:{split}")
    texts: dict[str, int] = {}
    while len(texts) < rows:
        symbols: list[str] = []
        value = _grow(stream, symbols, 1, length)
        if value is None or not length // 4 < len(symbols) < length:
            continue
        text = " ".join(symbols)
        if (zlib.crc32(text.encode()) % EVAL_SHARE == 0) == (split != "train"):
            texts[text] = value
    return list(texts), list(texts.values())


def _grow(stream: random.Random, symbols: list[str], depth: int, limit: int) -> int | None:
    """Append a random subtree to `symbols`; its value, or None as soon as it is too long to be used."""
    # Only random() is promised to give the same numbers in every version of Python.
    if depth == MAX_DEPTH or stream.random() > SUBTREE_ODDS:
        value = int(stream.random() * 10)
        symbols.append(str(value))
        return value
    operator = OPERATORS[int(stream.random() * len(OPERATORS))]
    symbols.append(operator)
    values = []
    for _ in range(2 + int(stream.random() * (MAX_ARGUMENTS - 1))):
        value_or_none = _grow(stream, symbols, depth + 1, limit)
        if value_or_none is None or len(symbols) >= limit:
            return None
        values.append(value_or_none)
    symbols.append(END)
    return evaluate(operator, values)


def evaluate(operator: str, values: list[int]) -> int:
    """Value of one operator; the median of an even number of digits is rounded down, as in LRA."""
    if operator == "[MIN":
        return min(values)
    if operator == "[MAX":
        return max(values)
    if operator == "[SM":
        return sum(values) % 10
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
