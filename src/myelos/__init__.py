"""Myelos reads bone-marrow and blood smears. For research use only. Not for use in diagnostic procedures."""

__version__ = "0.1.0"
