"""Traces: what happened when on every rank, server and node, in the formats that viewers of traces open."""
