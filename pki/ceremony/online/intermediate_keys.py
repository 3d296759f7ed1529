"""The key of a generation that is yet to be certified: made here, kept encrypted, shown to the root as a request."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.ceremony.online import ceremony_archive
from pki.ceremony.request_response import AskedIntermediate, Request
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import RESTORE, in_project, run_for
from pki.config.identifiers import GenerationName
from pki.project.project import Project
from pki.x509 import certificate_signing, keys, pkcs11


def requested(project: Project, name: str, common_name: str) -> bytes:
    """The certificate request of a coming generation, in PEM; its key is made when there never was one.

    Raises PkiError where the key is missing or damaged, or the generation was certified before: nothing that is lost is
    replaced by something new.
    """
    path = project.store.authority_file(name, "request.pem")
    present = filesystem.read(path)
    has_key = any(project.store.authority_file(name, file).exists() for file in ("key.pem", "key.uri"))
    if present is not None and (fault := project.keys.fault(name)):
        raise PkiError(fault.message, again(project, name, fault.hint))
    if present is not None and has_key and _is_for(present, common_name):
        return present
    key = _kept_key(project, name) if has_key else _new_key(project, name)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        certificate_signing.subject_name(project.inventory.organisation, common_name)
    )
    request = builder.sign(key, keys.signature_hash(key)).public_bytes(Encoding.PEM)
    filesystem.write(path, request)
    return request


def again(project: Project, name: str, hint: str) -> str:
    """What helps where the key of a generation that is not certified yet is lost."""
    folder = in_project(project.store.shown(project.store.authority_file(name, "key.pem").parent))
    return f"{hint}; without a backup: mv {folder} {folder}.lost, then: {run_for(project.store.home)} invoke ceremony.request --drop-earlier"


def is_asked(project: Project, asked: AskedIntermediate) -> bool:
    """Whether the key in `ca/` is the one that a request asks to certify."""
    present = filesystem.read(project.store.authority_file(asked.name, "request.pem"))
    return present is not None and _public(present) == _public(asked.request.encode())


def faults(project: Project, request: Request) -> Iterator[str]:
    """Why the keys that a request asks to certify are not those in `ca/`."""
    for asked in request.intermediates:
        if fault := project.keys.fault(asked.name):
            yield f"{fault.message} ({again(project, asked.name, fault.hint)})"
        elif not is_asked(project, asked):
            yield f"{asked.name}: ca/ contains another key than the one that was certified ({RESTORE})"


def _public(request: bytes) -> bytes:
    try:
        return keys.public_der(x509.load_pem_x509_csr(request).public_key())
    except ValueError:
        return b""


def _is_for(request: bytes, common_name: str) -> bool:
    try:
        found = x509.load_pem_x509_csr(request)
    except ValueError:
        return False
    return any(attribute.value == common_name for attribute in found.subject)


def _kept_key(project: Project, name: str) -> keys.PrivateKey:
    """The key of a run that was killed before the request was written, or whose request is for another name."""
    _insist_on_uncertified(project, name)
    uri = filesystem.read(project.store.authority_file(name, "key.uri"))
    if uri is not None:
        return _in_token(
            project,
            name,
            uri.decode().strip(),
            project.inventory.authorities.intermediate(GenerationName.parse(name).authority).key,
        )
    path = project.store.authority_file(name, "key.pem")
    try:
        return project.keys.from_pem(name, filesystem.read(path) or b"", project.store.shown(path))
    except PkiError as error:
        raise PkiError(error.message, again(project, name, error.hint)) from None


def _insist_on_uncertified(project: Project, name: str) -> None:
    """Raise PkiError for a generation that was certified: its key is in use, or lost."""
    if project.store.authority_file(name, "cert.pem").exists():
        raise PkiError(f"{name}: has a certificate already", "./run invoke status")
    if name in ceremony_archive.certified(project):
        raise PkiError(
            f"ca/{GenerationName.parse(name).authority}/{name}/: is missing, and {name} was certified", RESTORE
        )


def _new_key(project: Project, name: str) -> keys.PrivateKey:
    """A new key: in a token, or in a file under a passphrase of its own that is opened again before it is believed."""
    _insist_on_uncertified(project, name)
    rule = project.inventory.authorities.intermediate(GenerationName.parse(name).authority)
    if rule.token:
        return _in_token(project, name, rule.token, rule.key)
    path = project.store.authority_file(name, "key.pem")
    passphrase = project.passphrases.new(name)
    filesystem.write(path, keys.encrypted_pem(keys.new_key(rule.key), passphrase), filesystem.SECRET)
    return project.keys.from_pem(name, filesystem.read(path) or b"", project.store.shown(path))


def _in_token(project: Project, name: str, address: str, kind: str) -> keys.PrivateKey:
    """A key that is made in a token and never leaves it; `key.uri` says where."""
    uri = pkcs11.parse(address).with_object(name)
    pin = project.keys.pin(name)
    filesystem.write(project.store.authority_file(name, "key.uri"), f"{uri}\n".encode())
    try:
        return pkcs11.open_key(uri, pin.value, pin.source)  # of a run that was killed before the request was written
    except PkiError:
        return pkcs11.generate(uri, pin.value, kind, pin.source)
