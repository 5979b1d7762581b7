"""The grade from 1 to 6 that a cell's picture deserves, after Kockwelp 2022, section 2.1.3 and supplement.

There experts grade crops from valid cell (1) over damaged cell (3) to no cell (6); 1 to 4 are good to medium, 5 and 6
are set aside. The paper states only these marks; the rules between them are ours:

1  an intact cell, sharp, apart from its neighbours
2  an intact cell that touches another, is a little out of focus, or lies in a thick or feathered area
3  a cell with ragged cytoplasm, or one of which more than a quarter is hidden
4  a naked or swollen nucleus, a cell well out of focus, or one that touches others in a particle or a thick area
5  a smudge cell, or a cell so far out of focus that its type cannot be told
6  no cell: dust, stain precipitate, glass

Of several rules that apply the worst counts.
"""

from __future__ import annotations

SOFT, BLURRED, LOST = 0.75, 0.35, 0.2  # sharpness below which a cell is a little, well and hopelessly out of focus
NO_CELL = 6
THICK, PARTICLE = 1, 2  # zones, as in `crowd.ZONES`
BY_DAMAGE = (1, 3, 4, 5)


def grade_of(damage: int, touching: bool, hidden: bool, zone: int, sharpness: float) -> int:
    """damage: 0 intact, 1 ragged, 2 naked nucleus, 3 smudged. zone: of `crowd.ZONES`. sharpness: 1 in focus, to 0."""
    grade = max(BY_DAMAGE[damage], 2 if touching or zone else 1)
    if hidden:
        grade = max(grade, 3)
    if touching and zone in (THICK, PARTICLE):
        grade = max(grade, 4)
    for limit, least in ((SOFT, 2), (BLURRED, 4), (LOST, 5)):
        if sharpness < limit:
            grade = max(grade, least)
    return grade
