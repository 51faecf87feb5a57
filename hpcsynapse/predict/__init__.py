"""Predictions: closed forms of communication, and cost models fitted to what was measured."""
