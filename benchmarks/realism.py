"""How much rendered cells and fields resemble real ones; every change of the phantom is judged by it.

    python -m benchmarks.realism --data ../shared/data                 all figures, on both halves of the real files
    python -m benchmarks.realism --data ../shared/data --part tune     the half that the rendering may be tuned on
    python -m benchmarks.realism --data ../shared/data --quick         minutes: shows that it runs, not how good it is
    python -m benchmarks.realism --data ../shared/data --page side.html   real and synthetic side by side, for your eyes

Prints, for each half of the real files (by SHA-256 of the group of near-duplicates):
  cells   macro F1 on the five mature types of pbc_dib_cells of a small network trained on rendered cells alone
  gap     AUROC of telling these real cells from rendered ones, and the picture of the cells that gave themselves away
  fields  AP50 of white cells on bccd_fields of a detector trained on rendered fields alone
Networks are kept in --out and taken up again; a changed phantom trains anew. About an hour of one core from nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.realism_cells import (
    ANY,
    TYPES,
    CellSettings,
    key,
    named,
    real_crops,
    real_halves,
    rendered_crops,
    trained,
    type_figures,
)
from benchmarks.realism_fields import FieldRun, detector, field_figures, real_field_halves
from benchmarks.realism_gap import gap
from benchmarks.realism_page import write_page, write_pictures

CELLS, FIELDS = "pbc_dib_cells", "bccd_fields"
TARGETS = {"cells": ("macro_f1", 0.60), "fields": ("ap50", 0.85)}
GAP_CELLS = 200  # rendered ones of each type


def main() -> None:
    options = _options()
    import torch

    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.page:
        write_page(options.page, real_halves(options.data / CELLS), real_field_halves(options.data / FIELDS), tell)
        print(options.page)
        return
    if options.pictures:
        write_pictures(options.pictures, tell)
        print(options.pictures)
        return
    for what in options.only or MEASURES:
        for part, figures in MEASURES[what](options).items():
            _keep(options.out / "realism.json", what, part, figures)
            print("\n".join(lines(what, part, figures)), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {CELLS} and {FIELDS}")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/realism"))
    parser.add_argument("--part", choices=("tune", "quote"), help="one half of the real files; both without it")
    parser.add_argument("--only", action="append", choices=tuple(MEASURES), help="may be repeated")
    parser.add_argument("--page", type=Path, help="write a page with real and synthetic side by side, and no figures")
    parser.add_argument("--pictures", type=Path, help="write the synthetic pictures of docs/realism.md to this folder")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.parts = (options.part,) if options.part else ("tune", "quote")
    return options


def _cells(options: argparse.Namespace) -> dict[str, Any]:
    settings = CellSettings(per_type=20, epochs=1.0) if options.quick else CellSettings()
    seen = key(settings.side, settings.mpp, settings.seed, ANY)
    crops = rendered_crops(ANY, settings.per_type, settings, options.out / f"cells-{seen}", tell, seed=settings.seed)
    folder = options.out / f"network-{key(settings, ANY)}"
    network = trained(crops, len(TYPES), settings.epochs, settings, folder, tell, what="training on rendered cells")
    result = {}
    for part in options.parts:
        real = real_crops(real_halves(options.data / CELLS)[part], settings, tell)
        result[part] = type_figures([crop.cell_type for crop in real], named(network, real, settings.side))
    return result


def _gap(options: argparse.Namespace) -> dict[str, Any]:
    settings = CellSettings(epochs=1.0 if options.quick else 6.0)
    halves = real_halves(options.data / CELLS)
    per_type = 20 if options.quick else GAP_CELLS
    return {part: gap(halves[part], per_type, settings, options.out, part, tell) for part in options.parts}


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    run = replace(FieldRun(), fields=24, canvases=16) if options.quick else FieldRun()
    model = detector(run, options.out, tell, threads=options.threads)
    halves = real_field_halves(options.data / FIELDS)
    return {part: field_figures(model, halves[part], tell, threads=options.threads) for part in options.parts}


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"cells": _cells, "gap": _gap, "fields": _fields}


def lines(what: str, part: str, figures: dict[str, Any]) -> list[str]:
    """What is printed of one measure on one half."""
    head = f"{what} ({part} half): "
    if what == "gap":
        network = figures["network"]
        area, (low, high) = network["auroc"], network["auroc_interval"]
        by = ", ".join(f"{name} {value:.3f}" for name, value in figures["measures"].items())
        return [
            head + f"AUROC {area:.3f} ({low:.3f} to {high:.3f}) of a network, {network['cells']} cells judged",
            f"  of simple measures: {by}; pictures: {figures['picture']}",
        ]
    name, target = TARGETS[what]
    met = "met" if (figures[name] or 0.0) >= target else "missed"
    first = head + f"{name} {figures[name]:.3f} (target {target:.2f}: {met})"
    if what == "fields":
        rest = ", ".join(f"{one} {figures[one]:.3f}" for one in ("ap", "precision", "recall"))
        return [f"{first}; {rest}; {figures['fields']} fields, {figures['boxes']} white cells"]
    table = zip(TYPES, figures["confusion"], strict=True)
    rows = [f"  {kind:11}" + "".join(f"{n:6d}" for n in row) for kind, row in table]
    by = ", ".join(f"{kind} {value:.3f}" for kind, value in figures["f1"].items())
    return [f"{first}; {figures['cells']} cells; {by}", "  true by row, said by column:", *rows]


def _keep(path: Path, what: str, part: str, figures: dict[str, Any]) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    content.setdefault(what, {})[part] = figures
    path.write_text(json.dumps(content, indent=1))


def tell(what: str, done: int, total: int, left: float) -> None:
    """Progress on standard error, one line that is overwritten at a terminal, every tenth elsewhere."""
    if not sys.stderr.isatty() and done != total and done % max(total // 10, 1):
        return
    rest = f", {left / 60:.0f} min left" if left >= 0 else ""
    end = "\n" if done == total or not sys.stderr.isatty() else ""
    sys.stderr.write(f"\r{what}: {done} of {total}{rest}   {end}")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
