"""Names of keys that live in a token: PKCS#11 URIs (RFC 7512), the few attributes that a project needs."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_to_bytes

from pki.common.errors import PkiError

EXAMPLE = "pkcs11:token=doit-pki;object=server-2?module-path=/usr/lib/softhsm/libsofthsm2.so"
SHOWN = f"for example {EXAMPLE}"
VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&/|-]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Where a key lives: the module that speaks to the token, the token, and the object in it."""

    module_path: str
    token: str
    serial: str = ""
    object: str = ""
    id: bytes = b""

    def with_object(self, name: str) -> TokenUri:
        """The key called `name` in the same token."""
        return replace(self, object=name, id=b"")

    @property
    def place(self) -> TokenUri:
        """The token alone."""
        return replace(self, object="", id=b"")

    @property
    def key(self) -> str:
        """What messages call the key; empty when the URI names the token alone."""
        return self.object or (f"id={_percent(self.id)}" if self.id else "")

    def __str__(self) -> str:
        named = [(name, getattr(self, name)) for name in ("token", "serial", "object")]
        parts = [f"{name}={quote(value, safe='')}" for name, value in named if value]
        if self.id:
            parts.append(f"id={_percent(self.id)}")
        return f"pkcs11:{';'.join(parts)}?module-path={quote(self.module_path)}"


def parse(uri: str) -> TokenUri:
    """Read a PKCS#11 URI. Messages never quote a value: somebody may have written a PIN there."""
    scheme, _, rest = uri.partition(":")
    if scheme != "pkcs11":
        raise PkiError("the URI of a key in a token begins with pkcs11:", SHOWN)
    path, _, query = rest.partition("?")
    found = _attributes(path, ";", ("token", "serial", "object", "id"))
    found |= _attributes(query, "&", ("module-path",))
    for name in ("token", "module-path"):
        if name not in found:
            raise PkiError(f"the token's URI has no {name}", SHOWN)
    key_id = found.pop("id", b"")
    text = {name.replace("-", "_"): _text(name, value) for name, value in found.items()}
    if not text["module_path"].startswith("/"):
        raise PkiError("the token's URI: module-path is not an absolute path", SHOWN)
    return TokenUri(**text, id=key_id)


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number, part in enumerate(text.split(separator) if text else [], start=1):
        name, equals, value = part.partition("=")
        if name.lower().startswith("pin"):
            raise PkiError("the token's URI has a place for the PIN", "take it out, and change a PIN that stood there")
        if not equals or not re.fullmatch(r"[A-Za-z-]+", name):
            raise PkiError(f"the token's URI: part {number} before or after the ? is not name=value", SHOWN)
        if name not in known:
            raise PkiError(f"the token's URI has {name} where only {', '.join(known)} can stand", SHOWN)
        if name in found:
            raise PkiError(f"the token's URI has {name} twice", SHOWN)
        if not VALUE.fullmatch(value):
            raise PkiError(
                f"the token's URI: {name} is empty or badly encoded", "a blank is written %20, a percent %25"
            )
        found[name] = unquote_to_bytes(value)
    return found


def _text(name: str, value: bytes) -> str:
    with suppress(UnicodeDecodeError):
        if (text := value.decode()).isprintable():
            return text
    raise PkiError(f"the token's URI: {name} is not text in UTF-8", SHOWN)


def _percent(value: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in value)
