"""Answers of queues as they never should be: cut, doubled, with other characters, languages and halves of others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

PIECES = (
    "",
    "\0",
    "\x1b[31m",
    "é漢",
    "-1",
    "999999999999999999999",
    "NaN",
    "null",
    "[]",
    "{}",
    "<",
    ">",
    "&",
    "]]>",
    "\n",
    "\t",
    "\r\n",
    '"',
    "'",
    ",",
    ":",
    "=",
    "[1-99999999]",
    "Auftrag 7 wurde gelöscht",
    "Job ID",
    "true",
    "1e999",
)


def mutations(texts: Sequence[str], count: int, chance: random.Random) -> Iterator[str]:
    """So many broken forms of these texts, the same ones for the same seed."""
    for _ in range(count):
        text = chance.choice(texts)
        for _ in range(chance.randint(1, 3)):
            at, end = sorted(chance.choices(range(len(text) + 1), k=2))
            end = min(end, at + chance.choice((0, 1, 3, 40, 10_000)))
            piece = chance.choice((*PIECES, text[at:end] * 2, chance.choice(texts)[:at]))
            text = text[:at] + piece + text[end:]
        yield text
