"""Writes a whole glass as a pyramidal JPEG BigTIFF: workers paint and encode blocks, one process puts them in order.

The same settings give the same bytes whatever the number of workers. Memory is bounded whatever the size: a few blocks
in flight, one row of tiles of each level from the fourth on, three bands of cells. Plan and pool are made by workers
that end before the painting begins, so that nothing of what they needed meanwhile stays with anybody.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos import tables
from myelos.errors import MyelosError, ResultError
from myelos.phantom import forms
from myelos.phantom.annotating import AnnotationSettings
from myelos.phantom.compositions import normalised
from myelos.phantom.cut_outs import CutOuts
from myelos.phantom.features import all_names
from myelos.phantom.glass.block import MARGIN, Ground, Job, Painter, block_area
from myelos.phantom.glass.crowd import Cells, Crowd
from myelos.phantom.glass.drawing import make_layout
from myelos.phantom.glass.empty import LOWER, TILE, Encoded, Glass, encode_block
from myelos.phantom.glass.ground import lay_down, make_ground, pick_up, stain_of
from myelos.phantom.glass.layout import BLOCK, GlassSettings, Layout
from myelos.phantom.glass.poses import Pool, open_pool, render_pool, save_pool
from myelos.phantom.glass.real import with_cut_outs, write_origins
from myelos.phantom.glass.scanners import scanner
from myelos.phantom.glass.truth import CellTruth, write_truth
from myelos.phantom.glass.workers import Submit, in_order, workers
from myelos.phantom.looks import VARIANTS
from myelos.slides.dicom_write import DicomPyramid
from myelos.slides.tiled import Pyramid, TiledTiff, UpperLevels
from myelos.slides.write import level_sizes

BITS_PER_PIXEL = 3.0  # of smear at level 0, a little more than measured; for the estimate of what a slide takes
BITS_OF_LABEL, BITS_OF_GLASS = 2.0, 0.3  # noise costs bits, too; most fields of bare glass are written once
BYTES_PER_CELL = 400

Progress = Callable[[int, int], None]


def write_glass(
    path: str | Path,
    settings: GlassSettings,
    *,
    form: str = forms.TIFF,
    annotations: AnnotationSettings | None = None,
    cut_outs: CutOuts | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a glass slide and its truth beside it, in `<name>.truth/`; returns that folder.

    form: tiff, or dicom: then `path` becomes a folder, and the slide is annotated as `annotations` says.
    cut_outs: real cells, at the slide's µm/px, among the intact sprites; `sprites.csv` then says where each comes from.
    threads: processes that paint, None for one per usable core; they are spawned, so a script that calls this needs
    the guard `if __name__ == "__main__"` unless threads is 1. progress(done, total) counts blocks. Raises ResultError
    where the slide exists and `overwrite` is false, or where the disk has not room enough, before anything is painted.
    """
    path = Path(path)
    forms.check(path, form, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f"{path.stem}.truth")
    count = threads or usable_cores()
    with (
        _said(path),
        tempfile.TemporaryDirectory(prefix="myelos-glass-", ignore_cleanup_errors=True) as scratch,
        forms.begun(path, form) as place,
    ):
        with workers(count, _start, None, None) as submit:
            layout: Layout = submit(make_layout, settings).result()
            check_room(path.parent, settings, layout, form)
            tables.prepare(folder, overwrite=overwrite or not path.exists())
            ground: Ground = submit(_make_ground, settings, layout, Path(scratch)).result()
            pool = _make_pool(settings, Path(scratch), submit, cut_outs, folder)
        cells = CellTruth(folder, pool.types)
        try:
            cells.add_dust(layout.dust, (settings.width, settings.height))
            crowd = Crowd(settings, layout, pool)
            study = forms.study_of(asdict(settings), label=True, cut_outs=cut_outs, annotations=annotations)
            opened = partial(forms.pyramid, place, form, mpp=settings.mpp, study=study, tile=TILE)
            _write(opened, ground, crowd, cells, Path(scratch), count, progress)
            run = write_truth(folder, place, settings, layout, cells)
            run |= forms.annotated(place, form, folder, study, seed=settings.seed, settings=annotations)
        finally:
            cells.discard()
        run |= {"file": path.name, "bytes": forms.size_of(place)}
        run |= {"cell_images": dict(cut_outs.about)} if cut_outs else {}
    tables.write_run(folder, run)
    return folder


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def estimated_bytes(settings: GlassSettings, layout: Layout, form: str = forms.TIFF) -> int:
    """About what the slide and its truth take on disk, rather too much than too little."""
    smear = float((layout.where >= 0).sum()) * layout.step**2
    label = float((layout.label > 0).sum()) * layout.step**2
    rest = max(settings.width * settings.height - smear - label, 0)
    cells = float(layout.cells.sum()) * (layout.step * settings.mpp * 1e-3) ** 2
    bare = BITS_OF_GLASS if form == forms.TIFF else BITS_OF_LABEL  # DICOM cannot point to a tile twice
    return int((smear * BITS_PER_PIXEL + label * BITS_OF_LABEL + rest * bare) / 6 + cells * BYTES_PER_CELL)


