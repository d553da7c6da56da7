"""Timings side by side; no tests."""
