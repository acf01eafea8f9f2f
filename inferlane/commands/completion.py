"""``completion``: a script that completes commands and options in a shell; the shell completes file names."""

import argparse
from collections.abc import Iterator

from inferlane.commands.command import argument, command
from inferlane.console import Context, Exit

BASH = """\
_inferlane() {{
  local found=
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then found="{commands}"; fi
  COMPREPLY=($(compgen -W "$found" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _inferlane inferlane
"""
ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"


@command(
    "completion", "print a script that completes commands in a shell",
    argument("shell", choices=("bash", "zsh", "fish"), help="the shell"), remote=False,
    epilog='In ~/.bashrc or ~/.zshrc: eval "$(inferlane completion bash)"; in fish: inferlane completion fish | source',
)  # fmt: skip
def _completion(context: Context) -> int:
    words = {name: list(_words(parser)) for name, parser in context.arguments.parsers.items()}
    if context.arguments.shell == "fish":
        lines = [f"complete -c inferlane -n __fish_use_subcommand -f -a '{' '.join(words)}'"]
        lines += [f"complete -c inferlane -n '__fish_seen_subcommand_from {name}' -a '{' '.join(found)}'"
                  for name, found in words.items()]  # fmt: skip
        script = "\n".join([*lines, ""])
    else:
        cases = "\n".join(f'    {name}) found="{" ".join(found)}" ;;' for name, found in words.items())
        script = BASH.format(cases=cases, commands=" ".join(words))
    context.out.file.write((ZSH if context.arguments.shell == "zsh" else "") + script)
    return Exit.OK


def _words(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options of a command, and the values that its arguments may have."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        yield from (option for option in action.option_strings if option.startswith("--"))
        yield from map(str, action.choices or ())
