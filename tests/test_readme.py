"""The README is true: its tree is the disk, its commands exist and run, its links lead somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PACKAGE = ROOT / "src" / "myelos"

LONG = {"train"}  # verbs that take too long here: their options are looked up in --help instead
ELSEWHERE = {"git", "cd", "pip", "python", "apt-get", "sudo"}  # what a stranger runs before there is a program


def blocks(language: str) -> list[str]:
    """The contents of the README's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """One string a command of the ```sh blocks, comments cut off."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in lines) if line and line[0] != "#"]


def tree() -> dict[str, str]:
    """Path below src/myelos → description, as the README has it; folders end with a slash."""
    block = next(text for text in blocks("text") if text.startswith("src/myelos/"))
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block.splitlines()[1:]:
        name, _, description = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        folders = [*folders[:depth], name] if name.endswith("/") else folders[:depth]
        found["".join(folders) if name.endswith("/") else "".join([*folders, name])] = description.strip()
    return found


def on_disk() -> list[str]:
    """Every folder and module of the package, as `git` and the wheel have them; `__init__.py` only at the top."""
    files = {path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    files |= {PACKAGE / "__init__.py", PACKAGE / "taxonomy.toml"}
    folders = {parent for path in PACKAGE.rglob("*.*") for parent in path.parents if PACKAGE in parent.parents}
    names = [path.relative_to(PACKAGE).as_posix() for path in files]
    names += [f"{path.relative_to(PACKAGE).as_posix()}/" for path in folders if path.name != "__pycache__"]
    return sorted(names)


def suggestion(name: str) -> str:
    """A line for the README's tree, with the first sentence of the docstring."""
    path = PACKAGE / name / "__init__.py" if name.endswith("/") else PACKAGE / name
    summary = ""
    if path.suffix == ".py" and path.is_file():
        text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
        summary = re.split(r"(?<=[a-z0-9)])\. ", text)[0].rstrip(".")
    depth = name.rstrip("/").count("/") + 1
    return f"{'  ' * depth}{name.rstrip('/').rsplit('/', 1)[-1] + '/' * name.endswith('/')}".ljust(26) + summary


def test_the_tree_is_the_disk() -> None:
    listed, present = set(tree()), set(on_disk())
    missing = "\n".join(suggestion(name) for name in sorted(present - listed))
    assert present - listed == set(), f"add to the README's tree:\n{missing}"
    assert listed - present == set(), "the README lists what is not there"


def test_every_line_of_the_tree_says_what_it_is() -> None:
    assert [name for name, description in tree().items() if len(description) < 10] == []


def test_links_lead_somewhere() -> None:
    for document in [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", document.read_text(encoding="utf-8"))
        assert [target for target in targets if not (document.parent / target).exists()] == [], document.name


def test_every_document_is_linked() -> None:
    text = README.read_text(encoding="utf-8")
    documents = [path.name for path in (ROOT / "docs").iterdir() if path.is_file()]  # pictures lie in folders
    assert [name for name in documents if f"](docs/{name})" not in text] == []


def test_no_path_of_one_machine() -> None:
    for document in [README, ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *(ROOT / "docs").glob("*.md")]:
        assert re.findall(r"(?<![\w.])/(?:home|work|root|tmp|Users)/\S*", document.read_text(encoding="utf-8")) == []


def test_the_research_use_sentence_is_there() -> None:
    assert "For research use only. Not for use in diagnostic procedures." in README.read_text(encoding="utf-8")


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    named = {word for line in commands() if line.startswith("make ") for word in line.split()[1:] if "=" not in word}
    assert {"demo", "test"} <= named <= targets


def test_the_five_papers_are_cited() -> None:
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == "Apache-2.0"
    assert [one["authors"][0]["family-names"] for one in citation["references"]] == [
        "Wang",
        "Kockwelp",
        "Matek",
        "Matek",
        "Gräbel",
    ]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's commands name: fields, a slide and a tally, all synthetic."""
    import cv2
    import numpy as np

    from myelos.phantom.fields import FieldSettings, render_field
    from myelos.slides.write import write_tiff

    folder = tmp_path_factory.mktemp("readme")
    (folder / "fields").mkdir()
    for seed in range(3):
        field = render_field(FieldSettings(specimen="blood", pool_per_type=3), np.random.default_rng(seed))
        cv2.imwrite(str(folder / "fields" / f"field_{seed}.png"), field.rgb[..., ::-1])
    marrow = render_field(FieldSettings(width=1280, height=1280, pool_per_type=3), np.random.default_rng(7))
    write_tiff(folder / "slide.tif", marrow.rgb, mpp=0.25)
    (folder / "tally.csv").write_text("cell_type,count\nblast,31\nsegmented_neutrophil,249\nerythroblast,220\n")
    return folder


def _correct(result: Path) -> None:
    """What the report page saves when a person strikes the first cell of a finished result."""
    page = (result / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found, "the page carries no data"
    data = json.loads(found[1])
    cell_id, slide_id, x, y, width, height, cell_type = data["cells"][0]
    strike = {"slide_id": slide_id, "cell_id": cell_id, "action": "strike", "from_type": cell_type, "to_type": None}
    strike |= {"x": x, "y": y, "width": width, "height": height, "who": "A reader", "why": "a test"}
    strike["time"] = "2026-01-01T00:00:00Z"
    saved = {"format": "myelos-corrections-1", "base": data["base"], "title": data["title"], "corrections": [strike]}
    (result.parent / "corrections.json").write_text(json.dumps(saved), encoding="utf-8")


def _myelos(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    script = "import sys; from myelos.cli import main; sys.argv = ['myelos', *sys.argv[1:]]; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-c", script, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def _words(line: str, cwd: Path) -> list[str]:
    """The words of a command after `myelos`, with patterns filled in as a shell does."""
    words = shlex.split(line)[1:]
    return [
        hit
        for word in words
        for hit in (sorted(str(path.relative_to(cwd)) for path in cwd.glob(word)) if "*" in word else [word])
    ]


def test_every_command_is_known() -> None:
    assert {line.split()[0] for line in commands()} <= {"myelos", "make", *ELSEWHERE}
    assert sum(line.startswith("myelos ") for line in commands()) >= 5


def test_every_myelos_command_runs(workplace: Path) -> None:
    """In the order of the README, because later ones use what earlier ones wrote."""
    for line in (line for line in commands() if line.startswith("myelos ")):
        words = _words(line, workplace)
        if words[0] in LONG:
            help_text = _myelos([*words[:2], "--help"], workplace)
            assert help_text.returncode == 0, f"{line}\n{help_text.stderr}"
            unknown = [word for word in words if word.startswith("-") and word not in help_text.stdout]
            assert unknown == [], line
            continue
        if words[0] == "recount":
            _correct(workplace / words[1])
        result = _myelos(words, workplace)
        assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
