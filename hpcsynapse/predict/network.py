"""A network between nodes that was not measured, as its data sheet gives it: `100Gbit` and `2us`."""

from __future__ import annotations

import re
from dataclasses import replace

from hpcsynapse.errors import SpecError
from hpcsynapse.predict.curve import Curve, Network

_RATE = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>[KMGT])bit(?:/s)?", re.IGNORECASE)
_TIME = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>ns|us|µs|ms|s)")
_PREFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def parse_rate(text: str) -> float:
    """Return bytes per second of a bandwidth such as `100Gbit`; raises SpecError naming the text."""
    match = _RATE.fullmatch(text.strip())
    if not match or not float(match["number"]):
        raise SpecError(f"--network {text[:60]!r} is not a bandwidth; write for example 100Gbit or 10Gbit/s")
    return float(match["number"]) * _PREFIXES[match["unit"].lower()] / 8


def parse_latency(text: str) -> float:
    """Return the seconds of a latency such as `2us`; raises SpecError naming the text."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise SpecError(f"--latency {text[:60]!r} is not a time; write for example 2us or 0.1ms")
    return float(match["number"]) * _SECONDS[match["unit"]]


def with_network(curve: Curve, rate: float, latency: float) -> Curve:
    """Return a curve of one node whose nodes are joined by a network of so many bytes/s and seconds of latency.

    Raises SpecError where the network was measured, or where it is not known how much is sent.
    """
    if not curve.one_node:
        raise SpecError(f"--network: {curve.title} was measured on several nodes, which tell the network; leave it out")
    sizes = {one.gradient_bytes for point in curve.observations for one in point.samples}
    size = sizes.pop() if len(sizes) == 1 else None
    if not size or not curve.seconds:
        raise SpecError(
            f"--network: {curve.title} does not tell how many bytes of gradients a rank exchanges; runs of the "
            "built-in trainer do, and StepRecorder(gradient_bytes=...) records it"
        )
    return replace(curve, network=Network(latency, size / rate))
