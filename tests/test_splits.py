"""What a split of fields depends on: by the rule `hashed` on the units themselves, by `filled` as it always was."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos.datasets import crops, duplicates, splits
from myelos.datasets.records import FieldRecord
from myelos.errors import UsageError

SHARES = {"train": 0.7, "choose": 0.1, "test": 0.2}


def record(folder: Path, source: str, number: int, group: str | None = None) -> FieldRecord:
    """A field of which only the content counts."""
    path = folder / f"{source}{number}.png"
    path.write_bytes(f"{source} {number}".encode())
    return FieldRecord(path, 10, 10, np.zeros((0, 4)), (), source, group)


def places(records: list[FieldRecord], *, rule: str = "hashed", seed: int = 0) -> dict[str, str]:
    """File → part, where no two images are alike."""
    parts = splits.split(records, fractions=SHARES, duplicates=range(len(records)), rule=rule, seed=seed)
    return {records[index].path.name: name for name, indices in parts.items() for index in indices}


def test_a_further_source_moves_nothing(tmp_path: Path) -> None:
    one = [record(tmp_path, "one", number, str(number // 3)) for number in range(60)]
    two = [record(tmp_path, "two", number, str(number // 3)) for number in range(90)]
    alone, both = places(one), places([*two, *one])
    assert {name: both[name] for name in alone} == alone
    assert {name: both[name] for name in places(two)} == places(two)
    filled = places([*two, *one], rule="filled")
    assert {name: filled[name] for name in alone} != alone


def test_shares_are_met_as_chance_has_it(tmp_path: Path) -> None:
    names = list(places([record(tmp_path, "one", number) for number in range(900)]).values())
    for name, share in SHARES.items():
        spread = (share * (1 - share) * 900) ** 0.5
        assert abs(names.count(name) - share * 900) < 4 * spread


def test_of_few_units_no_part_stays_empty(tmp_path: Path) -> None:
    for seed in range(20):
        records = [record(tmp_path, f"set{seed}-", number) for number in range(4)]
        assert set(places(records, seed=seed).values()) == set(SHARES)
        assert set(places(records[:2], seed=seed).values()) == {"train", "test"}
        assert set(places(records[:1], seed=seed).values()) == {"train"}  # from which something can be learned


def test_the_rule_of_the_shipped_detectors_gives_what_it_gave(tmp_path: Path) -> None:
    """Indices as version 0.1.0 gave them when the quoted figures were measured."""
    records = [record(tmp_path, "a", number, str(number // 2) if number < 6 else None) for number in range(14)]
    records += [record(tmp_path, "b", number) for number in range(9)]
    parts = splits.split(records, fractions=SHARES, duplicates=range(23), rule="filled")
    assert parts == {
        "train": [0, 1, 2, 3, 7, 9, 10, 12, 13, 14, 15, 16, 17, 20, 22],
        "choose": [4, 5, 21],
        "test": [6, 8, 11, 18, 19],
    }
    with pytest.raises(UsageError, match=r"no rule 'even'.*hashed, filled"):
        splits.split(records, fractions=SHARES, rule="even")


def field(path: Path, seed: int, *, flipped: bool = False) -> FieldRecord:
    blobs = cv2.GaussianBlur(np.random.default_rng(seed).normal(128, 900, (96, 128, 3)), (0, 0), 6)
    image = np.clip(blobs, 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), image[:, ::-1] if flipped else image)
    return FieldRecord(path, 128, 96, np.zeros((0, 4)), (), path.parent.name)


def test_only_near_duplicates_of_a_further_source_can_move(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = [field(tmp_path / "one" / f"{seed}.png", seed) for seed in range(30)]
    copies = [field(tmp_path / "two" / f"{seed}.png", seed, flipped=True) for seed in range(6)]
    two = [*copies, *(field(tmp_path / "two" / f"{seed}.png", seed) for seed in range(30, 50))]
    alone = splits.split(one, fractions=SHARES)
    both = splits.split([*one, *two], fractions=SHARES)
    part = {index: name for name, indices in both.items() for index in indices}
    assert all(part[index] == name for name, indices in alone.items() for index in indices if index >= 6)
    assert all(part[index] == part[30 + index] for index in range(6))


def test_images_of_single_cells_are_not_searched_for_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(*boxes: tuple[float, float, float, float], seed: int) -> FieldRecord:
        found = field(tmp_path / f"{seed}.png", seed)
        return FieldRecord(found.path, 128, 96, np.array(boxes, float).reshape(-1, 4), (None,) * len(boxes), "s")

    cell = shown((40, 20, 52, 52), seed=0)
    aside, small = shown((76, 20, 52, 52), seed=1), shown((54, 38, 20, 20), seed=2)
    several, none = shown((40, 20, 52, 52), (0, 0, 9, 9), seed=3), shown(seed=4)
    assert [duplicates.single_cell(one) for one in (cell, aside, small, several, none)] == [True, *[False] * 4]
    searched: list[int] = []
    monkeypatch.setattr(crops, "find", lambda images, _settings: searched.append(len(images)) or [(0, 1, 0.9)])
    records = [cell, aside, small, several, none]
    assert duplicates.pairs(records) == [duplicates.Pair(1, 2, 0.9, "part")]
    assert duplicates.pairs(records, duplicates.WITH_SINGLE_CELLS) == [duplicates.Pair(0, 1, 0.9, "part")]
    assert searched == [4, 5]
