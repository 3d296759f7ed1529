"""Numbers with their nouns, in messages."""


def counted(number: int, noun: str) -> str:
    """Return `1 certificate` or `3 certificates`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
