"""The map of cells of Figure 6 (Matek 2021): a picture, and a page on which every point shows its cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import myelos
from myelos import taxonomy
from myelos.counting import in_order
from myelos.report.input import RESEARCH_USE
from myelos.report.single_file import asset, data_uri, embedded_json, render
from myelos.tables import write_bytes

PAGE, PICTURE = "cell_map.html", "cell_map.png"
COLUMNS, PER_SHEET = 32, 1024  # cells of a sheet of thumbnails


@dataclass(frozen=True, slots=True)
class CellMap:
    """N cells on a map of two dimensions.

    places: (N, 2). types: as labelled. predicted: the network's, empty strings where it names none. ids: opaque.
    thumbnails: JPEG or PNG, each of the same square size. alike: (N, k) indices of the cells nearest in all dimensions,
    best first. title, note: of the page.
    """

    places: NDArray[np.floating]
    types: Sequence[str]
    predicted: Sequence[str]
    ids: Sequence[str]
    thumbnails: Sequence[bytes]
    alike: NDArray[np.integer]
    title: str = "Map of cells"
    note: str = ""


def write_map(out: Path, cells: CellMap) -> list[Path]:
    """Write `cell_map.png` and `cell_map.html` (one file, opens offline)."""
    picture = draw(cells)
    write_bytes(out / PICTURE, picture)
    write_bytes(out / PAGE, page(cells).encode())
    return [out / PICTURE, out / PAGE]


def draw(cells: CellMap) -> bytes:
    """The picture as PNG: points in the colours of the taxonomy, drawn in mixed order, with a legend."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = in_order(set(cells.types))
    figure = Figure(figsize=(11, 8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    order = np.random.default_rng(0).permutation(len(cells.types))  # no type hides all others
    places = np.asarray(cells.places)[order]
    colours = [taxonomy.cell_type(cells.types[index]).colour for index in order]
    axes.scatter(places[:, 0], places[:, 1], c=colours, s=_size(len(places)), linewidths=0, alpha=0.85)
    for name in names:
        kind = taxonomy.cell_type(name)
        label = f"{kind.label} ({sum(other == name for other in cells.types)})"
        axes.scatter([], [], c=kind.colour, s=36, linewidths=0, label=label)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.set_title(cells.title, loc="left")
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def _size(count: int) -> float:
    """Area of a point: fewer cells, larger points."""
    return float(np.clip(30_000 / max(count, 1), 4, 40))


def page(cells: CellMap) -> str:
    """The page as HTML."""
    side, found = sheets(cells.thumbnails)
    return render(
        "cell_map.html.jinja",
        style=asset("cell_map.css"),
        script=asset("cell_map.js"),
        title=cells.title,
        note=cells.note,
        count=len(cells.types),
        version=myelos.__version__,
        research_use=RESEARCH_USE,
        sheets=[data_uri(sheet, "jpeg") for sheet in found],
        data=embedded_json(_data(cells, side)),
    )


def _data(cells: CellMap, side: int) -> dict[str, Any]:
    names = in_order({name for name in (*cells.types, *cells.predicted) if name})
    place = {name: index for index, name in enumerate(names)}
    rows = zip(np.asarray(cells.places).tolist(), cells.types, cells.predicted, cells.ids, strict=True)
    return {
        "side": side,
        "columns": COLUMNS,
        "perSheet": PER_SHEET,
        "types": [
            [name, taxonomy.cell_type(name).label, taxonomy.cell_type(name).colour, _akin(name, names)]
            for name in names
        ],
        "points": [
            [round(x, 3), round(y, 3), place[kind], place.get(said, -1), name] for (x, y), kind, said, name in rows
        ],
        "alike": np.asarray(cells.alike).tolist(),
    }


def _akin(name: str, names: Sequence[str]) -> list[int]:
    """Places of the types that contradict a type in nothing: itself, finer and coarser words."""
    return [index for index, other in enumerate(names) if taxonomy.akin(name, other)]


def sheets(thumbnails: Sequence[bytes]) -> tuple[int, list[bytes]]:
    """Side of a thumbnail in pixels, and JPEG sheets of `PER_SHEET` of them, `COLUMNS` a row: few images to decode."""
    import cv2

    decoded: list[Any] = [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) for content in thumbnails]
    side = decoded[0].shape[0]
    pages = []
    for first in range(0, len(decoded), PER_SHEET):
        part = decoded[first : first + PER_SHEET]
        sheet = np.full((-(-len(part) // COLUMNS) * side, COLUMNS * side, 3), 255, np.uint8)
        for index, image in enumerate(part):
            top, left = index // COLUMNS * side, index % COLUMNS * side
            sheet[top : top + side, left : left + side] = image
        pages.append(bytes(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]))
    return side, pages
