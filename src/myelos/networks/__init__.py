"""Torch modules: backbones, proposals, matching and sampling, cascade heads. Tensors in, tensors out."""
