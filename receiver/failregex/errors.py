"""The one error of this package. A value only."""


class FailregexError(ValueError):
    """A pattern cannot be matched in linear time, or is none; names it, the reason and the remedy in one line."""
