"""Published layouts and annotation formats → records; near-duplicates; splits that keep what belongs together."""
