"""Facts, health and processes of this machine, as one JSON document on standard output."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from typing import Any

import psutil

Doc = dict[str, Any]
SAMPLE_S = 0.5
GPU_S = 10
PSEUDO = ("squashfs", "tmpfs", "devtmpfs", "overlay", "autofs")


def facts(_params: Doc) -> Doc:
    return {
        "hostname": platform.node(),
        "system": platform.system().lower(),
        "release": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "cpus": psutil.cpu_count(),
        "cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "swap_bytes": psutil.swap_memory().total,
        "booted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(psutil.boot_time())),
        "uptime_s": round(time.time() - psutil.boot_time()),
        "disks": [
            {"mount": mount, "type": kind, "total_bytes": usage.total} for mount, kind, usage in disks()
        ],
        "addresses": addresses(),
        "gpus": gpus(),
    }


def health(params: Doc) -> Doc:
    psutil.cpu_percent(None)
    time.sleep(SAMPLE_S)
    memory, load, cpus = psutil.virtual_memory(), psutil.getloadavg(), psutil.cpu_count() or 1
    found = [
        {"mount": mount, "percent": usage.percent, "free_bytes": usage.free} for mount, _, usage in disks()
    ]
    problems = [
        f"the disk {disk['mount']} is {disk['percent']:.0f} % full"
        for disk in found
        if disk["percent"] > params["disk_percent_max"]
    ]
    if memory.percent > params["memory_percent_max"]:
        problems.append(f"memory is {memory.percent:.0f} % full")
    if load[1] / cpus > params["load_per_cpu_max"]:
        problems.append(f"the load of the last 5 minutes was {load[1]:.1f} on {cpus} processors")
    return {
        "ok": not problems,
        "problems": problems,
        "cpu_percent": psutil.cpu_percent(None),
        "load": list(load),
        "memory": {"percent": memory.percent, "available_bytes": memory.available},
        "swap_percent": psutil.swap_memory().percent,
        "disks": found,
        "temperatures_c": temperatures(),
        "battery_percent": getattr(
            battery() if hasattr(psutil, "sensors_battery") else None, "percent", None
        ),
    }


def processes(params: Doc) -> Doc:
    wanted = ["pid", "name", "username", "memory_info", "create_time", "num_threads", "status"]
    found = list(psutil.process_iter(wanted))
    for process in found:
        cpu_percent(process)
    time.sleep(SAMPLE_S)
    rows = [
        row(process) for process in found if params["name"].lower() in (process.info["name"] or "").lower()
    ]
    key = "cpu_percent" if params["sort"] == "cpu" else "memory_bytes"
    rows.sort(key=lambda each: (-each[key], each["pid"]))
    return {"total": len(found), "matching": len(rows), "processes": rows[: params["limit"]]}


def row(process: psutil.Process) -> Doc:
    info = process.info
    return {
        "pid": info["pid"],
        "name": info["name"],
        "user": info["username"],
        "cpu_percent": cpu_percent(process),
        "memory_bytes": info["memory_info"].rss if info["memory_info"] else 0,
        "threads": info["num_threads"],
        "age_s": round(time.time() - (info["create_time"] or time.time())),
        "status": info["status"],
    }


def cpu_percent(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent(None))
    except psutil.Error:
        return 0.0  # it has ended, or is not ours to look at


def disks() -> list[tuple[str, str, Any]]:
    """(mount point, type, usage) of what holds files; each device once."""
    found: dict[str, tuple[str, str, Any]] = {}
    for part in [*psutil.disk_partitions(all=False), *psutil.disk_partitions(all=True)]:
        if part.fstype in PSEUDO and part.mountpoint != "/":
            continue
        try:
            usage = psutil.disk_usage(part.mountpoint)
        except OSError:
            continue
        if usage.total:
            found.setdefault(part.device, (part.mountpoint, part.fstype, usage))
    return sorted(found.values())


def addresses() -> dict[str, list[str]]:
    families = ("AF_INET", "AF_INET6")
    return {
        name: [each.address for each in rows if each.family.name in families]
        for name, rows in sorted(psutil.net_if_addrs().items())
    }


def temperatures() -> dict[str, float]:
    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, OSError):
        return {}
    return {
        f"{chip}/{each.label or n}": each.current
        for chip, rows in sensors.items()
        for n, each in enumerate(rows)
    }


def battery() -> Any:
    try:
        return psutil.sensors_battery()
    except OSError:
        return None


def gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=GPU_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


if __name__ == "__main__":
    what, given = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps({"facts": facts, "health": health, "processes": processes}[what](given), indent=2))
