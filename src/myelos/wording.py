"""Numbers in sentences: "1 cell", "2 cells"."""

from __future__ import annotations


def number_of(number: int, one: str, many: str = "") -> str:
    """A number with its noun, and with what agrees with it: `number_of(n, "cell is", "cells are")`.

    many: where it is not `one` with an s at its end.
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"
