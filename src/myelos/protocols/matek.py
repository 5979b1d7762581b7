"""Matek 2021: fivefold cross-validation of single-cell classifiers, every model on the same folds.

`myelos crossval matek` runs this file. Each model of each fold leaves its answers in a file when it is done, and a
training its checkpoints before: a run that is killed goes on when the same command is given again. What the paper
gives, and what it leaves open, stands in `matek.toml`.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import __version__, taxonomy
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cell_splits import cell_folds
from myelos.datasets.cells import CellRecord
from myelos.datasets.overlapping import overlapping_units
from myelos.datasets.records import Fault
from myelos.errors import LabelError, ResultError, UsageError
from myelos.tables import prepare, write_bytes, write_run

Progress = Callable[[str, int, int], None]
HANDCRAFTED, SPLIT = "handcrafted", "split-70-30"
SETTINGS, FOLDS, OTHERS = "settings.json", "folds.csv", "external.csv"
EXTERNAL = "external"
_ANEW = "Pass --overwrite to start anew, or another -o"


@dataclass(frozen=True, slots=True)
class Preset:
    """What is run, see `matek.toml`.

    models: backbones of `networks.cells`, and "handcrafted". side, mpp: of the crops. epochs: over the images, raised
    to `images_per_class` each where that is not 0; images: in place of both, how many are drawn for a network. doubled:
    the type that has two outputs. least: units (patients, groups of duplicates) that a type needs to be in the table.
    overlaps: what is done with images that show the same cells, found with SIFT: kept together in one fold, or all but
    one discarded as in the paper, or off.
    selected: handcrafted features that are kept. pretrained: model → file of weights that its networks begin with. The
    rest are settings of the optimisation.
    """

    name: str
    models: tuple[str, ...]
    side: int
    mpp: float
    folds: int = 5
    epochs: float = 0.0
    images: int = 0
    images_per_class: int = 0
    augmentation: str = "published"
    doubled: str = ""
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.01
    warmup: int = 100
    average: float = 0.99
    smoothing: float = 0.0
    mix: float = 0.0
    least: int = 5
    overlaps: str = "together"
    selected: int = 200
    pretrained: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """One split: indices of the cells that are learned from and of those that are named."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """The cells of a protocol. units: what shares a patient or is a near-duplicate has one number. left_out: types with
    too few units, and their numbers of cells. faults: images and labels that were set aside. external: cells of other
    sets, about which the networks of all folds are asked."""

    records: tuple[CellRecord, ...]
    units: tuple[int, ...]
    folds: tuple[int, ...]
    types: tuple[str, ...]
    left_out: dict[str, int]
    faults: tuple[Fault, ...]
    external: tuple[CellRecord, ...] = ()


@cache
def paper() -> dict[str, Any]:
    """`matek.toml`: the published figures and the presets."""
    import tomllib

    return tomllib.loads(files("myelos.protocols").joinpath("matek.toml").read_text(encoding="utf-8"))


def preset(name: str) -> Preset:
    """A preset by its name; raises UsageError."""
    presets = paper()["presets"]
    if name not in presets:
        raise UsageError(f"there is no preset {name!r}", remedy=f"Choose one of {', '.join(presets)}")
    values = presets[name]
    return Preset(**values | {"name": name, "models": tuple(values["models"])})


def crossval(
    data: Sequence[Path],
    out: Path,
    *,
    settings: Preset,
    scheme: str | None = None,
    external: Sequence[Path] = (),
    check: bool = False,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run the protocol and write `crossval.md`, `crossval.json`, figures and the answers for every cell.

    external: folders of another laboratory, for Figure 4. device: of the networks, see `cell_loop`. announce: is told
    in a sentence, before anything is trained, how long it will take. Returns what `crossval.json` holds. Raises
    LabelError where the data cannot be divided, UsageError or ModelError where weights or crops do not fit the models,
    ResultError where `out` is finished or holds the answers of other
    settings or cells.
    """
    from myelos.protocols import matek_report
    from myelos.protocols.matek_models import answers, check_models

    tell = progress or (lambda _stage, _done, _total: None)
    check_models(settings)
    if overwrite and (out / SETTINGS).exists():
        shutil.rmtree(out)
    prepare(out, overwrite=overwrite)
    study = replace(divided(data, settings, scheme, check=check, progress=tell), external=_others(external))
    check_same(study, settings, out)
    jobs = [(model, one) for one in rounds(study, settings) for model in _models(settings, one)]
    if announce:
        announce(_foretold(study, settings, jobs, out, tell, device))
    for done, (model, one) in enumerate(jobs):
        tell("models of folds", done, len(jobs))
        path = answers_file(out, model, one)
        if not path.exists():
            cells = [study.records[index] for index in one.test]
            write_answers(path, cells, study.types, answers(model, one, study, settings, out, tell, device=device))
    tell("models of folds", len(jobs), len(jobs))
    result = matek_report.write(study, settings, out)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    write_run(out, {"command": "crossval matek", "version": __version__, "settings": asdict(settings)})
    return result


def _foretold(
    study: Study, settings: Preset, jobs: Sequence[tuple[str, Round]], out: Path, progress: Progress, device: str
) -> str:
    from myelos.protocols.matek_time import expected, in_words

    left = sum(not answers_file(out, model, one).exists() for model, one in jobs)
    time = in_words(expected(study, settings, jobs, out, progress, device=device)) if left else "no time"
    return f"{len(study.records)} cells of {len(study.types)} types; {left} of {len(jobs)} models to go: {time}."


