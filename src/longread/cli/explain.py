"""`longread explain`: which tokens decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longread.cli import logs


def explain(
    checkpoint: str,
    /,
    *texts: str,
    pair: str | None = None,
    label: str | None = None,
    html: Path | None = None,
    device: str = "auto",
    json_lines: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Which tokens and sentences decided, by integrated gradients; of a linear model, what each word adds.

    An empty text has the label null.

    Example: longread explain out/runs/0123456789abcdef "a long, warm, funny film" --html why.html

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    texts:
        What to explain.
    pair:
        The second text, for a model that compares two.
    label:
        Explain this label instead of the predicted one; of several labels that is the most probable.
    html:
        Write a page with coloured text to this file.
    device:
        Where to compute: auto (a GPU where there is one), cpu, cuda, cuda:N or mps.
    json_lines:
        One JSON object a text on stdout, every token in it. Without it and --html: the strongest tokens as a table.
    """
    from longread.errors import UserError
    from longread.inference.predictor import load

    if not texts:
        raise UserError('nothing to explain: give a text, such as longread explain CHECKPOINT "a warm film"')
    predictor = load(checkpoint, device)
    found = predictor.explain(texts, None if pair is None else [pair] * len(texts), label=label)
    if html is not None:
        from longread.inference.explain_page import page
        from longread.records import write_atomically

        write_atomically(html, page(found, [(text,) if pair is None else (text, pair) for text in texts]))
        logs.result(f"page: {html}", page=html)
    for one in found:
        if json_lines:
            print(json.dumps(one.to_json(), ensure_ascii=False))
        elif html is None and one.why is not None:
            print(one.heading())
        elif html is None:
            print(f"{one.heading()}; what {one.sides()[0]} (+) and what {one.sides()[1]} (-):")
            for token in sorted(one.tokens, key=lambda t: -abs(t.attribution))[:12]:
                print(f"  {token.attribution:+.3f}  {token.text!r}")
            total = one.logit - one.baseline_logit
            print(f"  sum of all {total:+.3f} ({100 * one.completeness_gap:.2f} % of it unexplained)")
    return 0
