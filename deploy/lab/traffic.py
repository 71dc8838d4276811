#!/usr/bin/env python3
"""A pod's traffic: servers that echo, clients that say how it went, a numbered stream.

Runs inside a pod's namespace; prints one JSON document a line.
"""

import argparse
import itertools
import json
import selectors
import socket
import struct
import sys
import time

# What the lab looks for on the wire.
MARKER = b"sluice-lab-marker-in-clear"
NUMBER = struct.Struct("!Q")
# A stream is over when nothing has come for so long after its end: longer than a dataplane goes
# without a turn of a busy core.
QUIET_SECONDS = 2
# asm-generic/socket.h; Python has no name for it.
SO_RCVBUFFORCE = 33


def say(**values):
    print(json.dumps(values), flush=True)


def serve(ports, addresses=("::",)):
    """Echoes on TCP and UDP until it is ended: of IPv4 and IPv6, or at these addresses, from
    which it answers then."""
    selector = selectors.DefaultSelector()
    for port, address in itertools.product(ports, addresses):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.socket(family, kind)
            if address == "::":
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            if kind == socket.SOCK_STREAM:
                listener.listen()
                selector.register(listener, selectors.EVENT_READ, accept)
            else:
                selector.register(listener, selectors.EVENT_READ, echo_datagram)
    say(ready=ports)
    while True:
        for key, _ in selector.select():
            key.data(selector, key.fileobj)


def accept(selector, listener):
    connection, _ = listener.accept()
    selector.register(connection, selectors.EVENT_READ, echo_stream)


def echo_stream(selector, connection):
    try:
        data = connection.recv(65536)
        if data:
            connection.sendall(data)
            return
    except OSError:
        pass
    selector.unregister(connection)
    connection.close()


def echo_datagram(_, listener):
    data, source = listener.recvfrom(65536)
    listener.sendto(data, source)


def client(kind, host, port, timeout, source=None):
    """A connected socket, from the address `source` if it is given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, kind)
    made.settimeout(timeout)
    if source:
        made.bind((source, 0))
    made.connect((host, port))
    return made


def connect(host, port, timeout):
    return client(socket.SOCK_STREAM, host, port, timeout)


def tcp(host, port, length, timeout, source=None):
    """Sends `length` bytes and waits for all of them to come back."""
    try:
        connection = client(socket.SOCK_STREAM, host, port, timeout, source)
    except OSError as error:
        return {"ok": False, "why": f"connect: {error}"}
    sent = (MARKER * (length // len(MARKER) + 1))[:length]
    back = b""
    with connection:
        try:
            for start in range(0, length, 16384):
                chunk = sent[start : start + 16384]
                connection.sendall(chunk)
                while len(back) < start + len(chunk):
                    more = connection.recv(65536)
                    if not more:
                        raise OSError("closed by the peer")
                    back += more
        except OSError as error:
            return {"ok": False, "why": f"after {len(back)} bytes: {error}"}
        mss = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    return {"ok": back == sent, "bytes": len(back), "mss": mss}


def udp(host, port, length, timeout, source=None):
    """One datagram there and back."""
    sent = (MARKER * (length // len(MARKER) + 1))[:length]
    try:
        with client(socket.SOCK_DGRAM, host, port, timeout, source) as asking:
            asking.send(sent)
            return {"ok": asking.recv(65536) == sent}
    except OSError as error:
        return {"ok": False, "why": str(error)}


def say_outcome(outcome):
    say(**outcome)
    return 0 if outcome["ok"] else 1


def hold(host, port, timeout, until):
    """Keeps a connection talking; ends when it stalls for `until` seconds. `last_ok` is on
    the machine's monotonic clock, which all namespaces share."""
    connection = connect(host, port, timeout)
    connection.settimeout(until)
    say(connected=True)
    last_ok = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            connection.sendall(MARKER)
            if not connection.recv(65536):
                raise OSError("closed by the peer")
        except OSError as error:
            say(last_ok=last_ok, why=str(error))
            return 0
        last_ok = time.monotonic()
        time.sleep(max(0.0, 0.01 - (last_ok - began)))


def knock(host, port, timeout):
    """Tries to connect, again and again, until told to stop by a line on stdin; says how
    often it was let in. Before there is a way to the host, that is a try too."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    say(knocking=True)
    tries = admitted = 0
    while not selector.select(0.005):
        tries += 1
        try:
            connect(host, port, timeout).close()
            admitted += 1
        except OSError:
            pass
    say(tries=tries, admitted=admitted)
    return 0


def receive(port):
    """Counts the numbers of a stream until it is told to stop by a line on stdin."""
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # Beyond rmem_max, as root may.
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    listener.bind(("::", port))
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    say(ready=[port])
    seen = set()
    twice = 0
    stopping = False
    while True:
        # Once told to stop, what is queued or on its way is still counted.
        events = selector.select(QUIET_SECONDS if stopping else None)
        if not events:
            break
        for key, _ in events:
            if key.fileobj is sys.stdin:
                selector.unregister(sys.stdin)
                stopping = True
                continue
            data = listener.recv(65536)
            (number,) = NUMBER.unpack_from(data)
            twice += number in seen
            seen.add(number)
    last = max(seen, default=-1)
    missing = sorted(set(range(last + 1)) - seen)
    say(received=len(seen), twice=twice, last=last, missing=len(missing), first_missing=missing[:5])
    return 0


def send(host, port, rate, seconds, size):
    """A paced stream of numbered datagrams: `rate` a second for `seconds`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.connect((host, port))
    fill = (MARKER * (size // len(MARKER) + 1))[: max(0, size - NUMBER.size)]
    began = time.monotonic()
    refused = 0
    total = int(rate * seconds)
    for number in range(total):
        wait = began + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        try:
            client.send(NUMBER.pack(number) + fill)
        except OSError:
            refused += 1
    say(sent=total, refused=refused)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("serve")
    verb.add_argument("ports", type=int, nargs="+")
    verb.add_argument("--at", nargs="+", default=["::"], help="addresses; all, if none is given")
    for name in ("tcp", "udp", "hold", "knock", "send"):
        verb = verbs.add_parser(name)
        verb.add_argument("host")
        verb.add_argument("port", type=int)
        verb.add_argument("--timeout", type=float, default=1.0)
        verb.add_argument("--bytes", type=int, default=len(MARKER))
        verb.add_argument("--until", type=float, default=1.0, help="stalled after so long")
        verb.add_argument("--rate", type=float, default=1000.0, help="datagrams a second")
        verb.add_argument("--seconds", type=float, default=5.0)
    verb = verbs.add_parser("receive")
    verb.add_argument("port", type=int)
    args = parser.parse_args()
    match args.verb:
        case "serve":
            return serve(args.ports, args.at)
        case "tcp":
            return say_outcome(tcp(args.host, args.port, args.bytes, args.timeout))
        case "udp":
            return say_outcome(udp(args.host, args.port, args.bytes, args.timeout))
        case "hold":
            return hold(args.host, args.port, args.timeout, args.until)
        case "send":
            return send(args.host, args.port, args.rate, args.seconds, args.bytes)
        case "knock":
            return knock(args.host, args.port, args.timeout)
        case "receive":
            return receive(args.port)


if __name__ == "__main__":
    sys.exit(main())
