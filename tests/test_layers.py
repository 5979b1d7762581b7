"""Imports run downward, and PyTorch stays where a plain install does not reach: read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "myelos"

# From the bottom up. A file imports from entries before its own, or from its own entry.
ORDER = """
errors wording geometry taxonomy tables
slides imaging datasets metrics phantom
networks models detection regions classification selection patients representation explanation
training counting smears report pipeline protocols
review cohort cli
"""
LAYERS = ORDER.split()
ENTRY_POINTS = {"myelos", "myelos.__main__"}  # public names: they import from everywhere, when asked
TORCH = {"torch", "torchvision", "timm", "lightning", "captum"}
TORCH_ANYWHERE = {"networks", "explanation", "training", "protocols"}
TORCH_IN_FUNCTIONS = {"models", "selection"}


@dataclass(frozen=True)
class Import:
    """`source` imports `target`, both dotted; `late` where it happens inside a function or for type checkers only."""

    source: str
    target: str
    late: bool
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules(package: Path) -> dict[str, Path]:
    """Dotted name → file, for every module of the package."""
    files = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports(package: Path) -> list[Import]:
    """Every import statement of the package; `from a import b` counts as `a.b` where that is a module."""
    known = modules(package)
    return [found for name, path in known.items() for found in _imports_of(name, path, known)]


def _imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    for node, late in _walk(ast.parse(path.read_text(encoding="utf-8")), late=False):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(name, path, node)
            targets = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
        else:
            continue
        yield from (Import(name, target, late, node.lineno) for target in targets)


def _base(name: str, path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    package = parts if path.name == "__init__.py" else parts[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def _walk(node: ast.AST, *, late: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        inside = inside or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        yield child, inside
        yield from _walk(child, late=inside)


def _layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def upward(found: list[Import]) -> list[str]:
    """Imports of the package's own modules that do not run downward."""
    wrong = []
    for one in found:
        if one.source in ENTRY_POINTS or one.target.split(".")[0] != "myelos" or one.target == "myelos":
            continue
        here, there = _layer(one.source), _layer(one.target)
        if here != there and LAYERS.index(there) > LAYERS.index(here):
            wrong.append(str(one))
    return wrong


def circles(found: list[Import]) -> list[str]:
    """Circles among the imports that happen when modules load."""
    graph: dict[str, set[str]] = {}
    for one in found:
        if not one.late and one.target.startswith("myelos."):
            graph.setdefault(one.source, set()).add(one.target)
    done: set[str] = set()
    result: list[str] = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            result.append(" → ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())
    return result


def misplaced_torch(found: list[Import]) -> list[str]:
    """Imports of torch outside its packages, and modules outside them that load it through others."""
    direct = [one for one in found if one.target.split(".")[0] in TORCH]
    wrong = [
        str(one)
        for one in direct
        if _layer(one.source) not in TORCH_ANYWHERE and not (_layer(one.source) in TORCH_IN_FUNCTIONS and one.late)
    ]
    loaded = {one.source for one in direct if not one.late}
    while True:
        through = [one for one in found if not one.late and one.source not in loaded and _loads(one.target) & loaded]
        if not through:
            return wrong
        loaded |= {one.source for one in through}
        wrong += [f"{one} and so torch" for one in through if _layer(one.source) not in TORCH_ANYWHERE]


def _loads(module: str) -> set[str]:
    """What Python executes for it: the module and the packages around it."""
    parts = module.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts) + 1)}


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return imports(PACKAGE)


def test_every_file_belongs_to_a_layer(found: list[Import]) -> None:
    assert len(found) > 50
    here = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert here - {"__init__", "__main__"} <= set(LAYERS)
    assert len(set(LAYERS)) == len(LAYERS)


def test_imports_run_downward(found: list[Import]) -> None:
    assert upward(found) == []


def test_no_circles(found: list[Import]) -> None:
    assert circles(found) == []


def test_torch_stays_in_its_packages(found: list[Import]) -> None:
    assert misplaced_torch(found) == []


def test_nothing_is_unpickled(found: list[Import]) -> None:
    assert [str(one) for one in found if one.target.split(".")[0] in {"pickle", "cPickle", "dill", "joblib"}] == []


def test_folders_are_at_most_three_deep() -> None:
    depth = max(len(path.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("*.py"))
    assert depth <= 3


def _package(folder: Path, files: dict[str, str]) -> list[Import]:
    for name, text in files.items():
        path = folder / "myelos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return imports(folder / "myelos")


def test_the_checks_see_what_they_are_for(tmp_path: Path) -> None:
    found = _package(
        tmp_path,
        {
            "__init__.py": "",
            "errors.py": "def late():\n    from myelos import pipeline\n",
            "pipeline.py": "from myelos.slides import reading\n",
            "slides/__init__.py": "",
            "slides/reading.py": "from . import base\n",
            "slides/base.py": "from .reading import open\nimport torch\n",
            "models/__init__.py": "def run():\n    import torch\n",
            "counting.py": "import myelos.networks.backbone as backbone\n",
            "networks/__init__.py": "",
            "networks/backbone.py": "from torch import nn\n",
            "report/__init__.py": "if TYPE_CHECKING:\n    from myelos import cli\n",
            "cli/__init__.py": "",
        },
    )
    assert upward(found) == [
        "myelos.errors:2 imports myelos.pipeline",
        "myelos.report:2 imports myelos.cli",
    ]
    assert circles(found) == ["myelos.slides.reading → myelos.slides.base → myelos.slides.reading"]
    assert misplaced_torch(found) == [
        "myelos.slides.base:2 imports torch",
        "myelos.counting:1 imports myelos.networks.backbone and so torch",
        "myelos.slides.reading:1 imports myelos.slides.base and so torch",
        "myelos.pipeline:1 imports myelos.slides.reading and so torch",
    ]
