"""Pods: a namespace each, put on their VF by CNI, with a program inside."""

import json
import subprocess
import sys
from pathlib import Path

from netns import create

TRAFFIC = str(Path(__file__).with_name("traffic.py"))


class Pod:
    """A pod on a VF of a node."""

    def __init__(self, name, node, vf, last, suffix=""):
        self.name, self.node, self.vf = name, node, vf
        net = node.number
        self.ipv4, self.ipv6 = f"10.244.{net}.{last}", f"fd00:10:244:{net}::{last}"
        self.addresses = [
            (f"{self.ipv4}/24", f"10.244.{net}.1"),
            (f"{self.ipv6}/64", f"fd00:10:244:{net}::1"),
        ]
        self.netns = create("-".join(["pod", *name.split("/"), *suffix.split()]))
        self.result = None
        self.server = None

    def ip(self, family):
        return self.ipv6 if family == "ipv6" else self.ipv4

    def add(self, chain):
        """CNI ADD."""
        self.result = chain.add(self.name, self.vf, self.netns, self.addresses)

    def delete(self, chain):
        """CNI DEL."""
        chain.delete(self.name, self.vf, self.netns, self.addresses, self.result)
        self.result = None

    @staticmethod
    def command(*words):
        """traffic.py with these words."""
        return [sys.executable, TRAFFIC, *words]

    def start(self, *words, stdin=None):
        """Starts traffic.py inside and waits for its first line."""
        process = self.netns.popen(
            *self.command(*words), stdin=stdin, stdout=subprocess.PIPE, text=True
        )
        return process, json.loads(process.stdout.readline() or "{}")

    def serve(self, *ports):
        self.server, _ = self.start("serve", *ports)

    def stop(self):
        if self.server:
            self.server.terminate()
            self.server.wait()
            self.server = None

    @staticmethod
    def tell_to_stop(process):
        """Ends a `receive` or `knock`; its last line."""
        text, _ = process.communicate("stop\n", timeout=30)
        return Pod.last_line(text)

    @staticmethod
    def last_line(text):
        return json.loads(text.splitlines()[-1])

    def run(self, *words):
        """Runs traffic.py to its end; its last line."""
        text = self.netns.exec(*self.command(*words), check=False)
        return self.last_line(text) if text.strip() else {"ok": False}

    def ask(self, address, what, seconds):
        """Whether `what` ("ping", "tcp PORT" or "udp PORT") gets an answer from `address`."""
        kind, *port = what.split()
        if kind == "ping":
            return self.ping(address, seconds=max(1, round(seconds)))
        return self.run(kind, address, port[0], "--timeout", seconds).get("ok", False)

    def ping(self, address, count=1, seconds=2):
        """Whether an echo came back."""
        command = ["ping", "-n", "-q", "-c", str(count), "-W", str(seconds), "-i", "0.2", address]
        process = self.netns.popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return process.wait() == 0
