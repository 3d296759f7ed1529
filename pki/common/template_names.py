"""Names in templates that do not exist: the messages of such faults, and similar names that exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from jinja2 import StrictUndefined
from jinja2.utils import missing


class UnknownValue(StrictUndefined):
    """A value that a template reads and that does not exist. Its use raises UndefinedError."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        """Return the message of the error. Jinja2's own one names the Python type of the object that has no such value."""
        container, name = self._undefined_obj, self._undefined_name
        is_builtin = not isinstance(container, Mapping) and type(container).__module__ == "builtins"
        if self._undefined_hint or container is missing or is_builtin:
            return super()._undefined_message
        names = [str(key) for key in (container if isinstance(container, Mapping) else dir(container))]
        return f"the value {name!r} does not exist{did_you_mean(str(name), (key for key in names if key[:1] != '_'))}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean address?)` with the most similar of `names`; "" if none is similar."""
    close_names = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f" (did you mean {close_names[0]}?)" if close_names else ""
