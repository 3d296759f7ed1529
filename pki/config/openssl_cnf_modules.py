"""What OpenSSL loads before it makes a request, and stops without: object identifiers, modules, its file of random bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pki.common.errors import PkiError
from pki.config.openssl_cnf_names import ATTRIBUTES, CLIENT, HINT, SERVER, Configuration, Value

NUMBERS = re.compile(r"(?:[01]\.[0-3]?[0-9]|2\.[0-9]+)(?:\.[0-9]+)*")  # an object identifier, X.660 §7.6
KNOWN = ATTRIBUTES | SERVER | CLIENT
OPTIONS = {"fips_mode", "default_properties"}  # of alg_section
TRUE = {"yes", "true", "on", "1", "y", "Yes", "True", "TRUE", "YES", "Y", "ON", "On"}


def faults(found: Configuration, folder: Path | None) -> Iterator[PkiError]:
    """What OpenSSL 3.0 cannot load; `folder` is that of the file, from which paths are relative."""
    if (value := _sound(found.get("req", "RANDFILE"))) and folder and (fault := _random_file(folder, value.raw)):
        yield _refused("RANDFILE", value, fault)
    if value := _sound(found.get("req", "oid_section")):
        yield from _section(found, "oid_section", value, _identifiers)
    if (value := _sound(found.sections["default"].get("openssl_conf"))) and value.raw in found.sections:
        for name, module in found.sections[value.raw].items():
            yield from _module(found, name, module)


def _module(found: Configuration, name: str, value: Value) -> Iterator[PkiError]:
    look = MODULES.get(name.partition(".")[0])
    if value.fault:
        return
    if look is None:
        yield _refused(name, value, f"there is no module {name}")
    else:
        yield from _section(found, name, value, look)


Look = Callable[[Configuration, Mapping[str, Value]], Iterator[PkiError]]


def _section(found: Configuration, name: str, value: Value, look: Look) -> Iterator[PkiError]:
    """What is wrong with a section that a value names."""
    section = found.sections.get(value.raw)
    if section is None:
        yield PkiError(f"{value.place}: {name} names [ {value.raw} ], which is not there", HINT)
    else:
        yield from look(found, section)


def _identifiers(_found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    for name, value in section.items():
        if value.fault:
            continue
        if NUMBERS.fullmatch(value.raw) is None:
            yield _refused(name, value, "expected an object identifier such as 1.3.6.1.4.1.99999.1")
        elif name in KNOWN or value.raw in KNOWN:
            yield _refused(name, value, "OpenSSL knows it already")


def _engines(found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    for name, value in section.items():
        yield from _section(found, name, value, _engine)


def _engine(_found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    value = _sound(section.get("dynamic_path"))
    if value and not Path(value.raw).exists():
        yield _refused("dynamic_path", value, "there is no such file")


def _providers(found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    """What is activated replaces what OpenSSL activates by itself; before 3.2 any value of `activate` does."""
    active = dict[str, Value]()
    for name, value in section.items():
        yield from _section(found, name, value, _nothing)
        settings = found.sections.get(value.raw, {})
        if "activate" in settings:
            identity = settings.get("identity")
            active[identity.raw if identity else name] = settings["activate"]
    if active and "default" not in active:
        value = next(iter(active.values()))
        yield _refused("activate", value, "the provider default is not activated with it, and no key can be made")


def _algorithms(_found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    for name, value in section.items():
        if name not in OPTIONS:
            yield _refused(name, value, f"expected {' or '.join(sorted(OPTIONS))}")
        elif value.raw in TRUE if name == "fips_mode" else value.raw.replace(" ", "") == "fips=yes":
            yield _refused(name, value, "needs the provider fips")


def _nothing(_found: Configuration, _section: Mapping[str, Value]) -> Iterator[PkiError]:
    return iter(())


MODULES: Mapping[str, Look] = {
    "oid_section": _identifiers,
    "engines": _engines,
    "providers": _providers,
    "alg_section": _algorithms,
    "ssl_conf": _nothing,
    "random": _nothing,
    "stbl_section": _nothing,
}


def _random_file(folder: Path, name: str) -> str:
    """Why OpenSSL cannot write its random bytes at the end, without which it fails."""
    path = folder / name
    if not name or path.is_dir():
        return "is no file"
    return "" if path.parent.is_dir() else f"there is no folder {path.parent}"


def _sound(value: Value | None) -> Value | None:
    return value if value and not value.fault else None


def _refused(name: str, value: Value, why: str) -> PkiError:
    return PkiError(f"{value.place}: {name} = {value.raw}: {why}", HINT)
