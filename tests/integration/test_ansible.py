"""A fleet that Ansible delivers to: real ansible-core and ansible-runner, real sshd and nginx on every host."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.demo.lab import Lab
from tests.integration.ansible_runner import runner
from tests.integration.fleet import FAILED, TOLD, UNITS, Fleet
from tests.support.leavings import is_idle
from tests.support.projects import PROJECT

__all__ = ["runner"]

HOSTS = ("a1", "a2", "b1", "c1", "d1", "e1")  # a1 and a2 are of one group
PAIR = ("a1", "a2")
INVENTORY = """\
organisation: Example Fleet
domains: [lab.internal]
permit_addresses: [192.0.2.0/24]
publish: {{url: "http://pki.lab.internal", host: b1}}
sandbox: true
networks: {{lan: 192.0.2.0/24}}
deploy:
  ssh_config: ssh_config
  engine: ansible
  ansible: {{serial: 2, max_fail_percentage: 50, command: {command}}}
clients:
  admin: {{email: admin@lab.internal}}
hosts:
"""
HOST = """\
  {name}:
    network: lan
    address: {address}
    deliver: ssh
    proxy: nginx
{more}    services:
      {name}-admin: {{upstream: "http://127.0.0.1:3000", access: mtls}}
      {name}-open: {{upstream: "http://127.0.0.1:3000", access: tls}}
"""
WATCHED = """\
# deploy-target: /etc/doit-pki/watched.conf
# deploy-hosts: all
# deploy-validate: /usr/local/sbin/watched
generation 1
"""
SLOWLY = """\
#!/bin/sh
name=$(hostname)
printf 'start %s\\n' "$name" >>{log}
sleep 0.5
if grep -q company /etc/doit-pki/watched.conf; then # of whoever else of the batch may begin late
    mine=$(grep -n "start $name" {log} | tail -n 1 | cut -d: -f1) tries=40
    until [ "$(wc -l <{log})" -gt "$mine" ] || [ "$((tries -= 1))" -eq 0 ]; do sleep 0.1; done
