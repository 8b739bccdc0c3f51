"""Read the options of a `_target_` from its source code, to complete config nodes with the signature's defaults.

Nothing is imported: importing torch alone would make `--help` too slow. Options are the parameters (or dataclass
fields) with a default and, where **kwargs are passed on, also those of the function or class that receives them.
"""

import ast
import functools
import importlib.util
import io
import operator
import re
import sys
import tokenize
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Definition = ast.FunctionDef | ast.ClassDef
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg,
}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """A parameter with a default: its value, its description and its annotation."""

    default: Any
    comment: str = ""
    annotation: str = ""


class Unreadable(ValueError):
    """Raised for a default that is not a plain value, such as a function."""


@dataclass(frozen=True)
class Module:
    """A module's name, file and syntax tree."""

    name: str
    path: Path
    tree: ast.Module
    comments: Mapping[int, str]  # by line number

    def find(self, name: str) -> ast.stmt | None:
        """Find the statement that defines or imports a top-level name."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                return node
            if isinstance(node, ast.ImportFrom) and any((item.asname or item.name) == name for item in node.names):
                return node
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node
        return None


def complete(node: object, without: Collection[str] = ()) -> Any:
    """Fill in the defaults of every `_target_` in a config where the config gives no value; tuples become lists.

    `without` names parameters that the code itself supplies.
    """
    if isinstance(node, list):
        return [complete(item, without) for item in node]
    if not isinstance(node, Mapping):
        return node
    given = {key: complete(value, without) for key, value in node.items()}
    target = given.get("_target_")
    if not isinstance(target, str):
        return given
    for name, option in options(target).items():
        if isinstance(option.default, Mapping) and isinstance(given.get(name), dict) and "_target_" not in given[name]:
            given[name] = {**option.default, **given[name]}
        if name not in without:
            given.setdefault(name, option.default)
    return given


def takes_further_keys(target: str, name: str) -> bool:
    """Whether a parameter maps names to numbers, such as weights, so that a config may add names to it."""
    found = signature(target).get(name)
    return found is not None and re.search(r"(Mapping|dict)\[str, float\]", found.annotation) is not None


SEVERAL = ("Sequence", "Collection", "Iterable", "list", "tuple")


def listed(target: str, name: str, value: Any) -> Any:
    """Convert a value for a parameter: wrap a single string or number if a list is expected, and turn numbers into
    strings if strings are expected."""
    found = signature(target).get(name)
    annotation = "" if found is None else found.annotation
    kinds = _without_brackets(annotation).split(" | ")
    if not set(kinds) & set(SEVERAL):
        return value
    if isinstance(value, str | int | float) and type(value).__name__ not in kinds:
        value = [value]
    are_words = isinstance(value, list) and re.search(rf"\b({'|'.join(SEVERAL)})\[str\]", annotation) is not None
    return [str(item) if isinstance(item, int | float) else item for item in value] if are_words else value


def _without_brackets(annotation: str) -> str:
    """`str | Sequence[tuple[int, int]]` -> `str | Sequence`."""
    shorter = re.sub(r"\[[^\[\]]*\]", "", annotation)
    return shorter if shorter == annotation else _without_brackets(shorter)


def options(target: str) -> dict[str, Option]:
    """The options of a function or class, by name, in order; {} if the target's source is not in this package."""
    return {name: option for name, option in signature(target).items() if option.default is not ...}


@functools.cache
def signature(target: str) -> dict[str, Option]:
    """The parameters that a config may set; those without a readable default have the default `...`."""
    found = _definition(target)
    return {} if found is None else _parameters(*found)


def is_closed(target: str) -> bool:
    """Whether a target is known to take nothing but its `signature`: its source was found and has no **kwargs."""
    found = _definition(target)
    called = None if found is None else _called(*found)
    return called is not None and called.args.kwarg is None


def _called(module: Module, node: Definition) -> ast.FunctionDef | None:
    """The function, or the constructor of a class or its nearest base that has one; None for a dataclass."""
    if isinstance(node, ast.FunctionDef):
        return node
    own = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    inherited = (found for base in _bases(module, node) if (found := _called(*base)) is not None)
    return own[0] if own else next(inherited, None)


def _definition(target: str) -> tuple[Module, Definition] | None:
    """Find where a dotted name is defined, following re-exports."""
    module, _, name = target.rpartition(".")
    source = _module(module)
    node = None if source is None else source.find(name)
    if isinstance(node, ast.ImportFrom):
        (alias,) = [item for item in node.names if (item.asname or item.name) == name]
        return _definition(f"{node.module}.{alias.name}")
    return (source, node) if source is not None and isinstance(node, ast.FunctionDef | ast.ClassDef) else None


@functools.cache
def _module(name: str) -> Module | None:
    path = _path(name)
    if path is None:
        return None
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    said = [token for token in tokens if token.type == tokenize.COMMENT and not token.string.startswith("# fmt:")]
    comments = {token.start[0]: token.string.lstrip("# ") for token in said}
    return Module(name, path, ast.parse(text), comments)


def _path(name: str) -> Path | None:
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return None if file is None or not file.endswith(".py") else Path(file)
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    for folder in map(Path, spec.submodule_search_locations or ()):
        for path in (folder.joinpath(*rest, "__init__.py"), folder.joinpath(*rest).with_suffix(".py")):
            if rest and path.is_file():
                return path
    return Path(spec.origin) if not rest and spec.origin is not None and spec.origin.endswith(".py") else None


