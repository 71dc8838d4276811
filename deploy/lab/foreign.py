#!/usr/bin/env python3
"""Sluice against ESP that no one here wrote: the Linux kernel's, and strongSwan's.

A sluice-dataplane in static mode with one pod. First a virtual machine with Linux's ESP plays
eight hosts: tunnel and transport mode, IPv4 and IPv6, with and without extended sequence
numbers. Then strongSwan negotiates by IKEv2 and speaks ESP in UDP, at last with a rekey every
two seconds that sluice-ike follows. Prints a line a check, ends
with a summary, and leaves nothing behind.

Exit codes: 0 every check held, 1 one did not, 2 it could not be built.
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

import netns
from peers import kernel_esp, rekeys, strongswan
from report import Report


PEERS = {"kernel": kernel_esp, "strongswan": strongswan, "rekeys": rekeys}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True, help="folder of the built programs")
    parser.add_argument("--only", choices=PEERS, help="one of the peers")
    parser.add_argument("--keep", metavar="DIR", help="keep logs and captures in this folder")
    args = parser.parse_args()
    binary = Path(args.bin).resolve() / "sluice-dataplane"
    ike = binary.with_name("sluice-ike")
    if os.geteuid() != 0 or not binary.exists() or not ike.exists():
        print(f"needs root, and {binary} built with dpdk, and {ike}", file=sys.stderr)
        return 2

    # The lab's namespaces and these have one prefix.
    lock = open("/run/sluice-lab.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("foreign: a lab runs on this machine; wait for its end", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(args.keep or tempfile.mkdtemp(prefix="sluice-foreign-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"foreign: {folder} is not empty; name a new folder", file=sys.stderr)
        return 2
    report, began = Report(), time.monotonic()
    try:
        netns.remove_all()
        for name in [args.only] if args.only else PEERS:
            part = folder / name
            part.mkdir()
            PEERS[name].run_all(binary, part, report)
    except Exception as error:  # Whatever it was, a person reads one message and an exit code.
        print(f"foreign: {type(error).__name__}: {error}", file=sys.stderr)
        report.print_summary()
        return 2
    finally:
        netns.end_all()
        netns.remove_all()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    report.print_summary()
    print(f"after {time.monotonic() - began:.0f} s")
    return 0 if report.all_held else 1


if __name__ == "__main__":
    sys.exit(main())
