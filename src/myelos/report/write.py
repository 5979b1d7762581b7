"""All files of a report, and the way back from the files to what the report was made from."""

from __future__ import annotations

from pathlib import Path

from myelos.report.files import write_files
from myelos.report.input import Picture, ReportInput
from myelos.report.page import PageSettings, render
from myelos.tables import read_table, write_bytes, write_table

PAGE = "report.html"


def write(out: Path, given: ReportInput, *, settings: PageSettings | None = None) -> Path:
    """Write the report into `out` and return the path of its page.

    `report.html`, `report.json`, `counts.csv`, `cells.geojson` (and one a slide in `geojson/` where there are
    several), `crops.parquet` where it is not there yet, and `pictures.parquet`. Tables of the run and `run.json` are
    the caller's.
    """
    write_files(out, given)
    if given.crops and not (out / "crops.parquet").exists():
        slides = dict(zip(given.cells["cell_id"].to_pylist(), given.cells["slide_id"].to_pylist(), strict=True))
        rows = ({"slide_id": slides.get(cell), "cell_id": cell, "png": crop} for cell, crop in given.crops.items())
        write_table(out, "crops", rows)
    if given.pictures:
        write_table(out, "pictures", _picture_rows(given))
    write_bytes(out / PAGE, render(given, settings).encode())
    return out / PAGE


def _picture_rows(given: ReportInput) -> list[dict[str, object]]:
    return [
        {"slide_id": slide, "image": picture.image, "scale": picture.scale} for slide, picture in given.pictures.items()
    ]


def stored_crops(out: Path) -> dict[str, bytes]:
    """cell_id → encoded image, empty where the run kept none."""
    if not (out / "crops.parquet").exists():
        return {}
    rows = read_table(out, "crops")
    return dict(zip(rows["cell_id"].to_pylist(), rows["png"].to_pylist(), strict=True))


def stored_pictures(out: Path) -> dict[str, Picture]:
    """slide_id → picture, empty where the run kept none."""
    if not (out / "pictures.parquet").exists():
        return {}
    return {row["slide_id"]: Picture(row["image"], row["scale"]) for row in read_table(out, "pictures").to_pylist()}
