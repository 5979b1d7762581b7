"""How far the scale read from red cells is off, per source: python -m benchmarks.scale --data ../shared/data

Truth: where red cells have boxes (BCCD, TXL-PBC), the median of (width + height) / 2 of those that touch no border;
where the resolution is published (Munich marrow and blood cells), 7.5 µm in its pixels. Chula and the pig fields have
neither: only the spread between fields of one sample is given.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from myelos.imaging.scale import ScaleSettings, estimate_from_sizes, round_cells

PUBLISHED_MPP = {"mll_bone_marrow_cells": 0.086, "lmu_aml_cells": 0.07072}


@dataclass(frozen=True, slots=True)
class Field:
    """One image, the diameters of its red cells' boxes in pixels (empty where not boxed), and what it is pooled by."""

    path: Path
    boxes: tuple[float, ...]
    group: str


def _whole(left: float, top: float, right: float, bottom: float, width: int, height: int) -> bool:
    return left > 1 and top > 1 and right < width - 1 and bottom < height - 1 and right > left and bottom > top


def bccd(data: Path) -> Iterator[tuple[str, Field]]:
    for path in sorted((data / "bccd_fields" / "JPEGImages").glob("*.jpg")):
        tree = ElementTree.parse(path.parent.parent / "Annotations" / f"{path.stem}.xml")
        boxes = []
        for found in tree.iterfind("object"):
            edges = [float(found.findtext(f"bndbox/{edge}", "0")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            if found.findtext("name") == "RBC" and _whole(*edges, 640, 480):
                boxes.append((edges[2] - edges[0] + edges[3] - edges[1]) / 2)
        yield "BCCD", Field(path, tuple(boxes), "")


def txl(data: Path) -> Iterator[tuple[str, Field]]:
    names = {640: "TXL-PBC, origin BCCD", 416: "TXL-PBC, origin BCD (stretched)"}
    for path in sorted((data / "txl_pbc_fields" / "images").glob("*.jpg")):
        image = cv2.imread(str(path))
        height, width = image.shape[:2]
        boxes = []
        for line in (path.parent.parent / "labels" / f"{path.stem}.txt").read_text().splitlines():
            kind, x, y, w, h = (float(word) for word in line.split())
            x, y, w, h = x * width, y * height, w * width, h * height
            if kind == 1 and _whole(x - w / 2, y - h / 2, x + w / 2, y + h / 2, width, height):
                boxes.append((w + h) / 2)
        yield names.get(width, "TXL-PBC, origin PBC (crops)"), Field(path, tuple(boxes), "")


def unboxed(data: Path) -> Iterator[tuple[str, Field]]:
    for path in sorted((data / "chula_wbc_fields" / "images").glob("*.jpg")):
        yield "Chula, by sample", Field(path, (), path.stem.split("-")[1].split("_")[0])
    for path in sorted((data / "pig_wbc_fields" / "images").glob("*.jpg")):
        yield "Pig, smartphone", Field(path, (), "")
    for path in sorted((data / "pbc_dib_cells" / "images").glob("*/*.jpg"))[::20]:
        yield "PBC crops", Field(path, (), "")
    for name, label in (("mll_bone_marrow_cells", "MLL marrow crops"), ("lmu_aml_cells", "LMU crops")):
        for path in sorted((data / name / "images").glob("*/*.*"))[:: 20 if name.startswith("mll") else 1]:
            yield label, Field(path, (7.5 / PUBLISHED_MPP[name],), "")


def measure(field: Field, settings: ScaleSettings) -> list[np.ndarray]:
    image = cv2.imread(str(field.path))
    return round_cells(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), settings) if image is not None else []


def pools(fields: list[Field], size: int) -> list[list[int]]:
    """Indices of fields pooled: by group, else `size` at a time in the order of their names."""
    if fields[0].group:
        groups: dict[str, list[int]] = defaultdict(list)
        for index, field in enumerate(fields):
            groups[field.group].append(index)
        return list(groups.values())
    order = list(range(len(fields)))
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def errors(fields: list[Field], sizes: list, chosen: list[list[int]], settings: ScaleSettings) -> tuple[list, list]:
    """Diameters estimated for each pool (None where none was given) and their relative errors where truth is known."""
    diameters, relative = [], []
    for pool in chosen:
        estimate = estimate_from_sizes([sizes[index] for index in pool], settings)
        diameters.append(None if estimate is None else settings.diameter_um / estimate.mpp)
        truth = [size for index in pool for size in fields[index].boxes]
        if estimate is not None and truth:
            relative.append(float(diameters[-1] / np.median(truth) - 1))
    return diameters, relative


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _spread(values: list[float]) -> float | None:
    return float(np.std(values) / np.mean(values)) if len(values) > 1 else None


def row(name: str, fields: list[Field], sizes: list, pooled: int, settings: ScaleSettings) -> dict[str, object]:
    single, single_errors = errors(fields, sizes, [[index] for index in range(len(fields))], settings)
    groups, group_errors = errors(fields, sizes, pools(fields, pooled), settings)
    known, found = ([value for value in values if value is not None] for values in (single, groups))
    return {
        "source": name,
        "fields": len(fields),
        "diameter": f"{np.median(found):.1f} px" if found else "–",
        "field: none": _percent(1 - len(known) / len(fields)),
        "field: median error": _percent(float(np.median(np.abs(single_errors))) if single_errors else None),
        "field: spread": _percent(_spread(known)),
        "pools": len(groups),
        "pool: none": _percent(1 - len(found) / max(len(groups), 1)),
        "pool: mean error": _percent(float(np.mean(group_errors)) if group_errors else None),
        "pool: median error": _percent(float(np.median(np.abs(group_errors))) if group_errors else None),
        "pool: worst error": _percent(max(group_errors, key=abs) if group_errors else None),
        "pool: spread": _percent(_spread(found)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pool", type=int, default=10, help="fields pooled where no sample is known")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    call = parser.parse_args()
    cv2.setNumThreads(1)
    settings = ScaleSettings()
    sources: dict[str, list[Field]] = defaultdict(list)
    for read in (bccd, txl, unboxed):
        for name, field in read(call.data):
            sources[name].append(field)
    rows = []
    with ThreadPoolExecutor(call.threads) as threads:
        for name, fields in sources.items():
            sizes = list(threads.map(lambda field: measure(field, settings), fields))
            rows.append(row(name, fields, sizes, call.pool, settings))
    if call.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for line in rows:
        print("| " + " | ".join(str(value) for value in line.values()) + " |")


if __name__ == "__main__":
    main()
