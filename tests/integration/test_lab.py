"""The machines in namespaces: separate, real, and gone without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

import pytest

from pki.common.errors import PkiError
from pki.demo import namespace_machine as machines
from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine, check_programs, wait_until
from tests.integration.machine_state import surroundings
from tests.support.projects import PROJECT

VLANS = {"mgmt": "192.0.2.0/25", "dev": "192.0.2.128/25"}
UNITS = ("nginx", "haproxy", "caddy", "apache2", "ssh")
OWN = ("/etc", "/var/lib", "/run", "/usr/local/sbin", "/root", "/home", "/srv")
GET = ("curl", "--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(VLANS) as lab:
        yield lab


@pytest.fixture(scope="module")
def web(lab: Lab) -> NamespaceMachine:
    return lab.machine("web", "mgmt", names=("www.lab.internal",))


@pytest.fixture(scope="module")
def guest(lab: Lab) -> NamespaceMachine:
    return lab.machine("guest", "dev", "192.0.2.200")


def status(guest: NamespaceMachine, url: str, patience: int = 30) -> str:
    return guest.run(*GET, "--max-time", str(patience), url, check=False).stdout


# -- machines ---------------------------------------------------------------------------------------------------------


def test_a_machine_knows_its_name_its_address_and_everybody_else(
    web: NamespaceMachine, guest: NamespaceMachine
) -> None:
    assert guest.run("hostname").stdout == "guest\n"
    assert guest.run("getent", "hosts", "www.lab.internal").stdout.split() == [web.address, "www.lab.internal"]
    assert web.run("getent", "hosts", "guest").stdout.split()[0] == guest.address == "192.0.2.200"


@pytest.mark.parametrize("overlay", [True, False])
def test_what_a_machine_writes_is_its_own(overlay: bool) -> None:
    """With overlays, and with copies where a kernel has none."""
    with Lab(overlay=overlay) as lab:
        first, second = lab.machine("first"), lab.machine("second")
        for folder in OWN:
            first.write(f"{folder}/lab-test/file", "x", 0o600)
            assert first.run("stat", "-c", "%a", f"{folder}/lab-test/file").stdout == "600\n"
            assert not second.exists(f"{folder}/lab-test")
            assert not Path(folder, "lab-test").exists()
        assert first.run(sys.executable, "-c", "import pki; print(1)", cwd=PROJECT).stdout == "1\n"
        assert first.read("/etc/passwd") == Path("/etc/passwd").read_text()
        first.serve("nginx")


def test_a_machine_has_no_keys_of_its_own_and_none_of_ours(lab: Lab) -> None:
    fresh = lab.machine("fresh")
    assert fresh.run("ls", "-A", "/root/.ssh").stdout == ""
    assert fresh.run("sh", "-c", "ls /etc/ssh/ssh_host_* /root/.curlrc /root/.netrc", check=False).stdout == ""
    lab.close(fresh)


def test_a_command_that_fails_or_hangs_says_so(web: NamespaceMachine) -> None:
    with pytest.raises(PkiError, match="web: sh -c echo no >&2; exit 3: exit 3: no"):
        web.run("sh", "-c", "echo no >&2; exit 3")
    with pytest.raises(PkiError, match="did not end within"):
        web.run("sleep", "60", timeout=0.2)
    assert web.run("false", check=False).returncode == 1
    assert web.run("cat", stdin="through").stdout == "through"
    assert web.run("sh", "-c", "echo $PWD $WORD", cwd="/srv", env={"WORD": "x"}).stdout == "/srv x\n"


def test_a_daemon_is_stopped_by_its_own_number(web: NamespaceMachine) -> None:
    daemon = web.start("sh", "-c", "echo up; exec sleep 600", says="up")
    assert "sleep 600" in web.run("ps", "ax").stdout
    daemon.stop()
    assert "sleep 600" not in web.run("ps", "ax").stdout
    with pytest.raises(PkiError, match="ended before it printed 'ready': broken"):
        web.start("sh", "-c", "echo broken", says="ready")


def test_ssh_reaches_a_machine_with_the_key_that_it_was_given(web: NamespaceMachine, lab: Lab) -> None:
    admin = lab.machine("admin", "mgmt")
    admin.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
    web.serve("ssh")
    admin.write("/root/.ssh/known_hosts", f"web {web.host_key()}\n")
    line = ("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "root@web", "hostname")
    assert "Permission denied" in admin.run(*line, check=False).stderr
    web.write("/root/.ssh/authorized_keys", admin.read("/root/.ssh/id_ed25519.pub"), 0o600)
    assert admin.run(*line).stdout == "web\n"
    lab.close(admin)


# -- systemctl --------------------------------------------------------------------------------------------------------


def test_a_unit_is_started_reloaded_and_stopped_as_systemd_would() -> None:
    with Lab() as lab:
        web = lab.machine("web")
        for unit in UNITS:
            code = {verb: web.run("systemctl", verb, unit, check=False).returncode for verb in ("is-active", "reload")}
            assert code == {"is-active": 3, "reload": 1}
            web.serve(unit)
            assert web.run("systemctl", "is-active", f"{unit}.service").stdout == "active\n"
            web.run("systemctl", "reload", unit)
            web.run("systemctl", "restart", unit)
            assert web.run("systemctl", "is-active", "--quiet", unit).stdout == ""
            web.run("systemctl", "stop", unit)
            assert web.run("systemctl", "is-active", unit, check=False).stdout == "inactive\n"
        assert web.run("systemctl", "reload", "nosuch", check=False).returncode == 5
        assert web.read("/var/log/systemctl.log").splitlines()[:3] == ["reload nginx", "start nginx", "reload nginx"]


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("nginx", "/etc/nginx/conf.d/broken.conf"),
        ("haproxy", "/etc/haproxy/haproxy.cfg"),
        ("caddy", "/etc/caddy/Caddyfile"),
        ("apache2", "/etc/apache2/sites-enabled/broken.conf"),
    ],
)
def test_a_reload_with_a_broken_configuration_fails_and_the_old_one_serves_on(unit: str, path: str) -> None:
    with Lab() as lab:
        web = lab.machine("web")
        web.serve(unit)
        web.write(path, "nonsense {\n")
        assert web.run("systemctl", "reload", unit, check=False).returncode == 1
        assert web.run("systemctl", "is-active", unit).stdout == "active\n"


def test_a_unit_that_was_killed_is_not_active() -> None:
    with Lab() as lab:
        web = lab.machine("web")
        web.serve("nginx")
        web.run("sh", "-c", "kill -KILL $(cat /run/nginx.pid)")
        wait_until(lambda: web.run("systemctl", "is-active", "nginx", check=False).stdout == "inactive\n", "it is dead")
        assert "not active" in web.run("systemctl", "reload", "nginx", check=False).stderr


# -- the network ------------------------------------------------------------------------------------------------------


def test_the_router_forwards_what_is_permitted_and_nothing_else(lab: Lab) -> None:
    server, near = lab.machine("server", "mgmt"), lab.machine("near", "mgmt")
    far, other = lab.machine("far", "dev"), lab.machine("other", "dev")
    server.serve("nginx")
    assert status(near, "http://server/") == "200"
    assert status(far, "http://server/") == "000"
    lab.permit(far, server, 443)
    assert status(far, "http://server/") == "000"
    lab.permit(far, server, 80)
    assert [status(far, "http://server/"), status(other, "http://server/")] == ["200", "000"]
    lab.permit("dev", "mgmt")
    assert status(other, "http://server/") == "200"
    lab.unplug(server)
    assert status(far, "http://server/", patience=2) == "000"
    lab.plug(server)
    assert status(far, "http://server/") == "200"


def test_a_machine_can_be_reached_as_soon_as_its_cable_is_back(lab: Lab, web: NamespaceMachine) -> None:
    """Also where somebody asked for it meanwhile: the kernel would say "no route" until it has waited in vain."""
    other = lab.machine("asking", "mgmt")
    neighbours = "/proc/sys/net/ipv4/neigh/eth0"
    other.run("sh", "-c", f"echo 1 >{neighbours}/mcast_solicit; echo 9000 >{neighbours}/retrans_time_ms")
    connect = ("bash", "-c", f"exec 3<>/dev/tcp/{web.address}/9")
    lab.unplug(web)
    other.run("timeout", "0.2", *connect, check=False)
    assert "INCOMPLETE" in other.run("ip", "neighbour", "show", web.address).stdout
    lab.plug(web)
    assert "Connection refused" in other.run(*connect, check=False).stderr


def test_an_address_is_given_once_and_lies_in_its_network(lab: Lab, web: NamespaceMachine) -> None:
    for address in (web.address, "192.0.2.1", "192.0.2.200", "198.51.100.1"):
        with pytest.raises(PkiError, match=r"is already used, or not in 192\.0\.2\.0/25"):
            lab.machine("twin", "mgmt", address)


def test_the_place_of_a_machine_that_was_taken_away_is_free_again() -> None:
    with Lab() as lab:
        first, second = lab.machine("first"), lab.machine("second")
        lab.close(first)
        third, fourth = lab.machine("third"), lab.machine("fourth")
        assert third.address == first.address
        assert "first" not in second.read("/etc/hosts")
        for machine in (third, fourth):
            assert second.run("ssh-keyscan", "-T", "1", machine.name, check=False).stdout == ""
            machine.serve("ssh")
            assert machine.host_key() in second.run("ssh-keyscan", "-T", "30", machine.name).stdout


# -- nothing is left --------------------------------------------------------------------------------------------------


def namespaces_of(process: int) -> set[str]:
    return {os.readlink(f"/proc/{process}/ns/{kind}") for kind in ("net", "mnt", "pid")}


def all_namespaces(until: float = inf) -> set[str]:
    """Every namespace in which some process is that began before a moment, in seconds since this machine did."""
    found = set[str]()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            began = int((process / "stat").read_text().rpartition(")")[2].split()[19])  # man 5 proc: starttime
            if began <= until * os.sysconf("SC_CLK_TCK"):
                found |= namespaces_of(int(process.name))
    return found


BUSY = """
import os, sys, time
from pki.demo.lab import Lab
with Lab() as lab:
    web = lab.machine("web")
    web.serve("nginx", "ssh")
    web.start("sleep", "600")
    print(lab.router.holder, web.holder, web.scratch, flush=True)
    {ending}