def _others(folders: Sequence[Path]) -> tuple[CellRecord, ...]:
    return tuple(read_cell_sets(folders)[0]) if folders else ()


def divided(
    data: Sequence[Path],
    settings: Preset,
    scheme: str | None = None,
    *,
    check: bool = False,
    progress: Progress | None = None,
) -> Study:
    """Read the cells, leave out types of too few units, and divide the rest; check: see `cell_sets.checked`.

    Raises LabelError.
    """
    records, faults = read_cell_sets(data, scheme=scheme, check=check, progress=progress)
    records, units = overlapping_units(records, settings.overlaps, progress=progress)
    found: dict[str, set[int]] = {}
    for record, unit in zip(records, units, strict=True):
        found.setdefault(record.cell_type, set()).add(unit)
    least = max(settings.least, settings.folds)
    kept = {name for name, own in found.items() if len(own) >= least}
    if len(kept) < 2:
        raise LabelError(
            f"{len(kept)} types of {', '.join(map(str, data))} can be divided into {settings.folds} folds",
            why=f"a type needs {least} patients or images that are no duplicates",
        )
    chosen = [index for index, record in enumerate(records) if record.cell_type in kept]
    cells = tuple(records[index] for index in chosen)
    own = [units[index] for index in chosen]
    folds = cell_folds(cells, folds=settings.folds, seed=settings.seed, duplicates=own)
    left = Counter(record.cell_type for record in records if record.cell_type not in kept)
    return Study(cells, tuple(own), tuple(folds), in_order(kept), dict(sorted(left.items())), tuple(faults))


def in_order(names: set[str]) -> tuple[str, ...]:
    """Types in the order of Table 1; others behind them, in the order of the taxonomy."""
    rows = list(paper()["table1"]["rows"])
    return tuple([name for name in rows if name in names] + [n for n in taxonomy.TYPES if n in names - set(rows)])


def rounds(study: Study, settings: Preset) -> list[Round]:
    """The folds, and the split 70/30 of the classifier of handcrafted features."""
    folds = np.array(study.folds)
    result = [_round(f"fold-{fold + 1}", folds == fold) for fold in range(settings.folds)]
    if HANDCRAFTED in settings.models:
        tenths = cell_folds(study.records, folds=10, seed=settings.seed + 1, duplicates=study.units)
        result.append(_round(SPLIT, np.array(tenths) < 3))
    return result


def _round(name: str, test: NDArray[np.bool_]) -> Round:
    return Round(name, tuple(np.flatnonzero(~test).tolist()), tuple(np.flatnonzero(test).tolist()))


def _models(settings: Preset, one: Round) -> tuple[str, ...]:
    """All models on every fold; on the split 70/30 the handcrafted features and the first network as their control."""
    if one.name != SPLIT:
        return settings.models
    networks = [model for model in settings.models if model != HANDCRAFTED]
    return (*networks[:1], HANDCRAFTED)


def check_same(study: Study, settings: Preset, out: Path) -> None:
    """Write settings and folds, or compare them with what an earlier call left; raises ResultError."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "cell_type", "unit", "fold"])
    for record, unit, fold in zip(study.records, study.units, study.folds, strict=True):
        writer.writerow([f"{record.source}/{record.path.name}", record.cell_type, unit, fold + 1])
    content = json.loads(json.dumps(asdict(settings)))
    written = {SETTINGS: json.dumps(content, indent=2) + "\n", FOLDS: table.getvalue()}
    if study.external:
        written[OTHERS] = "".join(f"{r.source}/{r.path.name},{r.cell_type}\n" for r in study.external)
        if not (out / OTHERS).exists() and (out / "answers").exists():
            why = "a network is not kept when it has answered"
            raise ResultError(f"{out} has no answers on {study.external[0].source}", why=why, remedy=_ANEW)
    for name, text in written.items():
        path = out / name
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise ResultError(
                f"{out} holds answers of other {'settings' if name == SETTINGS else 'cells'}",
                remedy=_ANEW,
            )
        if not path.exists():
            write_bytes(path, text.encode())


def answers_file(out: Path, model: str, one: Round | str) -> Path:
    name = one if isinstance(one, str) else one.name
    return out / "answers" / f"{model.replace(':', '-')}.{name}.csv"


def write_answers(
    path: Path, records: Sequence[CellRecord], types: Sequence[str], probabilities: NDArray[np.floating]
) -> None:
    """One row per cell: file, truth, answer and the probability of every type."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "truth", "answer", *types])
    for record, row in zip(records, probabilities, strict=True):
        best = types[int(row.argmax())]
        shown = [f"{value:.4f}" for value in row]
        writer.writerow([f"{record.source}/{record.path.name}", record.cell_type, best, *shown])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, table.getvalue().encode())


def read_answers(path: Path) -> tuple[list[str], list[str]]:
    """Truth and answer of every cell of a round, in the order of its test part."""
    rows = _rows(path)
    return [row["truth"] for row in rows], [row["answer"] for row in rows]


def read_probabilities(path: Path) -> NDArray[np.float64]:
    """(N, types) of what `write_answers` wrote."""
    return np.array([[float(value) for value in list(row.values())[3:]] for row in _rows(path)])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
