"""The campaign `inputs`: what it draws is data, mutations take any content, and its judges see what they are for."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.campaigns.campaign import CampaignError, drawn
from tests.campaigns.inputs import CAMPAIGN, der, mutations, values, verdicts
from tests.campaigns.inputs.readers import READERS, STRICT
from tests.campaigns.inputs.targets import TARGETS
from tests.campaigns.inputs.trial import Trial
from tests.campaigns.inputs.typed import Said
from tests.support.projects import START, Home

MARK = b"-----BEGIN CERTIFICATE-----"
CONTENTS = {
    "nothing": b"",
    "bytes": bytes(range(256)),
    "YAML": b"a: {b: [1, two], c: x}\nd:\n  e: 5\n",
    "JSON": b'{"a": [1, {"b": null}], "c": "x"}\n',
    "lines of JSON": b'{"a": 1}\n{"a": 2}\n',
    "PEM": der.section(b"CERTIFICATE", bytes.fromhex("300a0201010c0341424304000101ff"[:24])),
}


def test_steps_are_plain_data_and_reach_every_target() -> None:
    trials = [drawn(CAMPAIGN, 5, number) for number in range(400)]
    assert trials == [json.loads(json.dumps(steps)) for steps in trials]
    assert {steps[0][1] for steps in trials if steps[0][0] == "in"} == {*TARGETS, "arguments"}
    assert {step[1] for steps in trials for step in steps if step[0] == "read"} == {*READERS, *STRICT}
    kinds = {step[2] for steps in trials for step in steps if step[0] == "change"}
    assert {kind.partition(" ")[0] for kind in kinds} == {name.partition(" ")[0] for name in mutations.ALL}


@pytest.mark.parametrize("name", mutations.ALL)
def test_a_mutation_takes_any_content_and_gives_the_same_again(name: str) -> None:
    chance = random.Random(name)  # noqa: S311 - no secret hangs on it
    for data in CONTENTS.values():
        for _ in range(5 if name.startswith("sqlite") else 30):
            place, other, value = chance.randrange(1 << 30), chance.randrange(1 << 30), values.text(chance)
            changed = mutations.ALL[name](data, place, other, value)
            assert changed == mutations.ALL[name](data, place, other, value)


@pytest.mark.parametrize(
    ("name", "content"),
    [("yaml renamed", "YAML"), ("json moved", "JSON"), ("json dropped", "lines of JSON"), ("der integer", "PEM")],
)
def test_a_mutation_changes_content_of_its_kind(name: str, content: str) -> None:
    data = CONTENTS[content]
    assert any(mutations.ALL[name](data, place, place + 1, "x") != data for place in range(5))


def test_der_is_read_and_written_as_it_was(home: Home) -> None:
    for path in home.path.glob("ca/*/*/cert.pem"):
        [body] = [der.b64decode(one[2]) for one in der.SECTION.finditer(path.read_bytes())]
        assert b"".join(one.encode() for one in der.parse(body)) == body
        assert der.section(b"CERTIFICATE", body) == path.read_bytes()


# -- judges -----------------------------------------------------------------------------------------------------------


def said(out: str = "all is well\n", status: int = 0, memory: int = 0, line: str = "invoke plan") -> Said:
    return Said(tuple(line.split()), status, out, memory)


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (
            said('Traceback (most recent call last):\n  File "/x/pki/project/layout.py", line 5, in y\nKeyError\n', 1),
            "traceback",
        ),
        (
            said("unexpected KeyError at pki/project/layout.py:5\n→ this is a bug in doit-pki: report it", 1),
            "fault of ours at",
        ),
        (said(status=-11), "signal"),
        (said(status=-24), "hang"),
        (said(memory=501 << 20), "memory"),
        (said(status=70), "status 70"),
        (said("x\x1b[2J\n"), "control character"),
        (said("/x/y.py:5: ResourceWarning: unclosed file\n"), "a warning of Python"),
        (said("\n", 1), "refused without a word"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_an_end_that_no_command_may_have_is_a_failure(one: Said, kind: str) -> None:
    with pytest.raises(CampaignError) as failure:
        verdicts.ended_well(one)
    assert failure.value.kind.startswith(kind)
    verdicts.ended_well(said())


def test_a_secret_and_a_refusal_without_a_name_are_failures() -> None:
    verdicts.kept_secrets(said(), ["velvet cac"])
    with pytest.raises(CampaignError, match="secret"):
        verdicts.kept_secrets(said("wrong: velvet cactus"), ["velvet cac"])
    verdicts.names_it(said("pki.yaml:5: is wrong", 3), ["pki.yaml"])
    with pytest.raises(CampaignError, match="unclear"):
        verdicts.names_it(said("is wrong", 3), ["pki.yaml"])


def test_notices_of_health_are_no_refusal(tmp_path: Path) -> None:
    trial = Trial(tmp_path, Counter())
    assert not trial.refuses(said(line="invoke health", status=2))
    assert trial.refuses(said(line="invoke health", status=3))
    assert trial.refuses(said(line="invoke plan", status=2))


def test_what_a_command_may_not_leave_is_a_failure() -> None:
    verdicts.wrote_nothing_half(said(), {"a": "1"}, {"a": "1"})
    verdicts.wrote_nothing_half(said(line="invoke restore b.age"), {"a": "1"}, {"a": "2"})
    for one, after in (
        (said(), {"a": "2"}),
        (said(line="invoke restore b.age", status=1), {}),
        (said(line="doit"), {"a": "1", "b/.c.new": "1"}),
    ):
        with pytest.raises(CampaignError):
            verdicts.wrote_nothing_half(one, {"a": "1"}, after)


@pytest.mark.parametrize(
    "path",
    [
        *("build/certs/media/tls.pem", "ca/clients/admin/tls.pem", "build/hosts/media/etc/doit-pki/media.pem"),
        *("build/crl/client-1.crl", "build/crl/root-1.pem"),
    ],
)
def test_an_artifact_that_no_client_takes_is_a_failure(home: Home, path: str) -> None:
    verdicts.artifacts(home.path, START, [])
    content = home.read(path)
    if "crl" in path:
        changed = home.read(path.replace("client-1", "server-1").replace("root-1", "server-1"))
    else:  # the leaf of another host, and the rest as it was
        key, _, *rest = content.split(MARK)
        changed = MARK.join([key, home.read("build/certs/forge-mtls/cert.pem").removeprefix(MARK), *rest])
    home.path.joinpath(path).write_bytes(changed)
    with pytest.raises(CampaignError, match="wrong"):
        verdicts.artifacts(home.path, START, [])


def test_a_lost_revocation_is_a_failure(home: Home) -> None:
    with pytest.raises(CampaignError, match="a revocation is lost"):
        verdicts.artifacts(home.path, START, [0xABC])


def test_a_trial_counts_what_it_did(tmp_path: Path) -> None:
    figures: Counter[str] = Counter()
    CAMPAIGN.run([["change", 1, "bytes cut", 1, 1, ""], ["fix"]], tmp_path, figures)
    assert figures == Counter(), "a step without the project that it is for does nothing"
