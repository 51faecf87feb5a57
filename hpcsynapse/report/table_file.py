"""Tables of measured figures as people keep them: CSV by comma, semicolon or tab, with decimal point or comma.

What a spreadsheet writes is read: UTF-8 and UTF-16 with their marks, a first line `sep=;`, a decimal comma where cells
are separated by something else. What could mean two things is refused with its line, not guessed.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import shown

MOST = 1e30  # of any number, and 1 / MOST the least: ratios stay numbers
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}", re.ASCII)  # or three decimals
_WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_MARKED = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table: where it stands, for errors, and its cells by column."""

    where: str
    cells: dict[str, str]
    separator: str

    def number(self, name: str) -> float:
        """Return a number greater than zero; raises SpecError naming file, line and column."""
        text = self.cells[name]
        number = self._point(name, text)
        value = float(number) if _NUMBER.fullmatch(number) else 0.0
        if not 1 / MOST <= value <= MOST:
            raise SpecError(f"{self.where}: {name} = {shown(text)} must be a number from {1 / MOST:g} to {MOST:g}")
        return value

    def fraction(self, name: str) -> float:
        """Return a number from 0 to 1; raises SpecError naming file, line and column."""
        text = self.cells[name]
        number = self._point(name, text)
        value = float(number) if _NUMBER.fullmatch(number) else -1.0
        if not 0 <= value <= 1:
            raise SpecError(f"{self.where}: {name} = {shown(text)} must be a fraction from 0 to 1")
        return value

    def count(self, name: str, most: int) -> int:
        """Return a whole number from 1 to `most`; raises SpecError naming file, line and column."""
        text = self.cells[name]
        if not (text.isascii() and text.isdecimal()) or len(text) > 9 or not 0 < int(text) <= most:
            raise SpecError(f"{self.where}: {name} = {shown(text)} must be a whole number from 1 to {most}")
        return int(text)

    def _point(self, name: str, text: str) -> str:
        """Return a number with a decimal point for its comma; raises SpecError where that may mean thousands."""
        if "," not in text:
            return text
        if self.separator == "," or text.count(",") > 1 or "." in text:
            raise SpecError(
                f"{self.where}: {name} = {shown(text)} must be a number without separators of thousands; a "
                "decimal comma is read in tables whose cells are separated by ';'"
            )
        if self.separator == "\t" and _THOUSANDS.fullmatch(text):
            raise SpecError(
                f"{self.where}: {name} = {text!r} may be {text.replace(',', '.')} or "
                f"{text.replace(',', '')}; write it without the comma"
            )
        return text.replace(",", ".")


def read_lines(path: Path, known: Sequence[str]) -> tuple[list[str], list[Line]]:
    """Return the names of the columns and the lines below; the separator is the one that gives most `known` names.

    Raises SpecError naming file and line of what cannot be read.
    """
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if declared := re.fullmatch(r'"?sep=(.)"?', first.strip(" \r\n")):
        separator, text = declared[1], text.replace(first, "", 1)
    else:
        separator = max(_SEPARATORS, key=lambda one: sum(name.strip(' "') in known for name in first.split(one)))
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (csv.Error, TypeError, ValueError) as error:
        raise SpecError(f"{path}: {error}") from None
    filled = [(number, line) for number, line in lines if any(line)]
    if len(filled) < 2:
        raise SpecError(f"{path}: a line with column names and at least one line of figures are needed")
    header = filled[0][1]
    return header, [_line(path, number, line, header, separator) for number, line in filled[1:]]


def _line(path: Path, number: int, line: list[str], header: list[str], separator: str) -> Line:
    where = f"{path}, line {number}"
    if len(line) != len(header):
        by = _SEPARATORS.get(separator, repr(separator))
        raise SpecError(f"{where}: {len(line)} cells, but {len(header)} columns (cells are separated by {by})")
    return Line(where, dict(zip(header, line, strict=True)), separator)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    wide = content.startswith(_WIDE)
    marked = not wide and content.startswith(_MARKED)
    if wide or (b"\0" in content and not marked):
        raise SpecError(f"{path}: not UTF-8 (there are zero bytes, as in UTF-16 without its mark); save it as UTF-8")
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        if marked:
            raise SpecError(f"{path}: its mark says UTF-16, but byte {error.start} is not; save it as UTF-8") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save it as UTF-8"
        ) from None
