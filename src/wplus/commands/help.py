"""The text of `--help`: a command's keys and choices, with the comments from its configs; without torch."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from wplus.config import CONFIG_FOLDER, GIVEN
from wplus.signatures import complete, options

WIDTH = 118
OPTION = re.compile(r"^ *# ([\w.]+): (.*)$", re.MULTILINE)  # comment on an option at its default
FLAGS = """\
--help CHOICE=OPTION ...  the options of a choice, as in --help {example}
--cfg job                 print the whole configuration, with every number that will be used, without running it
-m KEY=A,B ...            sweep over every combination, in runs/sweeps; in parallel with slots=cpu:2, gpu:0-3 or slurm
-m ... --dry              show what the sweep would run, and how long it would take"""


@dataclass(frozen=True)
class Entry:
    """A key of a config, its value there, and its comment."""

    key: str
    value: str
    comment: str


def help_text(verb: str, chosen: Sequence[str] = ()) -> str:
    """The help text of a command or, for choices such as "inverter=pti", that of their options."""
    path = CONFIG_FOLDER / f"{verb}.yaml"
    groups = list(choices(path))
    if chosen:
        return "\n\n".join(detail(*item.split("=", 1)) for item in chosen if "=" in item)
    common = list(entries(CONFIG_FOLDER / "common.yaml"))
    own = list(entries(path))
    known = {entry.key for entry in own}
    shared = [entry for entry in common if entry.key not in known] if "common" in path.read_text() else []
    example = f"{groups[0].key}={groups[0].value.strip('[]').partition(',')[0]}" if groups else "data=folder"
    parts = [header(path), "KEY=VALUE", _table([*own, *shared])]
    if groups:
        parts += [
            "CHOICE=OPTION; lists take several, as in [a,b]",
            _table([_with_options(entry) for entry in groups]),
        ]
    return "\n\n".join([*parts, FLAGS.format(example=example)])


def header(path: Path) -> str:
    """The comment at the beginning of a config."""
    lines = path.read_text().splitlines()
    count = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line[2:] for line in lines[:count] if not line.startswith("# @package"))


def entries(path: Path) -> Iterator[Entry]:
    """The keys of a config file, with those of sections as SECTION.KEY, and without Hydra's."""
    section, skipped, last = "", False, None
    for line in path.read_text().splitlines():
        found = re.match(r"( *)([\w@./]+):(?: +([^#\s].*?))?(?: +# (.*))?$", line)
        more = re.match(r" +# *(.*)$", line)
        if found is None:
            if more is not None and last is not None and not OPTION.match(line):
                last = Entry(last.key, last.value, f"{last.comment} {more[1]}")
            continue
        if last is not None and not skipped:
            yield last
        depth, key, value, comment = len(found[1]), found[2], found[3] or "", found[4] or ""
        if depth == 0:
            section, skipped = (key if not value else ""), key in ("defaults", "hydra")
        last = Entry(key if depth == 0 else f"{section}.{key}", value, comment)
    if last is not None and not skipped:
        yield last


def choices(path: Path) -> Iterator[Entry]:
    """The groups in a command's defaults, with their default choices."""
    for line in path.read_text().splitlines():
        found = re.match(r"  - ([a-z_]+): (\[.*?\]|\S+)(?: +# (.*))?$", line)
        if found is not None:
            yield Entry(found[1], "the model's" if "${model}" in found[2] else found[2], found[3] or "")


def _choices_within(group: str, path: Path) -> Iterator[Entry]:
    """The choices that an option of a group makes itself, in the form GROUP@KEY."""
    for line in path.read_text().splitlines():
        found = re.match(r"  - /([a-z_]+)@([\w.]+): (\[.*?\]|\S+)(?: +# (.*))?$", line)
        if found is not None:
            yield Entry(f"{found[1]}@{group}.{found[2]}", found[3], found[4] or "")


def detail(group: str, option: str) -> str:
    """The options of a choice with their defaults, and their comments in its config or source."""
    blocks = [_one(group.partition("@")[0], name) for name in option.strip("[]").split(",")]
    return "\n\n".join(blocks)


def _one(group: str, name: str) -> str:
    path = CONFIG_FOLDER / group / f"{name}.yaml"
    if not path.is_file():
        return f"{group} must be one of {', '.join(options_of(group))}, got '{name}'."
    said = dict(comments(path))
    rows = [Entry(f"{group}.{key}", _shown(value), said.get(key) or said.get(key.partition(".")[2]) or from_source)
            for key, value, from_source in leaves(_content(path), GIVEN.get(group, ()))]  # fmt: skip
    rows += [_with_options(entry) for entry in _choices_within(group, path)]
    return f"{group}={name}\n{textwrap.indent(header(path), '  ')}\n{_table(rows)}".rstrip()


def option_names(group: str, name: str) -> list[str]:
    """The keys of a choice's options, without its name as prefix; empty for an unknown option."""
    path = CONFIG_FOLDER / group / f"{name}.yaml"
    return [key for key, _, _ in leaves(_content(path), GIVEN.get(group, ()))] if path.is_file() else []


def comments(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (option, comment) from a config and those that it extends."""
    for base in _bases(path):
        yield from comments(base)
    yield from ((entry.key, entry.comment) for entry in entries(path))
    yield from OPTION.findall(path.read_text())


def leaves(node: Any, without: Sequence[str], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, value, comment in the source) for everything in a config that can be set."""
    known = options(node["_target_"]) if "_target_" in node else {}
    for key, value in complete(node, without).items():
        comment = known[key].comment if key in known else ""
        if isinstance(value, dict) and value:
            yield from leaves(value, (), f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            yield f"{prefix}{key}", value, comment


def _content(path: Path) -> dict[str, Any]:
    """The content of a config, merged over those that it extends."""
    own = yaml.safe_load(path.read_text()) or {}
    own.pop("defaults", None)
    content = OmegaConf.to_container(OmegaConf.merge(*map(_content, _bases(path)), own))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _bases(path: Path) -> list[Path]:
    own = yaml.safe_load(path.read_text()) or {}
    names = [entry for entry in own.get("defaults", ()) if isinstance(entry, str) and "@" not in entry]
    return [base for name in names if (base := path.parent / f"{name}.yaml").is_file()]


def options_of(group: str) -> list[str]:
    """The options of a choice, by name."""
    return sorted(path.stem for path in (CONFIG_FOLDER / group).glob("*.yaml"))


def _with_options(entry: Entry) -> Entry:
    listed = " | ".join(options_of(entry.key.partition("@")[0]))
    return Entry(entry.key, entry.value, f"{listed}. {entry.comment}" if entry.comment else listed)


def _shown(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).partition("\n")[0]


def _table(rows: Sequence[Entry]) -> str:
    """KEY = VALUE and the comment, wrapped at the terminal's width."""
    left = [f"  {row.key} = {row.value}" if row.value else f"  {row.key}" for row in rows]
    column = min(max(map(len, left), default=0) + 2, 40)
    lines = []
    for text, row in zip(left, rows, strict=True):
        wrapped = textwrap.wrap(row.comment, WIDTH - column) or [""]
        first = f"{text:<{column}}{wrapped[0]}" if len(text) < column or not row.comment else f"{text}  {wrapped[0]}"
        if len(first) > WIDTH:  # a long list: its comment begins below
            first, wrapped = text, ["", *wrapped]
        lines += [first.rstrip(), *(" " * column + line for line in wrapped[1:])]
    return "\n".join(lines)
