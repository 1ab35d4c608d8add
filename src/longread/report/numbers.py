"""How numbers are printed: one place, so that table, figure and text agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

MEBIBYTE = 1024 * 1024
NOTHING = "–"
MINUS = "\u2212"


def finite(value: object) -> float | None:
    """The value as a float, or None where there is no usable number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's whole numbers have no bound
        return None
    return number if math.isfinite(number) else None


def decimals_for(values: Iterable[float], digits: int = 2, most: int = 3) -> int:
    """Decimals of a column in which its smallest value still shows `digits` significant digits."""
    sizes = [abs(v) for v in values if v]
    if not sizes:
        return 0
    return max(0, min(most, digits - 1 - math.floor(math.log10(min(sizes)))))


def number(value: float, decimals: int = 0) -> str:
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent where a reader can do without."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    return number(round(value, digits - 1 - exponent), max(0, digits - 1 - exponent))


def percent(share: float, decimals: int = 1) -> str:
    return number(100 * share, decimals)


def signed_percent(share: float, decimals: int = 1) -> str:
    text = f"{100 * share:+.{decimals}f}"
    if float(text) == 0:
        text = text.replace("-", "").replace("+", "")
    return text.replace("-", MINUS)


def p_value(p: float) -> str:
    if p < 0.001:
        return "< .001"
    return f"{p:.3f}".removeprefix("0")


def seconds(value: float) -> str:
    """Seconds with their unit, for a sentence or a hover text: `0.42 s`, `12.3 s`, `1,204 s`."""
    if value < 0.001:
        return f"{significant(value * 1e6)} µs"
    return f"{significant(value * 1e3)} ms" if value < 0.1 else f"{significant(value)} s"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listing(items: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    texts = [str(item) for item in items]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def share(part: float) -> str:
    """`25 %`; what rounds to nothing but is something says so."""
    return f"{'< 1' if part < 0.005 else f'{100 * part:.0f}'} %"


def fractions(parts: Mapping[str, float]) -> str:
    """`81 % window, 19 % full`; a share that rounds to nothing but is something says so."""
    texts = []
    for name, part in sorted(parts.items(), key=lambda item: (-item[1], item[0])):
        if part > 0:
            texts.append(f"{share(part)} {name}")
    return ", ".join(texts) or NOTHING
