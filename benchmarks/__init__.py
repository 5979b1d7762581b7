"""Measurements that print figures and assert none. `python -m benchmarks` prints those of speed and memory.

python -m benchmarks [--quick] [--markdown]    all of startup, reading, detection and counting
python -m benchmarks.reading --help            one of them; they take their own options
"""
