"""A program at the other end that reads nothing, says nothing, or ends: noticed in time, and named."""

from __future__ import annotations

import pytest

from pki.deploy.process import DisconnectedError, LimitError, Limits, Process, run

SHORT, LONG = Limits(0.2, 30.0), Limits(30.0, 30.0)
LARGE = bytes(1 << 20)  # more than a pipe holds


def shell(command: str) -> tuple[str, ...]:
    return ("sh", "-c", command)


def test_a_program_that_reads_nothing_is_ended() -> None:
    with Process(shell("exec sleep 60"), SHORT) as process:
        with pytest.raises(LimitError, match=r"^took nothing for 0\.2 s$"):
            process.send(LARGE)
        process.terminate()


def test_a_program_that_says_nothing_is_ended() -> None:
    with Process(shell("exec sleep 60"), SHORT) as process:
        with pytest.raises(LimitError, match=r"^sent no answer for 0\.2 s$"):
            process.read_line()
        process.terminate()


def test_the_limit_of_the_whole_counts_whatever_is_said() -> None:
    with Process(shell("while echo x; do sleep 0.05; done"), Limits(30.0, 0.5)) as process:
        with pytest.raises(LimitError, match=r"^took longer than 0\.5 s in all$"):
            all(line == b"x" for line in iter(process.read_line, b""))
        process.terminate()


def test_a_program_that_ended_reads_no_more() -> None:
    with Process(shell("exec <&-; sleep 60"), LONG) as process:
        with pytest.raises(DisconnectedError, match="the connection was lost"):
            process.send(LARGE)
        process.terminate()


def test_an_output_that_ends_in_the_middle_of_a_line_is_a_lost_connection() -> None:
    with Process(shell("printf half"), LONG) as process, pytest.raises(DisconnectedError, match="was lost"):
        process.read_line()
    with Process(shell("printf four"), LONG) as process:
        assert process.read_exactly(4) == b"four"
        with pytest.raises(DisconnectedError, match="was lost"):
            process.read_exactly(1)


def test_what_a_program_said_explains_why_it_read_no_more() -> None:
    status, output, errors = run(shell("echo out; echo why >&2; exec <&-; exit 3"), LARGE, LONG)
    assert (status, output, errors) == (3, "out", "why")
