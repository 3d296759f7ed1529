"""What an editor of templates/ cannot do: run programs, change what is shared, read files outside, permit commands."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pki.common import templating
from pki.common.errors import InventoryError, PkiError
from pki.common.file_headers import Header
from pki.common.template_folders import TemplateFolders
from pki.common.templating import Templates
from pki.config import loader
from pki.deploy import bootstrap
from pki.deploy.bootstrap import Bootstrap
from pki.deploy.managed_files import ManagedFile, render_header
from pki.deploy.payload import Payload
from pki.deploy.protocol import manifest_rows
from pki.pipeline.desired_state import DesiredState
from pki.pipeline.template_context import InventoryView
from tests.support.commands import said_by
from tests.support.projects import Home

pytestmark = pytest.mark.usefixtures("rendered_in_a_child")

HEAD = "# deploy-target: /etc/x/one.conf\n# deploy-hosts: media\n"
PICKLE = "\"cos\\nsystem\\n(S'touch {0}'\\ntR.\", proto='pickle', allow_pickle=True"
ESCAPES = {  # `{0}` is a file that is there afterwards if a program was run
    "class": "{{{{ ''.__class__.__mro__ }}}}",
    "subclasses": "{{{{ ().__class__.__base__.__subclasses__() }}}}",
    "subscript": "{{{{ ''['__class__'] }}}}",
    "subscript put together": "{{{{ ''['__cla' ~ 'ss__']['__mro__'] }}}}",
    "cycler": "{{{{ cycler.__init__.__globals__.os.system('touch {0}') }}}}",
    "joiner": "{{{{ joiner.__init__.__globals__.os.system('touch {0}') }}}}",
    "namespace": "{{{{ namespace.__init__.__globals__.os.system('touch {0}') }}}}",
    "lipsum": "{{{{ lipsum.__globals__['os'].system('touch {0}') }}}}",
    "lipsum by attr": "{{{{ (lipsum | attr('__globals__'))['os'].system('touch {0}') }}}}",
    "range": "{{{{ range.__class__.__base__ }}}}",
    "dict": "{{{{ dict.__base__.__subclasses__() }}}}",
    "artifact": "{{{{ artifact.__globals__ }}}}",
    "artifact's closure": "{{{{ artifact.__closure__[0].cell_contents }}}}",
    "artifact's code": "{{{{ artifact.__code__ }}}}",
    "attr": "{{{{ '' | attr('__class__') }}}}",
    "map of attributes": "{{{{ [''] | map(attribute='__class__') | list }}}}",
    "deep map of attributes": "{{{{ [lipsum] | map(attribute='__globals__.os') | list }}}}",
    "map of attr": "{{{{ [''] | map('attr', '__class__') | list }}}}",
    "sort": "{{{{ ['', 'a'] | sort(attribute='__class__') }}}}",
    "groupby": "{{{{ ['', 'a'] | groupby('__class__') }}}}",
    "sum": "{{{{ [''] | sum(attribute='__doc__', start=[]) }}}}",
    "join": "{{{{ [''] | join(attribute='__class__') }}}}",
    "format": "{{{{ '{{0.__class__}}'.format('') }}}}",
    "format of a function": "{{{{ '{{0.__globals__}}'.format(lipsum) }}}}",
    "format_map": "{{{{ '{{a.__class__}}'.format_map({{'a': ''}}) }}}}",
    "format by attr": "{{{{ ('{{0.__class__}}' | attr('format'))('') }}}}",
    "format of a marked text": "{{{{ ('{{0.__class__}}' | escape).format('') }}}}",
    "format kept aside": "{{% set f = '{{0.__class__}}'.format %}}{{{{ f('') }}}}",
    "format in a loop": "{{% for f in [''.format] %}}{{{{ f.__self__ }}}}{{% endfor %}}",
    "macro": "{{% macro m() %}}{{% endmacro %}}{{{{ m._func.__globals__ }}}}",
    "macro's environment": "{{% macro m() %}}{{% endmacro %}}{{{{ m._environment }}}}",
    "caller": "{{% macro m() %}}{{{{ caller._func }}}}{{% endmacro %}}{{% call m() %}}{{% endcall %}}",
    "loop": "{{% for a in [1] %}}{{{{ loop._iterator }}}}{{% endfor %}}",
    "self": "{{{{ self._TemplateReference__context }}}}",
    "block": "{{% block b %}}{{{{ self.b._context }}}}{{% endblock %}}",
    "generator": "{{{{ (['a'] | map('upper')).gi_frame }}}}",
    "generator by attr": "{{{{ (['a'] | select) | attr('gi_frame') }}}}",
    "undefined": "{{{{ nothing.__class__ }}}}",
    "namespace's class": "{{% set ns = namespace() %}}{{{{ ns.__class__ }}}}",
    "exception": "{{{{ (1).__class__.__init__ }}}}",
    "unpickling in pydantic": "{{{{ inventory.parse_raw(" + PICKLE + ") }}}}",
    "a file in pydantic": "{{{{ inventory.parse_file('/etc/passwd') }}}}",
    "a part of pki.yaml": "{{{{ inventory.publish.parse_raw(" + PICKLE + ") }}}}",
    "a value of pki.yaml": "{{{{ (inventory.hosts.values() | first).model_validate({{}}) }}}}",
    "pydantic's fields": "{{{{ inventory.publish.model_fields.url.annotation }}}}",
    "pydantic's types": "{{{{ inventory.hosts.media.model_config }}}}",
    "the inventory itself": "{{{{ inventory._said.model_dump() }}}}",
    "the part itself": "{{{{ inventory.publish._part.model_dump() }}}}",
    "the store": "{{{{ authority._project.store }}}}",
    "passphrases": "{{{{ authority._project.passphrases }}}}",
    "passphrases by attr": "{{{{ (authority | attr('_project')).passphrases }}}}",
    "the CRLs' files": "{{{{ revoked._files() }}}}",
    "a method of ours": "{{{{ revoked.digest('x') }}}}",
    "another method of ours": "{{{{ inventory.content('') }}}}",
    "a method of ours by map": "{{{{ [revoked] | map(attribute='digest') | list }}}}",
    "a method of ours by subscript": "{{{{ too_large['content']('') }}}}",
}
CHANGES = {
    "append": "{% set l = [] %}\n{{ l.append(1) }}",
    "extend": "{% set l = [] %}\n{% set x = l.extend([1]) %}",
    "a shared list": "\n{{ services.append(1) }}",
    "a shared list in a dict": "\n{{ services[0].upgrades.clear() }}",
    "a shared dict": "\n{{ host.update({'name': 'other'}) }}",
    "a dict's pop": "\n{{ host.pop('name') }}",
    "setdefault": "\n{{ host.setdefault('x', 1) }}",
    "by attr": "\n{{ (probes | attr('append'))('x') }}",
    "sort in place": "\n{{ probes.sort() }}",
}


@pytest.fixture(scope="module")
def world(built_once: Path) -> DesiredState:
    """What the templates of the example get; nothing is written."""
    return DesiredState.of(Home(built_once).project())


def rendered(home: Home, body: str) -> str:
    """What the release of media fails with, or else the file that was made."""
    home.write("templates/one.conf", HEAD + body)
    world = DesiredState.of(home.project())
    gathered = world.render_within_limits("media")
    faults = [*world.library.for_host("media", world.hosts["media"]).faults, *gathered.faults.values()]
    if faults:
        return "\n".join(fault.message for fault in faults)
    [content] = [content for file, content in gathered.files if file.managed == "one.conf"]
    return "MADE " + content.decode()


# -- what a template may not reach ------------------------------------------------------------------------------------


NO_MORE = ("a template may not use", "undefined", "has no attribute", "does not exist")


def ends_harmlessly(templates: Templates, text: str, context: Mapping[str, object]) -> bool:
    """Whether a text is refused, or leaves nothing but undefined values."""
    try:
        return templates.render_text(text, context) == "[Undefined]"
    except PkiError as refused:
        return any(words in refused.message for words in NO_MORE)


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_a_template_reaches_nothing_but_its_values(world: DesiredState, tmp_path: Path, escape: str) -> None:
    """In this process, with what the templates of a host get, `artifact` included."""
    mark = tmp_path / "run"
    templates = Templates(TemplateFolders(tmp_path))
    context = {**world.context("media"), "artifact": lambda name: name}
    assert ends_harmlessly(templates, escape.format(mark), context)
    assert not mark.exists()


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_a_header_that_is_rendered_in_plan_reaches_nothing_either(
    world: DesiredState, tmp_path: Path, escape: str
) -> None:
    mark, context = tmp_path / "run", {"inventory": InventoryView(world.project.inventory)}
    assert ends_harmlessly(Templates(TemplateFolders(tmp_path)), escape.format(mark), context)
    assert not mark.exists()


@pytest.mark.parametrize("what", ["inventory", "inventory.publish"])
def test_an_object_of_the_program_has_no_methods_for_templates(world: DesiredState, tmp_path: Path, what: str) -> None:
    """Also where one gets into a context as it is: pydantic's `parse_raw` runs what it reads."""
    mark, context = tmp_path / "run", {"inventory": world.project.inventory}
    with pytest.raises(PkiError, match="a template may not use 'parse_raw' of a"):
        Templates(TemplateFolders(tmp_path)).render_text(f"{{{{ {what}.parse_raw({PICKLE.format(mark)}) }}}}", context)
    assert not mark.exists()


