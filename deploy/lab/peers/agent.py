"""The guest's first process: does what lines of JSON on the serial port say.

An answer is a line that starts with `@`; whatever else is printed is the kernel's.
"""

import json
import os
import subprocess
import sys
import threading
import tty

sys.path.insert(0, "/")
import traffic  # noqa: E402  (it is in the root of the guest's file system)


def ip(lines):
    """`ip -batch`: the lines, or the first that fails."""
    done = subprocess.run(
        ["/sbin/ip", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True
    )
    return {"ok": done.returncode == 0, "out": done.stdout, "error": done.stderr}


def serve(ports, addresses):
    threading.Thread(target=traffic.serve, args=(ports, addresses), daemon=True).start()
    return {"ok": True}


def ask(kind, source, host, port, length, timeout):
    """One exchange with an echo server, by TCP or UDP, from a certain address."""
    exchange = {"tcp": traffic.tcp, "udp": traffic.udp}[kind]
    return exchange(host, port, length, timeout, source)


def read(path):
    with open(path) as file:
        return {"ok": True, "text": file.read()}


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return {"ok": True}


DO = {it.__name__: it for it in (ip, serve, ask, read, write)}


def answer(port, **values):
    port.write("@" + json.dumps(values) + "\n")
    port.flush()


def main():
    # A line may be longer than a terminal's, and nobody wants it repeated.
    tty.setraw(sys.stdin.fileno())
    # What traffic.py says is for nobody here.
    port, sys.stdout = sys.stdout, open(os.devnull, "w")
    # The kernel's words would come in the middle of an answer; those of a panic still do.
    write("/proc/sys/kernel/printk", "1")
    answer(port, ready=True)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            result = DO[request.pop("do")](**request)
        except Exception as error:  # The guest must answer, whatever it was.
            result = {"ok": False, "error": repr(error)}
        answer(port, **result)


main()
