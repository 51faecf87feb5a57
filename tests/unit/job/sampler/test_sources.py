"""What a node's files in /proc and /sys say, read from trees of them with known numbers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpcsynapse.job.sampler.cgroup import ControlGroup
from hpcsynapse.job.sampler.host import Host
from hpcsynapse.job.sampler.network import Interfaces, Ports
from hpcsynapse.job.sampler.source import Increase, Source
from hpcsynapse.job.sampler.steps import Steps
from hpcsynapse.timing import StepRecorder


def put(folder: Path, **files: str) -> None:
    """Write files below a folder, `__` in a name being a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def named(source: Source, seconds: float = 1.0) -> dict[str, float | None]:
    return dict(zip([column.name for column in source.columns], source.read(seconds), strict=True))


def test_counters_give_no_spike_when_they_wrap_or_start_again() -> None:
    increase = Increase()
    assert increase.of([2**64 - 10, 500, None]) == [None, None, None]
    assert increase.of([30, 7, 1]) == [40.0, None, None]  # a wrap, a start from 0, the first number
    assert increase.of([30, 9, 4]) == [0.0, 2.0, 3.0]


def test_cpu_memory_and_disks_of_the_node(tmp_path: Path) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    disk = "   8       0 {} 10 0 {} 0 20 0 {} 0 0 0 0\n"
    put(
        tmp_path / "proc",
        stat=f"cpu  {tick} 0 0 0 0 0 0 0 0 0\ncpu0 1 2 3\n",
        meminfo="MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n",
        diskstats=disk.format("sda", 8, 16) + disk.format("sda1", 8, 16) + disk.format("dm-0", 8, 16),
    )
    put(tmp_path / "block", sda__device__x="")
    host = Host(tmp_path / "proc", tmp_path / "block")
    assert host.told["memory_bytes"] == 1024000 and not host.missing
    named(host)
    (tmp_path / "proc" / "stat").write_text(f"cpu  {3 * tick} {tick} {tick} 9 {tick} {tick} 0 {2 * tick} 0 0\n")
    (tmp_path / "proc" / "diskstats").write_text(disk.format("sda", 10, 21) + disk.format("sda1", 99, 99))
    assert named(host) == {
        "cpu_user": 3.0,
        "cpu_system": 2.0,
        "cpu_waiting": 1.0,
        "cpu_stolen": 2.0,
        "memory_used": 600 * 1024.0,
        "swap_used": 30 * 1024.0,
        "disk_read": 1024.0,
        "disk_written": 2560.0,
    }


def test_a_node_that_shows_nothing_is_not_known(tmp_path: Path) -> None:
    host = Host(tmp_path, tmp_path)
    assert set(named(host).values()) == {None} and "disk" in host.missing


def test_interfaces_with_their_kinds(tmp_path: Path) -> None:
    head = "Inter-| Receive\n face |bytes\n"
    line = "{}: {} {} 0 0 0 0 0 0 {} {} 0 0 0 0 0 0\n"
    proc = tmp_path / "net" / "dev"
    put(tmp_path, net__dev=head + "".join(line.format(name, 1, 1, 1, 1) for name in ("lo", "eth0", "bond0", "veth1")))
    sys = tmp_path / "sys"
    put(sys, lo__type="772", eth0__type="1", eth0__device__x="", bond0__type="1", bond0__bonding__x="")
    put(sys, veth1__type="1", veth1__uevent="INTERFACE=veth1\n")
    found = Interfaces(tmp_path, sys)
    assert found.told["interfaces"] == {
        "lo": {"kind": "loopback", "counted": False},
        "eth0": {"kind": "physical", "counted": True},
        "bond0": {"kind": "bond", "counted": False},
    }
    assert found.missing == {"interfaces": "not recorded: veth1 (virtual)"}
    named(found)
    proc.write_text(head + line.format("eth0", 101, 3, 1001, 11))
    grown = named(found)
    assert [grown[f"net.eth0.{name}"] for name in ("received_bytes", "received_packets")] == [100.0, 2.0]
    assert [grown[f"net.eth0.{name}"] for name in ("sent_bytes", "sent_packets")] == [1000.0, 10.0]
    assert grown["net.bond0.sent_bytes"] is None  # it is gone


def test_where_no_interface_is_real_the_virtual_ones_count(tmp_path: Path) -> None:
    put(tmp_path, net__dev="\n\nlo: 1 1 0 0 0 0 0 0 1 1\neth0: 1 1 0 0 0 0 0 0 1 1\n")
    told = Interfaces(tmp_path, tmp_path / "absent").told["interfaces"]
    assert told == {"lo": {"kind": "loopback", "counted": False}, "eth0": {"kind": "virtual", "counted": True}}


def test_ports_count_words_and_only_those_that_are_up(tmp_path: Path) -> None:
    for name, state in (("mlx5_0", "4: ACTIVE"), ("mlx5_1", "1: DOWN")):
        port = tmp_path / name / "ports" / "1"
        put(port, state=f"{state}\n", counters__port_xmit_data="100\n", counters__port_rcv_data="7\n")
        put(port, counters__port_xmit_packets="2\n", counters__port_rcv_packets="1\n")
    ports = Ports(tmp_path)
    assert ports.told == {"ports": ["mlx5_0/1"]} and not ports.missing
    named(ports)
    put(tmp_path / "mlx5_0" / "ports" / "1" / "counters", port_xmit_data="350\n", port_rcv_packets="5\n")
    assert named(ports) == {
        "ib.mlx5_0/1.received_bytes": 0.0,
        "ib.mlx5_0/1.received_packets": 4.0,
        "ib.mlx5_0/1.sent_bytes": 1000.0,
        "ib.mlx5_0/1.sent_packets": 0.0,
    }
    assert Ports(tmp_path / "absent").missing == {"infiniband": "this node has none"}


