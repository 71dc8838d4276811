#!/usr/bin/env python3
"""A router between the nodes that has a narrow link behind it.

Waits for an ESP packet on the wire and says that it was too big (RFC 792 type 3 code 4,
RFC 1191 section 4). Runs inside a node's namespace; prints one JSON document.
"""

import argparse
import json
import socket
import struct
import sys
import time

ROUTER = "198.18.0.77"
ROUTER_MAC = bytes.fromhex("02510000004d")
ETHERNET = 14
IPV4_ESP = (b"\x08\x00", 50)


def checksum(data):
    """RFC 1071."""
    words = struct.unpack(f"!{len(data) // 2}H", data)
    folded = sum(words)
    while folded >> 16:
        folded = (folded & 0xFFFF) + (folded >> 16)
    return ~folded & 0xFFFF


def too_big(frame, mtu, forged):
    """What the router says of it: its header and the first eight bytes behind, which are SPI
    and number. Forged, of an SPI that nobody has."""
    packet = frame[ETHERNET:]
    header = (packet[0] & 0xF) * 4
    quoted = bytearray(packet[: header + 8])
    if forged:
        quoted[header] ^= 0x80
    icmp = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, socket.inet_aton(ROUTER), packet[12:16]
    )
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return frame[6:12] + ROUTER_MAC + b"\x08\x00" + ip + icmp


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interface")
    parser.add_argument("mtu", type=int)
    parser.add_argument("--forged", action="store_true")
    parser.add_argument("--seconds", type=float, default=5, help="how long to wait for a packet")
    args = parser.parse_args()
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    wire.bind((args.interface, 0x0800))
    print(json.dumps({"listens": args.interface}), flush=True)
    until = time.monotonic() + args.seconds
    while (left := until - time.monotonic()) > 0:
        wire.settimeout(left)
        try:
            frame, (_, _, kind, *_) = wire.recvfrom(65536)
        except TimeoutError:
            break
        if kind != socket.PACKET_OUTGOING and (frame[12:14], frame[23]) == IPV4_ESP:
            wire.send(too_big(frame, args.mtu, args.forged))
            print(json.dumps({"said": args.mtu}), flush=True)
            return 0
    print(json.dumps({"said": None}), flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
