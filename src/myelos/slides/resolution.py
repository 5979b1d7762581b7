"""µm per pixel: whom to believe."""

from __future__ import annotations

from myelos.errors import UsageError
from myelos.slides.base import MPP_RANGE, Resolution


def resolution_of(found: float | None, stated: float | None) -> Resolution:
    """What a person states goes before the file; what the file claims counts only within MPP_RANGE."""
    if stated is not None:
        if not believable(stated):
            raise UsageError(
                f"{stated:g} µm per pixel is not the resolution of a smear",
                remedy=f"Pass a value between {MPP_RANGE[0]} and {MPP_RANGE[1]}",
            )
        return Resolution(float(stated), "argument")
    if believable(found):
        return Resolution(found, "file")
    return Resolution(None)


def believable(mpp: float | None) -> bool:
    return mpp is not None and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]


def agreeing(mpp_x: float, mpp_y: float) -> float | None:
    """One µm/px of both axes, None where they are absent or differ by more than 2 %."""
    if not (mpp_x > 0 and mpp_y > 0) or max(mpp_x, mpp_y) > 1.02 * min(mpp_x, mpp_y):
        return None
    return (mpp_x + mpp_y) / 2


def doubts(claimed: float | None) -> tuple[str, ...]:
    """What to say about a resolution that was not believed."""
    if claimed is None or believable(claimed):
        return ()
    return (f"The file claims {claimed:.4g} µm per pixel, which is no microscope's",)
