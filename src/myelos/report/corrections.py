"""What people corrected in the page: reading the file, checking it against the cells, and applying it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from myelos import taxonomy
from myelos.errors import InputError, LabelError, ResultError
from myelos.tables import table
from myelos.wording import number_of

FORMAT = "myelos-corrections-1"
_SHOWN = 10  # faults listed in one message

Row = dict[str, Any]


@dataclass(frozen=True)
class Corrections:
    """Rows in the order in which they were made; `base` names the cells they were made for, empty where unknown."""

    rows: tuple[Row, ...]
    base: str


def read_corrections(path: Path) -> Corrections:
    """Read what the page saved, or a plain list of its rows; raises InputError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is no file of corrections", why=str(error)) from error
    base = ""
    if isinstance(content, dict):
        if content.get("format") != FORMAT:
            raise InputError(f"{path.name} is no file of corrections", why=f"its format is not {FORMAT}")
        base, content = str(content.get("base") or ""), content.get("corrections")
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InputError(f"{path.name} is no file of corrections", why="it holds no list of corrections")
    if not content:
        raise InputError(f"{path.name} holds no correction")
    return Corrections(tuple(content), base)


@dataclass
class _State:
    """Cells while corrections are applied one after the other."""

    cells: dict[str, Row]
    slides: dict[str, Row]
    tiles: list[Row]
    struck: set[str] = field(default_factory=set)
    added: dict[str, str] = field(default_factory=dict)  # id in the file → id in the table
    done: list[Row] = field(default_factory=list)


def apply(corrections: Corrections, cells: pa.Table, slides: pa.Table, tiles: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Cells and corrections → corrected cells and the table `corrections`.

    A changed cell keeps its box and score and loses the probability of the type it had. Raises ResultError that lists
    the corrections that do not fit: unknown cells or slides, a wrong former type, two acts that contradict each other,
    a box outside its image, nobody's name.
    """
    state = _State(
        {row["cell_id"]: row for row in cells.to_pylist()},
        {row["slide_id"]: row for row in slides.to_pylist()},
        tiles.to_pylist(),
    )
    faults = []
    for number, row in enumerate(corrections.rows, start=1):
        try:
            time = _signed(row)
            _action(row)(state, row)
            state.done.append(_kept(row, time))
        except (ValueError, LabelError) as error:
            faults.append(f"correction {number}: {error.what if isinstance(error, LabelError) else error}")
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ResultError(
            f"{len(faults)} of {number_of(len(corrections.rows), 'correction')} cannot be made in this result",
            why="; ".join(faults[:_SHOWN]) + more,
            remedy="Pass the result that the corrections were made for",
        )
    return table("cells", state.cells.values()), table("corrections", state.done)


def _signed(row: Row) -> datetime:
    """The time of an act; an act without a name or a time is refused."""
    if not str(row.get("who") or "").strip():
        raise ValueError("it does not say who made it")
    try:
        time = datetime.fromisoformat(str(row.get("time")))
    except ValueError:
        raise ValueError(f"its time {row.get('time')!r} is no date") from None
    return time if time.tzinfo else time.astimezone()


def _action(row: Row) -> Callable[[_State, Row], None]:
    actions = {"reclassify": _reclassify, "strike": _strike, "add": _add}
    if row.get("action") not in actions:
        raise ValueError(f"{row.get('action')!r} is no action ({', '.join(actions)})")
    return actions[row["action"]]


def _reclassify(state: _State, row: Row) -> None:
    cell = _cell(state, row)
    cell["cell_type"], cell["probability"] = _type(row), None


def _strike(state: _State, row: Row) -> None:
    cell = _cell(state, row)
    state.struck.add(cell["cell_id"])
    del state.cells[cell["cell_id"]]


def _add(state: _State, row: Row) -> None:
    slide, name = row.get("slide_id"), row.get("cell_id")
    if slide not in state.slides:
        raise ValueError(f"there is no image {slide!r}")
    if name and (name in state.cells or name in state.added):
        raise ValueError(f"the cell {name!r} is there already")
    box = _box(row, state.slides[slide])
    taken = state.cells.keys() | state.struck
    cell_id = next(name for name in (f"{slide}-added-{n}" for n in count(1)) if name not in taken)
    state.cells[cell_id] = {"slide_id": slide, "cell_id": cell_id, **box, "cell_type": _type(row), "tile": None}
    state.cells[cell_id]["tile"] = _tile(state.tiles, slide, box)
    if name:
        state.added[name] = cell_id


def _cell(state: _State, row: Row) -> Row:
    """The cell that an act changes, if it is still as the act takes it to be."""
    name = state.added.get(row.get("cell_id") or "", row.get("cell_id"))
    if name in state.struck:
        raise ValueError(f"the cell {name} is struck out already")
    if name not in state.cells:
        raise ValueError(f"there is no cell {name!r}")
    cell = state.cells[name]
    if row.get("slide_id") not in (None, cell["slide_id"]):
        raise ValueError(f"the cell {name} is not on the image {row['slide_id']!r}")
    now = cell["cell_type"] or "not_identifiable"
    if row.get("from_type") != now:
        raise ValueError(f"the cell {name} is {now}, not {row.get('from_type')}")
    return cell


def _type(row: Row) -> str:
    return taxonomy.cell_type(str(row.get("to_type"))).name


def _box(row: Row, slide: Row) -> dict[str, float]:
    try:
        box = {key: float(row[key]) for key in ("x", "y", "width", "height")}
    except (KeyError, TypeError, ValueError):
        raise ValueError("its box is not four numbers") from None
    inside = box["x"] >= 0 and box["y"] >= 0 and box["width"] > 0 and box["height"] > 0
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    if not all(map(math.isfinite, box.values())) or not inside or right > slide["width"] or bottom > slide["height"]:
        raise ValueError("its box is not inside the image")
    return box


def _tile(tiles: list[Row], slide: str, box: dict[str, float]) -> int | None:
    """The tile that holds the middle of a box, so that the bootstrap over tiles knows the cell."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    holding = (
        tile["tile"]
        for tile in tiles
        if tile["slide_id"] == slide
        and tile["x"] <= x < tile["x"] + tile["width"]
        and tile["y"] <= y < tile["y"] + tile["height"]
    )
    return next(holding, None)


def _kept(row: Row, time: datetime) -> Row:
    """One row of the table `corrections`; an added cell has no former id."""
    added = row["action"] == "add"
    box = {key: None if row.get(key) is None else float(row[key]) for key in ("x", "y", "width", "height")}
    return {
        **box,
        "slide_id": row.get("slide_id"),
        "cell_id": None if added else row.get("cell_id"),
        "action": row["action"],
        "from_type": None if added else row.get("from_type"),
        "to_type": None if row["action"] == "strike" else row.get("to_type"),
        "who": str(row["who"]).strip(),
        "time": time,
        "why": str(row.get("why") or ""),
    }
