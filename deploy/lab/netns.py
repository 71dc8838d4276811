"""Network namespaces and the veth pairs between them.

Everything is named with one prefix, and only what has it is ever removed.
"""

import subprocess
from dataclasses import dataclass

from shell import run

PREFIX = "sluice-lab-"
# Every process that was started in a namespace, so that none outlives the lab.
_started = []


@dataclass(frozen=True)
class Netns:
    """A network namespace, by its name under /run/netns."""

    name: str

    @property
    def path(self):
        return f"/run/netns/{self.name}"

    def exec(self, *command, **options):
        """Runs a command inside to its end; see shell.run."""
        return run("ip", "netns", "exec", self.name, *command, **options)

    def popen(self, *command, **options):
        """Starts a process inside; the caller ends it, or end_all does."""
        command = [str(word) for word in command]
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)
        _started.append(process)
        return process

    def ip(self, *words):
        """`ip -n NAME …`."""
        return run("ip", "-n", self.name, *words)

    def sysctl(self, **values):
        """Sets net.* values; `__` in a name stands for a dot."""
        for name, value in values.items():
            self.exec("sysctl", "-qw", f"net.{name.replace('__', '.')}={value}")


def create(name):
    """A new namespace with its loopback up and no IPv6 address made by itself."""
    netns = Netns(PREFIX + name)
    run("ip", "netns", "add", netns.name)
    netns.ip("link", "set", "lo", "up")
    netns.sysctl(
        ipv6__conf__default__accept_dad=0,
        ipv6__conf__default__accept_ra=0,
        ipv6__conf__default__addr_gen_mode=0,
    )
    return netns


def end_all():
    """Ends what still runs of all that was started, by its own pid."""
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.wait()
    _started.clear()


def remove_all():
    """Removes what an earlier run left; returns the names."""
    listed = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line]
    ours = [name for name in listed if name.startswith(PREFIX)]
    for name in ours:
        run("ip", "netns", "del", name)
    return ours


@dataclass(frozen=True)
class End:
    """One end of a veth pair."""

    netns: Netns
    name: str
    mac: str


def veth(one, two, mtu=1500):
    """Joins two ends. A veth is made to behave as a VF does: a kernel leaves checksums and
    segmentation to hardware that isn't there, so both are done in software."""
    one.netns.ip(
        "link", "add", one.name, "address", one.mac, "mtu", mtu, "type", "veth",
        "peer", "name", two.name, "address", two.mac, "mtu", mtu, "netns", two.netns.name,
    )
    for end in (one, two):
        offloads = ("rx", "tx", "sg", "tso", "gso", "gro", "rxvlan", "txvlan")
        switches = [word for offload in offloads for word in (offload, "off")]
        end.netns.exec("ethtool", "-K", end.name, *switches)
        end.netns.ip("link", "set", end.name, "up")


def leave_to_dataplane(end):
    """An end that DPDK owns: the kernel must not answer ARP, ND or TCP on it."""
    end.netns.sysctl(**{f"ipv6__conf__{end.name}__disable_ipv6": 1})
    end.netns.ip("address", "flush", "dev", end.name)
