"""The one error of this package. A value only."""


class FailregexError(ValueError):
    """A text is not a pattern, or not one for linear time; one line with the pattern, the reason and the remedy."""
