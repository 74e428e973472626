"""Names of files as text that can be shown anywhere.

A file's name is bytes. Some are no UTF-8, which a stream may refuse, some hold control characters, which a terminal obeys.
"""

from __future__ import annotations


def printable(name: str) -> str:
    """``name`` with what is not printable escaped as Python does it; a name of plain text stays as it is."""
    return name if name.isprintable() else "".join(map(_shown, name))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
