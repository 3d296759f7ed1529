"""What OpenSSL loads before it makes a request, and stops without: object identifiers, modules, its file of random bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pki.common.errors import PkiError
from pki.config.openssl_cnf_names import ATTRIBUTES, CLIENT, HINT, SERVER, Configuration, Value

NUMBERS = re.compile(r"(?:[01]\.[0-3]?[0-9]|2\.[0-9]+)(?:\.[0-9]+)*")  # an object identifier, X.660 §7.6
BUILT_IN_NAMES = ATTRIBUTES | SERVER | CLIENT
OPTIONS = {"fips_mode", "default_properties"}  # of alg_section
TRUE = {"yes", "true", "on", "1", "y", "Yes", "True", "TRUE", "YES", "Y", "ON", "On"}


def find_faults(found: Configuration, folder: Path | None) -> Iterator[PkiError]:
    """What OpenSSL 3.0 cannot load; `folder` is that of the file, from which paths are relative."""
    if (
        (value := _if_readable(found.get("req", "RANDFILE")))
        and folder
        and (fault := _random_file_fault(folder, value.raw))
    ):
        yield _refusal("RANDFILE", value, fault)
    if value := _if_readable(found.get("req", "oid_section")):
        yield from _check_section(found, "oid_section", value, _check_identifiers)
    if (value := _if_readable(found.sections["default"].get("openssl_conf"))) and value.raw in found.sections:
        for name, module in found.sections[value.raw].items():
            yield from _check_module(found, name, module)


def _check_module(found: Configuration, name: str, value: Value) -> Iterator[PkiError]:
    look = MODULES.get(name.partition(".")[0])
    if value.fault:
        return
    if look is None:
        yield _refusal(name, value, f"there is no module {name}")
    else:
        yield from _check_section(found, name, value, look)


SectionCheck = Callable[[Configuration, Mapping[str, Value]], Iterator[PkiError]]


def _check_section(found: Configuration, name: str, value: Value, look: SectionCheck) -> Iterator[PkiError]:
    """What is wrong with a section that a value names."""
    section = found.sections.get(value.raw)
    if section is None:
        yield PkiError(f"{value.place}: {name} names [ {value.raw} ], which is not there", HINT)
    else:
        yield from look(found, section)


def _check_identifiers(_found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    for name, value in section.items():
        if value.fault:
            continue
        if NUMBERS.fullmatch(value.raw) is None:
            yield _refusal(name, value, "expected an object identifier such as 1.3.6.1.4.1.99999.1")
        elif name in BUILT_IN_NAMES or value.raw in BUILT_IN_NAMES:
            yield _refusal(name, value, "OpenSSL knows it already")


def _check_engines(found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    for name, value in section.items():
        yield from _check_section(found, name, value, _check_engine)


def _check_engine(_found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    value = _if_readable(section.get("dynamic_path"))
    if value and not Path(value.raw).exists():
        yield _refusal("dynamic_path", value, "there is no such file")


def _check_providers(found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    """What is activated replaces what OpenSSL activates by itself; before 3.2 any value of `activate` does."""
    active = dict[str, Value]()
    for name, value in section.items():
        yield from _check_section(found, name, value, _check_nothing)
        settings = found.sections.get(value.raw, {})
        if "activate" in settings:
            identity = settings.get("identity")
            active[identity.raw if identity else name] = settings["activate"]
    if active and "default" not in active:
        value = next(iter(active.values()))
        yield _refusal("activate", value, "the provider default is not activated with it, and no key can be made")


def _check_algorithms(_found: Configuration, section: Mapping[str, Value]) -> Iterator[PkiError]:
    for name, value in section.items():
        if name not in OPTIONS:
            yield _refusal(name, value, f"expected {' or '.join(sorted(OPTIONS))}")
        elif value.raw in TRUE if name == "fips_mode" else value.raw.replace(" ", "") == "fips=yes":
            yield _refusal(name, value, "needs the provider fips")


def _check_nothing(_found: Configuration, _section: Mapping[str, Value]) -> Iterator[PkiError]:
    return iter(())


MODULES: Mapping[str, SectionCheck] = {
    "oid_section": _check_identifiers,
    "engines": _check_engines,
    "providers": _check_providers,
    "alg_section": _check_algorithms,
    "ssl_conf": _check_nothing,
    "random": _check_nothing,
    "stbl_section": _check_nothing,
}


def _random_file_fault(folder: Path, name: str) -> str:
    """Why OpenSSL cannot write its random bytes at the end, without which it fails."""
    path = folder / name
    if not name or path.is_dir():
        return "is no file"
    return "" if path.parent.is_dir() else f"there is no folder {path.parent}"


def _if_readable(value: Value | None) -> Value | None:
    return value if value and not value.fault else None


def _refusal(name: str, value: Value, why: str) -> PkiError:
    return PkiError(f"{value.place}: {name} = {value.raw}: {why}", HINT)
