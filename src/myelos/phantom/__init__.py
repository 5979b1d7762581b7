"""Synthetic smears with complete truth: rendered cells, fields and slides."""
