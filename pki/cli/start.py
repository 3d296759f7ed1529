"""What `run` starts: doit or invoke, with Ctrl-C, closed channels and mistyped commands told in a sentence.

`run` starts it with `python -S`, before any package is looked for, so that Ctrl-C is heard from the beginning.
"""

import _signal  # type: ignore[import-not-found] # built in: Ctrl-C is heard before any other module is read

HEARS = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler  # it is ignored after nohup
if HEARS and __name__ == "__main__":
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

STOPPED = 128 + signal.SIGINT


def stop(_number: int, _frame: object) -> None:
    """End before anything was begun."""
    os.write(2, b"stopped; nothing was done\n")
    os._exit(STOPPED)


def open_channels() -> bool:
    """Put /dev/null in place of closed channels, or the next file that is opened is one; whether output has a place."""
    has_output = True
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            has_output = has_output and number != 1
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - they stay open
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    return has_output


def main(program: str, arguments: list[str]) -> int:
    """Run `doit` or `invoke` with its arguments, or say what `program` may have been meant to be; the exit status."""
    from pki.cli import launch  # noqa: PLC0415 - takes long, and Ctrl-C is heard meanwhile

    return launch.run(program, arguments)


if __name__ == "__main__":
    if HEARS:
        signal.signal(signal.SIGINT, stop)
    if not open_channels() and sys.argv[1] == "invoke":
        sys.exit("standard output is closed; nothing was done\n→ send it somewhere: >/dev/null")
    import site  # finds the packages of the environment

    site.main()
    sys.path.insert(0, os.getcwd())  # where `run` went: dodo.py and tasks.py are there
    sys.exit(main(sys.argv[1], sys.argv[2:]))
