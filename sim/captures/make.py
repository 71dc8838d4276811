#!/usr/bin/env python3
"""Makes database.pcap: a client and a database that exist only here. Needs python3-scapy."""

import pathlib

from scapy.all import IP, TCP, UDP, Ether, Raw, wrpcap

CLIENT, SERVER = "192.0.2.10", "192.0.2.20"
START_S = 1_700_000_000


def main():
    frames, numbers = [], {CLIENT: 4_294_967_000, SERVER: 77}

    def say(src, flags, text=b""):
        dst = SERVER if src == CLIENT else CLIENT
        ports = (40_000, 5_432) if src == CLIENT else (5_432, 40_000)
        ack = numbers[dst] if "A" in flags else 0
        # As a host with checksum offload captures it: none is right.
        segment = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=numbers[src], ack=ack, window=65_535, chksum=0x1234)
        frames.append(Ether(src="02:00:5e:00:53:01", dst="02:00:5e:00:53:02") / IP(src=src, dst=dst, chksum=0) / segment / Raw(text))
        numbers[src] = (numbers[src] + len(text) + ("S" in flags or "F" in flags)) % 2**32

    say(CLIENT, "S")
    say(SERVER, "SA")
    say(CLIENT, "A")
    for row in range(20):
        say(CLIENT, "PA", b"select %d from rows;" % row * 10)
        say(SERVER, "PA", b"row %d;" % row * 150)
        say(CLIENT, "A")
    say(CLIENT, "FA")
    say(SERVER, "FA")
    say(CLIENT, "A")
    frames.append(Ether() / IP(src=CLIENT, dst=SERVER) / UDP(sport=40_001, dport=9) / Raw(b"stray"))
    frames.append(Ether() / IP(src="192.0.2.99", dst=SERVER) / UDP(sport=1, dport=2) / Raw(b"somebody else's"))
    for number, frame in enumerate(frames):
        frame.time = START_S + number * 0.002
    wrpcap(str(pathlib.Path(__file__).with_name("database.pcap")), frames)


if __name__ == "__main__":
    main()
