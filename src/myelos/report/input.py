"""What a report is made from: stored rows and numbers, never a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from myelos.counting import Count
from myelos.tables import SCHEMAS

RESEARCH_USE = "For research use only. Not for use in diagnostic procedures."


def _empty(name: str) -> pa.Table:
    return SCHEMAS[name].empty_table()


@dataclass(frozen=True)
class Picture:
    """A downscaled image of a field or slide: encoded bytes (JPEG or PNG) and its pixels per level-0 pixel (≤ 1)."""

    image: bytes
    scale: float


@dataclass(frozen=True)
class ModelNote:
    """What the report says of one model; `tested_on` and `synthetic` come from the model's card."""

    name: str
    sha256: str = ""
    task: str = "detector"
    description: str = ""
    tested_on: tuple[str, ...] = ()
    synthetic: bool = False  # trained on synthetic images only


@dataclass(frozen=True)
class ReportInput:
    """Everything that one report of one smear shows.

    title: for people; must not carry a file name of a person's slide. cells, slides, tiles, set_aside, opinions: tables
    of the declared schemas. run: what `run.json` will hold, as far as it is known (settings, versions, inputs).
    crops: cell_id → encoded image (PNG or JPEG); cells without one are listed without a picture. pictures: slide_id →
    `Picture`; slides without one are listed without boxes. synthetic: the input itself is synthetic. forced: counted
    although an input was judged to be no smear. warnings: sentences shown at the top of the page.
    first and corrections: the count before people corrected cells, and what they did (recounts only).
    """

    title: str
    count: Count
    cells: pa.Table = field(default_factory=lambda: _empty("cells"))
    slides: pa.Table = field(default_factory=lambda: _empty("slides"))
    tiles: pa.Table = field(default_factory=lambda: _empty("tiles"))
    set_aside: pa.Table = field(default_factory=lambda: _empty("set_aside"))
    opinions: pa.Table = field(default_factory=lambda: _empty("opinions"))
    run: Mapping[str, Any] = field(default_factory=dict)
    crops: Mapping[str, bytes] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    models: tuple[ModelNote, ...] = ()
    synthetic: bool = False
    forced: bool = False
    warnings: tuple[str, ...] = ()
    first: Count | None = None
    corrections: pa.Table = field(default_factory=lambda: _empty("corrections"))
