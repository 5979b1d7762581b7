"""Counts and cells → a page for people and files for programs. Reads stored results only, never a model.

`write(out, ReportInput(...))` writes `report.html`, `report.json`, `counts.csv`, `cells.geojson` and what a recount
needs; `recount(out, corrections)` counts again after people have corrected cells.
"""

from myelos.report.input import RESEARCH_USE, ModelNote, Picture, ReportInput
from myelos.report.recount import load, recount
from myelos.report.write import PAGE, write

__all__ = ["PAGE", "RESEARCH_USE", "ModelNote", "Picture", "ReportInput", "load", "recount", "write"]
