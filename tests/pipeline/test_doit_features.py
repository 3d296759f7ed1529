"""Features of doit that are not in its documentation, and that the pipeline uses: each test fails when a new doit lacks one."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from doit.cmd_base import DoitCmdBase
from doit.cmd_run import Run
from doit.control import TaskControl
from doit.dependency import Dependency
from doit.loader import generate_tasks
from doit.runner import Runner
from doit.task import Stream, Task
from doit.version import VERSION

from pki.config.identifiers import ArtifactId
from pki.pipeline import doit_command_line
from pki.pipeline.doit_internals import (
    ArtifactTask,
    NoDatabase,
    NoFileChecks,
    ParallelRunner,
    RunCommand,
    artifact_task,
    group_task,
)


def test_the_features_were_looked_at_in_this_version_of_doit() -> None:
    assert VERSION[:2] == (0, 37), "look at each of these features again, then change this line"


def test_the_options_of_run_follow_from_the_signature_of_execute() -> None:
    """RunCommand overrides `_execute`, and keeps its signature, from which doit takes the options that it passes."""
    assert "inspect.signature(self._execute)" in inspect.getsource(DoitCmdBase.execute)
    ours, theirs = vars(RunCommand)["_execute"], vars(Run)["_execute"]
    assert inspect.signature(ours) == inspect.signature(theirs)
    used = {"num_process", "single", "verbosity", "force_verbosity", "reporter", "continue_", "always"}
    assert used <= set(inspect.signature(theirs).parameters)
    source = inspect.getsource(theirs)
    assert "self.control = TaskControl(self.task_list" in source
    assert "self.control.process(self.sel_tasks)" in source


def test_a_runner_has_the_steps_that_the_parallel_one_calls() -> None:
    steps = {
        name: [*inspect.signature(getattr(Runner, name)).parameters][1:]
        for name in ("select_task", "process_task_result")
    }
    assert steps == {"select_task": ["node", "tasks_dict"], "process_task_result": ["node", "base_fail"]}
    assert [*inspect.signature(Runner.run_tasks).parameters] == [
        *inspect.signature(ParallelRunner.run_tasks).parameters
    ]
    assert "self.run_tasks(task_dispatcher)" in inspect.getsource(Runner.run_all)
    runner = Runner(None, SimpleNamespace())
    assert {"_stop_running", "reporter", "stream"} <= vars(runner).keys()


def test_the_dispatcher_says_when_there_is_nothing_to_start() -> None:
    first, second = Task("a", [lambda: None]), Task("b", [lambda: None], task_dep=["a"])
    control = TaskControl([first, second])
    control.process(None)
    dispatcher = control.task_dispatcher()
    assert set(dispatcher.tasks) == {"a", "b"}
    node = dispatcher.generator.send(None)
    assert (node.task, node.task.has_subtask) == (first, False)
    assert dispatcher.generator.send(None) == "hold on"


def test_what_a_task_did_goes_to_another_process_and_back() -> None:
    task = Task("a", [lambda: {"outcome": 1}])
    assert task.execute(Stream(0)) is None
    again = Task("a", [lambda: None])
    again.update_from_pickle(task.pickle_safe_dict())
    assert again.values == {"outcome": 1}


def test_the_subtasks_of_a_group_are_selected_by_its_name_and_not_listed_without_it() -> None:
    """Doit marks groups and subtasks with attributes of a task, as its own loader of task dictionaries does."""
    group, task = group_task("cert", ""), artifact_task(ArtifactId("cert", "web"), bool, bool, (), (), "")
    group.task_dep.append(task.name)
    loaded, subtask = generate_tasks("cert", (task for task in [{"name": "web", "actions": [bool]}]))
    assert (group.has_subtask, group.task_dep, group.actions) == (loaded.has_subtask, loaded.task_dep, loaded.actions)
    assert (task.name, task.subtask_of) == (subtask.name, subtask.subtask_of)


def test_a_task_of_ours_skips_the_type_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(Task, "check_attr", staticmethod(lambda *arguments: calls.append(arguments)))
    Task("a", None)
    assert calls, "doit checks types in another place"
    calls.clear()
    ArtifactTask("a", None)
    assert calls == []


def test_without_a_database_each_source_counts_as_known() -> None:
    """It looks for the checker, the sources and their states under these names."""
    dependency = Dependency(NoDatabase, "x", NoFileChecks)
    task = Task("a", None, file_dep=[__file__], targets=["/nonexistent"], uptodate=[True])
    assert dependency.get_status(task, {"a": task}).status == "up-to-date"
    stale = Task("b", None, file_dep=[__file__], uptodate=[False])
    assert dependency.get_status(stale, {"b": stale}).status == "run"


@pytest.mark.parametrize(
    ("typed", "what"),
    [
        ("--verify", "option --verify not recognized"),
        ("-n", "option -n requires argument"),
        ("-nx", "an option has a wrong value: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_wrong_option_is_refused_in_one_sentence(typed: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert doit_command_line.main([typed]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"ERROR: {what}"
    assert lines[1].startswith("→ ")
    assert lines[1].endswith("doit --help")
