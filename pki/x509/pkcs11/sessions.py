"""Sessions with PKCS#11 tokens: a process has one for each token, logged in.

`python-pkcs11` is an extra, imported when a token is really used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_SH, flock
from typing import Any, BinaryIO

from pki.common.errors import PkiError
from pki.x509.pkcs11.uri import SHOWN, TokenUri

CANNOT = {"FunctionNotSupported", "DomainParamsInvalid", "AttributeValueInvalid", "TemplateInconsistent"}


@dataclass(slots=True)
class _Login:
    module: str
    slot: int
    session: Any
    pin: str = field(repr=False)


_started: dict[str, int] = {}  # module → the process that initialised it; 0 when it must begin again
_logins: dict[TokenUri, _Login] = {}
_refused: set[tuple[TokenUri, str]] = set()  # wrong PINs: a few lock a token, so none is tried twice


def close() -> None:
    """Log out of every token and forget the PINs; the next use begins again."""
    _logins.clear()
    _refused.clear()
    for path in _started:
        with suppress(library().PKCS11Error):
            library().lib(path).finalize()


def library() -> Any:
    try:
        import pkcs11  # noqa: PLC0415 -- an extra, for projects that have a token
    except ImportError:
        raise PkiError(
            "keys in a token need python-pkcs11, which is not installed",
            "./run pip install --require-hashes -r requirements-hsm.lock",
        ) from None
    return pkcs11


@contextmanager
def told(uri: TokenUri, turn: int = LOCK_SH) -> Iterator[Any]:
    """What the token refuses, in a sentence; its module begins again with the next use.

    Processes take turns at the module's file: while one logs in, SoftHSM shows others a token that is damaged or none
    (https://github.com/softhsm/SoftHSMv2/issues/757).
    """
    pkcs11 = library()
    with _opened(uri.module_path) as file:
        flock(file, turn)
        try:
            yield pkcs11
        except pkcs11.PKCS11Error as error:
            _started[os.path.realpath(uri.module_path)] = 0
            raise refusal(uri, type(error).__name__) from None


def _opened(module: str) -> BinaryIO:
    try:
        return open(module, "rb")
    except FileNotFoundError:
        raise PkiError(
            f"{module}: no such PKCS#11 module", "install the token's software, or fix module-path"
        ) from None
    except OSError as error:
        raise PkiError(f"{module}: not a PKCS#11 module ({error.strerror})", SHOWN) from None


def refusal(uri: TokenUri, error: str) -> PkiError:
    """A return code of PKCS#11, as `python-pkcs11` names it, said to a person."""
    if error in CANNOT or error.startswith("Mechanism") or error.endswith("Range"):
        return PkiError(f"token {uri.token}: it cannot do this ({error})", "use another kind of key, or another token")
    return PkiError(
        f"token {uri.token}: it does not do as it is asked ({error})",
        "see that it is plugged in, has room and may be used by you, then type the command again",
    )


def session_on(uri: TokenUri, pin: str | None, source: str) -> Any:
    """The session that this process has on the token, logged in."""
    if not pin:
        raise PkiError(f"token {uri.token}: {source} holds no PIN for it", "put it there")
    path = os.path.realpath(uri.module_path)
    if uri.place not in _logins or _started.get(path) != os.getpid():
        with told(uri, LOCK_EX) as pkcs11:
            module = _module(pkcs11, path)
            token = _token(pkcs11, module, uri)
            same = [one for one in _logins.values() if (one.module, one.slot) == (path, token.slot.slot_id)]
            if not same:
                same = [_Login(path, token.slot.slot_id, log_in(pkcs11, token, uri, pin, source), pin)]
            _logins[uri.place] = same[0]
    login = _logins[uri.place]
    if login.pin != pin:
        raise PkiError(f"token {uri.token}: the PIN in {source} is not the one that opened it", "correct the wrong one")
    return login.session


def _module(pkcs11: Any, path: str) -> Any:
    """The PKCS#11 module, initialised by this very process: sessions outlive neither a fork nor a failure."""
    try:
        module = pkcs11.lib(path)
        if _started.setdefault(path, os.getpid()) != os.getpid():
            for place in [place for place, login in _logins.items() if login.module == path]:
                del _logins[place]
            with suppress(pkcs11.PKCS11Error):  # a module that saw the fork does not count as initialised
                module.finalize()
            module.initialize()
            _started[path] = os.getpid()
    except pkcs11.PKCS11Error as error:
        if type(error) is pkcs11.PKCS11Error:  # from the loader: each return code has a class of its own
            raise PkiError(f"{path}: not a PKCS#11 module", SHOWN) from None
        raise PkiError(
            f"{path}: the PKCS#11 module does not start ({type(error).__name__})",
            "see that you may read its configuration: SOFTHSM2_CONF names that of SoftHSM",
        ) from None
    return module


def _token(pkcs11: Any, module: Any, uri: TokenUri) -> Any:
    tokens = [token for token in module.get_tokens() if pkcs11.TokenFlag.TOKEN_INITIALIZED in token.flags]
    found = [one for one in tokens if one.label == uri.token and uri.serial in {"", _serial(one)}]
    if len(found) == 1:
        return found[0]
    if found:
        serials = " or ".join(f"serial={_serial(one)}" for one in found)
        raise PkiError(f"{len(found)} tokens are called {uri.token}", f"say which in the URI: {serials}")
    named = ", ".join(f"{one.label} (serial {_serial(one)})" for one in tokens)
    wanted = f"{uri.token} with the serial {uri.serial}" if uri.serial else uri.token
    raise PkiError(f"no token {wanted} is there", f"there is {named}" if named else "plug it in, or make one")


def _serial(token: Any) -> str:
    return bytes(token.serial).decode(errors="replace")


def log_in(pkcs11: Any, token: Any, uri: TokenUri, pin: str, source: str) -> Any:
    """A session on `token`; one that is locked, or has one try left, is not asked."""
    label, flags = uri.token, pkcs11.TokenFlag
    locked = PkiError(f"token {label}: its PIN is locked", "its security officer sets a new one: docs/tokens.md")
    wrong = PkiError(f"token {label}: the PIN in {source} is wrong", "correct it first: a few wrong PINs lock a token")
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
