"""The program that `run` and `doit-pki` start: handles Ctrl-C and closed standard streams, then runs doit or invoke.

`run` starts it with `python -S`, before packages are searched for, so that Ctrl-C is handled from the beginning.
"""

import _signal  # type: ignore[import-not-found] # built in: Ctrl-C is handled before any other module is read

HEARS = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler  # nohup ignores it
if HEARS and __name__ == "__main__":
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

STOPPED = 128 + signal.SIGINT
NO_OUTPUT = "standard output is closed; nothing was done\n→ redirect it: >/dev/null"


def stop(_number: int, _frame: object) -> None:
    """End the process on Ctrl-C, before anything was done."""
    os.write(2, b"stopped; nothing was done\n")
    os._exit(STOPPED)


def open_channels() -> bool:
    """Open /dev/null for each closed standard stream; return whether standard output was open.

    Otherwise the next file that is opened would become that stream.
    """
    has_output = True
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            has_output = has_output and number != 1
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is `number`
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - they stay open
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    return has_output


def main(program: str, arguments: list[str]) -> int:
    """Run `doit` or `invoke` with its arguments, or suggest a command; return the exit status."""
    from pki.cli import launch  # noqa: PLC0415 - slow; Ctrl-C is handled meanwhile

    return launch.run(program, arguments)


def installed() -> int:
    """Run the command `doit-pki` of an installed program, in the surroundings that `run` makes; return the exit status."""
    if HEARS:
        signal.signal(signal.SIGINT, stop)
    words = sys.argv[1:] or ["--help"]
    if not open_channels() and words[0] != "doit":
        sys.exit(NO_OUTPUT)
    os.umask(os.umask(0o077) | 0o022)  # others decide nothing about the program; whatever else the mask says stays
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold keys and passphrases
    os.environ["PKI_CALLED_FROM"] = os.getcwd()
    from pki.common.program_files import project_folder  # noqa: PLC0415 - slow; Ctrl-C is handled meanwhile
    from pki.common.remedies import command_on_path  # noqa: PLC0415 - as above

    os.environ["PKI_HOME"] = str(project_folder() or "")
    os.environ["PKI_COMMAND"] = command_on_path()
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    from pki.cli import launch  # noqa: PLC0415 - as above

    return launch.run_installed(words)


if __name__ == "__main__":
    if HEARS:
        signal.signal(signal.SIGINT, stop)
    if not open_channels() and sys.argv[1] == "invoke":
        sys.exit(NO_OUTPUT)
    import site  # adds the packages of the environment

    site.main()
    sys.path.insert(0, os.getcwd())  # the folder of the program, with dodo.py and tasks.py
    sys.exit(main(sys.argv[1], sys.argv[2:]))
