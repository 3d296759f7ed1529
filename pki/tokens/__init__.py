"""Private keys that live in a PKCS#11 token: named by a URI, made there, signing there, never read."""

from pki.tokens.held import TokenKey
from pki.tokens.keys import destroy, generate, open_key
from pki.tokens.sessions import close
from pki.tokens.uri import TokenUri, parse

__all__ = ["TokenKey", "TokenUri", "close", "destroy", "generate", "open_key", "parse"]
