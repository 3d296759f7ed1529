"""The content of pki.yaml for a new project, from the options of `invoke init` and from questions at the terminal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, get_args

from pki.cli.recipe_commands import recipe_called
from pki.common.errors import PkiError
from pki.config import loader
from pki.config.error_messages import Place, path_prefix
from pki.config.fields import Proxy, RecipeName
from pki.config.recipes import default_access, service_settings

Tree = dict[str, Any]

UPSTREAM = "http://127.0.0.1:3000"


class Options(NamedTuple):
    """The options of `invoke init` that describe the project."""

    organisation: str = ""
    domains: Sequence[str] = ()
    networks: Sequence[str] = ()
    publish: str = ""
    hosts: Sequence[str] = ()
    services: Sequence[str] = ()
    recipes: Sequence[str] = ()
    clients: Sequence[str] = ()


def tree_of(options: Options) -> Tree:
    """Return pki.yaml as the options specify it, with defaults for the rest. Raises PkiError with all faults."""
    tree: Tree = {
        "organisation": options.organisation or "Home Lab",
        "domains": _words(options.domains) or ["lab.internal"],
    }
    tree["networks"] = _networks(options.networks or ["lan=192.168.1.0/24"])
    network = next(iter(tree["networks"]))
    tree["hosts"] = dict(_host(text, network) for text in options.hosts or ["pki,proxy=nginx"])
    for text in options.services:
        _add_service(tree["hosts"], text)
    for text in options.recipes:
        _add_recipe(tree, text)
    url, _, host = options.publish.rpartition("=") if "=" in options.publish else (options.publish, "", "")
    domain = tree["domains"][0]
    tree["publish"] = {"url": url or f"http://pki.{domain}", "host": host or next(iter(tree["hosts"]))}
    pairs = (_pair(text, "NAME=ADDRESS such as admin=admin@lab.internal") for text in options.clients)
    tree["clients"] = {name: {"email": email} for name, email in pairs} or {"admin": {"email": f"admin@{domain}"}}
    if faults := [f"{path_prefix(where)}{what}" for where, what in loader.find_faults(tree)]:
        raise PkiError("\n".join(faults), "./run invoke init --help")
    return tree


def _words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in text.replace(",", " ").split()]


def _pair(text: str, expected: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise PkiError(f"expected {expected}, got {text!r}")
    return name.strip(), value.strip()


def _networks(texts: Sequence[str]) -> Tree:
    return _grouped(_pair(word, "NAME=NETWORK such as lan=192.168.1.0/24") for word in _words(texts))


def _grouped(pairs: Iterable[tuple[str, str]]) -> Tree:
    """Return name → value, or a list where a name is given several times: an IPv4 and an IPv6 address."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in values.items()}


def _host(text: str, network: str) -> tuple[str, Tree]:
    """Return the name and settings of a host: `web,network=lan,address=192.168.1.10,proxy=nginx`."""
    name, *parts = text.split(",")
    settings = _grouped(_pair(part, "NAME,network=…,address=…,proxy=…") for part in parts)
    return name.strip(), {"network": network, **settings}


def _add_service(hosts: dict[str, Tree], text: str) -> None:
    """Add a service to its host: `web/wiki=http://127.0.0.1:3000,tls`. Raises PkiError for an unknown host."""
    where, settings = _pair(text, f"HOST/SERVICE=UPSTREAM,tls or mtls, such as web/wiki={UPSTREAM},mtls")
    (host, _, name), (upstream, _, access) = where.partition("/"), settings.partition(",")
    if host not in hosts:
        raise PkiError(f"{text}: unknown host {host!r}", f"add --host {host}")
    hosts[host].setdefault("services", {})[name] = {"upstream": upstream, "access": access or "mtls"}


def parse_recipe(tree: Tree, text: str) -> tuple[RecipeName, str]:
    """Return recipe and host of `postgres=web`, or of `postgres` for the only host. Raises PkiError."""
    name, _, host = text.partition("=")
    hosts = tree["hosts"]
    if not host and len(hosts) > 1:
        raise PkiError(f"--recipe {name}: there are several hosts", f"name one: --recipe {name}={next(iter(hosts))}")
    host = host or next(iter(hosts))
    if host not in hosts:
        raise PkiError(f"{text}: unknown host {host!r}", f"add --host {host}")
    return recipe_called(name), host


def _add_recipe(tree: Tree, text: str) -> None:
    """Add the services of a recipe to a host."""
    recipe, host = parse_recipe(tree, text)
    settings = service_settings(recipe, [f"{host}.{tree['domains'][0]}"], default_access(recipe))
    tree["hosts"][host].setdefault("services", {}).update(settings)


