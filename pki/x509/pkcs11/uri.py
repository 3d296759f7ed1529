"""PKCS#11 URIs (RFC 7512) of keys in a token, with the attributes that a project needs."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_to_bytes

from pki.common.errors import PkiError

EXAMPLE = "pkcs11:token=doit-pki;object=server-2?module-path=/usr/lib/softhsm/libsofthsm2.so"
EXAMPLE_HINT = f"for example {EXAMPLE}"
VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&/|-]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """The location of a key: the PKCS#11 module, the token, and the object in the token."""

    module_path: str
    token: str
    serial: str = ""
    object: str = ""
    id: bytes = b""

    def with_object(self, name: str) -> TokenUri:
        """Return the URI of the key called `name` in the same token."""
        return replace(self, object=name, id=b"")

    @property
    def place(self) -> TokenUri:
        """Return the URI of the token alone."""
        return replace(self, object="", id=b"")

    @property
    def key(self) -> str:
        """Return the name of the key for messages, or "" if the URI names the token alone."""
        return self.object or (f"id={_percent(self.id)}" if self.id else "")

    def __str__(self) -> str:
        attributes = [(name, getattr(self, name)) for name in ("token", "serial", "object")]
        parts = [f"{name}={quote(value, safe='')}" for name, value in attributes if value]
        if self.id:
            parts.append(f"id={_percent(self.id)}")
        return f"pkcs11:{';'.join(parts)}?module-path={quote(self.module_path)}"


def parse(uri: str) -> TokenUri:
    """Parse a PKCS#11 URI. Raises PkiError for an invalid one.

    Messages never quote a value of the URI, because it may be a PIN.
    """
    scheme, _, rest = uri.partition(":")
    if scheme != "pkcs11":
        raise PkiError("the URI of a key in a token must begin with pkcs11:", EXAMPLE_HINT)
    path, _, query = rest.partition("?")
    attributes = _parse_attributes(path, ";", ("token", "serial", "object", "id"))
    attributes |= _parse_attributes(query, "&", ("module-path",))
    for name in ("token", "module-path"):
        if name not in attributes:
            raise PkiError(f"the token's URI has no {name}", EXAMPLE_HINT)
    key_id = attributes.pop("id", b"")
    text = {name.replace("-", "_"): _decode_text(name, value) for name, value in attributes.items()}
    if not text["module_path"].startswith("/"):
        raise PkiError("the token's URI: module-path is not an absolute path", EXAMPLE_HINT)
    return TokenUri(**text, id=key_id)


def _parse_attributes(text: str, separator: str, allowed: tuple[str, ...]) -> dict[str, bytes]:
    attributes: dict[str, bytes] = {}
    for number, part in enumerate(text.split(separator) if text else [], start=1):
        name, equals, value = part.partition("=")
        if name.lower().startswith("pin"):
            raise PkiError("the token's URI contains a PIN attribute", "remove it, and change the PIN if it was there")
        if not equals or not re.fullmatch(r"[A-Za-z-]+", name):
            raise PkiError(f"the token's URI: part {number} before or after the ? is not name=value", EXAMPLE_HINT)
        if name not in allowed:
            raise PkiError(f"the token's URI has {name} where only {', '.join(allowed)} are allowed", EXAMPLE_HINT)
        if name in attributes:
            raise PkiError(f"the token's URI has the attribute {name} twice", EXAMPLE_HINT)
        if not VALUE.fullmatch(value):
            raise PkiError(
                f"the token's URI: {name} is empty or badly encoded", "write a blank as %20 and a percent sign as %25"
            )
        attributes[name] = unquote_to_bytes(value)
    return attributes


def _decode_text(name: str, value: bytes) -> str:
    with suppress(UnicodeDecodeError):
        text = value.decode()
        if text.isprintable():
            return text
    raise PkiError(f"the token's URI: {name} is not text in UTF-8", EXAMPLE_HINT)


def _percent(value: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in value)
