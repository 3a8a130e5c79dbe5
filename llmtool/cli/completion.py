"""Completion scripts for bash, zsh and fish, written from the command tree: no Python starts when TAB is pressed.

A test regenerates them, compares, and runs each shell's syntax check.
"""

from collections.abc import Callable, Iterator

from llmtool.cli.tree import Command, Option


def bash(root: Command) -> Iterator[str]:
    """Lines of the bash script. A word `--name=VALUE`, which readline cuts at the =, completes as `--name VALUE`."""
    yield "# bash completion for llmtool; generated, do not edit"
    yield "_llmtool() {"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path=llmtool i before=''"
    yield "    if [[ $cur == = ]]; then cur=''"
    yield "    elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD - 2]}"
    yield "    elif [[ $cur == --*=* ]]; then prev=${cur%%=*} before=${cur%%=*}= cur=${cur#*=}; fi"
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield '        case "$path ${COMP_WORDS[i]}" in'
    known = "|".join(f'"{command.path}"' for command in root.walk() if command is not root)
    yield f'            {known}) path="$path ${{COMP_WORDS[i]}}" ;;'
    yield "        esac"
    yield "    done"
    yield "    compopt -o filenames 2>/dev/null"
    yield '    case "$path:$prev" in'
    for command in root.walk():
        for option in command.options:
            if option.takes:
                names = "|".join(f'"{command.path}:{name}"' for name in option.names)
                words = _words(option)
                reply = f'mapfile -t COMPREPLY < <(compgen {words} -- "$cur")' if words else "COMPREPLY=()"
                yield f'        {names}) {reply}; COMPREPLY=("${{COMPREPLY[@]/#/$before}}"); return ;;'
    yield "    esac"
    yield '    local words=""'
    yield '    case "$path" in'
    for command in root.walk():
        names = " ".join(name for option in command.options for name in option.names)
        choices = [choice for argument in command.arguments[:1] for choice in argument.choices]
        below = " ".join([*(child.name for child in command.commands), *choices])
        yield f'        "{command.path}") [[ $cur == -* ]] && words="{names}" || words="{below}" ;;'
    yield "    esac"
    yield "    if [[ -n $words ]]; then compopt +o filenames 2>/dev/null"
    yield '        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")'
    yield '    else mapfile -t COMPREPLY < <(compgen -f -- "$cur"); fi'
    yield "}"
    yield "complete -o bashdefault -F _llmtool llmtool"


def _words(option: Option) -> str:
    """What compgen is told: choices, files, or nothing."""
    if option.choices:
        return f'-W "{" ".join(option.choices)}"'
    return "-f" if option.takes == "file" else ""


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
            for number, argument in enumerate(command.arguments, 1):
                if argument.choices:
                    choice = f"{number}:{argument.standin}:({' '.join(argument.choices)})"
                    yield f"        {_quote(choice)} \\"
            yield "        '*:file:_files'"
        else:
            yield "        '1:command:->command' '*::argument:->argument'"
            yield "    case $state in"
            yield "        command)"
            names = " ".join(_quote(f"{child.name}:{child.help.replace(':', '')}") for child in command.commands)
            yield f"            local -a commands=({names})"
            yield "            _describe command commands ;;"
            yield "        argument)"
            yield "            case $line[1] in"
            for child in command.commands:
                yield f"                {child.name}) {_function(child)} ;;"
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
    names = [f"{name}=" if option.takes and name.startswith("--") else name for name in option.names]  # --a=b and --a b
    if len(names) == 1:
        return _quote(f"*{names[0]}[{text}]{action}")
    return f"{_quote('(' + ' '.join(option.names) + ')')}{{{','.join(names)}}}{_quote(f'[{text}]{action}')}"


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
            yield f"{at} -f -a {child.name} -d {_fish_quote(child.help)}"
        for option in command.options:
            spelled = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            values = f" -x -a {_quote(' '.join(option.choices))}" if option.choices else ""
            values = values or {"": "", "file": " -r -F", "value": " -x"}[option.takes]
            yield f"{at} {spelled}{values} -d {_fish_quote(option.help)}"
        choices = [choice for argument in command.arguments[:1] for choice in argument.choices]
        if choices:
            yield f"{at} -f -a {_fish_quote(' '.join(choices))}"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


FILES = {"bash": "llmtool.bash", "zsh": "_llmtool", "fish": "llmtool.fish"}
SCRIPTS: dict[str, Callable[[Command], Iterator[str]]] = {"llmtool.bash": bash, "_llmtool": zsh, "llmtool.fish": fish}


def scripts(root: Command) -> dict[str, str]:
    """File name -> script."""
    return {name: "\n".join(lines(root)) + "\n" for name, lines in SCRIPTS.items()}
