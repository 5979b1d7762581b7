"""The synthetic slide that benchmarks read and count, painted once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SIZE = (8192, 6144)  # px at 0.25 µm/px: about two thousand cells of marrow, the slide of `myelos demo`
QUICK_SIDE = 1280  # px of one rendered field, written as a slide


@contextmanager
def painted(*, quick: bool = False, given: Path | None = None) -> Iterator[Path]:
    """A synthetic marrow slide that is gone afterwards, or the one that was given."""
    if given is not None:
        yield given
        return
    with TemporaryDirectory(prefix="myelos-bench-") as folder:
        path = Path(folder) / "marrow.tif"
        _paint_quickly(path) if quick else _paint(path)
        yield path


def _paint(path: Path) -> None:
    from myelos.phantom.slide import write_slide

    write_slide(path, width=SIZE[0], height=SIZE[1], specimen="marrow", seed=0, red_cell_truth=False)


def _paint_quickly(path: Path) -> None:
    """Few cells of each type, seen again and again."""
    import numpy as np

    from myelos.phantom.fields import FieldSettings, render_field
    from myelos.slides.write import write_tiff

    settings = FieldSettings(width=QUICK_SIDE, height=QUICK_SIDE, cells_per_mm2=1400, pool_per_type=2)
    write_tiff(path, render_field(settings, np.random.default_rng(0)).rgb, mpp=settings.mpp)
