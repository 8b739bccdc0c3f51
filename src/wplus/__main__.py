"""Entry point of `wplus VERB ...` and `python -m wplus VERB ...`; `wplus` without arguments lists the commands."""

import ast
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = Path(__file__).parent / "commands"
DECORATORS = ("entry_point", "program")


def verbs() -> dict[str, tuple[str, str]]:
    """Map every command to (module, first line of its docstring), without importing any of them."""
    found = {}
    for path in sorted(COMMANDS.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and any(_names(item) in DECORATORS for item in node.decorator_list):
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                found[node.name] = (f"wplus.commands.{path.stem}", summary)
    return dict(sorted(found.items()))


def _names(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def overview() -> str:
    """The text printed by `wplus` without arguments."""
    lines = [f"  {verb:<12} {summary}" for verb, (_, summary) in verbs().items()]
    return "\n".join(["wplus VERB KEY=VALUE ...; wplus VERB --help shows its keys.", "", *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    verb, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if verb in ("-h", "--help", "help"):
        print(overview())
        return 0
    known = verbs()
    if verb not in known:
        raise SystemExit(f"The verb must be one of {', '.join(known)}, got '{verb}'.")
    try:
        command = getattr(importlib.import_module(known[verb][0]), verb)
    except KeyboardInterrupt:
        print("Interrupted before anything was started.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    return command(rest) or 0


if __name__ == "__main__":
    sys.exit(main())