@pytest.mark.parametrize("command", ["plan", "status", "health"])
def test_no_command_runs_what_a_header_says(home: Home, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    mark = home.path / "run"
    hosts = f"{{{{ cycler.__init__.__globals__.os.popen('touch {mark}; echo media').read() }}}}"
    home.write("templates/one.conf", f"# deploy-target: /etc/x\n# deploy-hosts: {hosts}\nx\n")
    said = said_by(capsys, command, pki_home=str(home.path), pki_now=home.moment())
    assert not mark.exists()
    if command == "plan":
        assert "templates/one.conf:2: deploy-hosts: a template may not use '__init__' of a type" in said.out


def test_every_header_is_rendered_within_the_same_bounds(home: Home) -> None:
    mark = home.path / "run"
    for header in ("target", "owner", "mode", "set", "artifact", "validate", "reload"):
        value = f"{{{{ lipsum.__globals__.os.system('touch {mark}') }}}}"
        text = HEAD.replace("/etc/x/one.conf", value) if header == "target" else f"{HEAD}# deploy-{header}: {value}\n"
        home.write("templates/one.conf", f"{text}x\n")
        failed = home.doit("release:media").failed["release:media"]
        assert "a template may not use '__globals__' of a function" in failed, header
    assert not mark.exists()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_template_changes_no_value_and_is_told_of_namespace(home: Home, change: str) -> None:
    said = rendered(home, change)
    assert said.startswith("templates/one.conf:4: a template may not change a ")
    assert "use namespace(): {% set ns = namespace(all=[]) %}, then {% set ns.all = ns.all + [one] %}" in said


def test_what_the_message_says_instead_of_append_works(home: Home) -> None:
    body = (
        "{% set ns = namespace(all=[]) %}{% for one in services %}{% set ns.all = ns.all + [one.name] %}{% endfor %}"
        "{{ ns.all | join(',') }}"
    )
    assert rendered(home, body).startswith("MADE ")
    assert rendered(home, body).endswith("jellyfin")


def test_what_honest_templates_use_works(home: Home) -> None:
    body = """{% macro m(x) %}<{{ x }}{{ caller() if caller is defined else '' }}>{% endmacro %}
{% call m(1) %}c{% endcall %}
{% for one in services recursive %}{{ loop.cycle('a', 'b') }}{{ loop.changed(1) }}{{ loop.index }}{{ one.name }}{% endfor %}
{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{% set j = joiner('|') %}{{ j() }}{{ j() }}
{% for n, h in inventory.hosts.items() if h.proxy %}{{ n }}:{{ h.address }}:{{ h.is_probed }}:{{ h.services.keys() | join(',') }} {% endfor %}
{{ inventory.hosts.values() | selectattr('proxy') | map(attribute='network') | unique | sort | join(',') }}
{{ inventory.networks.av.netmask }} {{ inventory.networks.av.with_prefixlen }} {{ inventory.publish.hostname }}:{{ inventory.publish.port }}
{{ inventory.profiles.server.lifetime.days }} {{ inventory.domains[0].split('.') }} {{ '%s' | format('f') }} {{ '{}'.format(1) }}
{{ (artifact('trust:roots') | sha256)[:4] | length }} {{ 'a'.encode().hex() }} {{ dict(a=1).get('a') }} {{ inventory.publish }}
{% block b %}{{ 3 }}{% endblock %}{{ self.b() }}{% import 'lib' as lib %}{{ lib.twice('z') }}{% from 'lib' import twice %}{{ twice('q') }}
"""
    home.write("templates/lib", "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}")
    said = rendered(home, body)
    assert said.startswith("MADE "), said
    assert "<1c>" in said.replace("\n", "")
    assert "33zzqq" in said


# -- files that a template takes in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["include '{}'", "import '{}' as x", "extends '{}'", "from '{}' import x"])
@pytest.mark.parametrize(
    "name", ["../secrets.yaml", "nginx/../../secrets.yaml", "{0}/secrets.yaml", "./../secrets.yaml"]
)
def test_nothing_is_taken_in_from_outside_by_its_name(home: Home, word: str, name: str) -> None:
    said = rendered(home, f"{{% {word.format(name.format(home.path))} %}}")
    assert said.startswith("templates/one.conf:3: templates/")
    assert "does not exist" in said
    computed = word.replace("'{}'", "n")
    said = rendered(home, f"{{% set n = '{name.format(home.path)}' %}}{{% {computed} %}}")
    assert "does not exist" in said


@pytest.fixture
def secret(home: Home) -> Path:
    """A file outside templates/ that looks like a template of media."""
    path = home.path / "secret.conf"
    path.write_text(f"{HEAD}hidden\n")
    return path


def refuses(home: Home, said: str, real: Path) -> None:
    """The release of media alone fails, and names file, target and a command."""
    report = home.doit()
    assert set(report.failed) == {"release:media"}, report.failed
    assert f"{said}: is a link to {real}, outside templates/" in report.failed["release:media"]
    assert f"rm {said.rpartition(' ')[2]}" in report.failed["release:media"]
    found = [path for path in (home.path / "build").rglob("*.conf") if b"hidden" in path.read_bytes()]
    assert found == []


@pytest.mark.parametrize("how", ["relative", "absolute", "chain", "in a folder"])
def test_a_link_that_leaves_templates_is_refused_where_it_is_used(home: Home, secret: Path, how: str) -> None:
    link = home.path / "templates" / ("a/b/one.conf" if how == "in a folder" else "one.conf")
    link.parent.mkdir(parents=True, exist_ok=True)
    if how == "chain":
        (home.path / "templates/.other").symlink_to(secret)
    link.symlink_to({"relative": "../secret.conf", "chain": ".other"}.get(how, secret))
    refuses(home, f"templates/{link.relative_to(home.path / 'templates')}", secret)


def test_what_the_refusal_of_a_link_says_works(home: Home, secret: Path) -> None:
    (home.path / "templates/one.conf").symlink_to(secret)
    hint = home.doit().failed["release:media"].rpartition("copy it there: ")[2]
    assert hint.startswith("cp --remove-destination ")
    subprocess.run(shlex.split(hint), cwd=home.path, check=True)
    assert home.doit().status == 0
    assert b"hidden" in home.read("build/hosts/media/etc/x/one.conf")


def test_a_link_to_a_secret_is_neither_delivered_nor_taken_in(home: Home) -> None:
    (home.path / "templates/part").symlink_to("../secrets.yaml")
    home.write("templates/one.conf", f"{HEAD}{{% include 'part' %}}\n")
    report = home.doit()
    assert set(report.failed) == {"release:media"}
    assert report.failed["release:media"].startswith(
        f"templates/one.conf:3: templates/part: is a link to {home.path / 'secrets.yaml'}, outside templates/"
    )
    assert {"deploy:forge", "deploy:monitoring"}.isdisjoint(report.failed)


@pytest.mark.parametrize("body", ["{% set n = 'part' %}{% include n %}", "{% include ['none', 'part'] %}"])
def test_a_link_is_not_followed_where_its_name_is_computed(home: Home, body: str) -> None:
    (home.path / "templates/part").symlink_to("../secrets.yaml")
    assert "templates/part: is a link to " in rendered(home, body)


@pytest.mark.parametrize("name", ["'linked/secrets.yaml'", "'lin' ~ 'ked/secrets.yaml'", "'.hidden/secrets.yaml'"])
def test_a_link_to_a_folder_is_not_followed_by_what_a_template_takes_in(home: Home, name: str) -> None:
    for link in ("linked", ".hidden"):
        (home.path / "templates" / link).symlink_to("..")
    said = rendered(home, f"{{% include {name} %}}")
    assert "is a link to " in said
    assert "outside templates/" in said


def test_a_declaration_that_is_a_link_to_elsewhere_is_refused_and_its_certificate_stays(home: Home) -> None:
    cnf = "# deploy-target: /etc/p.cnf\n# deploy-hosts: media\n[ req ]\ndistinguished_name = dn\nprompt = no\n[ dn ]\nCN = p.lab.internal\n"
    home.write("templates/p.cnf", cnf)
    assert home.doit().status == 0
    before = home.read("build/certs/p/tls.pem")
    (home.path / "templates/p.cnf").rename(home.path / "p.cnf")
    (home.path / "templates/p.cnf").symlink_to("../p.cnf")
    report = home.doit()
    assert any("outside templates/" in said for said in report.failed.values())
    assert home.read("build/certs/p/tls.pem") == before


def test_links_that_stay_inside_are_followed_and_so_is_templates_itself(home: Home) -> None:
    home.write("templates/.real", f"{HEAD}inside\n")
    (home.path / "templates/one.conf").symlink_to(".real")
    (home.path / "templates").rename(home.path / "shared")
    (home.path / "templates").symlink_to("shared")
    assert home.doit().status == 0
    assert b"inside" in home.read("build/hosts/media/etc/x/one.conf")


def test_a_link_to_a_file_that_is_no_template_stops_nothing(home: Home) -> None:
    (home.path / "README").write_text("notes\n")
    (home.path / "templates/README").symlink_to("../README")
    assert home.doit().status == 0


@pytest.mark.parametrize("path", ["one.conf", "one", "one/two"])
def test_a_template_that_every_user_can_write_fails_its_releases_until_it_is_closed(home: Home, path: str) -> None:
    name = path if path.endswith(".conf") else "one/two/one.conf"
    home.write(f"templates/{name}", f"{HEAD}x\n")
    (home.path / "templates" / path).chmod(0o777)
    report = home.doit()
    assert set(report.failed) == {"release:media"}
    said, _, hint = report.failed["release:media"].partition(" → ")
    assert said.startswith(f"templates/{name}: ")
    assert said.endswith("can be written by every user")
    subprocess.run(shlex.split(hint), cwd=home.path, check=True)
    assert home.doit().status == 0


@pytest.mark.parametrize("how", ["include 'part'", "set n = 'part' %}{% include n"])
def test_a_part_that_every_user_can_write_is_not_taken_in(home: Home, how: str) -> None:
    home.write("templates/part", "x").chmod(0o666)
    assert "templates/part: can be written by every user" in rendered(home, f"{{% {how} %}}")


# -- values that go into manifests and permissions --------------------------------------------------------------------

ODD = {
    "two lines": "nginx -t\nrun systemctl-restart-sshd systemctl restart sshd",
    "carriage return": "nginx -t\rx",
    "tab": "nginx\t-t",
    "escape": "nginx \x1b[2J",
    "NUL": "nginx\0-t",
    "line separator": "nginx\u2028-t",
    "next line": "nginx\x85-t",
    "right to left": "nginx \u202e-t",
    "blank of no width": "nginx\u200b-t",
    "no-break space": "nginx\u00a0-t",
}


@pytest.mark.parametrize("header", ["target", "owner", "mode", "validate", "reload", "set", "artifact"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_header_is_one_line_of_printable_characters(tmp_path: Path, header: str, odd: str) -> None:

    file = ManagedFile("x.conf", {f"deploy-{header}": Header("{{ value }}", 3)}, "")
    with pytest.raises(PkiError, match="expected one line of printable characters, got U\\+") as refused:
        render_header(file, f"deploy-{header}", Templates(TemplateFolders(tmp_path)), {"value": odd})
    assert refused.value.message.startswith(f"templates/x.conf:3: deploy-{header}: ")


@pytest.mark.parametrize("odd", ["\t", "\x1b", "\0", "\u202e", "\u00a0"])
def test_a_header_that_is_written_so_is_named_with_its_line(home: Home, odd: str) -> None:
    home.write("templates/one.conf", f"{HEAD}# deploy-reload: systemctl{odd}reload x\nx\n")
    failed = home.doit().failed
    assert set(failed) == {"release:media"}
    assert failed["release:media"].startswith("templates/one.conf:3: deploy-reload: expected one line of printable")


def test_a_reload_of_two_lines_permits_nothing(home: Home) -> None:
    two = "{{ 'systemctl reload x' ~ '\\n' ~ 'run evil sh' }}"
    home.write("templates/one.conf", f"{HEAD}# deploy-reload: {two}\nx\n")
    failed = home.doit().failed["release:media"]
    assert failed.startswith(
        "templates/one.conf:3: deploy-reload: expected one line of printable characters, got U+000A"
    )


def test_printable_letters_of_any_language_are_fine(home: Home) -> None:
    home.write("templates/one.conf", f"{HEAD}# deploy-reload: systemctl reload Bücher-日本\nx\n")
    assert home.doit().status == 0


def released(home: Path, **said: str) -> Payload:
    """The release of media with one file that says something else, as a manifest of an older version might."""
    payload = Payload.of(home / "build/release/media")
    assert payload
    return replace(payload, release=replace(payload.release, files=(replace(payload.release.files[0], **said),)))


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("field", ["path", "validate", "reload", "set"])
def test_no_permission_is_written_that_is_more_than_a_line(built_once: Path, field: str, odd: str) -> None:
    payload = released(built_once, **{field: f"/{odd}"})
    with pytest.raises(PkiError, match=r"media: .* in pki-apply.conf: expected one line of printable characters"):
        bootstrap.permissions_text(
            "media", payload, exact=field != "path"
        )  # to be exact, it reads the file of each path


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("field", ["path", "mode", "owner", "set"])
def test_no_row_of_a_manifest_is_more_than_a_line(built_once: Path, field: str, odd: str) -> None:
    [row] = manifest_rows(released(built_once, **{field: odd}), [])
    with pytest.raises(PkiError, match="in the manifest: expected one line of printable characters"):
        row.line()
    [_, gone] = manifest_rows(released(built_once), [{"path": "/x", "mode": "0644", "owner": "root:root", field: odd}])
    with pytest.raises(PkiError, match="in the manifest: expected one line of printable characters"):
        gone.line()


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_no_key_is_authorized_that_is_more_than_a_line(odd: str) -> None:
    for account, key in ((odd, "ssh-ed25519 AAAA x"), ("deploy", f"ssh-ed25519 AAAA {odd}")):
        with pytest.raises(PkiError, match="for authorized_keys: expected one line of printable characters"):
            Bootstrap("media", "host media\n", account, key).script()


SMALL = """organisation: Lab
domains: lab.internal
networks: {av: 10.0.0.0/24}
publish: {url: "http://pki.lab.internal", host: media}
hosts: {media: {network: av, proxy: caddy}}
"""


@pytest.mark.parametrize("odd", ["a\\nb", "a\\tb", "a\\eb", "a\\0b", "a\\u202eb", "a\\u0085b"])
@pytest.mark.parametrize(
    "line",
    [
        'secrets: {{server: {{file: "{}"}}}}',
        'secrets: {{server: {{command: "pass {}"}}}}',
        'deploy: {{ssh_config: "{}"}}',
        'deploy: {{ansible: {{command: "/{}"}}}}',
        'authorities: {{legacy: {{adopt: "{}"}}}}',
        'authorities: {{server: {{token: "pkcs11:{}"}}}}',
        'ledger: "postgresql://{}"',
        'metrics: {{textfile: "/{}/x.prom"}}',
    ],
)
def test_values_of_pki_yaml_are_one_line_of_printable_characters(tmp_path: Path, line: str, odd: str) -> None:
    (tmp_path / "pki.yaml").write_text(f"{SMALL}{line.format(odd)}\n")
    with pytest.raises(InventoryError) as wrong:
        loader.load(tmp_path / "pki.yaml")
    assert len(wrong.value.faults) == 1
    assert re.match(r"pki.yaml:6: [a-z_.]+: (expected|adopt: expected)", wrong.value.faults[0])


def test_a_key_of_pki_yaml_that_is_no_line_is_refused(fresh: Home) -> None:
    fresh.edit("hosts:\n", 'hosts:\n  "a\\nb": {network: mgmt}\n')
    with pytest.raises(InventoryError, match="lower-case"):
        loader.load(fresh.path / "pki.yaml")


def test_a_command_may_be_written_as_a_block(tmp_path: Path) -> None:
    said = "secrets:\n  server:\n    command: >\n      pass show\n      pki/server\n"
    (tmp_path / "pki.yaml").write_text(SMALL + said)
    source = loader.load(tmp_path / "pki.yaml").secrets.source("server-1")
    assert source is not None
    assert source.command is not None
    assert shlex.split(source.command) == ["pass", "show", "pki/server"]


def test_present_templates_render_byte_for_byte_as_with_jinja2_alone(
    world: DesiredState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[tuple[str, str], bytes]:
        made = {name: DesiredState.of(world.project).render_within_limits(name) for name in world.hosts}
        assert not any(one.faults for one in made.values())
        return {(name, file.path): content for name, one in made.items() for file, content in one.files}

    restricted = files()
    monkeypatch.setattr(templating, "RestrictedEnvironment", templating.Environment)
    assert files() == restricted
    assert len(restricted) > 30
