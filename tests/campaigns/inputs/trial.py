"""One trial: a copy of a project, damaged, with commands that are judged one after the other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pki.backup import archive_format
from pki.backup.archive_format import BackupFile
from pki.ceremony import request_response, words
from pki.common import age
from pki.common.errors import PkiError
from tests.campaigns.campaign import CampaignError, Step
from tests.campaigns.inputs import databases, mutations, projects, reading, verdicts
from tests.campaigns.inputs.targets import TARGETS, Target
from tests.campaigns.inputs.typed import Said, really_typed, typed
from tests.support import judges
from tests.support.odd_files import ODD
from tests.support.projects import START

Way = Callable[[Sequence[str], Path, float], Said]
SECRET_PART = 10  # characters: this many of a passphrase in a row are a leak


@cache
def secrets_of(project: str) -> frozenset[str]:
    """Parts of every passphrase, and the beginning of every private key, of a project."""
    place, found = projects.built(project), set()
    for name in ("project/secrets.yaml", "words", "secret"):
        if (place / name).is_file():
            said = yaml.safe_load((place / name).read_text())
            for one in said.values() if isinstance(said, dict) else [said]:
                found |= {str(one)[at : at + SECRET_PART] for at in range(max(1, len(str(one)) - SECRET_PART))}
    for path in [*place.glob("project/build/certs/*/key.pem"), *place.glob("project/ca/**/key.pem")]:
        if body := judges.PEM_KEY.search(path.read_bytes()):
            found.add(body[1].decode().split("\n")[1])
    return frozenset(found)


@cache
def revoked_in(project: str) -> frozenset[int]:
    """The serial numbers on the CRLs of a project as it was built."""
    crls = [
        judges.crls(path.read_bytes())[0]
        for path in projects.built(project).glob("project/build/crl/*.pem")
        if "bundle" not in path.name
    ]
    return frozenset(entry.serial_number for crl in crls for entry in crl)


NOTICES = 2  # the exit status of `health` without a warning


@cache
def undamaged(project: str, line: tuple[str, ...], days: float) -> int:
    """The exit status of a command over a project as it was built."""
    with tempfile.TemporaryDirectory(prefix="campaign-inputs-") as folder:
        trial = Trial(Path(folder), Counter())
        trial.start(project, days)
        return trial.said(line).status


class Trial:
    """A copy of a project in a folder, and what was done to it."""

    def __init__(self, place: Path, figures: Counter[str]) -> None:
        self.place, self.figures = place / "desk", figures
        self.target: Target | None = None
        self.project, self.days = "", 0.0
        self.changed: dict[Path, BackupFile] = {}
        self.has_new_state = False  # whether a command may have changed what is due
        self.has_other_rows = False  # whether a ledger was changed in what it records

    # -- steps --

    def carry_out(self, step: Step) -> None:
        """Do one step; one that comes before the project is there does nothing."""
        if step[0] == "in":
            self.target, self.days = TARGETS.get(step[1]), step[2]
            self.figures[f"trials of {step[1]}"] += 1
            self.start(self.target.project if self.target else "lab", self.days)
        elif self.project:
            getattr(self, f"_{step[0]}")(*step[1:])

    def start(self, project: str, days: float) -> None:
        self.project, self.days = project, days
        self.home = projects.copied(project, self.place)
        projects.mounted(project, self.place)

    def _change(self, number: int, mutation: str, place: int, other: int, value: Any) -> None:
        """Change the content of one of the target's files."""
        assert self.target
        files = self.target.files(self.place)
        if not files:
            return
        path = files[number % len(files)]
        data = path.read_bytes()
        if self.target.is_inside:
            new = self._within(data, number, mutation, place, other, value)
        else:
            new = mutations.ALL[mutation](data, place, other, value)
        if new != data:
            self.changed.setdefault(path, BackupFile(data, path.stat().st_mode & 0o7777))
            path.write_bytes(new)
            for side in ("-wal", "-shm"):
                path.with_name(path.name + side).unlink(missing_ok=True)
            self.figures["files changed"] += 1
            self.has_other_rows |= path.name == "ledger.db" and databases.rows(data) != databases.rows(new)

    @staticmethod
    def _within(data: bytes, number: int, mutation: str, place: int, other: int, value: Any) -> bytes:
        """Change a file within a backup, whose manifest says so, or does not."""
        try:
            kept = archive_format.unpack(age.decrypt(data, projects.WORDS, "b.age"), "b.age")
        except PkiError:  # it is none any more
            return data
        files, about = dict(kept.files), {key: one for key, one in kept.about.items() if key not in {"files", "format"}}
        name = sorted(files)[number // 7 % len(files)]
        new = BackupFile(mutations.ALL[mutation](files[name].data, place, other, value), files[name].mode)
        if other % 5 == 0:
            files[str(value).replace("\x00", "") or "x"] = files.pop(name)
        else:
            files[name] = new
        packed = archive_format.pack(files, about, START)
        if other % 7 == 0:
            packed = mutations.ALL[mutation](packed, place, other, value)
        return projects.OPEN + packed

    def _odd(self, number: int, kind: str) -> None:
        """Put something that is no file in place of one."""
        assert self.target
        files = self.target.files(self.place)
        if files:
            path = files[number % len(files)]
            self.changed.setdefault(path, BackupFile(path.read_bytes(), path.stat().st_mode & 0o7777))
            path.unlink()
            ODD[kind][0](path)
            self.figures["files replaced by what is none"] += 1

    def _type(self, *line: str) -> None:
        """Run a command in a fork of this process and judge what it says and leaves."""
        self._judged(line, typed)

    def _start(self, *line: str) -> None:
        """Run a command as a program of its own and judge the same."""
        self.figures["programs started"] += 1
        self._judged(line, really_typed)

    def _judged(self, line: tuple[str, ...], way: Way) -> None:
        before = verdicts.tree(self.place)
        said = self.said(line, way)
        verdicts.ended_well(said)
        verdicts.kept_secrets(said, self._secrets())
        verdicts.wrote_nothing_half(said, before, verdicts.tree(self.place))
        if said.status and self.changed and self.refuses(said) and not undamaged(self.project, line, self.days):
            self.figures["refusals"] += 1
            verdicts.names_it(said, [*self._names(), *(Path(word).name for word in line[2:] if word[:1] not in "-{")])
        self.has_new_state |= line[0] == "invoke" and line[1] not in verdicts.LOOKING
        if not said.status:
            self._insist(said)
        if line == ("doit",) and not said.status and self.project != "fleet":
            self._judge(said)

    def _fix(self) -> None:
        """Put back what was changed: everything goes on as if nothing had happened."""
        if self.target is None or not self.target.fixes or self.project == "fleet":
            return
        for path, kept in self.changed.items():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(kept.data)
            path.chmod(kept.mode)
        self.changed.clear()
        said = self.said(("doit",))
        verdicts.ended_well(said)
        if said.status and self.project == "lab":
            raise CampaignError("not as before", f"{said.line}: exit {said.status}, the files put back\n{said.out}")
        self.figures["projects fixed"] += 1
        self._judge(said)

    # -- judgement --

    def said(self, line: tuple[str, ...], way: Way = typed) -> Said:
        files = {"{words}": "out/response-0002/response.yaml", "{request}": "request.yaml"}
        words_of = {mark: self._spoken(name) for mark, name in files.items() if mark in line}
        self.figures["commands"] += 1
        projects.mounted(self.project, self.place)
        return way([words_of.get(word, word) for word in line], self.home.path, self.days)

    def refuses(self, said: Said) -> bool:
        """Whether the exit status means more than that something is due, which an earlier command may have made so."""
        if said.words[:2] == ("invoke", "health") and said.status == NOTICES:
            return False  # what was changed is valid, and has another meaning
        return not self.has_new_state or said.words[0] == "doit" or said.status in {1, 3}

    def _insist(self, said: Said) -> None:
        """Raise CampaignError where a command takes for sound what was changed."""
        response = self.place / "out/response-0002"
        if said.words[1:2] == ("ceremony.accept",) and any(
            response in path.parents and path.suffix != ".html" for path in self.changed
        ):
            raise verdicts.failure("a changed response is accepted", said, list(self.changed))
        if said.words[1:2] == ("ledger.verify",) and self.has_other_rows:
            raise verdicts.failure("other rows are the ledger's", said)

    def _spoken(self, name: str) -> str:
        """The words that a person would read from paper for a file, as it is now."""
        path = self.place / name
        return words.first(request_response.digest(path.read_bytes() if path.is_file() else b""))

    def _secrets(self) -> frozenset[str]:
        return secrets_of(self.project)

    def _names(self) -> list[str]:
        """The texts by which a message may name what was changed."""
        assert self.target
        files = [
            name for path in self.changed for name in (path.name, path.parent.name) if name not in {"project", "ca"}
        ]
        return [*files, *self.target.names]

    def _judge(self, said: Said) -> None:
        self.figures["artifacts judged"] += 1
        try:
            verdicts.artifacts(self.home.path, START + timedelta(days=self.days), revoked_in(self.project))
        except CampaignError as error:
            raise CampaignError(error.kind, f"{error}\nafter {said.line}: exit {said.status}\n{said.out}") from None
        except (ValueError, AssertionError, IndexError, TypeError) as error:
            raise CampaignError(f"wrong: {type(error).__name__}", f"{error!r} after {said.line}\n{said.out}") from error


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    """Carry out the steps of a trial. Raises CampaignError at the first failure."""
    if steps and all(step[0] == "read" for step in steps):
        reading.run(steps, place, figures)
        return
    trial = Trial(place, figures)
    for step in steps:
        trial.carry_out(step)