def _parameters(module: Module, node: Definition) -> dict[str, Option]:
    if isinstance(node, ast.FunctionDef):
        return _arguments(module, node)
    init = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
    inherited = {name: option for base in _bases(module, node) for name, option in _parameters(*base).items()}
    if init is None:
        is_dataclass = any("dataclass" in ast.unparse(item) for item in node.decorator_list)
        return {**inherited, **(_fields(module, node) if is_dataclass else {})}
    return _arguments(module, init, inherited, ast.get_docstring(node) or "")


def _bases(module: Module, node: ast.ClassDef) -> Iterator[tuple[Module, Definition]]:
    found = (_named(module, ast.unparse(base)) for base in node.bases)
    return (base for base in found if base is not None)


def _named(module: Module, name: str) -> tuple[Module, Definition] | None:
    """Resolve a name in a module: defined there, or imported by name or through its module."""
    head, _, rest = name.partition(".")
    node = module.find(head)
    if rest and isinstance(node, ast.ImportFrom):
        (alias,) = [item for item in node.names if (item.asname or item.name) == head]
        return _definition(f"{node.module}.{alias.name}.{rest}")
    return _definition(f"{module.name}.{name}")


def _arguments(
    module: Module, node: ast.FunctionDef, inherited: Mapping[str, Option] | None = None, doc: str = ""
) -> dict[str, Option]:
    doc = f"{doc}\n{ast.get_docstring(node) or ''}"
    positional = [*node.args.posonlyargs, *node.args.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    pairs = zip(positional, [*missing, *node.args.defaults], strict=True)
    keyword = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    own = {
        argument.arg: _option(module, argument, argument.annotation, default, argument.arg, doc)
        for argument, default in [*pairs, *keyword]
        if argument.arg != "self"
    }
    return {**own, **_passed_on(module, node, inherited or {}, set(own))} if node.args.kwarg else own


def _passed_on(
    module: Module, node: ast.FunctionDef, inherited: Mapping[str, Option], own: Collection[str]
) -> dict[str, Option]:
    """The parameters of the callable that receives a function's **kwargs, except those that it has or sets itself."""
    assert node.args.kwarg is not None
    for call in (item for item in ast.walk(node) if isinstance(item, ast.Call)):
        passed = [item.value for item in call.keywords if item.arg is None]
        if any(isinstance(value, ast.Name) and value.id == node.args.kwarg.arg for value in passed):
            name = ast.unparse(call.func)
            found = None if name.startswith("super()") else _named(module, name)
            theirs = inherited if name == "super().__init__" else _parameters(*found) if found is not None else {}
            filled = {item.arg for item in call.keywords} | set(list(theirs)[: len(call.args)])
            return {name: option for name, option in theirs.items() if name not in {*filled, *own}}
    return {}


def _fields(module: Module, node: ast.ClassDef) -> dict[str, Option]:
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    return {
        field.target.id: _option(module, field, field.annotation, field.value, field.target.id, ast.get_docstring(node))
        for field in fields
        if isinstance(field.target, ast.Name) and "ClassVar" not in ast.unparse(field.annotation)
    }


def _option(
    module: Module, node: ast.arg | ast.AnnAssign, annotation: ast.expr | None, default: ast.expr | None, name: str,
    doc: str | None,
) -> Option:  # fmt: skip
    try:
        value = ... if default is None else _value(module, default)
    except Unreadable:
        value = ...
    last = node.end_lineno if default is None else default.end_lineno
    said = re.search(rf"^\s*`?{name}`?(?:\s{{2,}}|: )(\S.*)$", doc or "", re.MULTILINE)
    comment = module.comments.get(last or 0) or (said[1] if said else "")
    return Option(value, comment, "" if annotation is None else ast.unparse(annotation))


def _value(module: Module, node: ast.expr) -> Any:
    """Evaluate a literal, a constant of this module or of one it imports from, or an expression of these."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return [_value(module, item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        items = [_value(module, value).items() if key is None else [(_value(module, key), _value(module, value))]
                 for key, value in pairs]  # fmt: skip
        return {key: value for item in items for key, value in item}
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(module, node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(module, node.left), _value(module, node.right))
    if isinstance(node, ast.Call):
        return _result(module, node)
    if isinstance(node, ast.Name):
        return _constant(module, node.id)
    raise Unreadable(ast.unparse(node))


def _result(module: Module, node: ast.Call) -> Any:
    """Evaluate calls such as MappingProxyType({...}), and the defaults of dataclass fields."""
    called = ast.unparse(node.func).rpartition(".")[2]
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if called == "field" and "default" in keywords:
        return _value(module, keywords["default"])
    if called == "field" and "default_factory" in keywords:
        factory = keywords["default_factory"]
        empty: Any = {"list": [], "tuple": [], "dict": {}}.get(ast.unparse(factory))
        if empty is None and isinstance(factory, ast.Lambda):
            return _value(module, factory.body)
        if empty is not None:
            return empty
    if called in ("MappingProxyType", "dict", "tuple", "list") and len(node.args) == 1 and not node.keywords:
        return _value(module, node.args[0])
    raise Unreadable(ast.unparse(node))


def _constant(module: Module, name: str) -> Any:
    node = module.find(name)
    if isinstance(node, ast.ImportFrom):
        (alias,) = [item for item in node.names if (item.asname or item.name) == name]
        other = _module(node.module or "")
        if other is not None:
            return _constant(other, alias.name)
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if value is None:
        raise Unreadable(name)
    return _value(module, value)
