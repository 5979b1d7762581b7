"""Torch modules: backbones, proposals, matching and sampling, cascade heads, networks of single cells."""
