"""Plots of a report: the only place that imports matplotlib. Every figure is drawn alike in PNG, SVG and the page."""
