"""Which fields are learned from, which choose the working threshold, and which the card quotes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from myelos.datasets.duplicates import DuplicateSettings, groups
from myelos.datasets.layouts import read_sets
from myelos.datasets.records import FieldRecord
from myelos.datasets.splits import split
from myelos.models.files import find
from myelos.tables import RUN_FILE, read_run
from myelos.training.detector_recipe import DetectorRecipe


def parts_of(
    records: Sequence[FieldRecord], recipe: DetectorRecipe, test: Sequence[Path]
) -> dict[str, list[FieldRecord]]:
    """The split; a set given for testing takes its near-duplicates out of the training."""
    if not test:
        chosen = split(records, fractions=recipe.parts, seed=recipe.split_seed, rule=recipe.split)
        parts = {name: [records[i] for i in indices] for name, indices in chosen.items()}
        moved = [r for name in parts if name != "train" for r in parts[name] if r.source in recipe.whole]
        parted = {name: [r for r in part if r.source not in recipe.whole] for name, part in parts.items()}
        whole = [r for r in parts["train"] if r.source in recipe.whole] + moved
        return parted | {"train": parted["train"] + whole}
    held, _ = read_sets(test)
    labels = groups([*records, *held], DuplicateSettings(single_cells=recipe.split == "filled"))
    seen = set(labels[len(records) :])
    rest = [record for record, label in zip(records, labels, strict=False) if label not in seen]
    shares = {name: share for name, share in recipe.parts.items() if name != "test"}
    total = sum(shares.values())
    shares = {name: share / total for name, share in shares.items()}
    chosen = split(rest, fractions=shares, seed=recipe.split_seed, rule=recipe.split)
    return {name: [rest[i] for i in indices] for name, indices in chosen.items()} | {"test": list(held)}


def unseen(parts: dict[str, list[FieldRecord]], start: str | Path | None) -> dict[str, list[FieldRecord]]:
    """The split without fields for choosing and testing that the detector to begin with has learned from.

    Its `run.json` says which; a shipped model has none beside it, and then nothing is known.
    """
    manifest = find(start).with_name(RUN_FILE) if start is not None else None
    if manifest is None or not manifest.is_file():
        return parts
    learned = set(read_run(manifest.parent)["parts"]["train"])
    return {
        name: part if name == "train" else [record for record in part if record.path.name not in learned]
        for name, part in parts.items()
    }
