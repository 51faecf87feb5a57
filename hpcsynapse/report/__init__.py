"""Scaling reports: reading step records, comparing points, intervals, tables."""
