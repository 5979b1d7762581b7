"""Tiles → cells: where tiles lie, what the detector says of each, and one list of cells for the whole image."""
