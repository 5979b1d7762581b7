"""Features by which the cells of one patient differ from the usual look of their type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from myelos.errors import UsageError
from myelos.phantom.looks import LOOKS, CellLook


@dataclass(frozen=True, slots=True)
class Feature:
    """types: whose cells may have it. change: the look with it."""

    types: tuple[str, ...]
    change: Callable[[CellLook], CellLook]


def _finer(look: CellLook) -> CellLook:
    """Chromatin a quarter finer, and its contrast a third higher: seen over many cells rather than in one."""
    texture, contrast = look.texture, look.contrast
    return replace(
        look, texture=(0.75 * texture[0], 0.75 * texture[1]), contrast=(1.35 * contrast[0], 1.35 * contrast[1])
    )


def _pale(look: CellLook) -> CellLook:
    """Granules missing, and the cytoplasm grey instead of pink."""
    return replace(look, granules=(), eosin=(0.3 * look.eosin[0], 0.4 * look.eosin[1]))


FEATURES: dict[str, Feature] = {
    "cup": Feature(("blast",), lambda look: replace(look, nucleus=("cup",))),
    "fine": Feature(("blast",), _finer),
    "hypogranular": Feature(("myelocyte", "metamyelocyte", "band_neutrophil", "segmented_neutrophil"), _pale),
    "hypolobated": Feature(("segmented_neutrophil",), lambda look: replace(look, nucleus=("bilobed",))),
}


def check(shares: Mapping[str, float]) -> None:
    """UsageError for an unknown feature, or a share that is none."""
    unknown = [name for name in shares if name not in FEATURES]
    if unknown:
        raise UsageError(f"no feature '{unknown[0]}'", remedy=f"Choose of {', '.join(FEATURES)}")
    if any(not 0 <= share <= 1 for share in shares.values()):
        raise UsageError("the share of cells that show a feature lies between 0 and 1")


def of_type(cell_type: str, shares: Mapping[str, float]) -> dict[str, float]:
    """The features that cells of a type can have, with their shares, in a fixed order."""
    return {name: shares[name] for name in FEATURES if shares.get(name, 0) > 0 and cell_type in FEATURES[name].types}


def named(cell_type: str, features: tuple[str, ...]) -> str:
    """`blast:cup+fine`: a type with features."""
    return f"{cell_type}:{'+'.join(features)}" if features else cell_type


def split(name: str) -> tuple[str, tuple[str, ...]]:
    """The type and the features of such a name."""
    cell_type, _, features = name.partition(":")
    return cell_type, tuple(features.split("+")) if features else ()


def all_names(cell_type: str, shares: Mapping[str, float]) -> list[str]:
    """A type with every set of features that its cells can have."""
    sets: list[tuple[str, ...]] = [()]
    for name in of_type(cell_type, shares):
        sets += [(*chosen, name) for chosen in sets]
    return [named(cell_type, chosen) for chosen in sets]


def look_with(cell_type: str, features: tuple[str, ...]) -> CellLook:
    look = LOOKS[cell_type]
    for name in features:
        look = FEATURES[name].change(look)
    return look
