"""Inputs → smears → cells: which files are one smear, what they show before a model sees them, and their reading."""
