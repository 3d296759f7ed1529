"""The paths of what doit creates, in `build/`; the keys of clients are in `ca/`."""

from __future__ import annotations

from pathlib import Path

from pki.config.model import Leaf

HOOK_SUFFIX = ".hook"


class BuildFiles:
    """The files that doit creates: one run creates those in `build/` again."""

    ca: Path
    build: Path

    def leaf_file(self, leaf: Leaf, name: str) -> str:
        """Return the path of one of a leaf's files, as text because a run computes it for ten thousand leaves.

        Keys of clients are in `ca/`: a key that is installed on a device cannot be replaced by a new one. A host
        called client-x is not a client.
        """
        if client := leaf.client:
            return f"{self.ca}/clients/{client}/{name}"
        return f"{self.build}/certs/{leaf.name}/{name}"

    def bundle(self, leaf: Leaf) -> Path:
        """Return the file from which a leaf's other files are split.

        It is tls.pem, or fullchain.pem where the private key is not here.
        """
        return Path(self.leaf_file(leaf, "fullchain.pem" if leaf.request else "tls.pem"))

    def crl(self, generation: str, form: str = "crl") -> Path:
        """Return the path of a CRL; `form` is `crl` (DER) or `pem`."""
        return self.build / "crl" / f"{generation}.{form}"

    def client_crl_bundle(self) -> Path:
        """Return the path of the file with the CRLs of every live client chain."""
        return self.build / "crl" / "bundle-client.pem"

    def ca_der(self, generation: str) -> Path:
        """Return the path of the published certificate (DER) of a generation."""
        return self.trust(f"{generation}.crt")

    def trust(self, name: str) -> Path:
        """Return the path of a file that clients and servers need in order to trust the project."""
        return self.build / "trust" / name

    def external_chain(self, authority: str) -> Path:
        """Return the path of what the server of an external authority installs: its certificate, up to the root."""
        return self.trust(f"{authority}-chain.pem")

    def external_trust(self, authority: str) -> Path:
        """Return the path of what verifies the certificates of an external authority: it, and the roots."""
        return self.trust(f"{authority}-trust.pem")

    def release(self, host: str) -> Path:
        """Return the folder of a host's release."""
        return self.build / "release" / host

    def receipt(self, host: str) -> Path:
        """Return the path of a host's receipt, the record of its last deployment."""
        return self.build / "receipts" / f"{host}.json"

    def history(self, host: str) -> Path:
        """Return the folder with the last releases of a host and the log of its deployments."""
        return self.build / "history" / host

    def contact(self, host: str) -> Path:
        """Return the path of the record of the last contact with a host."""
        return self.build / "contacts" / f"{host}.json"

    def host_root(self, host: str) -> Path:
        """Return the root directory of a host whose release is written into a folder."""
        return self.build / "hosts" / host

    def report(self, name: str) -> Path:
        """Return the path of a report of the last run, for people and monitoring programs."""
        return self.build / "report" / name

    def ansible(self) -> Path:
        """Return the folder of the files that Ansible reads and writes."""
        return self.build / "ansible"


def pkcs12_path(files: BuildFiles, kind: str, leaf: str) -> Path:
    """Return the PKCS#12 file of a leaf; `kind` is `p12` or `p12-legacy`."""
    return files.build / kind / f"{leaf}.p12"


def hook_folder(files: BuildFiles, host: str) -> Path:
    """Return the folder with the keys that the command of a host reads while it runs (`deliver: {command: …}`)."""
    return files.host_root(f".{host}{HOOK_SUFFIX}")
