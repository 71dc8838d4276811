#!/usr/bin/env python3
"""Sluice on DPDK ports between network namespaces, with real kernels as pods.

Two nodes, each with a sluice-dataplane and a sluice-agent; pods that CNI puts on their
VFs; checks that print a line each. Ends with a summary and leaves nothing behind.

Exit codes: 0 every check held, 1 one did not, 2 the lab could not be built.
"""

import argparse
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import checks
import netns
import topology
from cni import Chain, CniError
from daemons import DOMAIN, Binaries, DaemonError, Plane, wait_for
from pods import Pod
from report import Report
from shell import CommandError, run
from wire import Capture

HERE = Path(__file__).parent
# More than a rekey a second, and the daemon's least.
REKEY_MS = 1000


class Lab:
    """Everything that runs; removed when left, whatever happened."""

    def __init__(self, binaries, folder, rekey_ms=REKEY_MS):
        self.binaries = binaries
        self.folder = Path(folder)
        self.rekey_ms = rekey_ms
        self.planes, self.pods, self.chains = [], {}, {}
        self.nodes = []
        self.capture = None

    def __enter__(self):
        netns.remove_all()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _build(self):
        self.authority = authority = self.folder / "ca"
        run(self.binaries.ctl, "ca", "init", "--domain", DOMAIN, "--dir", authority)
        self.nodes = topology.build()
        # From before the first daemon: what leaks at a start is seen too.
        self.capture = Capture([it.netns for it in self.nodes], self.folder, "first")
        for node, peer in zip(self.nodes, reversed(self.nodes)):
            plane = Plane(node, peer, self.binaries, self.folder, self.rekey_ms)
            self.planes.append(plane)
            plane.certify(authority)
            for manifest in sorted((HERE / "manifests").glob("*.yaml")):
                plane.put_manifest(manifest.name, manifest.read_text())
            self.chains[node.name] = Chain(node, self.binaries.cni, plane.agent_socket)
            # The node reaches pods by the port that the dataplane holds.
            node.netns.ip("route", "add", "10.244.0.0/16", "dev", "host0")
            node.netns.ip("route", "add", "fd00:10:244::/48", "dev", "host0")
        for plane in self.planes:
            plane.dataplane.start()
            plane.agent.start()
        for plane in self.planes:
            wait_for(f"{plane.node.name} in step", plane.in_step)

    def plane(self, pod):
        """The daemons of a pod's node."""
        return next(plane for plane in self.planes if plane.node is pod.node)

    def new_pod(self, name, node, vf, last, suffix=""):
        """A pod's namespace, with nothing in it."""
        node = self.nodes[node]
        pod = Pod(name, node, node.vfs[vf], last, suffix)
        self.pods[f"{name}{suffix}"] = pod
        return pod

    def add_pod(self, name, node, vf, last):
        """A pod's namespace and its VF, by CNI ADD."""
        pod = self.new_pod(name, node, vf, last)
        pod.add(self.chains[pod.node.name])
        return pod

    def close(self):
        for pod in self.pods.values():
            pod.stop()
        for plane in self.planes:
            plane.stop()
        netns.end_all()
        netns.remove_all()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True, help="folder of the built programs")
    parser.add_argument("--keep", metavar="DIR", help="keep logs and captures in this folder")
    parser.add_argument("--hold", action="store_true", help="wait for Enter before taking it down")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("the lab makes network namespaces: run it as root", file=sys.stderr)
        return 2

    # Two labs would pull each other's namespaces away.
    lock = open("/run/sluice-lab.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("lab: another lab runs on this machine; wait for its end", file=sys.stderr)
        return 2
    # Told to end, the lab takes itself down as at any other end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(args.keep or tempfile.mkdtemp(prefix="sluice-lab-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"lab: {folder} is not empty; name a new folder", file=sys.stderr)
        return 2
    report = Report()
    began = time.monotonic()
    try:
        with Lab(Binaries(args.bin), folder) as lab:
            report.section(f"two nodes, daemons in step after {time.monotonic() - began:.1f} s")
            try:
                checks.run_all(lab, report)
            except (CniError, CommandError, DaemonError) as error:
                report.check(False, f"the checks ended early: {error}")
            if args.hold:
                input("lab is up; Enter takes it down ")
    except Exception as error:  # Whatever it was, a person reads one message and an exit code.
        print(f"lab: {error}", file=sys.stderr)
        if args.keep:
            print(f"lab: logs are in {folder}", file=sys.stderr)
        report.print_summary()
        return 2
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    report.print_summary()
    return 0 if report.all_held else 1


if __name__ == "__main__":
    sys.exit(main())
