"""Completion of verbs, keys, choices and their options in bash, zsh and fish, from the configs, without torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from wplus.__main__ import verbs
from wplus.commands.entry import program
from wplus.commands.help import choices, entries, option_names, options_of
from wplus.config import CONFIG_FOLDER, bundled_models
from wplus.errors import OneLineParser

# The scripts pass the whole line on: shells split words at `=`.
SCRIPTS = {
    "bash": """\
_wplus() {
    local IFS=$'\\n'
    COMPREPLY=($(wplus completion bash --line "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
}
complete -o nospace -o default -F _wplus wplus
""",
    "zsh": """\
#compdef wplus
_wplus() {
    local -a found
    found=("${(@f)$(wplus completion zsh --line "$LBUFFER" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -Q -S '' -- $found; else _files; fi
}
compdef _wplus wplus
""",
    "fish": """\
complete -c wplus -a '(wplus completion fish --line (commandline -cp) 2>/dev/null)'
""",
}
FLAGS = ["--help", "--cfg"]


@program
def completion(arguments: Sequence[str]) -> int:
    """Complete verbs, keys and choices in a shell: eval "$(wplus completion bash)"."""
    parser = OneLineParser(prog="wplus completion", description='In ~/.bashrc: eval "$(wplus completion bash)"; in '
                           "~/.zshrc: the same with zsh; in fish: wplus completion fish | source.")  # fmt: skip
    parser.add_argument("shell", choices=sorted(SCRIPTS))
    parser.add_argument("--line", help="the line typed so far; prints the completions of its last word")
    given = parser.parse_args(arguments)
    if given.line is None:
        print(SCRIPTS[given.shell], end="")
        return 0
    words = _words(given.line)
    found = candidates(words)
    # Bash only replaces the text after the last `=` or `:`.
    start = max(words[-1].rfind("="), words[-1].rfind(":")) + 1 if given.shell == "bash" else 0
    print("\n".join(word[start:] for word in found))
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """Completions of the last word of a line; complete words end with a space, except KEY=."""
    verb, last = words[1] if len(words) > 2 else "", words[-1]
    if len(words) <= 2:
        return [f"{name} " for name in verbs() if name.startswith(last)]
    path = CONFIG_FOLDER / f"{verb}.yaml"
    if not path.is_file():
        return _of_estimate(words) if verb == "estimate" else []
    key, is_given, value = last.partition("=")
    found = _values(key, value) if is_given else _keys(verb, last, words[2:-1])
    return [word for word in found if word.startswith(last)]


def _of_estimate(words: Sequence[str]) -> list[str]:
    return candidates(["wplus", *words[2:]]) if len(words) > 3 else ["train "]


def _keys(verb: str, typed: str, others: Sequence[str]) -> list[str]:
    """KEY= of the command; after a dot also the options of the current choice, as in `inverter.num_steps=`."""
    if typed.startswith("-"):
        return [f"{flag} " for flag in FLAGS]
    files = [CONFIG_FOLDER / f"{name}.yaml" for name in (verb, "common")]
    groups = {entry.key: entry.value for entry in choices(files[0])}
    found = [entry.key for file in files for entry in entries(file)] + list(groups)
    group, dot, _ = typed.partition(".")
    if dot and group in groups:
        chosen = dict(word.split("=", 1) for word in others if "=" in word)
        found += [f"{group}.{name}" for name in option_names(group, chosen.get(group, groups[group]).strip("[]"))]
    return [f"{key}=" for key in dict.fromkeys(found)]


def _values(key: str, value: str) -> list[str]:
    """KEY=OPTION of a choice, also for the last item of a list; bundled models for `checkpoint`."""
    if key == "checkpoint":
        return [f"{key}={name} " for name in bundled_models()]
    group = key.partition("@")[0]
    before = re.match(r"(.*[\[,])?", value)
    start = (before[1] or "") if before is not None else ""
    end = "" if start else " "
    return [f"{key}={start}{name}{end}" for name in options_of(group)]


def _words(line: str) -> list[str]:
    """Split a line, which may end inside a quotation; the last word is the one being typed."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    return [*words, ""] if not words or line[-1:].isspace() else words
