"""Each fault of a response has its own sentence: what is missing, what nobody asked for, what was exchanged on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.ceremony import request_response, verify_response
from pki.ceremony.request_response import CLOCK_TOLERANCE, Request, Response
from pki.ceremony.verify_response import ParsedResponse
from pki.common.errors import PkiError

SECOND = timedelta(seconds=1)


@pytest.fixture
def folder(real_once: Path, tmp_path: Path) -> Path:
    """The response of the first ceremony."""
    copy = tmp_path / "response-0001"
    shutil.copytree(real_once / "out" / "response-0001", copy)
    return copy


@pytest.fixture
def request_of_it(real_once: Path) -> Request:
    data = (real_once / "project/ca/ceremonies/0001/request.yaml").read_bytes()
    return request_response.load(data, "request.yaml", Request)


def rewritten(folder: Path, change: Callable[[Response], Response]) -> Response:
    path = folder / "response.yaml"
    response = change(request_response.load(path.read_bytes(), "response.yaml", Response))
    path.write_bytes(request_response.dump(response))
    return response


def refusal(folder: Path) -> str:
    with pytest.raises(PkiError) as caught:
        verify_response.read_response(folder)
    assert caught.value.hint == verify_response.COPY_AGAIN
    return caught.value.message


def with_pem(response: Response, pem: str) -> Response:
    first = response.certificates[0].model_copy(update={"pem": pem})
    return response.model_copy(update={"certificates": (first, *response.certificates[1:])})


# -- read_response: what cannot be read, or is not what the response names ---------------------------------------------


def test_a_certificate_is_in_a_response_once(folder: Path) -> None:
    rewritten(folder, lambda r: r.model_copy(update={"certificates": (*r.certificates, r.certificates[-1])}))
    assert refusal(folder) == "response-0001/response.yaml: duplicate certificate"


def test_a_certificate_in_a_response_is_written_exactly_as_the_offline_machine_writes_it(folder: Path) -> None:
    """Other programs may read another certificate from text that is not in this form."""
    pem = rewritten(folder, lambda r: r).certificates[0].pem
    rewritten(folder, lambda r: with_pem(r, f"{pem}\n"))
    assert refusal(folder) == "response-0001/response.yaml: the certificate root-1 is damaged"
    rewritten(folder, lambda r: with_pem(r, pem[: len(pem) // 2]))
    assert refusal(folder) == "response-0001/response.yaml: the certificate root-1 cannot be read"


def test_a_crl_that_is_missing_exchanged_or_no_crl_is_named(folder: Path) -> None:
    first, second = (folder / crl.file for crl in rewritten(folder, lambda r: r).presigned_crls[:2])
    original = first.read_bytes()
    first.write_bytes(second.read_bytes())
    assert refusal(folder) == f"{first}: is not the CRL that the response names"
    first.unlink()
    assert refusal(folder) == f"{first}: is missing"
    first.write_bytes(b"hello")

    def naming_it(response: Response) -> Response:
        crl = response.presigned_crls[0].model_copy(update={"sha256": request_response.digest(b"hello")})
        return response.model_copy(update={"presigned_crls": (crl, *response.presigned_crls[1:])})

    before = (folder / "response.yaml").read_bytes()
    rewritten(folder, naming_it)
    assert refusal(folder) == f"{first}: is not a CRL"
    first.write_bytes(original)
    (folder / "response.yaml").write_bytes(before)
    assert verify_response.read_response(folder).presigned_crls


def test_crls_that_were_destroyed_are_left_out_of_an_earlier_response(folder: Path) -> None:
    """The audit reads the CRLs where they are now: those without a place were destroyed, as the ceremony required."""
    kept, *others = rewritten(folder, lambda r: r).presigned_crls
    parsed = verify_response.read_response(folder, presigned_crls={kept.file: folder / kept.file})
    assert [*parsed.presigned_crls] == [(kept.root, kept.number)]
    assert others


# -- faults: what was requested and what was not -----------------------------------------------------------------------


def faults(folder: Path, request: Request, **changes: Any) -> list[str]:
    parsed = verify_response.read_response(folder)
    response = parsed.response.model_copy(update={k: v for k, v in changes.items() if k != "certificates"})
    certificates = changes.get("certificates", parsed.certificates)
    return verify_response.faults(replace(parsed, response=response, certificates=certificates), request, {})


def parsed_of(folder: Path) -> ParsedResponse:
    return verify_response.read_response(folder)


def test_the_response_of_the_ceremony_itself_has_no_fault(folder: Path, request_of_it: Request) -> None:
    assert faults(folder, request_of_it) == []


def test_a_certificate_that_was_requested_and_is_missing_is_named(folder: Path, request_of_it: Request) -> None:
    certificates = parsed_of(folder).certificates
    del certificates["server-1", "root-1"]
    assert faults(folder, request_of_it, certificates=certificates) == ["server-1 by root-1 is missing"]


def test_a_certificate_that_nobody_requested_is_named(folder: Path, request_of_it: Request) -> None:
    """A root that signed more than the request asks for was misused: nothing of the response is accepted."""
    certificates = parsed_of(folder).certificates
    more = {**certificates, ("server-7", "root-1"): certificates["server-1", "root-1"]}
    assert faults(folder, request_of_it, certificates=more) == ["server-7 by root-1 was not requested"]
    other_issuer = {("root-1" if name == "root-1" else name, "root-1"): one for (name, _), one in certificates.items()}
    other_issuer["client-1", "root-2"] = other_issuer.pop(("client-1", "root-1"))
    assert faults(folder, request_of_it, certificates=other_issuer) == [
        "client-1 by root-1 is missing",
        "client-1 by root-2 was not requested",
    ]


def test_crls_are_those_of_the_request_in_its_order(folder: Path, request_of_it: Request) -> None:
    crls = parsed_of(folder).response.presigned_crls
    for others in (crls[:-1], crls[::-1], (*crls, crls[-1].model_copy(update={"number": crls[-1].number + 1}))):
        assert faults(folder, request_of_it, presigned_crls=others) == ["its CRLs are not the requested ones"]


def test_number_and_destroyed_roots_are_those_of_the_request(folder: Path, request_of_it: Request) -> None:
    assert faults(folder, request_of_it, number=2) == ["its number is 2, that of the request 1"]
    assert faults(folder, request_of_it, destroyed=("root-1",)) == ["its destroyed roots are not those of the request"]
    destroys = request_of_it.model_copy(update={"destroy": ("root-1",)})
    assert faults(folder, destroys) == ["its destroyed roots are not those of the request"]


def test_a_response_is_signed_after_its_request_but_for_clocks_that_differ(
    folder: Path, request_of_it: Request
) -> None:
    earliest = request_of_it.prepared - CLOCK_TOLERANCE
    assert faults(folder, request_of_it, signed=earliest) == []
    (fault,) = faults(folder, request_of_it, signed=earliest - SECOND)
    assert fault.endswith("before the request was prepared")


# -- signatures and contents -------------------------------------------------------------------------------------------


def test_certificates_that_were_exchanged_for_each_other_are_named(folder: Path, request_of_it: Request) -> None:
    certificates = parsed_of(folder).certificates
    server, client = ("server-1", "root-1"), ("client-1", "root-1")
    swapped = {**certificates, server: certificates[client], client: certificates[server]}
    found = faults(folder, request_of_it, certificates=swapped)
    assert [name for name in ("server-1", "client-1") if any(fault.startswith(f"{name}: ") for fault in found)] == [
        "server-1",
        "client-1",
    ]


def test_a_crl_that_lists_other_entries_or_has_other_dates_is_named(folder: Path, request_of_it: Request) -> None:
    """Each CRL of the series is compared with the request, also the last one."""
    parsed = parsed_of(folder)
    (first, crl), *_, (last, other) = parsed.presigned_crls.items()
    for place, wrong in ((first, other), (last, crl)):
        exchanged = replace(parsed, presigned_crls={**parsed.presigned_crls, place: wrong})
        found = verify_response.faults(exchanged, request_of_it, {})
        assert found
        assert all(fault.startswith(f"CRL {place[1]} of root-1: ") for fault in found)


def test_a_certificate_that_the_root_of_the_response_did_not_sign_is_named(
    folder: Path, request_of_it: Request
) -> None:
    """Signatures are verified with the roots of the response, whatever the file says about its issuer."""
    certificates = parsed_of(folder).certificates
    der = bytearray(certificates["server-1", "root-1"].public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = {**certificates, ("server-1", "root-1"): x509.load_der_x509_certificate(bytes(der))}
    assert faults(folder, request_of_it, certificates=forged) == ["server-1: it is not signed by its issuer"]


def test_a_root_that_is_neither_in_the_response_nor_here_is_named(folder: Path, request_of_it: Request) -> None:
    parsed = parsed_of(folder)
    later = request_of_it.model_copy(update={"roots": ()})
    certificates = {key: one for key, one in parsed.certificates.items() if key != ("root-1", "root-1")}
    without = replace(parsed, certificates=certificates)
    assert verify_response.faults(without, later, {}) == ["root-1: its certificate is not available here"]
    here = {"root-1": parsed.certificates["root-1", "root-1"]}
    assert verify_response.faults(without, later, here) == []
