"""Recipes: one file per trainable model, and what they share."""
