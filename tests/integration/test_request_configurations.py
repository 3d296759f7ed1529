"""Request configurations, read as the real `openssl req -new -config FILE` reads them in the file's folder."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from pki.common.errors import PkiError
from pki.common.file_headers import included_files
from pki.config import openssl_cnf, openssl_cnf_syntax
from tests.support.opensslfiles import BOX, BY_HAND, FURTHER, INCLUDED, random_file
from tests.support.opensslrequests import can_be_had, difference, made_by_openssl

SAMPLES = int(os.environ.get("PKI_SAMPLES", "200"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files to take in, and a key, so that OpenSSL makes none for each request."""
    path = tmp_path_factory.mktemp("requests")
    (path / "sub").mkdir()
    for name, text in INCLUDED.items():
        (path / name).write_bytes(text.encode())
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path / "key.pem")]
    subprocess.run(command, check=True)
    return path


def compared(folder: Path, text: str, *, is_strict: bool = False) -> str:
    """What differs; empty where a file is read the same, or refused here; strictly, also where nobody can have it."""
    file = folder / "box.cnf"
    file.write_bytes(text.encode())
    made = made_by_openssl(file, folder / "key.pem")
    try:
        found = openssl_cnf.read_request(
            openssl_cnf_syntax.parse(text, file.name, partial(included_files, folder, file.name)), file.name, folder
        )
    except PkiError as fault:
        return f"refused: {fault}" if is_strict and can_be_had(made) else ""
    return difference(found.request, made)


@pytest.mark.parametrize("kind", BY_HAND)
def test_what_manuals_permit_is_read_as_openssl_reads_it(folder: Path, kind: str) -> None:
    assert len(BY_HAND[kind]) >= 10
    differences = {text: what for text in BY_HAND[kind] if (what := compared(folder, text))}
    assert differences == {}


@pytest.mark.parametrize("kind", FURTHER)
def test_what_openssl_makes_and_a_certificate_can_have_is_not_refused(folder: Path, kind: str) -> None:
    assert len(FURTHER[kind]) >= 10
    differences = {text: what for text in FURTHER[kind] if (what := compared(folder, text, is_strict=True))}
    assert differences == {}


def test_random_files_are_read_as_openssl_reads_them(folder: Path) -> None:
    for seed in range(SAMPLES):
        text = random_file(seed)
        what = compared(folder, text)
        assert not what, f"seed {seed}: {what}\n{text}"


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_the_size_of_the_key_is_that_of_the_request(folder: Path, bits: int) -> None:
    text = BOX.replace("prompt = no", f"prompt = no\ndefault_bits = {bits}")
    (folder / "box.cnf").write_text(text)
    made = made_by_openssl(folder / "box.cnf")
    found = openssl_cnf.read_request(openssl_cnf_syntax.parse(text, "box.cnf", lambda _: []), "box.cnf").request
    assert made is not None
    assert found is not None
    assert found.key == f"rsa-{made.bits}"
