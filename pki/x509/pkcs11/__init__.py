"""Private keys in a PKCS#11 token: generate, open and destroy them, and sign. The key never leaves the token."""

from pki.x509.pkcs11.private_key import TokenKey
from pki.x509.pkcs11.sessions import close
from pki.x509.pkcs11.token_keys import destroy, generate, open_key
from pki.x509.pkcs11.uri import TokenUri, parse

__all__ = ["TokenKey", "TokenUri", "close", "destroy", "generate", "open_key", "parse"]
