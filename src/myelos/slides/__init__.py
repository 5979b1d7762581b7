"""Pixels: OpenSlide, TIFF, DICOM and plain fields behind one interface."""
