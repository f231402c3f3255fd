"""Text from outside, made harmless for a terminal: the one place, on the way out. Pure.

Aliases, notes, names of nodes and what daemons say of themselves may hold terminal escapes (ESC and the C1 controls,
OSC 52 writes into the clipboard) and characters that turn the direction of writing. Who prints, logs or mails text that
is not his own sends it through here. Letters of all scripts stay.
"""

from __future__ import annotations


def printable(text: object, *, breaks: bool = False) -> str:
    """The text with a visible escape, as \\x1b or \\u202e, for each character that is not printable.

    That is what Unicode calls a control, a format character, a lone surrogate, a separator other than the space, or
    not assigned. With `breaks` the line breaks stay, for text that has several lines by its maker's will.
    """
    told = str(text)
    if told.isprintable():
        return told
    return "".join(c if c.isprintable() or (breaks and c == "\n") else _escaped(c) for c in told)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
