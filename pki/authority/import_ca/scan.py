"""Find certificates and CRLs (PEM or DER) in a folder and its subfolders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509

from pki.common import filesystem, pem
from pki.common.errors import PkiError

SUFFIXES = {".pem", ".crt", ".cer", ".cert", ".der", ".crl"}
LABELS = ("X509 CRL", "CERTIFICATE", "X509 CERTIFICATE")
T = TypeVar("T")
SKIPPED = {"private", "private_by_serial", "reqs", "reqs_by_serial"}  # keys and requests hold no certificates


class ScannedCertificate(NamedTuple):
    """A certificate, and the name of its file in messages."""

    file: str
    certificate: x509.Certificate


class ScannedCrl(NamedTuple):
    """A CRL, and the name of its file in messages."""

    file: str
    crl: x509.CertificateRevocationList


@dataclass
class ScannedFiles:
    """The certificates and CRLs of a folder; `faults` has a message for each file that cannot be read."""

    certificates: list[ScannedCertificate] = field(default_factory=list)
    crls: list[ScannedCrl] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def find(folder: Path, shown: str) -> ScannedFiles:
    """Return every certificate and CRL below a folder; `shown` is the name of the folder in messages."""
    files = ScannedFiles()
    for path in _files(folder):
        name = f"{shown}/{path.relative_to(folder)}"
        try:
            _add(files, name, path.suffix.lower(), filesystem.read(path) or b"")
        except PkiError as error:
            files.faults.append(error.message)
    return files


def _files(folder: Path) -> Iterator[Path]:
    for current_folder, subfolders, names in os.walk(folder):
        # os.walk visits only the subfolders that remain in this list
        subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED and not name.startswith("."))
        for name in sorted(names):
            path = Path(current_folder, name)
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _add(files: ScannedFiles, name: str, suffix: str, data: bytes) -> None:
    """Add the content of a file: every PEM section of the two kinds, or DER. Other PEM files are ignored."""
    sections = list(pem.sections(data, *LABELS))
    for section in sections:
        text = section.whole.replace(b"X509 CERTIFICATE", b"CERTIFICATE")
        if section.label == "X509 CRL":
            files.crls.append(ScannedCrl(name, _loaded(x509.load_pem_x509_crl, text, f"{name}: contains a CRL")))
        else:
            certificate = _certificate(x509.load_pem_x509_certificate, text, name)
            files.certificates.append(ScannedCertificate(name, certificate))
    if data.count(b"-----BEGIN CERTIFICATE-----") > len(sections):
        raise PkiError(f"{name}: contains a truncated certificate")
    if b"-----BEGIN " in data or suffix == ".pem":
        return  # a PEM file is not also DER
    if suffix == ".crl":
        files.crls.append(ScannedCrl(name, _loaded(x509.load_der_x509_crl, data, f"{name}: is a CRL")))
    else:
        certificate = _certificate(x509.load_der_x509_certificate, data, name)
        files.certificates.append(ScannedCertificate(name, certificate))


def _certificate(load: Callable[[bytes], x509.Certificate], data: bytes, name: str) -> x509.Certificate:
    # cryptography warns about serial number 0, which the importer reports itself
    with warnings.catch_warnings(action="ignore"):
        return _loaded(load, data, f"{name}: contains a certificate")


def _loaded(load: Callable[[bytes], T], data: bytes, what: str) -> T:
    try:
        return load(data)
    except ValueError:
        raise PkiError(f"{what} that cannot be read") from None
