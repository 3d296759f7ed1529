"""`deliver: {command: …}`: a hook brings the files of a host to an appliance, and is verified from outside."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from pki.common.errors import InventoryError
from pki.pipeline import delivery_targets
from tests.support.commands import Said, said_by
from tests.support.projects import Home

HOOK = """#!/bin/sh
# Writes down what it got: its environment and the files that it may read.
for word in "$@"; do echo "word: $word" >>calls; done
env >>calls
ls -l "$RENEWED_LINEAGE" >>calls
cat "$LEGO_CERT_PATH" >>served.pem
cat "$RENEWED_LINEAGE/privkey.pem" >>served.key
test ! -e fail || { echo "the API said: no such user" >&2; exit 7; }
"""


@pytest.fixture(autouse=True)
def unreached(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service is reached: tests/integration/test_hooks.py has an appliance."""
    monkeypatch.setattr(delivery_targets, "endpoints", lambda _desired, _host: iter(()))


def with_hook(home: Home, command: str = "hooks/appliance 'one word' $HOME", script: str = HOOK) -> None:
    path = home.write("hooks/appliance", script)
    path.chmod(0o755)
    home.edit("    proxy: caddy\n", f'    proxy: caddy\n    deliver: {{command: "{command}"}}\n')


def calls(home: Home) -> str:
    path = home.path / "calls"
    return path.read_text() if path.exists() else ""


def test_a_hook_gets_the_variables_of_lego_and_certbot_and_no_shell(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "hunter2")
    with_hook(home)
    assert home.doit("deploy:media").failed == {}
    lines = calls(home).splitlines()
    assert lines[:2] == ["word: one word", "word: $HOME"], "no shell expanded the words"
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    lineage = f"{home.path}/build/hosts/.media.hook/media"
    assert values["LEGO_CERT_DOMAIN"] == "jellyfin.lab.internal"
    assert values["RENEWED_DOMAINS"] == "jellyfin.lab.internal"
    assert values["RENEWED_LINEAGE"] == lineage
    assert values["LEGO_CERT_PATH"] == f"{lineage}/fullchain.pem"
    assert values["LEGO_CERT_KEY_PATH"] == f"{lineage}/privkey.pem"
    assert values["LEGO_CERT_PEM_PATH"] == f"{lineage}/combined.pem"
    assert values["LEGO_ISSUER_CERT_PATH"] == f"{lineage}/chain.pem"
    assert "LEGO_CERT_PFX_PATH" not in values
    assert (values["PKI_HOST"], values["PKI_LEAF"]) == ("media", "media")
    assert values["PKI_RELEASE"] == f"{home.path}/build/hosts/media"
    assert "hunter2" not in calls(home)
    assert "PRIVATE KEY" not in calls(home)
    names = {"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem", "combined.pem"}
    listed = [line.split() for line in lines if line.startswith("-")]
    assert {words[-1] for words in listed} == names
    assert {words[0] for words in listed} == {"-rw-------"}
    assert home.read("served.pem") == home.read("build/certs/media/fullchain.pem")
    assert home.read("served.key") == home.read("build/certs/media/key.pem")
    assert not Path(f"{home.path}/build/hosts/.media.hook").exists()
    assert home.doit().made == {}
    assert len(calls(home).splitlines()) == len(lines), "it ran once"


def test_each_leaf_of_a_host_has_its_own_call_and_a_pkcs12_file_is_named(home: Home) -> None:
    with_hook(home)
    path = home.path / "secrets.yaml"
    path.write_text(f"{path.read_text()}p12: k7mp-w3xq-hr4d\n")
    home.write("templates/box.p12", "# deploy-target: /box.p12\n# deploy-hosts: media\n# deploy-artifact: p12:media\n")
    home.write("templates/b.pem", "# deploy-target: /b.pem\n# deploy-hosts: media\n# deploy-artifact: tls:forge-mtls\n")
    assert home.doit("deploy:media").failed == {}
    leaves = [line for line in calls(home).splitlines() if line.startswith("PKI_LEAF=")]
    assert leaves == ["PKI_LEAF=forge-mtls", "PKI_LEAF=media"]
    pfx = [line for line in calls(home).splitlines() if line.startswith("LEGO_CERT_PFX_PATH=")]
    assert pfx == [f"LEGO_CERT_PFX_PATH={home.path}/build/p12/media.p12"]


