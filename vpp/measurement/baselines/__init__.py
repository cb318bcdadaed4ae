"""Baselines by method: pure functions on days and arrays, one file per method."""