def check_room(folder: Path, settings: GlassSettings, layout: Layout, form: str = forms.TIFF) -> None:
    """Raise ResultError where the disk is too full for the slide."""
    needed, free = estimated_bytes(settings, layout, form), shutil.disk_usage(folder).free
    if free < needed:
        raise ResultError(
            f"the disk of {folder} has not room enough for the slide",
            why=f"about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free",
            remedy="Make room, choose another folder, or a smaller --size",
        )


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Faults of disk and workers as errors that a person can act on."""
    try:
        yield
    except BrokenProcessPool as error:
        raise MyelosError(
            f"{path.name} was not finished",
            why="a worker ended, perhaps for want of memory",
            remedy="Try again with fewer --threads",
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ResultError(f"{path.name} was not finished", why="the disk is full", remedy="Make room") from error


def _make_ground(settings: GlassSettings, layout: Layout, scratch: Path) -> Ground:
    return lay_down(make_ground(settings, layout), scratch)


def _make_pool(settings: GlassSettings, scratch: Path, submit: Submit, cut_outs: CutOuts | None, folder: Path) -> Pool:
    shares = set(normalised(settings.shares(settings.specimen)))
    shares |= set(normalised(settings.shares("blood"))) if settings.blood_smear else set()
    plain = sorted({name for coarse in shares for name in VARIANTS.get(coarse, (coarse,))})
    types = [name for cell_type in plain for name in all_names(cell_type, settings.features)]
    render = partial(
        render_pool,
        seed=settings.seed,
        mpp=settings.mpp,
        stain=stain_of(settings),
        made=scanner(settings.scanner),
        per_type=settings.pool_per_type,
        softness=cut_outs.softness if cut_outs else 0.0,
    )
    parts = list(in_order(submit, render, types, len(types)))
    if cut_outs:
        mix = partial(
            with_cut_outs,
            cut_outs=cut_outs,
            stain=stain_of(settings),
            made=scanner(settings.scanner),
            mpp=settings.mpp,
        )
        mixed = [mix(name, own) for name, own in zip(types, parts, strict=True)]
        parts = [sprites for sprites, _ in mixed]
        write_origins(folder, types, [origins for _, origins in mixed])
    return save_pool(scratch, list(zip(types, parts, strict=True)))


def _write(
    opened: Callable[[list[tuple[int, int]]], TiledTiff | DicomPyramid],
    ground: Ground,
    crowd: Crowd,
    cells: CellTruth,
    scratch: Path,
    count: int,
    progress: Progress | None,
) -> None:
    """Every block in order: its tiles into the file, its cells into the table, its small picture into the pyramid."""
    settings = ground.settings
    sizes = level_sizes(settings.width, settings.height, None)
    if len(sizes) <= LOWER:
        sizes = level_sizes(settings.width, settings.height, LOWER + 1)
    columns, rows = settings.blocks
    quality = scanner(settings.scanner).quality
    glass = Glass(Painter(pick_up(ground, scratch), crowd.pool))
    with workers(count, _start, ground, scratch) as submit, opened(sizes) as tiff:
        upper = UpperLevels(tiff, LOWER, quality)
        waiting: deque[Cells] = deque()
        pictures: list[NDArray[np.uint8]] = []
        jobs = _jobs(crowd, ground, waiting)
        for number, (job, encoded) in enumerate(_painted(submit, jobs, glass, 2 * count + 2)):
            _place(tiff, job, encoded)
            if encoded.truth.numbers:
                cells.add(waiting[0], encoded.truth)
            pictures.append(encoded.small)
            if job.column == columns - 1:
                upper.add(np.concatenate(pictures, axis=1))
                pictures.clear()
                waiting.popleft()
            if progress:
                progress(number + 1, columns * rows)
        upper.finish()


def _jobs(crowd: Crowd, ground: Ground, waiting: deque[Cells]) -> Iterator[Job]:
    """Blocks from top to bottom, left to right; the cells of each band are appended to `waiting`."""
    settings = crowd.settings
    for row, (here, around) in enumerate(crowd.bands()):
        waiting.append(here)
        for column in range(settings.blocks[0]):
            yield _job(ground, column, row, around)


def _job(ground: Ground, column: int, row: int, around: Cells) -> Job:
    """A block with all cells that its window may touch. around: sorted by x."""
    x1, y1, x2, y2 = block_area(ground.settings, column, row)
    first, last = np.searchsorted(around["x"], [x1 - BLOCK // 2, x2 + BLOCK // 2])
    near = around[first:last]
    owned = (near["x"] >= x1) & (near["x"] < x2) & (near["y"] >= y1) & (near["y"] < y2)
    margin = max(MARGIN, float(near["reach"][owned].max(initial=0))) + 16 + near["reach"]
    touching = (near["x"] > x1 - margin) & (near["x"] < x2 + margin)
    touching &= (near["y"] > y1 - margin) & (near["y"] < y2 + margin)
    order = np.flatnonzero(touching)
    order = order[np.argsort(near["number"][order], kind="stable")]
    return Job(column, row, near[order], owned[order])


def _painted(submit: Submit, jobs: Iterator[Job], glass: Glass, ahead: int) -> Iterator[tuple[Job, Encoded]]:
    """Results in the order of the jobs; fields of bare glass are not sent to a worker."""
    flying: deque[tuple[Job, Future[Encoded] | None]] = deque()
    for job in jobs:
        flying.append((job, None if glass.bare(job) else submit(_paint, job)))
        while flying and (len(flying) > ahead or flying[0][1] is None):
            yield _landed(*flying.popleft(), glass)
    while flying:
        yield _landed(*flying.popleft(), glass)


def _landed(job: Job, future: Future[Encoded] | None, glass: Glass) -> tuple[Job, Encoded]:
    return job, glass.encoded(job) if future is None else future.result()


def _place(tiff: Pyramid, job: Job, encoded: Encoded) -> None:
    """The tiles of a block into the file; those of bare glass only the first time."""
    for level, rows in enumerate(encoded.tiles):
        across = BLOCK // TILE >> level
        for y, row in enumerate(rows):
            for x, data in enumerate(row):
                column, line = job.column * across + x, job.row * across + y
                if encoded.like is None:
                    tiff.put(level, column, line, data)
                else:
                    first = (encoded.like[0] * across + x, encoded.like[1] * across + y)
                    tiff.repeat(level, column, line, first)


_PAINTER: Painter | None = None  # of this worker


def _start(ground: Ground | None, scratch: Path | None) -> None:
    """What each worker does first."""
    global _PAINTER
    cv2.setNumThreads(1)  # the workers are the threads
    if ground is not None and scratch is not None:
        _PAINTER = Painter(pick_up(ground, scratch), open_pool(scratch))


def _paint(job: Job) -> Encoded:
    assert _PAINTER is not None
    rgb, truth = _PAINTER.paint(job)
    return encode_block(rgb, truth, _PAINTER.scanner.quality)
