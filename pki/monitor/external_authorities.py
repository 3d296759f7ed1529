"""External authorities: intermediates below our root whose keys are on the servers of others. What their state requires."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from pki.ceremony.online import needs
from pki.common.counts import join_names
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.config.authority_rules import ExternalRule
from pki.config.identifiers import ArtifactId
from pki.monitor.check_result import Finding, Level, level_by_time_left
from pki.project import external_requests
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.project import Project

CRITICAL = timedelta(days=14)  # left for a new key on another server, and a ceremony
CEREMONY = "./run invoke ceremony.request"
NO_CRL_CHECK = "most programs read no CRL, and trust it until then"


@dataclass(frozen=True, slots=True)
class ExternalAuthorities:
    """The external authorities of a project: their states, and what people must do."""

    project: Project

    def notes(self) -> Iterator[Notice]:
        """Yield what the people of the other servers must do: make a key and a request, or have an intermediate revoked."""
        authorities, externals = self.project.authorities, self.project.inventory.authorities.externals
        for name, rule in externals.items():
            if not authorities.has_new_request(name) and (why := self._why_request(name, rule)):
                yield Notice(ArtifactId("authority", name), why, external_requests.how_to_renew(name, rule))
        for need in needs.find_requirements(authorities) if externals and self.project.inventory.sandbox else ():
            if need.generation.is_external and need.has_no_deadline:  # else the next run of the sandbox certifies it
                yield Notice(ArtifactId("authority", need.authority), f"{need.what} waits: {need.why}", CEREMONY)
        for name in self.project.store.external_authorities():
            if name not in externals:
                for generation in _live(authorities, name):
                    text = f"no longer in pki.yaml; {generation.name} is valid until {generation.not_after:%Y-%m-%d}"
                    remedy = f"./run invoke ceremony.request --revoke {generation.name} --reason cessationOfOperation"
                    yield Notice(ArtifactId("authority", name), text, remedy)

    def findings(self) -> Iterator[Finding]:
        """Yield a finding for each external authority that expires soon or has expired: then every certificate of it fails."""
        for name in self.project.inventory.authorities.externals:
            present = self.project.authorities.issuing(name)
            if present is None:
                continue
            left, overlap = present.not_after - self.project.now, self.project.inventory.authorities.overlap(name)
            if left <= overlap:
                verb = "expired" if left < timedelta() else "expires"
                text = (
                    f"{verb} on {present.not_after:%Y-%m-%d}: then every client refuses the certificates that it issued"
                )
                level = level_by_time_left(left, overlap, min(CRITICAL, overlap / 4))
                yield Finding(
                    ArtifactId("authority", present.name), level, text, self.next_step(name), until=present.not_after
                )
            elif present.not_after > self.project.now:
                text = f"external; valid until {present.not_after:%Y-%m-%d}"
                yield Finding(ArtifactId("authority", present.name), Level.OK, text)

    def next_step(self, name: str) -> str:
        """Return what to type, or to do on the other server, for the next generation of an external authority."""
        for need in needs.find_requirements(self.project.authorities):
            if need.authority == name:
                is_automatic = self.project.inventory.sandbox and not need.has_no_deadline
                return "./run doit" if is_automatic else CEREMONY
        return external_requests.how_to_renew(name, self.project.inventory.authorities.externals[name])

    def state(self, generation: Generation) -> tuple[str, str]:
        """Return the state of a generation of an external authority for `invoke status`, and what happens next."""
        name, end = generation.authority, generation.not_after
        if end < self.project.now:
            return "expired", f"expired on {end:%Y-%m-%d}"
        if self.project.authorities.is_revoked_by_root(generation):
            return "revoked", f"its root's CRL lists it; {NO_CRL_CHECK}"
        newest = self.project.authorities.issuing(name)
        if newest is not None and newest.name != generation.name:
            return "ok", f"trusted until it expires; {newest.name} has replaced it"
        if name not in self.project.inventory.authorities.externals:
            return "ok", "external; no longer in pki.yaml"
        period_end = needs.signing_period_end(self.project.authorities, generation)
        if period_end <= self.project.now:
            return "due", f"its server must make a new key and request, and a ceremony certify it, by {end:%Y-%m-%d}"
        return "ok", f"external: another server has its key; a successor is requested on {period_end:%Y-%m-%d}"

    def _why_request(self, name: str, rule: ExternalRule) -> str:
        """Return why the server of an external authority must make a new key and request, or ""."""
        present = self.project.authorities.issuing(name)
        try:
            external_requests.read(self.project.store.home, rule)
            fault = ""
        except PkiError as error:
            fault = error.message
        if present is None:
            names = self.project.authorities.generations(name)
            if names and not fault:
                return f"{names[-1]} is revoked, and {rule.external} still has its key"
            return fault
        if needs.signing_period_end(self.project.authorities, present) <= self.project.now:
            return (
                f"{present.name} expires on {present.not_after:%Y-%m-%d}, and {fault or f'{rule.external} has its key'}"
            )
        permitted = {domain.removeprefix(".") for domain in present.permitted.domains}
        if permitted != set(rule.domains):
            wrong = [*sorted(set(rule.domains) - permitted), *sorted(permitted - set(rule.domains))]
            return f"pki.yaml permits it other domains than {present.name} has ({join_names(wrong)}); a new generation has a new key"
        return ""


def _live(authorities: Authorities, name: str) -> Iterator[Generation]:
    """Yield the generations of an external authority that are neither expired nor revoked."""
    for generation in filter(None, map(authorities.generation, authorities.generations(name))):
        if authorities.is_live(generation):
            yield generation