def test_after_a_failure_the_next_run_tries_again(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with_hook(home)
    (home.path / "fail").touch()
    report = home.doit("deploy:media")
    failure = report.failed["deploy:media"]
    assert failure.startswith("\"hooks/appliance 'one word' $HOME\" for media failed with exit status 7: the API said")
    assert "the next run tries again" in failure
    assert not (home.path / "build/hosts/.media.hook").exists()
    receipt = json.loads(home.read("build/receipts/media.json"))
    assert receipt["transport"] == "folder", "the receipt is that of the last success"
    for command in ("health", "status"):
        said = said_by(capsys, command, pki_home=str(home.path), pki_now=home.moment())
        assert "failed with exit status 7" in said.out, command
    (home.path / "fail").unlink()
    report = home.doit(days=0.1)
    assert "deploy:media" in report.made
    assert report.failed == {}
    receipt = json.loads(home.read("build/receipts/media.json"))
    assert (receipt["transport"], receipt["not_done"]) == ("command", [])
    assert home.doit(days=0.1).made == {}


def test_what_cannot_be_started_or_takes_too_long_is_a_failure(home: Home) -> None:
    with_hook(home, "hooks/missing")
    assert (
        '"hooks/missing" cannot be started: No such file or directory'
        in home.doit("deploy:media").failed["deploy:media"]
    )
    home.edit("hooks/missing", "sleep 60")
    text = home.read("pki.yaml").decode()
    home.write("pki.yaml", f"{text}deploy: {{host_timeout: 1s, progress_timeout: 1s}}\n")
    failure = home.doit("deploy:media").failed["deploy:media"]
    assert '"sleep 60" for media was stopped: ' in failure
    home.edit("sleep 60", "hooks/loud")
    home.write("hooks/loud", "#!/bin/sh\nseq 1 30000; exit 1\n").chmod(0o755)
    failure = home.doit("deploy:media").failed["deploy:media"]
    assert "failed with exit status 1" in failure or "was stopped" in failure
    assert len(failure) < 2000


def test_nothing_is_sent_when_the_release_is_wrong(home: Home) -> None:
    with_hook(home)
    home.write(
        "templates/wrong.pem",
        "# deploy-target: /wrong.pem\n# deploy-hosts: media\n{{ artifact('key:forge-mtls') }}{{ artifact('fullchain:media') }}",
    )
    assert "does not match the certificate beside it" in home.doit("deploy:media").failed["deploy:media"]
    assert calls(home) == ""


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{command: ''}", "expected a command line"),
        ("{comand: x}", "unknown key"),
        ("command", "hosts.media.deliver"),
        ('{command: "a \'b"}', "expected a command line"),
    ],
)
def test_what_is_no_command_is_refused(home: Home, line: str, fault: str) -> None:
    home.edit("    proxy: caddy\n", f"    proxy: caddy\n    deliver: {line}\n")
    with pytest.raises(InventoryError) as refused:
        home.project()
    assert fault in str(refused.value)


def test_commands_for_hosts_say_what_a_hook_cannot_do_and_push_runs_it_again(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    def invoke(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment())

    with_hook(home)
    home.doit("deploy:media")
    before = calls(home).count("PKI_LEAF=media")
    for command in (["deploy.diff", "media"], ["deploy.bootstrap", "media"], ["deploy.rollback", "media", "--yes"]):
        said = invoke(*command)
        assert said.status != 0
        assert "media is deployed by a command" in said.error
        assert "deploy.push media" in said.error
    assert invoke("deploy.push", "media").status == 0
    assert calls(home).count("PKI_LEAF=media") == before + 1
    status = invoke("status")
    assert "by command" in status.out
    os.chmod(home.path / "hooks/appliance", 0o644)
    doctor = invoke("doctor")
    assert "hosts.media.deliver" in doctor.out
    assert "not found" in doctor.out


def test_an_export_for_ansible_names_the_hosts_that_it_leaves_out(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with_hook(home)
    said = said_by(capsys, "deploy.export", "exported", pki_home=str(home.path), pki_now=home.moment())
    assert said.status == 1
    assert "left out: media; doit starts their command itself (deliver: {command: …})" in said.out
    assert not (home.path / "exported").exists()


def killed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of `media` runs again for the same release, and doit is killed meanwhile."""
    (home.path / "kill").touch()
    child = os.fork()
    if child == 0:
        said_by(capsys, "deploy.push", "media", pki_home=str(home.path), pki_now=home.moment())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (home.path / "kill").unlink()
    assert (home.path / "build/hosts/.media.hook/media/privkey.pem").exists()


@pytest.fixture
def with_killer(home: Home) -> Home:
    with_hook(home, script=HOOK + "test ! -e kill || kill -9 $PPID\n")
    assert home.doit().failed == {}
    return home


def test_after_a_kill_the_command_of_the_same_release_runs_again(
    with_killer: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(with_killer, capsys)
    before = len(calls(with_killer))
    assert set(with_killer.doit().made) == {"deploy:media"}
    assert len(calls(with_killer)) > before
    assert not (with_killer.path / "build/hosts/.media.hook").exists()
    assert with_killer.doit().made == {}


def test_keys_that_a_kill_left_go_with_the_host(with_killer: Home, capsys: pytest.CaptureFixture[str]) -> None:
    killed(with_killer, capsys)
    text = with_killer.read("pki.yaml").decode()
    start, end = text.index("  media:\n"), text.index("clients:")
    with_killer.write("pki.yaml", text[:start] + "\n" + text[end:])
    with_killer.doit()
    assert not (with_killer.path / "build/hosts/.media.hook").exists()
