"""Where two opinions on the same cells differ: by cell for the galleries, by pairs of types for the table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from myelos import taxonomy

Row = dict[str, Any]


@dataclass(frozen=True)
class Disagreement:
    """sources: the two that speak, the detector first. cells: named by both. pairs: rows of first, second, number.

    others: cell → the word that was not adopted, of the cells on which the two contradict each other.
    """

    sources: tuple[str, str]
    cells: int
    pairs: tuple[Row, ...]
    others: dict[str, str]

    @property
    def number(self) -> int:
        return sum(row["number"] for row in self.pairs)


def disagreement_of(opinions: pa.Table, cells: pa.Table) -> Disagreement | None:
    """The opinions of the first two sources beside the adopted types; None where only one speaks.

    A coarser word for the same type, such as neutrophil for band neutrophil, contradicts nothing.
    """
    said: dict[str, dict[str, str]] = {}
    for cell, source, kind in zip(
        *(opinions[name].to_pylist() for name in ("cell_id", "source", "cell_type")), strict=True
    ):
        said.setdefault(source, {})[cell] = kind
    if len(said) < 2:
        return None
    (first, one), (second, other) = list(said.items())[:2]
    adopted = dict(zip(cells["cell_id"].to_pylist(), cells["cell_type"].to_pylist(), strict=True))
    both = [cell for cell in one if cell in other and cell in adopted]
    differ = [cell for cell in both if not taxonomy.akin(one[cell], other[cell])]
    counts = Counter((one[cell], other[cell]) for cell in differ)
    pairs = [{"first": a, "second": b, "number": number} for (a, b), number in counts.most_common()]
    others = {cell: other[cell] if adopted[cell] == one[cell] else one[cell] for cell in differ}
    return Disagreement((first, second), len(both), tuple(pairs), others)
