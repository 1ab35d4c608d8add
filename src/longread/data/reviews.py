"""Film reviews from a grammar, in which counting words does not decide.

A review judges one film, at times by denying the opposite ("nobody could call this film really dull"), and
speaks of sequels, books and remakes as well, whose faults and merits do not count; in some reviews as many
words are kind as unkind. In others all of it is what somebody else says, and a sentence at the beginning or
the end takes it back ("this is what my brother says, and it is wrong"): there the class is the opposite of
what most words say. As many hold a sentence that looks alike and takes nothing back. Every judging word is
preceded by a phrase drawn without regard to what is said of whom, so that pairs of neighbours tell no more
than single words do.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")

DEFAULT_LENGTH = 128  # the most tokens of a text: words, marks, and the two that a tokenizer adds
SHORTEST, LONGEST = 128, 16_384
TRAIN_ROWS, EVAL_ROWS = 8000, 1000  # few epochs over many rows teach more than many over few
# Settings with which a small encoder learns the task; the mechanisms are sparse enough to differ at this length.
SUGGESTED = {
    "epochs": 3,
    "learning_rate": 2e-3,
    "dropout": 0.0,
    "attention_window": 64,
    "block_size": 8,
    "num_random_blocks": 1,
    "projection_size": 32,
}
EVAL_SHARE = 5  # one text in five belongs to the evaluation split, by its checksum: no text is in both

# Calibration at the default length and rows. A linear model cannot tell what is taken back, nor what is said
# of whom: its ceiling is (1 - BALANCED) * (1 - TAKEN_BACK) + BALANCED / 2, here .68. The other reviews are
# easy on purpose: from them a transformer learns in its first epochs which words are kind; only then can it
# find what taking back does, by its content. The balanced ones come last: to tell what a word is said of takes
# positions. With six in ten balanced and none taken back, nothing beyond words was learned in a minute; with
# two in ten balanced, one dense layer stood at .83 after four epochs.
TAKEN_BACK = 0.3
CONFIRMED = 0.3
BALANCED = 0.1
# Sentences at the default length; they grow with the square root of the length.
STATEMENTS = 5  # that say what the class is, before it is taken back
OPPOSED = 2  # denials, and judgements of other films: their words say the opposite
STATEMENTS_BALANCED = OPPOSED_BALANCED = 4

GOOD = ("gripping", "moving", "brilliant", "funny", "clever", "charming", "superb", "delightful")
BAD = ("dull", "boring", "awful", "clumsy", "tedious", "stupid", "wooden", "shallow")

THIS = ("this film", "this movie", "this picture", "the acting here", "the story here")
OTHER = ("the sequel", "the book", "the trailer", "the remake")

PLAIN = (
    "{subject} is {filler} {word}",
    "{subject} was {filler} {word}",
    "{subject} felt {filler} {word}",
    "{subject}, as we all said on the way home, was {filler} {word}",
    "everyone in the room found {subject} {filler} {word}",
)
DENIED = (
    "{subject} is never {filler} {word}",
    "{subject} was not, as some claim, {filler} {word}",
    "nobody could call {subject} {filler} {word}",
    "nobody who stayed awake until the end found {subject} {filler} {word}",
)
FILLERS = (
    "really", "quite", "rather", "truly", "so very", "in the end", "all in all", "at heart",
    "from start to finish", "to my mind", "at every turn", "more or less",
)  # fmt: skip

SPEAKERS = ("my brother", "my neighbour", "a critic", "the local paper", "an old friend")
TAKING_BACK = (
    "this is what {speaker} says, and it is wrong",
    "so says {speaker}, and every word of it is wrong",
    "all this comes from {speaker}, and it is nonsense",
)
CONFIRMING = (
    "this is what {speaker} says, and it is right",
    "so says {speaker}, and every word of it is right",
    "all this comes from {speaker}, and it is true",
)
ASIDES = (
    "we saw it on a rainy evening in a small cinema",
    "the story begins in a town by the sea",
    "a young man comes home after many years",
    "his sister has sold the house and the boat",
    "they drive along the coast and talk about the past",
    "the music was written by a friend of the director",
    "most of it was shot in winter",
    "the camera follows them through the streets",
    "there are two scenes in a train",
    "it runs for about two hours",
    "the old man at the door is played by his father",
    "half of the seats were taken",
    "an uncle arrives with a letter",
    "the lights go out and the rain begins",
)


def generate(split: str, rows: int, length: int, seed: int) -> tuple[list[str], list[int]]:
    """`rows` different texts of at most `length` tokens, and their classes (0 negative, 1 positive)."""
    stream = random.Random(f"reviews:{length}:{seed}:{split}")
    texts: dict[str, int] = {}
    while len(texts) < rows:
        label = len(texts) % 2
        text = _review(stream, label, length)
        if text is not None and (zlib.crc32(text.encode()) % EVAL_SHARE == 0) == (split != "train"):
            texts[text] = label
    return list(texts), list(texts.values())


def _review(stream: random.Random, label: int, length: int) -> str | None:
    """One text, or None where what was drawn is too long."""
    room = int((0.8 + 0.2 * stream.random()) * length) - 2
    luck = stream.random()
    frames: Sequence[str] = ()
    if luck < TAKEN_BACK + CONFIRMED:
        frames = TAKING_BACK if luck < TAKEN_BACK else CONFIRMING
    kind = (label == 1) != (frames is TAKING_BACK)  # what the statements say, before they are taken back
    balanced = stream.random() < BALANCED
    growth = (length / DEFAULT_LENGTH) ** 0.5
    agreeing, opposing = (GOOD, BAD) if kind else (BAD, GOOD)
    said: list[tuple[Sequence[str], Sequence[str], Sequence[str]]] = []
    statements = round((STATEMENTS_BALANCED if balanced else STATEMENTS) * growth)
    said += [(PLAIN, THIS, agreeing)] * statements
    opposed = round((OPPOSED_BALANCED if balanced else OPPOSED) * growth)
    said += [(*_pick(stream, ((DENIED, THIS), (PLAIN, OTHER))), opposing) for _ in range(opposed)]
    sentences = [
        _pick(stream, how).format(
            subject=_pick(stream, subject), filler=_pick(stream, FILLERS), word=_pick(stream, words)
        )
        for how, subject, words in said
    ]
    remark = [_pick(stream, frames).format(speaker=_pick(stream, SPEAKERS))] if frames else []
    used = sum(_tokens(sentence) for sentence in sentences + remark)
    if used > length - 2:
        return None
    while True:
        aside = _pick(stream, ASIDES)
        used += _tokens(aside)
        if used > room:
            break
        sentences.append(aside)
    order = sorted((stream.random(), sentence) for sentence in sentences)
    sentences = [sentence for _, sentence in order]
    sentences = remark + sentences if stream.random() < 0.5 else sentences + remark
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def _pick(stream: random.Random, choices: Sequence[Choice]) -> Choice:
    # Only random() is promised to give the same numbers in every version of Python.
    return choices[int(stream.random() * len(choices))]


def _tokens(sentence: str) -> int:
    """Words and marks of a sentence, its full stop included."""
    return len(sentence.split()) + sentence.count(",") + 1
