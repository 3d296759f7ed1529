"""The online side of a ceremony: what is needed, asked for, and taken in."""