class Questions:
    """The questions for everything that no option specified. Each answer is validated at once."""

    def __init__(self, tree: Tree, answered: set[str]) -> None:
        self.tree = tree
        self._answered = answered

    def ask_all(self) -> Tree:
        """Ask all questions; return the content of pki.yaml. Raises EOFError and KeyboardInterrupt of `input`."""
        if "organisation" not in self._answered:
            self._ask("organisation", self.tree["organisation"], self._set("organisation"), ("organisation",))
        if "domains" not in self._answered:
            self._ask("domains, the most used one first", "lab.internal", self._set_domains, ("domains",))
        if "networks" not in self._answered:
            self._ask("networks, as NAME=NETWORK", "lan=192.168.1.0/24", self._set_networks, ("networks",))
        if "hosts" not in self._answered:
            self._hosts()
        if "publish" not in self._answered:
            url = f"http://pki.{self.tree['domains'][0]}"
            self._ask("address of CRLs and CA certificates", url, self._set("publish", "url"), ("publish", "url"))
            first = next(iter(self.tree["hosts"]))
            self.tree["publish"]["host"] = first
            if len(self.tree["hosts"]) > 1:
                self._ask("host that serves them", first, self._set("publish", "host"), ("publish", "host"))
        if "clients" not in self._answered:
            self._client()
        if "sandbox" not in self._answered:
            self._ask(
                "a sandbox, to try the program: its root key is on this machine (yes or no)",
                "no",
                _set_sandbox,
                ("sandbox",),
            )
        return self.tree

    def _hosts(self) -> None:
        self.tree["hosts"], default = {}, "pki"
        networks = list(self.tree["networks"])
        while name := self._name("host", "hosts", default, {"network": networks[0]}):
            place: Place = ("hosts", name)
            if len(networks) > 1:
                self._ask(f"network of {name}", networks[0], self._set(*place, "network"), place)
            self._ask(f"address of {name} (none: leave it empty)", "", self._set(*place, "address"), place)
            self._ask(
                f"proxy of {name}: {', '.join(get_args(Proxy))} or none", "nginx", self._set(*place, "proxy"), place
            )
            self.tree["hosts"][name]["services"] = {}
            while service := self._service(name):
                inner = (*place, "services", service)
                self._ask(f"where {service} listens", UPSTREAM, self._set(*inner, "upstream"), inner)
                self._ask(f"access to {service}: mtls or tls", "mtls", self._set(*inner, "access"), inner)
            default = ""

    def _name(self, what: str, section: str, default: str, content: Tree) -> str:
        name = ""

        def put(tree: Tree, answer: str) -> None:
            nonlocal name
            if answer in tree[section]:
                raise PkiError(f"{answer} exists already")
            name = answer
            if answer:
                tree[section][answer] = dict(content)

        more = "" if default else " (no more: leave it empty)"
        self._ask(f"name of {'a' if default else 'another'} {what}{more}", default, put, (section,))
        return name

    def _service(self, host: str) -> str:
        name = ""

        def put(tree: Tree, answer: str) -> None:
            nonlocal name
            if answer in tree["hosts"][host]["services"]:
                raise PkiError(f"{answer} exists already")
            name = answer
            if answer:
                tree["hosts"][host]["services"][answer] = {"upstream": UPSTREAM, "access": "mtls"}

        self._ask(f"name of a service on {host} (no more: leave it empty)", "", put, ("hosts", host))
        return name

    def _client(self) -> None:
        self.tree["clients"] = {}
        domain = self.tree["domains"][0]
        name = self._name("client", "clients", "admin", {"email": f"admin@{domain}"})
        place: Place = ("clients", name)
        default = f"{name.partition('@')[0]}@{domain}"
        self._ask(f"e-mail address of {name}", default, self._set(*place, "email"), place)

    def _ask(self, question: str, default: str, put: Callable[[Tree, str], None], place: Place) -> None:
        """Ask until pki.yaml with the answer has no fault at `place`. `put` writes the answer into the content of pki.yaml."""
        while True:
            answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
            changed = copy.deepcopy(self.tree)
            try:
                put(changed, answer)
                faults = [what for where, what in loader.find_faults(changed) if where[: len(place)] == place]
            except PkiError as error:
                faults = [error.message]
            if not faults:
                self.tree = changed
                return
            print(f"  {faults[0]}")

    @staticmethod
    def _set(*path: str | int) -> Callable[[Tree, str], None]:
        def put(tree: Tree, answer: str) -> None:
            node = tree
            for step in path[:-1]:
                node = node[str(step)]
            if answer in {"", "none"}:
                node.pop(str(path[-1]), None)
            else:
                node[str(path[-1])] = answer

        return put

    @staticmethod
    def _set_domains(tree: Tree, answer: str) -> None:
        tree["domains"] = _words([answer])

    @staticmethod
    def _set_networks(tree: Tree, answer: str) -> None:
        tree["networks"] = _networks([answer])


def _set_sandbox(tree: Tree, answer: str) -> None:
    if answer.lower() not in {"yes", "y", "no", "n"}:
        raise PkiError(f"expected yes or no, got {answer!r}")
    tree["sandbox"] = "true" if answer.lower().startswith("y") else "false"
