"""Completion in bash, zsh and fish: the scripts for the shells, and the candidates for a word."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress

from pki.common.errors import PkiError
from pki.common.program_files import IS_INSTALLED

TAKES_CERTIFICATE = {"explain", "renew", "revoke", "retire"}
BASH = """\
_doit_pki() {
    local line=${COMP_LINE:0:COMP_POINT} typed word before=''
    word=${line##* }
    read -ra typed <<<"${line%"$word"}"
    case $COMP_WORDBREAKS in *:*) case $word in *:*) before=${word%"${word##*:}"} ;; esac ;; esac
    COMPREPLY=($("${typed[0]}" --complete "${typed[@]:1}" "$word" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o default -F _doit_pki doit-pki run ./run
"""
ZSH = """\
_doit_pki() {
    local -a candidates
    candidates=(${(f)"$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#candidates )); then compadd -a candidates; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i -D; }
compdef _doit_pki doit-pki run ./run
"""
FISH = """\
function __doit_pki
    set -l typed (commandline -opc)
    set -l word (commandline -ct)
    set -l candidates ($typed[1] --complete $typed[2..-1] "$word" 2>/dev/null)
    if set -q candidates[1]
        printf '%s\\n' $candidates
    else
        __fish_complete_path "$word"
    end
end
complete -c run -f -a '(__doit_pki)'
complete -c doit-pki -f -a '(__doit_pki)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str) -> str:
    """Return the completion script for a shell. Raises PkiError if the shell is not supported."""
    if shell not in SCRIPTS:
        raise PkiError(f"no completion for {shell!r}", "./run --completion bash, zsh or fish")
    return SCRIPTS[shell]


def candidates(words: list[str]) -> list[str]:
    """Return the candidates for the last of the words after `./run` or `doit-pki`; options only if it begins with `-`."""
    *before, word = words or [""]
    choices: Iterable[str] = ()
    if IS_INSTALLED and before and before[0] not in {"doit", "invoke"}:
        before = ["invoke", *before]
    if not before:
        choices = ("doit", *_commands(["invoke", word])) if IS_INSTALLED else ("doit", "invoke")
    elif before[0] == "doit":
        choices = ("list", "info", *_artifacts())
    elif _awaits_certificate(before) and not word.startswith("-"):
        names = (name.removeprefix("cert:") for name in _artifacts() if name.startswith("cert:"))
        choices = (name.removeprefix("client-") for name in names)
    elif before[0] == "invoke":
        choices = _commands([*before, word])
    return sorted({choice for choice in choices if choice.startswith(word)})


def _awaits_certificate(before: list[str]) -> bool:
    """Return whether the next word is the first argument of a command that takes a certificate."""
    return len(before) == 2 and before[0] == "invoke" and before[1] in TAKES_CERTIFICATE


def _artifacts() -> list[str]:
    from pki.pipeline import doit_command_line  # noqa: PLC0415 - slow, and needed for a few words only

    with redirect_stdout(io.StringIO()) as printed:
        doit_command_line.main(["list", "--all", "--quiet"])
    return printed.getvalue().split()


def _commands(words: list[str]) -> list[str]:
    from pki.cli.entry_points import program_commands  # noqa: PLC0415
    from pki.cli.program import Program  # noqa: PLC0415

    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        Program(program_commands()).run(["invoke", "--complete", "--", *words])
    return printed.getvalue().split()


def write(words: list[str]) -> None:
    """Print the candidates for the last word, one on each line."""
    for candidate in candidates(words):
        print(candidate)
    sys.stdout.flush()
