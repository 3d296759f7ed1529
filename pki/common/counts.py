"""Numbers with their nouns, in messages."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return `1 certificate` or `3 certificates`; `plural` is the plural of a noun that takes more than an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
