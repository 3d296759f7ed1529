"""The action doit.pki.deliver: it runs within Ansible, on the controller, and speaks with pki-apply on the host.

The host needs nothing but pki-apply: no Python, no temporary file, no other key than the one that may start it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.doit.pki.plugins.plugin_utils import host_output, tls_client, verification

MOST_TEXTS = 200  # answers that are kept besides one for each file
LEAST = 30.0  # seconds in which a host may put back what cannot be verified, however long it took before


class ActionModule(ActionBase):
    """One host: looked at, changed, verified from here, or put back."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        result |= {"release": given["release"], "answers": [], "verifications": None, "changed": False}
        words = self._read(given["stream"])
        manifest = words[: words.index(b"\n", words.index(b"\nend ") + 1) + 1]
        self._left, self._most = float(given["limits"]["whole"]), host_output.max_answers(manifest.count(b"\n") - 2)
        if given["known"] or given["crls"] or self._task.check_mode:  # then nothing secret leaves before it is needed
            said = self._speak(manifest + b"end\n", result, check_only=True)
            looked = [answer for answer in said if "is" in answer]
            unknown = [one["path"] for one in looked if one["sha256"] and self._is_unknown(one)]
            if unknown and "failed" not in result:
                msg = f"{', '.join(unknown)}: may revoke more than ours; pki: ledger.recover, where this was prepared"
                return {**result, "failed": True, "unknown": unknown, "msg": msg}
            is_same = all(answer["is"] in {"same", "held"} for answer in looked)
            if self._task.check_mode or "failed" in result:
                return {**result, "changed": not is_same}
            if is_same and given["known"] and not any(host_output.STUCK in answer for answer in said):
                return self._look_at_services(result)
        return self._deliver(words, manifest, result)

    def _is_unknown(self, answer: dict[str, Any]) -> bool:
        """Whether a CRL in place is none that our own may replace: revocation never goes back."""
        may_go = self._task.args["crls"].get(answer["path"])
        return may_go is not None and answer["sha256"] not in may_go

    def _look_at_services(self, result: dict[str, Any]) -> dict[str, Any]:
        """Look whether a host that holds its release already serves what it holds."""
        ends, expectations, prober = self._services()
        if not ends:
            return result
        verifications = verification.verify_services(ends, expectations, None, prober)
        result["verifications"] = verification.as_json(verifications)
        if wrong := verification.failure_text(verifications):
            result |= {"failed": True, "msg": wrong, "wrong": wrong, "after": self._task.args["remedy"]}
        return result

    def _services(self) -> tuple[list[tls_client.Endpoint], dict[str, verification.Expectation], tls_client.Prober]:
        services = self._task.args["services"]
        ends = [tls_client.Endpoint(**one["endpoint"]) for one in services]
        expectations = {
            one["endpoint"]["name"]: verification.Expectation(**one["expectation"])
            for one in services
            if one["expectation"]
        }
        roots, *identities = (Path(self._real(self._task.args[name])) for name in ("roots", "probe", "canary"))
        return (
            ends,
            expectations,
            tls_client.Prober(roots, *(one if one.stat().st_size else None for one in identities)),
        )

    def _deliver(self, words: bytes, manifest: bytes, result: dict[str, Any]) -> dict[str, Any]:
        ends, expectations, prober = self._services()
        before = verification.check_before(ends, prober)
        states = [answer.get("state") for answer in self._speak(words, result)]
        result["changed"] = "kept" in states
        if "failed" in result:
            return result
        verifications = verification.verify_services(ends, expectations, before, prober)
        result["verifications"] = verification.as_json(verifications)
        if wrong := verification.failure_text(verifications):
            after = self._task.args["remedy"]
            if "placed" in states:
                after = self._put_back(manifest)
            result |= {"failed": True, "msg": f"{wrong}; {after}", "wrong": wrong, "after": after}
        return result

    def _put_back(self, manifest: bytes) -> str:
        """A second contact undoes what the first one kept; CRLs stay. Returns how that went."""
        said: dict[str, Any] = {"answers": []}
        self._left = max(self._left, LEAST)
        try:
            states = [answer.get("state") for answer in self._speak(manifest + b"back\nend\n", said)]
        except AnsibleConnectionFailure as error:
            return f"the previous files could not be restored: {error}"
        if "undone" in states:
            return "rolled back"
        return f"the previous files could not be restored: {said.get('msg')}"

    def _speak(self, words: bytes, result: dict[str, Any], *, check_only: bool = False) -> list[dict[str, Any]]:
        """One contact: what pki-apply answered, and into the result what went wrong."""
        done = self._contact(words)
        lines = done["stdout"].removesuffix("\n").split("\n") if done["stdout"] else []
        found = [host_output.read(line) for line in lines]
        said: list[dict[str, Any]] = host_output.current_answers(answer for answer in found if answer)
        result["answers"] = _kept(said)
        result["greeted"] = any("pki-apply" in answer for answer in said)
        error = next((answer["error"] for answer in said if "error" in answer), "")
        complaint = done["stderr"].strip()[-host_output.WORDS :]
        if None in found:
            strange = lines[found.index(None)][: host_output.WORDS]
            result |= {"failed": True, "nonsense": strange, "msg": f"invalid answer, not from pki-apply: {strange}"}
        elif not check_only and (refusal := host_output.refusal(said)):
            result |= {"failed": True, "msg": f"{refusal.why}: {refusal.said}"}
        elif done["rc"] or error or not result["greeted"]:
            result |= {"failed": True, "msg": error or complaint or f"pki-apply ended with {done['rc']}"}
            result |= {"rc": done["rc"], "complaint": complaint}
        return said

    def _contact(self, words: bytes) -> dict[str, Any]:
        """Speak once, within what is left of the host's time: bounded_ssh.py, which Ansible starts, sees to that."""
        limits, started = self._task.args["limits"], time.monotonic()
        numbers = (limits["progress"], max(self._left, 0.0), host_output.LINE, self._most)
        os.environ["DOIT_PKI_LIMITS"] = " ".join(str(one) for one in numbers)
        done: dict[str, Any] = self._low_level_execute_command(
            self._task.args["program"], sudoable=False, in_data=words
        )
        self._left -= time.monotonic() - started
        return done

    def _read(self, name: str) -> bytes:
        return Path(self._real(name)).read_bytes()

    def _real(self, name: str) -> str:
        """A file of this project, decrypted where ansible-vault encrypted it."""
        path: str = self._loader.get_real_file(self._loader.path_dwim(name))
        return path


def _kept(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What goes into the events: what is there of each file, and as much of the rest as an honest host says."""
    others = [answer for answer in said if "is" not in answer]
    return (
        [answer for answer in said if "is" in answer]
        + others[: MOST_TEXTS // 2]
        + others[MOST_TEXTS // 2 :][-MOST_TEXTS // 2 :]
    )
