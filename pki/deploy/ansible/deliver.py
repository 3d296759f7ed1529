"""The action doit.pki.deliver: it runs within Ansible on the controller, and speaks with pki-apply on the host.

The host needs only pki-apply: no Python, no temporary files, no key other than the one that may start it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.doit.pki.plugins.plugin_utils import host_output, tls_client, verification

MOST_TEXTS = 200  # answers that are kept, besides one for each file
LEAST = 30.0  # seconds that a host has for a rollback, however long it took before


class ActionModule(ActionBase):
    """Inspect, change and verify one host, or roll it back."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Deliver the release of the task's arguments; with check mode, report only whether the host differs."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        result |= {"release": arguments["release"], "answers": [], "verifications": None, "changed": False}
        stream = self._read(arguments["stream"])
        manifest = stream[: stream.index(b"\n", stream.index(b"\nend ") + 1) + 1]
        self._left, self._most = float(arguments["limits"]["whole"]), host_output.max_answers(manifest.count(b"\n") - 2)
        # ask first: an unchanged host, and one with unknown CRLs, must not get secrets
        if arguments["deployed_before"] or arguments["crls"] or self._task.check_mode:
            answers = self._exchange(manifest + b"end\n", result, check_only=True)
            states = [answer for answer in answers if "is" in answer]
            unknown = [answer["path"] for answer in states if answer["sha256"] and self._is_unknown(answer)]
            if unknown and "failed" not in result:
                msg = f"{', '.join(unknown)}: may revoke more than ours; where this project was exported: ./run invoke ledger.recover HOST"
                return {**result, "failed": True, "unknown": unknown, "msg": msg}
            is_same = not any(host_output.FileStatus(answer["is"]).is_to_be_placed for answer in states)
            if self._task.check_mode or "failed" in result:
                return {**result, "changed": not is_same}
            if is_same and arguments["deployed_before"] and not any(host_output.STUCK in answer for answer in answers):
                return self._check_services(result)
        return self._deliver(stream, manifest, result)

    def _is_unknown(self, answer: dict[str, Any]) -> bool:
        """Return whether an installed CRL may not be replaced by ours: revocation never goes back."""
        replaceable_digests = self._task.args["crls"].get(answer["path"])
        return replaceable_digests is not None and answer["sha256"] not in replaceable_digests

    def _check_services(self, result: dict[str, Any]) -> dict[str, Any]:
        """Verify the services of a host that holds its release already."""
        endpoints, expectations, prober = self._services()
        if not endpoints:
            return result
        verifications = verification.verify_services(endpoints, expectations, None, prober)
        result["verifications"] = verification.as_json(verifications)
        if failure := verification.failure_text(verifications):
            result |= {"failed": True, "msg": failure, "wrong": failure, "after": self._task.args["remedy"]}
        return result

    def _services(self) -> tuple[list[tls_client.Endpoint], dict[str, verification.Expectation], tls_client.Prober]:
        """Return the endpoints, expectations and clients of the verification."""
        services = self._task.args["services"]
        endpoints = [tls_client.Endpoint(**item["endpoint"]) for item in services]
        expectations = {
            item["endpoint"]["name"]: verification.Expectation(**item["expectation"])
            for item in services
            if item["expectation"]
        }
        roots, *identities = (Path(self._real(self._task.args[name])) for name in ("roots", "probe", "canary"))
        return (
            endpoints,
            expectations,
            tls_client.Prober(roots, *(item if item.stat().st_size else None for item in identities)),
        )

    def _deliver(self, stream: bytes, manifest: bytes, result: dict[str, Any]) -> dict[str, Any]:
        endpoints, expectations, prober = self._services()
        before = verification.check_before(endpoints, prober)
        states = [answer.get("state") for answer in self._exchange(stream, result)]
        result["changed"] = host_output.ChangeState.KEPT in states
        if "failed" in result:
            return result
        verifications = verification.verify_services(endpoints, expectations, before, prober)
        result["verifications"] = verification.as_json(verifications)
        if failure := verification.failure_text(verifications):
            after = self._task.args["remedy"]
            if host_output.ChangeState.PLACED in states:
                after = self._roll_back(manifest)
            result |= {"failed": True, "msg": f"{failure}; {after}", "wrong": failure, "after": after}
        return result

    def _roll_back(self, manifest: bytes) -> str:
        """Undo by a second contact what the first one kept, except CRLs. Returns how that went."""
        result: dict[str, Any] = {"answers": []}
        self._left = max(self._left, LEAST)
        try:
            states = [answer.get("state") for answer in self._exchange(manifest + b"back\nend\n", result)]
        except AnsibleConnectionFailure as error:
            return f"the previous files could not be restored: {error}"
        if host_output.ChangeState.UNDONE in states:
            return "rolled back"
        return f"the previous files could not be restored: {result.get('msg')}"

    def _exchange(self, stream: bytes, result: dict[str, Any], *, check_only: bool = False) -> list[dict[str, Any]]:
        """Send one stream to pki-apply; return its answers, and put failures into the result."""
        output = self._contact(stream)
        lines = output["stdout"].removesuffix("\n").split("\n") if output["stdout"] else []
        parsed = [host_output.read(line) for line in lines]
        answers: list[dict[str, Any]] = host_output.current_answers(answer for answer in parsed if answer)
        result["answers"] = _shortened(answers)
        result["greeted"] = any("pki-apply" in answer for answer in answers)
        error = next((answer["error"] for answer in answers if "error" in answer), "")
        complaint = output["stderr"].strip()[-host_output.WORDS :]
        if None in parsed:
            line = lines[parsed.index(None)][: host_output.WORDS]
            result |= {"failed": True, "nonsense": line, "msg": f"invalid answer, not from pki-apply: {line}"}
        elif not check_only and (refusal := host_output.refusal(answers)):
            result |= {"failed": True, "msg": f"{refusal.why}: {refusal.output}"}
        elif output["rc"] or error or not result["greeted"]:
            result |= {"failed": True, "msg": error or complaint or f"pki-apply ended with {output['rc']}"}
            result |= {"rc": output["rc"], "complaint": complaint}
        return answers

    def _contact(self, stream: bytes) -> dict[str, Any]:
        """Run pki-apply once with a stream as its input, within the time that the host has left."""
        limits, started = self._task.args["limits"], time.monotonic()
        numbers = (limits["progress"], max(self._left, 0.0), host_output.LINE, self._most)
        os.environ["DOIT_PKI_LIMITS"] = " ".join(str(number) for number in numbers)
        output: dict[str, Any] = self._low_level_execute_command(
            self._task.args["program"], sudoable=False, in_data=stream
        )
        self._left -= time.monotonic() - started
        return output

    def _read(self, name: str) -> bytes:
        return Path(self._real(name)).read_bytes()

    def _real(self, name: str) -> str:
        """A file of this project, decrypted where ansible-vault encrypted it."""
        path: str = self._loader.get_real_file(self._loader.path_dwim(name))
        return path


def _shortened(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the answers for the events: those about files, and a limited number of others."""
    other_answers = [answer for answer in answers if "is" not in answer]
    return (
        [answer for answer in answers if "is" in answer]
        + other_answers[: MOST_TEXTS // 2]
        + other_answers[MOST_TEXTS // 2 :][-MOST_TEXTS // 2 :]
    )
