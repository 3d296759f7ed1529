"""`hosts.X.reload`: a proxy in a container, or one that systemd does not know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pki.common.errors import InventoryError
from pki.config.fields import Proxy
from pki.config.proxies import PROGRAMS
from pki.deploy import bootstrap, release
from pki.deploy.payload import Payload
from tests.support.hosts import PATH_LINE
from tests.support.live_host import Live, delivered, delivered_once, kind, permit
from tests.support.projects import PROJECT, Home

__all__ = ["delivered", "delivered_once", "kind"]

RELOAD = "docker kill -s HUP proxy"


def with_reload(home: Home, line: str = RELOAD, proxy: str = "caddy") -> None:
    home.edit("    proxy: caddy\n", f"    proxy: {proxy}\n    reload: {line}\n")


@pytest.mark.parametrize("proxy", PROGRAMS)
def test_every_program_template_of_the_host_uses_the_command(home: Home, proxy: Proxy) -> None:
    usual = PROGRAMS[proxy]
    home.edit("    proxy: caddy\n", f"    proxy: {proxy}\n")
    assert home.doit("release:media").failed == {}
    before = commands(home)
    assert usual.reload in before | {""} or proxy == "traefik"
    assert usual.validate in before | {""}
    home.edit(f"    proxy: {proxy}\n", f"    proxy: {proxy}\n    reload: {RELOAD}\n")
    assert home.doit("release:media").failed == {}
    after = commands(home)
    assert RELOAD in after
    assert not [line for line in after if re.match(r"systemctl (reload|restart)", line)]
    assert usual.validate not in after - {""}, "the program may be in the container"
    if usual.validate:
        program = usual.validate.split()[0]
        assert f"! command -v {program} >/dev/null || {usual.validate}" in after
    payload = Payload.of(home.path / "build/release/media")
    assert payload is not None
    assert f" {RELOAD}\n" in bootstrap.permissions_text("media", payload, exact=True)


def commands(home: Home) -> set[str]:
    spec = release.load(home.path / "build/release/media")
    assert spec is not None
    return {line for file in spec.files for line in (file.validate, file.reload)} - {""}


def test_no_program_template_names_the_reload_of_a_proxy_itself() -> None:
    texts = [path.read_text() for path in (PROJECT / "templates").rglob("*") if path.is_file()]
    names = "|".join(program.unit for program in PROGRAMS.values() if program.unit)
    assert not [text for text in texts if re.search(rf"deploy-reload: systemctl (reload|restart) ({names})", text)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('"docker kill\\nreboot"', "expected a command in one line, of at most 1000 characters"),
        ('"docker \\u202e"', "U+202E"),
        ('""', "expected a command in one line, of at most 1000 characters"),
        (f'"{"x" * 1001}"', "expected a command in one line, of at most 1000 characters"),
    ],
)
def test_what_is_no_printable_line_is_refused(home: Home, line: str, fault: str) -> None:
    with_reload(home, line)
    with pytest.raises(InventoryError) as refused:
        home.project()
    assert fault in str(refused.value)


def test_the_longest_line_is_accepted_and_a_host_without_a_proxy_needs_none(home: Home) -> None:
    with_reload(home, "x" * 1000)
    assert home.project().inventory.hosts["media"].reload == "x" * 1000
    home.edit("    proxy: caddy\n", "")
    with pytest.raises(InventoryError) as refused:
        home.project()
    assert "hosts.media.reload: reloads the proxy, and this host has none" in str(refused.value)


def with_docker(live: Live) -> Path:
    """A `docker` on the host that writes down its arguments."""
    log, folder = live.host.root / "docker.log", live.host.root / "bin"
    folder.mkdir()
    (folder / "docker").write_text(f'#!/bin/sh\necho "$*" >>{log}\n')
    (folder / "docker").chmod(0o755)
    live.host.adapt(PATH_LINE, f"PATH={folder}:{PATH_LINE.removeprefix('PATH=')}")
    return log


def test_the_command_runs_on_the_host_once_bootstrap_permitted_it(delivered: Live) -> None:
    log = with_docker(delivered)
    with_reload_of_program_templates(delivered.home)
    assert "docker" in delivered.because(delivered.doit())
    assert not log.exists()
    permit(delivered)
    assert delivered.doit().failed == {}
    assert log.read_text() == "kill -s HUP proxy\n", "once, though several files changed"
    assert delivered.doit().made == {}
    (delivered.host.root / "bin/docker").write_text("#!/bin/sh\necho no such container: proxy; exit 1\n")
    path = delivered.home.path / "templates/caddy/Caddyfile"
    path.write_text(f"{path.read_text()}# another change\n")
    failure = delivered.because(delivered.doit())
    assert "docker kill -s HUP proxy" in failure
    assert "no such container: proxy" in failure
    assert "rolled back" in failure


def with_reload_of_program_templates(home: Home) -> None:
    """The headers of the program's templates again, which the fixture replaced by a script of the host."""
    for path in (home.path / "templates").rglob("*"):
        if path.is_file():
            path.write_text(
                re.sub(r"(?m)^(.*deploy-reload: )sh .*/reload$", r"\g<1>{{ host.reload }}", path.read_text())
            )
    home.edit("    proxy: caddy\n", f"    proxy: caddy\n    reload: {RELOAD}\n")