"""


@pytest.mark.parametrize(
    ("ending", "kill", "swept"),
    [
        ("pass", 0, True),
        ("raise ValueError", 0, True),
        ("time.sleep(600)", signal.SIGINT, True),
        ("time.sleep(600)", signal.SIGKILL, False),
        ("web.run('sleep', '600', timeout=600)", signal.SIGINT, True),
        ("web.run('sleep', '600', timeout=600)", signal.SIGKILL, False),
    ],
)
def test_nothing_is_left_however_a_lab_ends(ending: str, kill: int, swept: bool) -> None:
    """Killed outright, it cannot remove its folder in /tmp; processes, namespaces and mounts go even then."""
    before = surroundings()
    wait = "sys.stdin.readline()" if not kill else "pass"
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(ending=f"{wait}; {ending}")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        text=True,
    )
    assert process.stdout is not None
    router, web, scratch = process.stdout.readline().split()
    own = (namespaces_of(int(router)) | namespaces_of(int(web))) - namespaces_of(os.getpid())
    assert len(own) == 6
    assert own <= all_namespaces()
    if kill:
        process.send_signal(kill)
    process.communicate("\n", timeout=300)
    ended = time.clock_gettime(time.CLOCK_BOOTTIME)  # whoever began later was given the same numbers again
    wait_until(lambda: not own & all_namespaces(ended), "nobody is in the lab's namespaces")
    assert surroundings() == before
    assert Path(scratch).exists() != swept
    if not swept:
        shutil.rmtree(scratch)


# -- who cannot have one ----------------------------------------------------------------------------------------------


def test_a_plain_user_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PkiError, match="only root may") as refused, Lab():
        pass
    assert refused.value.hint.startswith("sudo ")


def test_programs_that_are_missing_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PkiError, match="not installed: ip, nft, sshd") as refused:
        check_programs("ip", "nft", "sshd")
    assert refused.value.hint == "apt install iproute2 nftables openssh-server"