fi
printf 'end %s\\n' "$name" >>{log}
! grep -q "broken $name" /etc/doit-pki/watched.conf || {{ echo "$name does not like it" >&2; exit 7; }}
"""


@contextmanager
def many(home: Path, runner: Path) -> Iterator[Fleet]:
    """Every host up and bootstrapped, nothing delivered yet; the first one through an account that is not root."""
    shutil.copytree(PROJECT / "templates", home / "templates")
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    (home / "templates/watched.conf").write_text(WATCHED)
    (home / "log").touch()
    said, known = INVENTORY.format(command=runner), ""
    with Lab() as lab:
        ca = lab.machine("ca")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        hosts = {}
        for number, name in enumerate(HOSTS):
            address = f"192.0.2.{11 + number}"
            host = lab.machine(name, address=address, names=(f"{name}-admin.lab.internal", f"{name}-open.lab.internal"))
            hosts[name] = host
            more = "    group: pair\n" if name in PAIR else "    ssh: {user: pki-deploy}\n" if name == "c1" else ""
            said += HOST.format(name=name, address=address, more=more)
            host.write("/usr/local/sbin/watched", SLOWLY.format(log=home / "log"), 0o755)
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            host.start("python3", "-m", "http.server", "--directory", "/usr/share/common-licenses", "3000")
            host.serve("ssh", "nginx")
            known += f"{address} {host.host_key()}\n"
        (home / "known_hosts").write_text(known)
        (home / "pki.yaml").write_text(said)
        made = Fleet(lab, home, ca, hosts)
        for name in hosts:
            made.program("invoke", "deploy.bootstrap", name, "--login", "root")
        ca.run("rm", "/root/.ssh/id_ed25519")
        yield made


@dataclass(frozen=True)
class Told:
    """The fleet after its first delivery, and what doit said of that."""

    fleet: Fleet
    said: str


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, runner: Path) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as patch, many(tmp_path_factory.mktemp("ansible") / "home", runner) as made:
        for name in HOSTS:
            patch.setitem(UNITS, name, "nginx")
        yield Told(made, made.program("doit"))


@pytest.fixture
def six(first: Told) -> Fleet:
    """Six hosts, delivered to; every test leaves them well."""
    (first.fleet.home / "log").write_text("")
    return first.fleet


# -- what is looked at ------------------------------------------------------------------------------------------------


def log(six: Fleet) -> list[tuple[str, str]]:
    """The changes, in the order in which they began and ended, on whichever host."""
    return [(line.split()[0], line.split()[1]) for line in (six.home / "log").read_text().splitlines()]


def at_once(lines: list[tuple[str, str]]) -> list[frozenset[str]]:
    """The hosts that were changing, each time another one began."""
    busy: set[str] = set()
    found = []
    for what, host in lines:
        if what == "start":
            busy.add(host)
            found.append(frozenset(busy))
        else:
            busy.remove(host)
    return found


def change(six: Fleet, body: str) -> None:
    """Another content for a file that every host gets, and that takes a second to be found valid."""
    head = WATCHED.rpartition("generation")[0]
    (six.home / "templates/watched.conf").write_text(f"{head}{body}\n")


def runs(six: Fleet) -> list[Path]:
    return sorted((six.home / "build/ansible/runs").iterdir())


def everything_serves(six: Fleet, *hosts: str) -> None:
    for host in hosts or HOSTS:
        assert six.served(host) == six.issued(host)
        assert six.curl(f"https://{host}-open.lab.internal/") == "200"
        assert six.as_client(host) == "200"


def lines_of(said: str, verb: str) -> set[str]:
    return {line.removeprefix(verb).split()[0] for line in said.splitlines() if line.startswith(f"{verb} ")}


def deploys(*hosts: str) -> set[str]:
    return {f"deploy:{host}" for host in hosts}


@pytest.fixture(scope="module", autouse=True)
def no_private_key_is_left(first: Told) -> Iterator[None]:
    """Neither in the project nor in anything that Ansible said, on the wire to the log or into its events."""
    yield
    keys = [path.read_bytes().split(b"\n")[1] for path in (first.fleet.home / "build/certs").glob("*/key.pem")]
    assert len(keys) > len(HOSTS)
    kept = [path for path in (first.fleet.home / "build/ansible").rglob("*") if path.is_file()]
    assert len(kept) > 30
    for path in kept:
        content = path.read_bytes()
        assert b"PRIVATE KEY" not in content, path
        assert not any(key in content for key in keys), path


# -- what goes well ---------------------------------------------------------------------------------------------------


def test_a_first_delivery_is_one_contact_that_is_told_and_proven_host_by_host(first: Told) -> None:
    assert deploys(*HOSTS) <= lines_of(first.said, "deployed")
    assert len(runs(first.fleet)) == 1
    everything_serves(first.fleet)
    for host in HOSTS:
        receipt = first.fleet.receipt(host)
        assert receipt["transport"] == "ansible"
        assert receipt["verification"] == {key: ["verified", "verified"] for key in (f"{host}-admin", f"{host}-open")}
        assert "verified" in first.fleet.program("invoke", "deploy.history", host)


def test_a_second_run_has_nothing_to_do_and_a_look_touches_nothing(six: Fleet) -> None:
    assert is_idle(six.program("doit"))
    assert "tasks up to date" in six.program("invoke", "plan")
    before = {host: (six.reloads(host), six.hosts[host].run("ls", "-lic", "/etc/doit-pki").stdout) for host in HOSTS}
    receipts = {host: six.receipt(host) for host in HOSTS}
    shutil.rmtree(six.home / "build/contacts")
    assert set(lines_of(six.program("invoke", "plan", status=TOLD), "to do")) == deploys(*HOSTS)
    assert not lines_of(six.program("doit"), "deployed")
    assert {h: (six.reloads(h), six.hosts[h].run("ls", "-lic", "/etc/doit-pki").stdout) for h in HOSTS} == before
    assert {host: six.receipt(host) for host in HOSTS} == receipts
    assert is_idle(six.program("doit"))


def test_what_drifted_is_mended_and_nobody_else_is_touched(six: Fleet) -> None:
    six.hosts["b1"].run("sh", "-c", "echo other >/etc/doit-pki/watched.conf")
    shutil.rmtree(six.home / "build/contacts")
    assert "/etc/doit-pki/watched.conf differed" in six.program("doit")
    assert at_once(log(six)) == [frozenset({"b1"})]


def test_batches_and_groups_are_honoured(six: Fleet) -> None:
    """Never more than two at once, and never two of one group; but two, where nothing speaks against it."""
    change(six, "generation 2, which waits for company")
    six.program("doit")
    busy = at_once(log(six))
    assert len(busy) == len(HOSTS)
    assert max(map(len, busy)) == 2
    assert not [some for some in busy if set(PAIR) <= some]


def test_a_parallel_run_delivers_to_each_host_once(six: Fleet) -> None:
    change(six, "generation 3")
    said = six.program("doit", "-n", "6")
    assert deploys(*HOSTS) <= lines_of(said, "deployed")
    assert sorted(host for what, host in log(six) if what == "start") == sorted(HOSTS)
    assert not [some for some in at_once(log(six)) if set(PAIR) <= some]


def test_only_what_was_asked_for_is_delivered(six: Fleet) -> None:
    change(six, "generation 4")
    assert lines_of(six.program("doit", "deploy:c1"), "deployed") >= deploys("c1")
    assert at_once(log(six)) == [frozenset({"c1"})]
    assert "unchanged" in six.program("invoke", "deploy.push", "c1")
    six.program("doit")


def test_a_restored_old_ledger_lets_no_revoked_client_in(six: Fleet) -> None:
    """The look tells of a CRL that nobody here knows: it stays, and what it revokes is found by our own ssh."""
    shutil.copytree(six.home / "ca", six.home / "before")
    old = six.home / "lost.pem"
    old.write_bytes((six.home / "ca/clients/admin/tls.pem").read_bytes())
    six.program("invoke", "revoke", "admin", "--reason", "key-compromise", "--yes")
    for lost in ("ca", "build"):
        shutil.rmtree(six.home / lost)
    (six.home / "before").rename(six.home / "ca")
    said = six.program("doit", status=FAILED)
    assert (
        "has newer CRLs than this project (was it restored from a backup?): /etc/doit-pki/client-crl.pem is an unknown CRL"
        in said
    )
    assert "run invoke ledger.recover" in said
    assert not lines_of(said, "deployed") & deploys(*HOSTS)
    assert six.curl("https://d1-admin.lab.internal/", "--cert", str(old)) == "400"
    assert "1 revocation recovered" in six.program("invoke", "ledger.recover", "--all")
    six.program("doit")
    assert six.curl("https://d1-admin.lab.internal/", "--cert", str(old)) == "400"
    everything_serves(six)
    assert is_idle(six.program("doit"))


def test_a_renewed_certificate_is_served_and_a_revoked_client_refused(six: Fleet) -> None:
    before = six.served("c1")
    six.program("invoke", "renew", "c1")
    assert six.served("c1") == six.issued("c1") != before
    old = six.home / "old.pem"
    old.write_bytes((six.home / "ca/clients/admin/tls.pem").read_bytes())
    six.program("invoke", "revoke", "admin", "--reason", "key-compromise", "--yes")
    for host in HOSTS:
        assert six.curl(f"https://{host}-admin.lab.internal/", "--cert", str(old)) in {"400", "403", "curl 56"}
        assert six.as_client(host) == "200"


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_host_that_is_down_fails_alone_and_stops_nobody(six: Fleet) -> None:
    six.lab.unplug(six.hosts["a1"])
    change(six, "generation 5")
    said = six.program("doit", status=FAILED)
    assert lines_of(said, "failed") == deploys("a1")
    assert "unreachable; its certificate expires in 20 days (ssh: connect to host 192.0.2.11 port 22: " in said
    assert deploys("a2", "b1", "c1", "d1", "e1") <= lines_of(said, "deployed")
    assert "failing since" in six.program("invoke", "status")
    six.lab.plug(six.hosts["a1"])
    assert lines_of(six.program("doit"), "deployed") == deploys("a1")
    everything_serves(six)


def test_a_broken_file_is_put_back_and_told_with_the_hosts_words(six: Fleet) -> None:
    change(six, "generation 6{{ ' broken d1' if host.name == 'd1' else '' }}")
    was = six.hosts["d1"].read("/etc/doit-pki/watched.conf")
    said = six.program("doit", status=FAILED)
    assert lines_of(said, "failed") == deploys("d1")
    assert '/usr/local/sbin/watched" failed with exit status 7; rolled back' in said
    assert "d1 does not like it" in said
    assert six.hosts["d1"].read("/etc/doit-pki/watched.conf") == was
    assert "rolled back" in six.program("invoke", "deploy.history", "d1")
    everything_serves(six)
    change(six, "generation 6")
    six.program("doit")


def test_what_cannot_be_proven_is_put_back_by_a_second_contact(six: Fleet) -> None:
    nginx = "templates/nginx/pki-services.conf"
    good = (six.home / nginx).read_text()
    six.edit(nginx, "listen {{ host.port }} ssl", "listen {{ 8443 if host.name == 'e1' else host.port }} ssl")
    said = six.program("doit", status=FAILED)
    assert lines_of(said, "failed") == deploys("e1")
    assert "e1-open does not answer" in said
    assert "rolled back" in said
    everything_serves(six)
    (six.home / nginx).write_text(good)
    six.program("doit")


def test_too_many_failures_stop_the_run_before_the_rest_and_the_next_one_begins_with_the_rest(six: Fleet) -> None:
    """Both hosts of the first batch fail; those that failed come last the next time."""
    change(six, "generation 7 broken a1 broken b1")
    six.edit(
        "templates/watched.conf", "broken a1 broken b1", "{{ 'broken ' ~ host.name if host.name in 'a1b1' else '' }}"
    )
    said = six.program("doit", status=FAILED)
    assert lines_of(said, "failed") == deploys(*HOSTS)
    assert said.count("not reached: too many hosts failed before it") == 4
    assert {host for _, host in log(six)} == {"a1", "b1"}
    assert "failing since" not in six.program("invoke", "deploy.history", "e1")
    said = six.program("doit", status=FAILED)
    assert lines_of(said, "deployed") == deploys("a2", "c1", "d1", "e1")
    change(six, "generation 8")
    assert deploys(*HOSTS) <= lines_of(six.program("doit"), "deployed")


def test_without_ansible_every_host_says_what_to_type(six: Fleet, runner: Path) -> None:
    change(six, "generation 9")
    six.edit("pki.yaml", str(runner), "ansible-runner")
    said = six.program("doit", status=FAILED)
    assert said.count("ansible-runner: not found") == len(HOSTS)
    assert "run pip install --require-hashes -r requirements-ansible.lock" in said
    assert not log(six)
    six.edit("pki.yaml", "command: ansible-runner", f"command: {runner}")
    six.program("doit")


def test_what_breaks_ansible_itself_is_told(six: Fleet, runner: Path) -> None:
    change(six, "generation 10")
    six.edit("pki.yaml", str(runner), "/usr/bin/false")
    said = six.program("doit", status=FAILED)
    assert said.count("Ansible stopped: exit status 1") == len(HOSTS)
    six.edit("pki.yaml", "/usr/bin/false", str(runner))
    six.program("doit")


# -- elsewhere --------------------------------------------------------------------------------------------------------


def elsewhere(six: Fleet, runner: Path, there: Path, options: str) -> None:
    """As AWX does it: ansible-runner with the project, the inventory in it, and a key of its own."""
    line = f"--private-key {six.home}/ca/deploy/id_ed25519 --ssh-extra-args='-F {six.home}/ssh_config' {options}"
    six.ca.run(
        *(runner, "run", there / "private", "--project-dir", there, "--inventory", there / "inventory.yaml"),
        *("--ident", "there", "--playbook", "playbook.yaml", "--cmdline", line),
        env={"PATH": f"{runner.parent}:/usr/bin:/bin"},
        check=False,
        timeout=600,
    )


@pytest.mark.parametrize("vault", [False, True])
def test_an_exported_project_runs_elsewhere_and_its_receipts_come_back(six: Fleet, runner: Path, vault: bool) -> None:
    change(six, f"generation {11 + vault}{{{{ ' broken d1' if host.name == 'd1' else '' }}}}")
    six.program("doit", *(f"release:{host}" for host in HOSTS))
    there, passphrase = six.home / f"there-{vault}", six.home / "passphrase"
    passphrase.write_text("for the test\n")
    said = six.program(
        "invoke", "deploy.export", str(there), *(["--ansible-vault-password-file", str(passphrase)] if vault else [])
    )
    assert "6 hosts in" in said
    assert ("it contains private keys" in said) != vault
    assert {path.stat().st_mode & 0o777 for path in (there / "streams").iterdir()} == {0o600}
    assert {b"PRIVATE KEY" in path.read_bytes() for path in (there / "streams").iterdir()} == {not vault}
    assert str(six.home) not in (there / "inventory.yaml").read_text()
    elsewhere(six, runner, there, f"--vault-password-file {passphrase}" if vault else "")
    assert not six.ca.run("grep", "-rl", "PRIVATE KEY", "/root/.ansible", check=False).stdout
    events = there / "private/artifacts/there/job_events"
    if vault:  # as AWX hands them out
        found = [json.loads(path.read_text()) for path in events.glob("*.json")]
        events = six.home / "events.json"
        events.write_text(json.dumps({"count": len(found), "results": found}))
    said = six.program("invoke", "deploy.collect", str(events), status=FAILED)
    assert lines_of(said, "deployed") == deploys("a1", "a2", "b1", "c1", "e1")
    assert "d1 does not like it" in said
    assert "5 of 6 hosts have their release" in said
    shutil.rmtree(there)
    change(six, f"generation {11 + vault}")
    assert lines_of(six.program("doit"), "deployed") >= deploys("d1")
    everything_serves(six)


def test_a_run_that_only_checks_changes_nothing_and_is_no_delivery(six: Fleet, runner: Path) -> None:
    change(six, "generation 13")
    six.program("doit", *(f"release:{host}" for host in HOSTS))
    there = six.home / "checked"
    six.program("invoke", "deploy.export", str(there))
    elsewhere(six, runner, there, "--check")
    assert not log(six)
    said = six.program("invoke", "deploy.collect", str(there / "private/artifacts/there/job_events"), status=FAILED)
    assert said.count("was only checked, nothing was delivered") == len(HOSTS)
    shutil.rmtree(there)
    assert lines_of(six.program("doit"), "deployed") == deploys(*HOSTS)


def test_events_of_another_release_or_none_at_all_are_refused(six: Fleet) -> None:
    event = {"event": "runner_on_ok", "event_data": {"task_action": "doit.pki.deliver", "host": "a1"}}
    events = six.home / "events.json"
    for release, host, said in (("0", "a1", "took another release"), ("0", "zz", "unknown ssh host 'zz'")):
        event["event_data"] |= {"host": host, "res": {"release": release}}  # type: ignore[operator]
        events.write_text(json.dumps([event]))
        assert said in six.program("invoke", "deploy.collect", str(events), status=FAILED)
    events.write_text("no events")
    assert "contains no events of Ansible" in six.program("invoke", "deploy.collect", str(events), status=FAILED)
    assert "is not empty" in six.program("invoke", "deploy.export", str(six.home / "templates"), status=FAILED)
