"""Sessions with PKCS#11 tokens: each process has one session for each token and is logged in.

`python-pkcs11` is an optional dependency, imported when a token is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_SH, flock
from typing import Any, BinaryIO

from pki.common.errors import PkiError
from pki.x509.pkcs11.uri import EXAMPLE_HINT, TokenUri

UNSUPPORTED = {"FunctionNotSupported", "DomainParamsInvalid", "AttributeValueInvalid", "TemplateInconsistent"}


@dataclass(slots=True)
class _Login:
    module: str
    slot: int
    session: Any
    pin: str = field(repr=False)


_initialised_by: dict[str, int] = {}  # module → process that initialised it; 0: initialise it again
_logins: dict[TokenUri, _Login] = {}
_refused: set[tuple[TokenUri, str]] = set()  # wrong PINs: a few of them lock a token, so none is tried twice


def close() -> None:
    """Log out of every token and forget the PINs; the next use logs in again."""
    _logins.clear()
    _refused.clear()
    for path in _initialised_by:
        with suppress(library().PKCS11Error):
            library().lib(path).finalize()


def library() -> Any:
    """Import and return `python-pkcs11`. Raises PkiError if it is not installed."""
    try:
        import pkcs11  # noqa: PLC0415 -- an extra, for projects that have a token
    except ImportError:
        raise PkiError(
            "keys in a token need python-pkcs11, which is not installed",
            "./run pip install --require-hashes -r requirements-hsm.lock",
        ) from None
    return pkcs11


@contextmanager
def reporting_errors(uri: TokenUri, lock: int = LOCK_SH) -> Iterator[Any]:
    """Convert PKCS#11 errors to PkiError; after an error the module is initialised again by the next use.

    Processes lock the module's file with `lock` (LOCK_SH or LOCK_EX), because SoftHSM reports a damaged or missing token
    to other processes while one process logs in (https://github.com/softhsm/SoftHSMv2/issues/757).
    """
    pkcs11 = library()
    with _opened(uri.module_path) as file:
        flock(file, lock)
        try:
            yield pkcs11
        except pkcs11.PKCS11Error as error:
            _initialised_by[os.path.realpath(uri.module_path)] = 0
            raise token_error(uri, type(error).__name__) from None


def _opened(module: str) -> BinaryIO:
    try:
        return open(module, "rb")
    except FileNotFoundError:
        raise PkiError(
            f"{module}: no such PKCS#11 module", "install the token's software, or fix module-path"
        ) from None
    except OSError as error:
        raise PkiError(f"{module}: not a PKCS#11 module ({error.strerror})", EXAMPLE_HINT) from None


def token_error(uri: TokenUri, error: str) -> PkiError:
    """Return the message for a PKCS#11 return code; `error` is the name of the exception of `python-pkcs11`."""
    if error in UNSUPPORTED or error.startswith("Mechanism") or error.endswith("Range"):
        return PkiError(
            f"token {uri.token}: does not support this operation ({error})", "use another kind of key, or another token"
        )
    return PkiError(
        f"token {uri.token}: the operation failed ({error})",
        "check that it is connected, has free space and is accessible to you, then run the command again",
    )


def session_on(uri: TokenUri, pin: str | None, source: str) -> Any:
    """Return the session of this process with the token, logged in. Raises PkiError if the login fails."""
    if not pin:
        raise PkiError(f"token {uri.token}: {source} has no PIN for it", "add the PIN there")
    path = os.path.realpath(uri.module_path)
    if uri.place not in _logins or _initialised_by.get(path) != os.getpid():
        with reporting_errors(uri, LOCK_EX) as pkcs11:
            module = _module(pkcs11, path)
            token = _token(pkcs11, module, uri)
            logins = [login for login in _logins.values() if (login.module, login.slot) == (path, token.slot.slot_id)]
            if not logins:
                logins = [_Login(path, token.slot.slot_id, log_in(pkcs11, token, uri, pin, source), pin)]
            _logins[uri.place] = logins[0]
    login = _logins[uri.place]
    if login.pin != pin:
        raise PkiError(f"token {uri.token}: the PIN in {source} differs from the one that opened it", "correct the PIN")
    return login.session


def _module(pkcs11: Any, path: str) -> Any:
    """Return the PKCS#11 module, initialised in this process: sessions end with a fork and with an error."""
    try:
        module = pkcs11.lib(path)
        if _initialised_by.setdefault(path, os.getpid()) != os.getpid():
            for place in [place for place, login in _logins.items() if login.module == path]:
                del _logins[place]
            with suppress(pkcs11.PKCS11Error):  # a module that detects the fork is not initialised any more
                module.finalize()
            module.initialize()
            _initialised_by[path] = os.getpid()
    except pkcs11.PKCS11Error as error:
        if type(error) is pkcs11.PKCS11Error:  # an error of the loader: each return code has its own class
            raise PkiError(f"{path}: not a PKCS#11 module", EXAMPLE_HINT) from None
        raise PkiError(
            f"{path}: the PKCS#11 module does not start ({type(error).__name__})",
            "check that you can read its configuration; SOFTHSM2_CONF names the file of SoftHSM",
        ) from None
    return module


def _token(pkcs11: Any, module: Any, uri: TokenUri) -> Any:
    """Return the token that `uri` names. Raises PkiError if there is none, or more than one."""
    tokens = [token for token in module.get_tokens() if pkcs11.TokenFlag.TOKEN_INITIALIZED in token.flags]
    matches = [token for token in tokens if token.label == uri.token and uri.serial in {"", _serial(token)}]
    if len(matches) == 1:
        return matches[0]
    if matches:
        serials = " or ".join(f"serial={_serial(token)}" for token in matches)
        raise PkiError(f"{len(matches)} tokens are called {uri.token}", f"add one of these to the URI: {serials}")
    available = ", ".join(f"{token.label} (serial {_serial(token)})" for token in tokens)
    description = f"{uri.token} with the serial {uri.serial}" if uri.serial else uri.token
    raise PkiError(
        f"no token {description}", f"available: {available}" if available else "connect it, or initialise one"
    )


def _serial(token: Any) -> str:
    return bytes(token.serial).decode(errors="replace")


def log_in(pkcs11: Any, token: Any, uri: TokenUri, pin: str, source: str) -> Any:
    """Log in and return the session. Does not try a token that is locked or has one attempt left."""
    label, flags = uri.token, pkcs11.TokenFlag
    locked = PkiError(
        f"token {label}: its PIN is locked", "the security officer must set a new one: docs/how-to/tokens.md"
    )
    wrong = PkiError(
        f"token {label}: the PIN in {source} is wrong", "correct it first: a few wrong PINs lock the token"
    )
    if flags.USER_PIN_LOCKED in token.flags:
        raise locked
    if (uri.place, pin) in _refused:
        raise wrong
    if flags.USER_PIN_FINAL_TRY in token.flags:
        raise PkiError(f"token {label}: one more wrong PIN locks it", "log in by hand first: pkcs11-tool --login")
    try:
        return token.open(rw=True, user_pin=pin)
    except pkcs11.PinLocked:
        raise locked from None
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, UnicodeError):
        _refused.add((uri.place, pin))
        raise wrong from None
    except (pkcs11.PinExpired, pkcs11.UserPinNotInitialized):
        raise PkiError(f"token {label}: its PIN must be set first", "set it with pkcs11-tool --init-pin") from None
