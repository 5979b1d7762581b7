"""The protocols of the papers: their splits, their models, their tables beside ours."""
