"""External validation between sources: how the benchmark counts, on probabilities written down by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from myelos.datasets.cells import CellRecord

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parent.parent
TYPES = ("blast", "promyelocyte", "segmented_neutrophil", "eosinophil", "not_identifiable")


@pytest.fixture
def external(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import external

    return external


def model(external: ModuleType, threshold: float) -> Any:
    from myelos.imaging.matching import Look

    like = Look(np.full(3, 240.0), np.eye(3))
    return external.Trained(None, (external.MLL,), TYPES, 1.0, threshold, like)


def test_every_cell_is_shown_refused_or_not_mapped(external: ModuleType) -> None:
    """Six cells of Barcelona: a basophil has no counterpart, one is not identifiable, one below the threshold."""
    truth = ("promyelocyte", "promyelocyte", "segmented_neutrophil", "eosinophil", "eosinophil", "basophil")
    records = [CellRecord(Path(f"{i}.jpg"), kind, external.PBC) for i, kind in enumerate(truth)]
    shares = np.array(
        [
            [0.7, 0.2, 0.1, 0.0, 0.0],  # a blast: wrong, tolerated
            [0.0, 0.3, 0.0, 0.0, 0.7],  # refused; with an answer forced, right
            [0.0, 0.0, 0.9, 0.1, 0.0],
            [0.3, 0.1, 0.1, 0.4, 0.1],  # below the threshold; right where forced
            [0.0, 0.8, 0.0, 0.2, 0.0],
            [0.9, 0.1, 0.0, 0.0, 0.0],
        ]
    )
    row = external.row(model(external, 0.5), external.PBC, records, shares)
    assert (row["cells"], row["not_mapped"], row["refused"], row["shown"]) == (6, 1, 2, 3)
    assert row["of_shown"]["accuracy"] == pytest.approx(1 / 3)
    assert row["of_shown"]["tolerant_accuracy"] == pytest.approx(2 / 3)
    assert row["of_all"]["accuracy"] == pytest.approx(3 / 5)
    assert row["of_all"]["recall"] == {"promyelocyte": 0.5, "segmented_neutrophil": 1.0, "eosinophil": 0.5}


def test_boxes_are_judged_in_their_own_words(external: ModuleType) -> None:
    """Chula says neutrophil; a segmented one is a neutrophil, and a lymphocyte has no name here."""
    records = [CellRecord(Path("a.jpg"), kind, external.CHULA) for kind in ("neutrophil", "lymphocyte")]
    shares = np.array([[0.0, 0.0, 0.9, 0.1, 0.0], [0.0, 0.0, 0.9, 0.1, 0.0]])
    row = external.row(model(external, 0.5), external.CHULA, records, shares)
    assert (row["cells"], row["not_mapped"], row["shown"]) == (2, 1, 1)
    assert row["of_shown"]["recall"] == {"neutrophil": 1.0}


def test_a_network_names_what_is_there_in_number(external: ModuleType) -> None:
    kinds = ["segmented_neutrophil"] * 30 + ["neutrophil"] * 30 + ["lymphocyte"] * 25 + ["plasma_cell"] * 3
    records = [CellRecord(Path("a.jpg"), kind, "x") for kind in kinds]
    assert set(external.types_of(records)) == {"segmented_neutrophil", "lymphocyte"}


def test_the_table_has_a_line_for_each_row(external: ModuleType) -> None:
    from benchmarks.external_table import COLUMNS, table

    records = [CellRecord(Path("a.jpg"), "eosinophil", external.PBC)]
    row = external.row(model(external, 0.5), external.PBC, records, np.array([[0, 0, 0, 1.0, 0]]))
    lines = table([row | {"remedies": "none", "augmentation": "plain"}]).splitlines()
    assert len(lines) == 3
    assert all(line.count("|") == len(COLUMNS) + 1 for line in lines)
    assert "| Munich | no | Barcelona | none | 1 | 0 | 0 | 1 | 1.00 (1.00) |" in lines[2]
