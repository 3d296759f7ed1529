"""The first word after `./run`: doit, invoke, --help, --version or --completion; a hint for anything else."""

from __future__ import annotations

import shlex
import sys
from difflib import get_close_matches

from pki import __version__
from pki.common.child_processes import STOPPED
from pki.common.terminal import say_nothing_more

USAGE = """\
Usage: ./run doit [NAME]...            bring everything up to date, or what is named: cert:media, deploy:web
       ./run doit list                 the names of tasks; doit info NAME explains one of them
       ./run invoke COMMAND            plan, status, health, explain NAME, renew NAME, revoke NAME, ...
       ./run invoke --list             all commands; COMMAND -h explains one
       ./run --version
       eval "$(./run --completion)"    completion in bash
The project is the folder with pki.yaml: PKI_HOME, or the current folder, or the folder of the program.
"""
COMPLETION = """\
_doit_pki() {
    local line=${COMP_LINE:0:COMP_POINT} typed candidates word before=''
    word=${line##* }
    read -ra typed <<<"${line%"$word"}"
    case ${typed[*]:1:2}/$word in
        /*) candidates='doit invoke' ;;
        invoke*/-* | invoke/*) candidates=$("${typed[0]}" invoke --complete -- "${typed[@]:1}" "$word" 2>/dev/null) ;;
        'invoke explain'/* | 'invoke renew'/* | 'invoke revoke'/* | 'invoke retire'/*)
            candidates=$("${typed[0]}" doit list --all --quiet 2>/dev/null | sed -n 's/^cert:\\(client-\\)\\{0,1\\}//p') ;;
        doit*) candidates="list info $("${typed[0]}" doit list --all --quiet 2>/dev/null)" ;;
    esac
    case $COMP_WORDBREAKS in *:*) case $word in *:*) before=${word%"${word##*:}"} ;; esac ;; esac
    COMPREPLY=($(compgen -W "$candidates" -- "$word"))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o default -F _doit_pki run ./run
"""
TEXTS = {
    **dict.fromkeys(("-h", "--help", "help"), USAGE),
    **dict.fromkeys(("-V", "--version"), f"doit-pki {__version__}\n"),
    "--completion": COMPLETION,
}


def run(program: str, arguments: list[str]) -> int:
    """Run `doit` or `invoke`, print help, or suggest a command; return the exit status."""
    try:
        if program == "doit":
            return _doit(arguments)
        if program == "invoke":
            _invoke(arguments)
            return 0
        return _other(program, arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `… | head`
        say_nothing_more()
        return 1
    except OSError as error:
        if error.filename:
            raise
        say_nothing_more()
        print(f"the output cannot be written: {error.strerror}\n→ redirect it elsewhere", file=sys.stderr)
        return 1


def _doit(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        return _other("--help", [])
    if arguments[:1] in (["-V"], ["--version"]):
        return _other("--version", [])
    from pki.pipeline import doit_command_line  # noqa: PLC0415 - slow, and not needed for invoke

    status = doit_command_line.main(arguments)
    sys.stdout.flush()
    return status


def _invoke(arguments: list[str]) -> None:
    from pki.cli.program import Program  # noqa: PLC0415

    try:
        Program().run(["invoke", *arguments])
    finally:
        sys.stdout.flush()


def _other(program: str, arguments: list[str]) -> int:
    if text := TEXTS.get(program):
        print(text, end="", flush=True)
        return 0
    from pki.cli.program import command_names  # noqa: PLC0415

    names = command_names()
    close = [program] if program in names else get_close_matches(program, names, n=1)
    line = f"did you mean ./run invoke {shlex.join([*close, *arguments])}" if close else "./run --help"
    if program in {name.partition(".")[0] for name in names if "." in name}:
        line = f"./run invoke --list {program}"
    print(f"run: unknown command {program!r}\n→ {line}", file=sys.stderr)
    return 2
