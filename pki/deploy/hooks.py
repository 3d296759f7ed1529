"""`deliver: {command: …}`: a command on this machine that brings a release to where it is used, such as an appliance's API.

It is started without a shell, once for each leaf certificate, with the environment variables that lego 4 gives to its
hooks (`LEGO_CERT_*`) and certbot to its deploy hooks (`RENEWED_*`).
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.visible import visible_line
from pki.deploy.process import LimitError, Limits, run

# Of the environment of the run, a hook gets these alone: a variable may contain a secret.
INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
OUTPUT = 1000  # characters of the output that a message quotes


@dataclass(frozen=True, slots=True)
class HookCertificate:
    """One leaf of a release: its names, and the content of the files that its call gets, by file name.

    `pfx` is the path of its PKCS#12 file, "" if the release delivers none.
    """

    leaf: str
    names: tuple[str, ...]
    files: Mapping[str, bytes]
    pfx: str = ""

    def variables(self, folder: Path) -> dict[str, str]:
        """Return the variables of lego and certbot; the files are in `folder`. A variable without a file is left out."""
        paths = {
            "LEGO_CERT_PATH": "fullchain.pem",
            "LEGO_CERT_KEY_PATH": "privkey.pem",
            "LEGO_CERT_PEM_PATH": "combined.pem",
            "LEGO_ISSUER_CERT_PATH": "chain.pem",
        }
        return {
            "LEGO_CERT_DOMAIN": self.names[0] if self.names else self.leaf,
            **{name: str(folder / file) for name, file in paths.items() if file in self.files},
            **({"LEGO_CERT_PFX_PATH": self.pfx} if self.pfx else {}),
            "RENEWED_LINEAGE": str(folder),
            "RENEWED_DOMAINS": " ".join(self.names),
            "PKI_LEAF": self.leaf,
        }


@dataclass(frozen=True, slots=True)
class DeployHook:
    """The command of one host; it runs in the folder `home` of the project.

    `release` is the folder with the files of the host. `certificates` returns the leaves of its release. Their files are
    in the folder `work` while the command runs, readable for this account alone. The folder exists from the first call to
    the end of the last one: if it exists before, a run was interrupted, and what the command did is unknown.
    """

    host: str
    command: str
    home: Path
    release: Path
    work: Path
    limits: Limits
    certificates: Callable[[], Iterable[HookCertificate]]

    @property
    def was_interrupted(self) -> bool:
        """Return whether the last run of the command was interrupted, for example by SIGKILL or a power failure."""
        return self.work.is_dir()

    def run(self) -> None:
        """Run the command for each leaf, or once if there is none. Raises PkiError at the first that fails."""
        shutil.rmtree(self.work, ignore_errors=True)  # of an interrupted run
        filesystem.make_folder(self.work, 0o700)
        try:
            self._run_for_each_leaf()
        except PkiError:  # the caller records the failure
            shutil.rmtree(self.work, ignore_errors=True)
            raise
        shutil.rmtree(self.work, ignore_errors=True)

    def _run_for_each_leaf(self) -> None:
        certificates = list(self.certificates())
        for certificate in certificates:
            folder = self.work / certificate.leaf
            try:
                filesystem.write_all(
                    {folder / name: (content, filesystem.SECRET) for name, content in certificate.files.items()}
                )
                self._start(certificate.variables(folder), f" for {certificate.leaf}")
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        if not certificates:
            self._start({}, "")

    def _start(self, variables: Mapping[str, str], about: str) -> None:
        words = tuple(shlex.split(self.command))
        inherited_variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        own_variables = {"PKI_HOST": self.host, "PKI_RELEASE": str(self.release)}
        retry = f"the next run tries again; after a correction: ./run doit deploy:{self.host}"
        try:
            status, output, errors = run(
                words, b"", self.limits, {**inherited_variables, **own_variables, **variables}, self.home
            )
        except LimitError as limit:
            raise PkiError(f'"{self.command}"{about} was stopped: {limit}', retry) from None
        except OSError as error:
            raise PkiError(f'"{self.command}" cannot be started: {error.strerror}', retry) from None
        if status:
            text = visible_line(errors or output, OUTPUT)
            what = f'"{self.command}"{about} failed with exit status {status}'
            raise PkiError(f"{what}: {text}" if text else what, retry)
