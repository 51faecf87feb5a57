"""GPUs through NVML, in a thread of their own: a call that hangs on a sick GPU delays no record and no end.

NVML's utilisation is the share of time in which any kernel ran; where GPM may be asked (Hopper and later, by the site's
leave), `sm_active` and `tensor_active` tell how much of the GPU worked. Not run yet on a GPU: see docs/limits.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hpcsynapse.job.sampler.source import Increase, Values
from hpcsynapse.runs.telemetry import Column

_ANSWER = 5.0  # seconds within which NVML must have said which GPUs there are
_FRESH = 3.0  # intervals after which what a GPU last said is not taken for what it does now
_GAUGES = (
    ("utilisation", "<f2", "%", "share of time in which a kernel ran"),
    ("memory_used", "<f4", "B", "memory in use"),
    ("power", "<f4", "W", "power"),
    ("temperature", "<f2", "C", "temperature"),
    ("clock", "<f2", "MHz", "clock of the multiprocessors"),
    ("throttled", "<f2", "", "why clocks are held back: bits of nvmlClocksEventReasons"),
    ("sm_active", "<f2", "%", "multiprocessors that had work (GPM)"),
    ("tensor_active", "<f2", "%", "time in which tensor cores worked (GPM)"),
)
_COUNTERS = (  # with what makes the unit of the column of NVML's
    ("energy", "<f4", "J", "energy, by the GPU's own counter", 1e-3),
    ("pcie_sent", "<f4", "B", "sent over PCIe", 1.0),
    ("pcie_received", "<f4", "B", "received over PCIe", 1.0),
    ("nvlink_sent", "<f4", "B", "sent over NVLink", 1024.0),
    ("nvlink_received", "<f4", "B", "received over NVLink", 1024.0),
    ("memory_errors", "<f4", "", "errors of memory that could not be corrected", 1.0),
)
_FIELDS = (
    "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "NVML_FI_DEV_PCIE_COUNT_TX_BYTES",
    "NVML_FI_DEV_PCIE_COUNT_RX_BYTES",
    "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX",
    "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX",
    "NVML_FI_DEV_ECC_DBE_VOL_TOTAL",
)
_LINKS = 0xFFFFFFFF  # of NVLink: all together


class Gpus:
    """The GPUs that the job was granted on this node, as the queue names them: numbers, UUIDs, MIG names."""

    def __init__(self, granted: Sequence[str], interval: float, answer: float = _ANSWER) -> None:
        self._granted, self._interval = list(granted), interval
        self._devices: list[_Device] = []
        self._newest: list[tuple[float, Values, list[int | None]]] = []
        self._problem, self._known = "", threading.Event()
        self.missing: dict[str, str] = {}
        self.columns: list[Column] = []
        self.told: dict[str, object] = {}
        self._increases = [Increase() for _ in self._granted]
        if not granted:
            self.missing["gpu"] = "the job asked for none"
            return
        threading.Thread(target=self._run, daemon=True).start()
        if not self._known.wait(answer):
            self._problem = f"NVML gave no answer within {answer:g} s"
        if self._problem:
            count = f"{len(self._granted)} granted ({','.join(self._granted)[:200]})"
            self.missing["gpu"] = f"{count}, but nothing can be measured: {self._problem}"
            self._granted = []
            return
        for number in range(len(self._granted)):
            self.columns += [Column(f"gpu.{number}.{one[0]}", *one[1:]) for one in _GAUGES]
            self.columns += [Column(f"gpu.{number}.{one[0]}", *one[1:4]) for one in _COUNTERS]
        self.told["gpus"] = [device.told for device in self._devices]
        self.missing |= {f"gpu {at} {key}": why for at, one in enumerate(self._devices) for key, why in one.missing}

    def read(self, seconds: float) -> Values:
        """Return what each GPU said last; None for all of one that gives no answer."""
        found: Values = []
        for number in range(len(self._granted)):
            at, gauges, counters = self._newest[number]
            if time.monotonic() - at > max(_FRESH * self._interval, _FRESH):
                found += [None] * (len(_GAUGES) + len(_COUNTERS))
                continue
            grown = self._increases[number].of(counters)
            found += gauges
            found += [None if one is None else one * row[4] for one, row in zip(grown, _COUNTERS, strict=True)]
        return found

    def _run(self) -> None:
        """Ask each GPU once an interval, for as long as the process lives."""
        try:
            import pynvml

            pynvml.nvmlInit()
            devices = [_Device(pynvml, one) for one in self._granted]
            self._newest = [(time.monotonic(), *one.ask()) for one in devices]
            self._devices = devices
        except ImportError:
            self._problem = "Python has no pynvml (pip install nvidia-ml-py)"
        except Exception as error:  # noqa: BLE001 - a driver may answer anything
            self._problem = f"{type(error).__name__}: {error}"
        self._known.set()
        while not self._problem:
            time.sleep(self._interval)
            for number, device in enumerate(self._devices):
                self._newest[number] = (time.monotonic(), *device.ask())


class _Device:
    """One GPU; what it will not tell is None, and found out once."""

    def __init__(self, nvml: Any, name: str) -> None:
        self._nvml = nvml
        by_index, by_uuid = nvml.nvmlDeviceGetHandleByIndex, nvml.nvmlDeviceGetHandleByUUID
        self._handle = handle = by_index(int(name)) if name.isdecimal() else by_uuid(name)
        self.missing: list[tuple[str, str]] = []
        memory = self._try("memory", nvml.nvmlDeviceGetMemoryInfo, handle)
        self.told = {
            "granted": name,
            "name": _text(self._try("name", nvml.nvmlDeviceGetName, handle)),
            "uuid": _text(self._try("uuid", nvml.nvmlDeviceGetUUID, handle)),
            "memory_bytes": getattr(memory, "total", None),
        }
        self._fields = [getattr(nvml, one, None) for one in _FIELDS]
        self._ids = [
            (one, _LINKS if "NVLINK" in name else 0) for one, name in zip(self._fields, _FIELDS, strict=True) if one
        ]
        self._reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or getattr(
            nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None
        )
        self._gpm = self._sample = None
        if support := self._try("gpm", nvml.nvmlGpmQueryDeviceSupport, handle):
            if support.isSupportedDevice:
                self._gpm, self._sample = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
                self._try("gpm", nvml.nvmlGpmSampleGet, handle, self._sample)
            else:
                self.missing.append(("gpm", "this GPU has none"))

    def _try(self, what: str, ask: Callable[..., Any] | None, *arguments: Any) -> Any:
        """Return an answer, None where there is none; the first refusal is put down."""
        try:
            return ask(*arguments) if ask else None
        except Exception as error:  # noqa: BLE001 - NVMLError, or a function that an old driver lacks
            if what not in dict(self.missing):
                self.missing.append((what, str(error)[:100]))
            return None

    def ask(self) -> tuple[Values, list[int | None]]:
        """Return gauges and counters as they are now."""
        nvml, handle = self._nvml, self._handle
        rates = self._try("utilisation", nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._try("memory", nvml.nvmlDeviceGetMemoryInfo, handle)
        power = self._try("power", nvml.nvmlDeviceGetPowerUsage, handle)
        gauges: Values = [
            getattr(rates, "gpu", None),
            getattr(memory, "used", None),
            None if power is None else power * 1e-3,
            self._try("temperature", nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            self._try("clock", nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            self._try("throttled", self._reasons, handle),
            *self._activity(),
        ]
        return gauges, self._counters()

    def _counters(self) -> list[int | None]:
        found = dict.fromkeys(self._fields)
        for value in self._try("counters", self._nvml.nvmlDeviceGetFieldValues, self._handle, self._ids) or ():
            if value.nvmlReturn == self._nvml.NVML_SUCCESS:
                found[value.fieldId] = _number(self._nvml, value)
        return [found[one] for one in self._fields]

    def _activity(self) -> Values:
        """Return by GPM, between the last sample and now, the shares of multiprocessors and of tensor cores at work."""
        nvml = self._nvml
        if self._gpm is None or self._try("gpm", nvml.nvmlGpmSampleGet, self._handle, self._gpm) is None:
            return [None, None]
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, 2
        asked.sample1, asked.sample2 = self._sample, self._gpm
        metrics = (nvml.NVML_GPM_METRIC_SM_UTIL, nvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL)
        for place, metric in enumerate(metrics):
            asked.metrics[place].metricId = metric
        self._sample, self._gpm = self._gpm, self._sample
        if self._try("gpm", nvml.nvmlGpmMetricsGet, asked) is None:
            return [None, None]
        return [one.value if one.nvmlReturn == nvml.NVML_SUCCESS else None for one in asked.metrics[:2]]


def _number(nvml: Any, value: Any) -> int:
    """Return the whole number of a field, which is one of several kinds (nvmlValueType_t)."""
    kinds = {
        nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        nvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    }
    return int(getattr(value.value, kinds.get(value.valueType, "ullVal")))


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
