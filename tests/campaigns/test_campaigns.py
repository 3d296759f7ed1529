"""What all campaigns share: the same seed gives the same trials, and a failing trial is made small."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.campaigns.__main__ import arguments
from tests.campaigns.campaign import Campaign, CampaignError, Outcome, Step, drawn, shrunk, summed, tried


def draw(chance: random.Random) -> list[Step]:
    return [["add", chance.randrange(100)] for _ in range(20)]


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    (place / "left").write_text("x", encoding="utf-8")
    figures["steps"] += len(steps)
    if ["add", 1] in steps and ["add", 2] in steps:
        raise CampaignError("both", f"in {len(steps)} steps")


NUMBERS = Campaign("numbers", draw, run, 1)


def test_a_seed_and_a_number_give_the_same_steps_each_time() -> None:
    assert drawn(NUMBERS, 7, 3) == drawn(NUMBERS, 7, 3)
    assert drawn(NUMBERS, 7, 3) != drawn(NUMBERS, 7, 4) != drawn(NUMBERS, 8, 4)


def test_the_size_of_continuous_integration_may_be_drawn_otherwise() -> None:
    small = Campaign("numbers", draw, run, 1, lambda chance: draw(chance)[:3])
    assert drawn(small, 7, 3, is_small=True) == drawn(small, 7, 3)[:3]
    assert drawn(NUMBERS, 7, 3, is_small=True) == drawn(NUMBERS, 7, 3)


def test_a_failing_trial_is_made_as_small_as_it_fails() -> None:
    steps: list[Step] = [["add", number] for number in range(30)]
    failed = tried(NUMBERS, steps, 5)
    assert failed.kind == "both"
    small = shrunk(failed, lambda fewer: tried(NUMBERS, fewer))
    assert (small.steps, small.number) == ([["add", 1], ["add", 2]], 5)


def test_another_failure_is_not_taken_for_the_same() -> None:
    def attempt(steps: list[Step]) -> Outcome:
        return Outcome(0, steps, kind="first" if len(steps) == 4 else "second")

    assert len(shrunk(attempt([["a"], ["b"], ["c"], ["d"]]), attempt).steps) == 4


def test_what_nobody_expected_is_a_failure_and_the_figures_are_summed() -> None:
    def breaks(steps: Sequence[Step], _place: Path, figures: Counter[str]) -> None:
        figures["steps"] += len(steps)
        raise ValueError(steps)

    odd = Campaign("odd", draw, breaks, 1)
    result = summed(1, [tried(odd, [["a"]]), tried(NUMBERS, [["a"], ["b"]])])
    assert (result.tried, result.figures["steps"], [one.kind for one in result.failed]) == (
        2,
        3,
        ["ValueError in the trial"],
    )


def test_a_trial_leaves_no_folder_behind(tmp_path: Path) -> None:
    tempfile.tempdir, before = str(tmp_path), tempfile.tempdir
    try:
        tried(NUMBERS, [["a"]])
        assert list(tmp_path.iterdir()) == []
    finally:
        tempfile.tempdir = before


# -- what is typed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["nonsense", "0", "-1", "nan", "inf", "1e308", ""])
def test_hours_that_are_no_time_end_in_a_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        arguments(["years", f"--hours={text}"])
    said = capsys.readouterr()
    assert (left.value.code, said.out) == (2, "")
    assert f"expected a number of hours above 0, such as 2 or 0.5, not {text!r}\n→ ./run invoke campaign" in said.err


def test_other_arguments_that_are_wrong_end_in_a_sentence_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / "case.json"
    case.write_text('{"steps": []}')
    for words, said in (
        (["years", "--seed=x"], "expected a whole number from 0 on, not 'x'"),
        (["years", "--processes=0"], "expected a whole number from 1 on, not '0'"),
        (["years", f"--case={case}"], f"{case}: expected a JSON list of steps"),
        (["years", f"--case={tmp_path / 'none.json'}"], "none.json: cannot be read: No such file"),
        (["ages"], "invalid choice: 'ages'"),
    ):
        with pytest.raises(SystemExit):
            arguments(words)
        assert said in capsys.readouterr().err
    assert arguments(["years", "--hours=0.5", "--seed=7"]).hours == 0.5
