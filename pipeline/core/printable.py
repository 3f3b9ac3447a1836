"""Text from files, devices and other programs, made safe for a terminal.

A name inside a .tflite file, a class, a path or a compiler's output can hold anything: control characters, which a
terminal obeys; characters that reverse the direction of text or are invisible; or megabytes. All output for people
passes through here: tables (``pipeline/report/console.py``), messages and errors (``pipeline/cli/options.py``).
"""

from __future__ import annotations

import unicodedata

LONGEST = 2000
"""Characters of one message or table cell. A longer one loses its middle, because a message ends with what to do."""
LONGEST_NAME = 160
"""Characters of one name in a table."""
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of control and invisible characters: controls, formats (zero width, direction), surrogates,
private and unassigned characters, separators of lines and paragraphs."""
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800\u00a0")
"""Blank characters of other categories (Unicode, Default_Ignorable); variation selectors are hidden too."""


def printable(text: str, longest: int = LONGEST) -> str:
    r"""``text`` in one line of at most ``longest`` characters; hidden ones are escaped, as ``\x1b`` or ``\u202e``."""
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[:half]}…{text[len(text) - half :]}"
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(_escaped(c) if _hidden(c) else c for c in text)
    return shown if len(shown) <= longest or shown == text else printable(shown, longest)


def well_formed(text: str) -> str:
    r"""``text`` with the bytes of a file name that are no UTF-8 as ``\udcff``, so that it can be written anywhere."""
    return text.encode("utf-8", "backslashreplace").decode()


def _hidden(c: str) -> bool:
    return unicodedata.category(c) in HIDDEN or c in BLANK or "\ufe00" <= c <= "\ufe0f" or c >= "\U000e0000"


def _escaped(c: str) -> str:
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
