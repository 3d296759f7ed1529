"""`doit -n`: what its processes need, what they hold, and what becomes of the run when one of them is killed."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pki.authority.certificates import LeafCertificates
from pki.common import child_processes
from pki.common.child_processes import exit_description
from pki.common.reasons import Outcome
from pki.config.model import Leaf
from pki.deploy import process
from pki.monitor.report.run import Run
from pki.project.layout import Store
from tests.support.locked import takes_the_lock
from tests.support.projects import Home


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A child process that does some work, says so, and then waits; ended with the block."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            work()
            os.write(theirs, b"x")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(theirs)
    try:
        assert os.read(ours, 1) == b"x", "the work failed in the child"
        yield child
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_parallel_run_does_what_a_sequential_one_does(fresh: Home) -> None:
    report = fresh.doit("-n", "3")
    assert (report.status, report.data["up_to_date"], len(report.made)) == (0, 3, 17)
    again = fresh.doit("-n", "3")
    assert (again.status, again.made, again.data["up_to_date"]) == (0, {}, 20)


def test_a_parallel_run_needs_no_semaphores_and_so_no_dev_shm(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_arguments: object, **_options: object) -> None:
        raise FileNotFoundError("there is no shared memory")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", nowhere)
    report = home.doit("-n", "2", days=61)
    assert report.status == 0
    assert {"cert:media", "deploy:forge", "deploy:monitoring"} <= report.made.keys()


@pytest.mark.usefixtures("rendered_in_a_child")
def test_a_parallel_run_with_nothing_to_do_starts_no_process(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise AssertionError("a process was started")

    monkeypatch.setattr(os, "fork", refuse)
    assert home.doit("-n", "4").status == 0


def test_a_worker_that_is_killed_fails_its_own_task_and_what_needs_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = LeafCertificates.issue_if_due

    def issue_or_die(self: LeafCertificates, leaf: Leaf) -> Outcome:
        if leaf.name == "media":
            os.kill(os.getpid(), signal.SIGKILL)
        return issue(self, leaf)

    monkeypatch.setattr(LeafCertificates, "issue_if_due", issue_or_die)
    report = home.doit("-n", "2", days=61)
    assert report.status in {1, 2}
    assert set(report.failed) == {"cert:media"}
    assert "was ended by SIGKILL, as the system does without free memory → ./run doit" in report.failed["cert:media"]
    assert {one["name"] for one in report.data["blocked"]} == {"release:media", "deploy:media"}
    assert {"cert:forge-mtls", "deploy:forge", "deploy:monitoring"} <= report.made.keys()


def test_the_look_at_the_end_sees_what_the_workers_made(home: Home) -> None:
    """CRLs and certificates had ended before the run; other processes than the one that looks made the new ones."""
    assert home.doit(days=1).status == 0  # what this run found is recalled by the next one
    report = home.doit("-n", "2", days=95)
    assert {"crl:server-1", "crl:client-1", "cert:media"} <= report.made.keys()
    assert (report.status, report.data["critical"]) == (0, 0)


def test_a_run_of_one_task_alone_leaves_its_sources_out(home: Home) -> None:
    report = home.doit("-n", "2", "-s", "cert:media", days=61)
    assert set(report.made) == {"cert:media"}


def test_a_forked_process_holds_no_lock_of_the_one_that_forked_it(tmp_path: Path) -> None:
    with Store(tmp_path).lock():
        stack = ExitStack()
        child = stack.enter_context(forked(lambda: None))
        inherited = {os.readlink(path) for path in Path(f"/proc/{child}/fd").iterdir()}
        assert f"{tmp_path}/ca/.run.lock" not in inherited
        assert not takes_the_lock(tmp_path)
    assert takes_the_lock(tmp_path)
    stack.close()


def test_a_run_waits_for_a_worker_of_a_run_that_was_killed(tmp_path: Path) -> None:
    """The kernel ends it, but not at the very moment at which its parent ends."""
    with forked(Store(tmp_path).join_current_run):
        assert not takes_the_lock(tmp_path)
    assert takes_the_lock(tmp_path)


def test_whoever_waits_for_a_ca_that_is_moved_aside_meanwhile_holds_the_new_one(tmp_path: Path) -> None:
    """As a restore does: otherwise two runs would work at once, each with a lock of its own."""
    waits, holds, done = (threading.Event() for _ in range(3))

    def tell(_holder: str) -> str:
        waits.set()
        return "waiting"

    def wait() -> None:
        with Store(tmp_path).hold_lock("run.lock", tell):
            holds.set()
            done.wait(300)

    waiter = threading.Thread(target=wait)
    with Store(tmp_path).hold_lock("run.lock"):
        waiter.start()
        assert waits.wait(300)
        (tmp_path / "ca").rename(tmp_path / "aside")
        (tmp_path / "ca").mkdir()
    assert holds.wait(300)
    assert not takes_the_lock(tmp_path)
    done.set()
    waiter.join()
    assert takes_the_lock(tmp_path)


def test_a_worker_does_nothing_once_the_next_run_has_begun(tmp_path: Path) -> None:
    with Store(tmp_path).hold_lock("workers.lock"):
        assert not Store(tmp_path).join_current_run()


def test_a_process_whose_parent_is_gone_ends_at_once() -> None:
    child = os.fork()
    if not child:
        child_processes.end_with_parent(1 if os.getppid() != 1 else 2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_program_is_spoken_with_beyond_the_thousandth_descriptor() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        with ExitStack() as stack, open(os.devnull, "rb") as null:
            while (last := fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 0)) < 1024:
                stack.callback(os.close, last)
            stack.callback(os.close, last)
            assert process.run(("cat",), b"hello", process.STANDARD) == (0, "hello", "")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (-9, "was ended by SIGKILL, as the system does without free memory"),
        (-15, "was ended by SIGTERM"),
        (7, "ended with exit status 7"),
    ],
)
def test_how_a_process_ended_is_said_in_a_phrase(status: int, said: str) -> None:
    assert exit_description(status) == said


def test_the_report_of_a_run_is_empty_until_it_has_come_to_its_end(home: Home) -> None:
    run = Run(home.path, home.moment())
    assert run.report == {}
    assert run.main(["-n", "2"]) == 0
    assert run.report["result"] == "ok"
