"""Machines on a LAN, without machines: network namespaces on a bridge, whose cables can be cut.

Each host has its own interfaces, routes, firewall and port space; the file system is shared. A `Lan` leaves nothing
behind: at its end every process in its namespaces is killed and the namespaces are deleted. Needs root and Linux.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

NETWORK = "10.77.0"
MULTICAST = "224.0.0.0/4"
COMMAND_S = 20.0
MDNS_PORT = 5353


def why_not() -> str:
    """Why this machine cannot play a LAN, or "" when it can."""
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "iptables") if shutil.which(tool) is None]
    return f"needs {' and '.join(missing)}: apt-get install iproute2 iptables" if missing else ""


def sh(*argv: str) -> str:
    """The command's stdout; raises with its stderr."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Host:
    """One machine: a namespace with `lo` and `eth0`, whose cable ends in a port of the LAN's switch."""

    def __init__(self, lan: Lan, number: int) -> None:
        self.name = f"h{number}"
        self.namespace = f"{lan.prefix}-{self.name}"
        self.address = f"{NETWORK}.{number}"
        self._switch, self._port = lan.switch, f"port{number}"

    def plug_in(self) -> None:
        """Make the namespace and its cable."""
        sh("ip", "netns", "add", self.namespace)
        sh("ip", "-n", self._switch, "link", "add", self._port, "type", "veth",
           "peer", "name", "eth0", "netns", self.namespace)  # fmt: skip
        self.restore()
        sh("ip", "-n", self._switch, "link", "set", self._port, "up")
        sh("ip", "-n", self.namespace, "link", "set", "lo", "up")
        sh("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        self.change_address(self.address)

    def change_address(self, address: str, prefix: int = 24) -> None:
        """As when a laptop roams: the old address is gone at once, with every connection over it."""
        sh("ip", "-n", self.namespace, "address", "flush", "dev", "eth0")
        sh("ip", "-n", self.namespace, "address", "add", f"{address}/{prefix}", "brd", "+", "dev", "eth0")
        sh("ip", "-n", self.namespace, "route", "replace", MULTICAST, "dev", "eth0")
        self.address = address

    def cut(self) -> None:
        """Silently: the link stays up on both sides, and nothing gets through."""
        sh("ip", "-n", self._switch, "link", "set", self._port, "nomaster")

    def restore(self, bridge: str = "br0") -> None:
        """Connect the cable to the LAN again, or to another `bridge` of the switch."""
        sh("ip", "-n", self._switch, "link", "set", self._port, "master", bridge)

    def block_incoming(self) -> None:
        """Like a firewall or NAT: this host can dial, and nobody can dial it."""
        self.run("iptables", "-A", "INPUT", "-i", "eth0", "-p", "tcp", "--syn", "-j", "DROP")

    def block_mdns(self) -> None:
        for chain in ("INPUT", "OUTPUT"):
            self.run("iptables", "-A", chain, "-p", "udp", "--dport", str(MDNS_PORT), "-j", "DROP")

    def unblock(self) -> None:
        self.run("iptables", "-F")

    def argv(self, *argv: str) -> list[str]:
        """How to run `argv` on this host; the process started is `argv` itself."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(self, *argv: str) -> str:
        return sh(*self.argv(*argv))

    def spawn(self, *argv: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.argv(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def pids(self) -> list[int]:
        """Every process on this host."""
        return [int(pid) for pid in sh("ip", "netns", "pids", self.namespace).split()]

    def signal(self, number: signal.Signals) -> None:
        """To every process on this host, as when the whole machine stops or dies."""
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


class Lan:
    """`count` hosts, h1 to hN at 10.77.0.1 to .N, on one switch."""

    def __init__(self, count: int) -> None:
        self.prefix = f"mesh-{secrets.token_hex(3)}"
        self.switch = f"{self.prefix}-switch"
        self.hosts = [Host(self, number) for number in range(1, count + 1)]

    def __enter__(self) -> Self:
        try:
            sh("ip", "netns", "add", self.switch)
            for bridge in ("br0", "br1"):
                sh("ip", "-n", self.switch, "link", "add", bridge, "type", "bridge")
                sh("ip", "-n", self.switch, "link", "set", bridge, "up")
            for host in self.hosts:
                host.plug_in()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def split(self, apart: Sequence[Host]) -> None:
        """Silently: `apart` see each other and nobody else, the rest as well."""
        for host in apart:
            host.restore("br1")

    def heal(self) -> None:
        for host in self.hosts:
            host.restore()

    def close(self) -> None:
        existing = {line.split()[0] for line in sh("ip", "netns", "list").splitlines() if line.strip()}
        for host in self.hosts:
            if host.namespace in existing:
                host.signal(signal.SIGKILL)
                sh("ip", "netns", "delete", host.namespace)
        if self.switch in existing:
            sh("ip", "netns", "delete", self.switch)
