"""An explanation as a page: the text with each token in the colour of its attribution. One file, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from longread.inference.explain import Explanation, Token

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def page(explanations: Sequence[Explanation], texts: Sequence[tuple[str, ...]]) -> str:
    """HTML of the explanations; `texts` has, for each, the text or the two of a pair."""
    items = [
        {
            "found": found,
            "parts": [_pieces(text, [t for t in found.tokens if t.part == part], _strongest(found))
                      for part, text in enumerate(whole)],
            "sentences": sorted(found.sentences, key=lambda s: -abs(s.attribution)),
        }
        for found, whole in zip(explanations, texts, strict=True)
    ]  # fmt: skip
    return TEMPLATES.get_template("explanation.html.j2").render(items=items)


def _strongest(found: Explanation) -> float:
    return max((abs(token.attribution) for token in found.tokens), default=0.0) or 1.0


def _pieces(text: str, tokens: Sequence[Token], strongest: float) -> list[dict[str, object]]:
    """The whole text in its order, tokens with their colour, what lies between them without."""
    pieces: list[dict[str, object]] = []
    place = 0
    for token in sorted(tokens, key=lambda t: (t.start, t.end)):
        begin, end = max(token.start, place), token.end
        if end <= begin:  # several tokens of one letter: the first has it
            continue
        begin += len(text[begin:end]) - len(
            text[begin:end].lstrip()
        )  # a word's colour, not that of the space before it
        pieces.append({"text": text[place:begin], "share": 0})
        share = round(0.8 * abs(token.attribution) / strongest, 3)
        side = "for" if token.attribution > 0 else "against"
        pieces.append({"text": text[begin:end], "share": share, "side": side, "title": f"{token.attribution:+.4f}"})
        place = end
    pieces.append({"text": text[place:], "share": 0})
    return pieces
