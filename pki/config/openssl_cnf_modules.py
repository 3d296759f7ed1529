"""Check the parts of an OpenSSL configuration that must be loadable: object identifiers, modules, the random file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pki.common.errors import PkiError
from pki.config.openssl_cnf_names import ATTRIBUTES, CLIENT, HINT, SERVER, ParsedFile, ParsedValue

NUMBERS = re.compile(r"(?:[01]\.[0-3]?[0-9]|2\.[0-9]+)(?:\.[0-9]+)*")  # an object identifier (X.660 §7.6)
BUILT_IN_NAMES = ATTRIBUTES | SERVER | CLIENT
OPTIONS = {"fips_mode", "default_properties"}  # keys of alg_section
TRUE = {"yes", "true", "on", "1", "y", "Yes", "True", "TRUE", "YES", "Y", "ON", "On"}


def find_faults(configuration: ParsedFile, folder: Path | None) -> Iterator[PkiError]:
    """Yield what OpenSSL 3.0 cannot load; `folder` is the folder of the file, to which paths are relative."""
    random_file = _if_readable(configuration.get("req", "RANDFILE"))
    fault = _random_file_fault(folder, random_file.raw) if random_file and folder else ""
    if random_file and fault:
        yield _refusal("RANDFILE", random_file, fault)
    oid_section = _if_readable(configuration.get("req", "oid_section"))
    if oid_section:
        yield from _check_section(configuration, "oid_section", oid_section, _check_identifiers)
    modules = _if_readable(configuration.sections["default"].get("openssl_conf"))
    if modules and modules.raw in configuration.sections:
        for name, module in configuration.sections[modules.raw].items():
            yield from _check_module(configuration, name, module)


def _check_module(configuration: ParsedFile, name: str, value: ParsedValue) -> Iterator[PkiError]:
    check = MODULES.get(name.partition(".")[0])
    if value.fault:
        return
    if check is None:
        yield _refusal(name, value, f"there is no module {name}")
    else:
        yield from _check_section(configuration, name, value, check)


SectionCheck = Callable[[ParsedFile, Mapping[str, ParsedValue]], Iterator[PkiError]]


def _check_section(configuration: ParsedFile, name: str, value: ParsedValue, check: SectionCheck) -> Iterator[PkiError]:
    """Yield the faults of a section that a value names."""
    section = configuration.sections.get(value.raw)
    if section is None:
        yield PkiError(f"{value.place}: {name} names [ {value.raw} ], which does not exist", HINT)
    else:
        yield from check(configuration, section)


def _check_identifiers(_configuration: ParsedFile, section: Mapping[str, ParsedValue]) -> Iterator[PkiError]:
    for name, value in section.items():
        if value.fault:
            continue
        if NUMBERS.fullmatch(value.raw) is None:
            yield _refusal(name, value, "expected an object identifier such as 1.3.6.1.4.1.99999.1")
        elif name in BUILT_IN_NAMES or value.raw in BUILT_IN_NAMES:
            yield _refusal(name, value, "it is a name or number of OpenSSL itself")


def _check_engines(configuration: ParsedFile, section: Mapping[str, ParsedValue]) -> Iterator[PkiError]:
    for name, value in section.items():
        yield from _check_section(configuration, name, value, _check_engine)


def _check_engine(_configuration: ParsedFile, section: Mapping[str, ParsedValue]) -> Iterator[PkiError]:
    value = _if_readable(section.get("dynamic_path"))
    if value and not Path(value.raw).exists():
        yield _refusal("dynamic_path", value, "there is no such file")


def _check_providers(configuration: ParsedFile, section: Mapping[str, ParsedValue]) -> Iterator[PkiError]:
    """Yield a fault if other providers are activated without `default`. Before 3.2 any value of `activate` activates."""
    active_values = dict[str, ParsedValue]()
    for name, value in section.items():
        yield from _check_section(configuration, name, value, _check_nothing)
        settings = configuration.sections.get(value.raw, {})
        if "activate" in settings:
            identity = settings.get("identity")
            active_values[identity.raw if identity else name] = settings["activate"]
    if active_values and "default" not in active_values:
        value = next(iter(active_values.values()))
        yield _refusal("activate", value, "the provider default is not activated too, so no key can be generated")


def _check_algorithms(_configuration: ParsedFile, section: Mapping[str, ParsedValue]) -> Iterator[PkiError]:
    for name, value in section.items():
        if name not in OPTIONS:
            yield _refusal(name, value, f"expected {' or '.join(sorted(OPTIONS))}")
            continue
        requires_fips = value.raw in TRUE if name == "fips_mode" else value.raw.replace(" ", "") == "fips=yes"
        if requires_fips:
            yield _refusal(name, value, "requires the provider fips")


def _check_nothing(_configuration: ParsedFile, _section: Mapping[str, ParsedValue]) -> Iterator[PkiError]:
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
    """Return why OpenSSL cannot write its random file, which makes it fail, or ""."""
    path = folder / name
    if not name or path.is_dir():
        return "is not a file"
    return "" if path.parent.is_dir() else f"there is no folder {path.parent}"


def _if_readable(value: ParsedValue | None) -> ParsedValue | None:
    return value if value and not value.fault else None


def _refusal(name: str, value: ParsedValue, why: str) -> PkiError:
    return PkiError(f"{value.place}: {name} = {value.raw}: {why}", HINT)
