"""Text from files and devices as text in Markdown, such as a comment on GitHub: no link or mention of its own."""

from __future__ import annotations

import re

from pipeline.core.printable import LONGEST, printable

SPECIAL = re.compile(r"[\\`*\[\]#|<>&@~$]|(?<!\w)_|_(?!\w)|:(?=[a-z/+-])|(?<=www)\.", re.IGNORECASE)
"""What Markdown or GitHub gives a meaning: each becomes its number, which has none."""


def escaped(text: str, longest: int = LONGEST) -> str:
    """In one line of at most ``longest`` characters, not counting what stands for a special one."""
    return SPECIAL.sub(lambda match: f"&#{ord(match.group())};", printable(text, longest))