def test_the_jobs_own_group_of_version_2(tmp_path: Path) -> None:
    put(tmp_path / "proc", cgroup="0::/system.slice/stepd.scope/job_77/step_0/user/task_0\n")
    job = tmp_path / "cgroup" / "system.slice" / "stepd.scope" / "job_77"
    put(
        job,
        **{"memory.current": "5000\n", "memory.peak": "9000\n", "memory.max": "max\n", "memory.stat": "anon 1\n"},
        **{"memory.events": "low 0\noom 3\noom_kill 2\n", "cpu.stat": "usage_usec 1000000\nthrottled_usec 0\n"},
    )
    group = ControlGroup(["77"], tmp_path / "proc", tmp_path / "cgroup")
    assert group.told == {"job_memory_limit": None} and not group.missing
    named(group)
    put(job, **{"cpu.stat": "usage_usec 3500000\nthrottled_usec 200000\n", "memory.stat": "inactive_file 1000\n"})
    assert named(group) == {
        "job_cpu": 2.5,
        "job_throttled": pytest.approx(0.2),
        "job_memory": 4000,
        "job_memory_peak": 9000,
        "job_oom_kills": 2,
    }


def test_the_jobs_own_group_of_version_1(tmp_path: Path) -> None:
    put(tmp_path / "proc", cgroup="9:memory:/uid_0/job_77/step_0\n3:cpuacct,cpu:/uid_0/job_77/step_0\n0::/\n")
    cpu, memory = (tmp_path / "cgroup" / name / "uid_0" / "job_77" for name in ("cpuacct", "memory"))
    put(cpu, **{"cpuacct.usage": "1000000000\n", "cpu.stat": "nr_periods 0\nthrottled_time 0\n"})
    put(
        memory,
        **{"memory.usage_in_bytes": "5000\n", "memory.max_usage_in_bytes": "8000\n"},
        **{"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"},
        **{"memory.limit_in_bytes": "10000\n", "memory.stat": "total_inactive_file 500\n"},
    )
    group = ControlGroup(["77"], tmp_path / "proc", tmp_path / "cgroup")
    assert group.told == {"job_memory_limit": 10000}
    named(group)
    (cpu / "cpuacct.usage").write_text("1250000000\n")
    assert list(named(group).values()) == [0.25, 0.0, 4500, 8000, 1]


@pytest.mark.parametrize("path", ["/", "/user.slice/session-1.scope", "/job_777/step_0"])
def test_a_group_that_is_not_the_jobs_is_not_taken_for_it(tmp_path: Path, path: str) -> None:
    put(tmp_path / "proc", cgroup=f"0::{path}\n")
    put(tmp_path / "cgroup" / path.strip("/"), **{"memory.current": "5000\n"})
    group = ControlGroup(["77", ""], tmp_path / "proc", tmp_path / "cgroup")
    assert set(named(group).values()) == {None} and len(group.missing) == 2


def recorder(folder: Path, rank: int) -> StepRecorder:
    return StepRecorder(folder, rank=rank, warmup=0)


def test_steps_are_digested_and_the_slow_rank_is_named(tmp_path: Path) -> None:
    digest = Steps(tmp_path, "0")
    digest.know({0, 1, 2})
    assert named(digest)["slowest_rank"] == -1
    ranks = [recorder(tmp_path, rank) for rank in range(3)]
    for step in range(100):
        for rank, own in enumerate((0.2, 0.5, 0.2)):
            ranks[rank].write(step, 0, time.time(), 0.05, own - 0.05, 0, 0.6 - own, 0, 0.6, 8, 1.0)
    for one in ranks:
        one.write_pause("validation", time.time(), 50.0)
        one.close()
    found = named(digest)
    assert (found["step"], found["slowest_rank"]) == (99, 1)
    assert found["samples"] == pytest.approx(3 * 100 * 8, rel=0.02)
    assert [found[name] for name in ("step_time", "own_median", "own_slowest")] == pytest.approx([0.6, 0.2, 0.5])
    assert [found[name] for name in ("data", "forward", "communicate")] == pytest.approx([0.05, 0.25, 0.3])
    nothing_new = named(digest)
    assert (nothing_new["step"], nothing_new["samples"], nothing_new["step_time"]) == (99, 0.0, None)


def test_a_rank_that_is_started_again_is_followed(tmp_path: Path) -> None:
    digest = Steps(tmp_path, "0")
    digest.know({0})
    for first in (0, 5):
        with StepRecorder(tmp_path, rank=0, keep=True) as life:
            for step in range(first, first + 7):
                life.write(step, 0, time.time(), 0, 0.1, 0, 0, 0, 0.1, 8, 1.0)
        found = [named(digest) for _ in range(12)]
        assert max(one["step"] or 0 for one in found) == first + 6
        assert sum(one["samples"] or 0.0 for one in found) == 7 * 8
