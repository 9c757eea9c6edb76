"""Benchmarks: protocols and their grid of runs, statistics between methods, the published rows as data."""
