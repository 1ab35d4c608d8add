"""Heat maps of A: which token looks at which, one text, one small picture a mechanism."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from longread.report import numbers as say
from longread.report.figures import INK, MUTED, Picture, Tips, finish, new_figure
from longread.report.grouping import slug
from longread.report.groups import Group

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

TICKS = 26  # tokens are written out on the axes of texts up to this length
HEADS_ON_PAGE = 4
WARM = ["#ffffff", "#fdeedd", "#fbcf9d", "#f29c56", "#d9622b", "#a3330f", "#5f1605"]
COOL = ["#0b2a5b", "#2f6db5", "#9cc4e6"]


def map_pictures(group: Group) -> list[Picture]:
    """One picture a line, from its first run that stored a map."""
    pictures: list[Picture] = []
    for line in group.lines:
        for outcome in line.outcomes:
            stored = outcome.run.attention_map()
            if stored is None or not stored.get("heads"):
                continue
            title = line.name()
            name = f"{group.key}-map-{len(pictures) + 1}-{slug(line.attention)}"
            pictures.append(draw(name, title, stored, outcome.run.record.get("seed")))
            break
    return pictures


def draw(name: str, title: str, stored: dict[str, Any], seed: object) -> Picture:
    from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm

    mean, heads = matrices(stored)
    tokens = [str(token) for token in stored.get("tokens") or []]
    lowest, highest = bounds(mean)
    norm: Normalize
    if lowest < 0:
        colors, norm = [*COOL, *WARM], Normalize(-max(-lowest, highest), max(-lowest, highest))
        colors = [*COOL, "#ffffff", *WARM[3:6]]
    else:
        colors, norm = WARM, PowerNorm(0.5, 0, highest, clip=True)
    figure, axes = new_figure(3.5, 3.85)
    written = 0 < len(tokens) <= TICKS
    margin = 0.23 if written else 0.115
    figure.subplots_adjust(left=margin, right=0.97, top=0.915, bottom=0.915 - (0.97 - margin) * 3.5 / 3.85)
    image = axes.imshow(mean, cmap=LinearSegmentedColormap.from_list("A", colors), norm=norm, interpolation="none")
    image.set_gid("map")
    axes.set_title(title)
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    length = int(stored.get("length") or len(mean))
    name_axes(axes, tokens if written else [], len(mean), length)
    default = f"layer {int(stored.get('layer') or 0) + 1}, {say.plural(length, 'token')}"
    note = " ".join(str(stored.get("note") or default).split())
    caption = f"{note[:1].upper()}{note[1:]}; mean of {say.plural(heads_of(stored), 'head')}, seed {seed}. "
    caption += f"White is 0, the darkest {highest:.3g}" + (", blue negative." if lowest < 0 else ".")
    picture = finish(figure, Tips(), name, f"Attention matrix of {title}", caption)
    picture.data = page_data(mean, heads, tokens, colors, lowest < 0) | {"length": length}
    return picture


def matrices(stored: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean [K, K] over all heads, and the stored heads [H, K, K]; maps of old have every head and no mean."""
    import numpy as np

    heads = np.nan_to_num(np.asarray(stored["heads"], dtype=np.float64)) * float(stored.get("scale", 1.0))
    if stored.get("mean") is None:
        return heads.mean(axis=0), heads
    return np.asarray(stored["mean"], dtype=np.float64) * float(stored["scale"]), heads


def heads_of(stored: dict[str, Any]) -> int:
    return int(stored.get("num_heads") or len(stored["heads"]))


def bounds(matrix: np.ndarray) -> tuple[float, float]:
    """Range of the colours. A few huge entries must not turn the rest white: the top 0.2 % is clipped.

    The darkest colour is at least five times the mean, so that attention to everything alike looks pale, not full.
    """
    import numpy as np

    lowest, highest = float(matrix.min()), float(np.quantile(matrix, 0.998))
    return (lowest if lowest < -1e-3 else 0.0), max(highest, 5 * float(np.abs(matrix).mean()), 1e-6)


def name_axes(axes: Axes, tokens: Sequence[str], size: int, length: int) -> None:
    """Tokens as ticks, or their numbers; a long text's cells (`size` of them) are numbered by its tokens."""
    if tokens:
        names = [shown(token) for token in tokens]
        axes.set_xticks(range(size), names, rotation=90, fontsize=6.5, color=INK)
        axes.set_yticks(range(size), names, fontsize=6.5, color=INK)
    else:
        from matplotlib.ticker import MaxNLocator

        numbers = [n for n in MaxNLocator(5, integer=True).tick_values(0, length) if 0 <= n < length]
        places = [(n + 0.5) * size / length - 0.5 for n in numbers]
        axes.set_xticks(places, [f"{n:.0f}" for n in numbers])
        axes.set_yticks(places, [f"{n:.0f}" for n in numbers])
        axes.set_xlabel("token looked at", color=MUTED, fontsize=8, labelpad=2)
        axes.set_ylabel("token that looks", color=MUTED, fontsize=8, labelpad=2)
    axes.tick_params(length=0)


def shown(token: str) -> str:
    """A token as a tick: byte-level BPE's marks as what they are, control characters visible, not too long."""
    text = token.replace("\u0120", "").replace("\u010a", "⏎").replace("\n", "⏎").replace("##", "")
    text = "".join(c if c.isprintable() else "·" for c in text)
    return text if len(text) <= 10 else text[:9] + "…"


def page_data(
    mean: np.ndarray, heads: np.ndarray, tokens: Sequence[str], colors: Sequence[str], signed: bool
) -> dict[str, Any]:
    """Mean and heads as 16-bit integers in base64, with their scale: good to four decimal places."""
    import numpy as np

    layers = np.concatenate([mean[None], heads[:HEADS_ON_PAGE]])
    largest = float(np.abs(layers).max())
    scale = 1e-5 if largest * 1e5 < 32767 else largest / 32767
    packed = np.rint(layers / scale).astype("<i2")
    return {
        "size": int(heads.shape[1]),
        "tokens": [shown(token) for token in tokens],
        "scale": scale,
        "tops": [round(bounds(layer)[1], 6) for layer in layers],
        "lows": [round(bounds(layer)[0], 6) for layer in layers],
        "colors": list(colors),
        "signed": signed,
        "values": base64.b64encode(packed.tobytes()).decode(),
    }
