"""Moved: the crops of single cells are `imaging.crops`."""

from myelos.imaging.crops import CELL_APPEARANCE, cell_window, views, window

__all__ = ["CELL_APPEARANCE", "cell_window", "views", "window"]
