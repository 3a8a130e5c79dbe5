"""Completion scripts for bash, zsh and fish, written from the command tree: no Python starts when TAB is pressed.

    python -m llmtool.cli.completion completions

A test regenerates them, compares, and runs each shell's syntax check.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option: its spellings, help, and what it takes ("" nothing, "value", "file", or its choices)."""

    names: tuple[str, ...]
    help: str
    takes: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """One command of the tree with its path, such as "llmtool tokenizer train"."""

    path: str
    help: str
    options: tuple[Option, ...]
    commands: tuple["Command", ...] = ()

    def walk(self) -> Iterator["Command"]:
        """This command and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def tree() -> Command:
    """The command tree of the app."""
    from llmtool.cli.app import build

    return _command(build(), "llmtool")


def _command(node: Any, path: str) -> Command:
    options = [_option(parameter) for parameter in node.params if parameter.param_type_name == "option"]
    options.append(Option(("--help", "-h"), "Show the help."))
    children = getattr(node, "commands", {})
    summary = (node.help or "").strip().splitlines()
    return Command(
        path,
        summary[0] if summary else "",
        tuple(options),
        tuple(_command(child, f"{path} {name}") for name, child in children.items()),
    )


def _option(parameter: Any) -> Option:
    choices = tuple(str(choice) for choice in getattr(parameter.type, "choices", None) or ())
    takes = "value"
    if parameter.is_flag:
        takes = ""
    elif type(parameter.type).__name__ == "TyperPath" or parameter.metavar == "FILE":
        takes = "file"
    return Option((*parameter.opts, *parameter.secondary_opts), (parameter.help or "").strip(), takes, choices)


def bash(root: Command) -> Iterator[str]:
    """Lines of the bash script."""
    yield "# bash completion for llmtool; generated, do not edit"
    yield "_llmtool() {"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path=llmtool i"
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield '        case "$path ${COMP_WORDS[i]}" in'
    known = "|".join(f'"{command.path}"' for command in root.walk() if command is not root)
    yield f'            {known}) path="$path ${{COMP_WORDS[i]}}" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$path:$prev" in'
    for command in root.walk():
        for option in command.options:
            if option.takes:
                names = "|".join(f'"{command.path}:{name}"' for name in option.names)
                words = f'-W "{" ".join(option.choices)}"' if option.choices else "-f" if option.takes == "file" else ""
                reply = f'mapfile -t COMPREPLY < <(compgen {words} -- "$cur")' if words else "COMPREPLY=()"
                yield f"        {names}) {reply}; return ;;"
    yield "    esac"
    yield '    local words=""'
    yield '    case "$path" in'
    for command in root.walk():
        names = " ".join(name for option in command.options for name in option.names)
        below = " ".join(child.path.rpartition(" ")[2] for child in command.commands)
        yield f'        "{command.path}") [[ $cur == -* ]] && words="{names}" || words="{below}" ;;'
    yield "    esac"
    yield '    if [[ -n $words ]]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")'
    yield '    else mapfile -t COMPREPLY < <(compgen -f -- "$cur"); fi'
    yield "}"
    yield "complete -o filenames -o bashdefault -F _llmtool llmtool"


def zsh(root: Command) -> Iterator[str]:
    """Lines of the zsh script."""
    yield "#compdef llmtool"
    yield "# zsh completion for llmtool; generated, do not edit"
    for command in root.walk():
        yield f"{_function(command)}() {{"
        yield "    local context state state_descr line"
        yield "    typeset -A opt_args"
        yield "    _arguments -C \\"
        for option in command.options:
            yield f"        {_zsh_option(option)} \\"
        if not command.commands:
            yield "        '*:file:_files'"
        else:
            yield "        '1:command:->command' '*::argument:->argument'"
            yield "    case $state in"
            yield "        command)"
            names = " ".join(
                _quote(f"{child.path.rpartition(' ')[2]}:{child.help.replace(':', '')}") for child in command.commands
            )
            yield f"            local -a commands=({names})"
            yield "            _describe command commands ;;"
            yield "        argument)"
            yield "            case $line[1] in"
            for child in command.commands:
                yield f"                {child.path.rpartition(' ')[2]}) {_function(child)} ;;"
            yield "            esac ;;"
            yield "    esac"
        yield "}"
    yield 'if [[ $funcstack[1] == _llmtool ]]; then _llmtool "$@"; else compdef _llmtool llmtool; fi'


def _function(command: Command) -> str:
    return "_" + command.path.replace(" ", "_").replace("-", "_")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_option(option: Option) -> str:
    text = option.help.translate(str.maketrans("[]", "()", ":\\"))
    action = ""
    if option.takes:
        action = ":value:" + (
            f"({' '.join(option.choices)})" if option.choices else "_files" if option.takes == "file" else ""
        )
    if len(option.names) == 1:
        return _quote(f"*{option.names[0]}[{text}]{action}")
    names = ",".join(option.names)
    return f"{_quote('(' + ' '.join(option.names) + ')')}{{{names}}}{_quote(f'[{text}]{action}')}"


def fish(root: Command) -> Iterator[str]:
    """Lines of the fish script."""
    yield "# fish completion for llmtool; generated, do not edit"
    yield "function __llmtool_at"
    yield "    set -l path llmtool"
    yield "    for word in (commandline -opc)[2..-1]"
    yield '        switch "$path $word"'
    known = " ".join(_quote(command.path) for command in root.walk() if command is not root)
    yield f"            case {known}"
    yield '                set path "$path $word"'
    yield "        end"
    yield "    end"
    yield '    test "$path" = "$argv[1]"'
    yield "end"
    for command in root.walk():
        at = f"complete -c llmtool -n \"__llmtool_at '{command.path}'\""
        for child in command.commands:
            yield f"{at} -f -a {child.path.rpartition(' ')[2]} -d {_fish_quote(child.help)}"
        for option in command.options:
            spelled = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            values = f" -x -a {_quote(' '.join(option.choices))}" if option.choices else ""
            values = values or {"": "", "file": " -r -F", "value": " -x"}[option.takes]
            yield f"{at} {spelled}{values} -d {_fish_quote(option.help)}"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS: dict[str, Callable[[Command], Iterator[str]]] = {"llmtool.bash": bash, "_llmtool": zsh, "llmtool.fish": fish}


def scripts() -> dict[str, str]:
    """File name -> script."""
    root = tree()
    return {name: "\n".join(lines(root)) + "\n" for name, lines in SCRIPTS.items()}


if __name__ == "__main__":
    for name, text in scripts().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
