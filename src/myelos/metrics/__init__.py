"""Figures of merit: pure functions on arrays, usable on predictions that any program made. No torch in here."""
