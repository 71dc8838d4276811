"""The virtual machine: QEMU, spoken to by its serial port."""

import json
import queue
import subprocess
import threading
import time

from shell import CommandError

# The machine's own kernel is emulated: booting takes a few seconds.
BOOT_SECONDS_MAX = 120
ANSWER_SECONDS_MAX = 60
# Self tests of ciphers take long when emulated, and random numbers may be the host's.
CMDLINE = "console=ttyS0 panic=-1 cryptomgr.notests=1 mitigations=off random.trust_cpu=on"


class Machine:
    """A guest on one tap interface of a network namespace."""

    def __init__(self, netns, kernel, initrd, tap, mac, folder):
        self.log = (folder / "guest.log").open("w")
        self.wire = folder / "guest.pcap"
        off = ",".join(
            f"{it}=off"
            for it in (
                "csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
                "host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf",
            )
        )
        self.process = netns.popen(
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", 384, "-nodefaults",
            "-no-reboot", "-display", "none", "-serial", "stdio",
            "-kernel", kernel, "-initrd", initrd,
            "-append", CMDLINE,
            "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no,vnet_hdr=off",
            "-device", f"virtio-net-pci,netdev=net,mac={mac},romfile=,{off}",
            # Both directions, as the guest's card has them.
            "-object", f"filter-dump,id=wire,netdev=net,file={self.wire}",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        self.answers = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            before, at, after = line.partition("@{")
            if at:
                self.answers.put("{" + after)
            self.log.write(before if at else line)
            self.log.flush()
        self.answers.put(None)

    def _answer(self, seconds):
        try:
            line = self.answers.get(timeout=seconds)
        except queue.Empty:
            raise CommandError(f"the guest said nothing for {seconds} s; see {self.log.name}") from None
        if line is None:
            raise CommandError(f"the guest ended; see {self.log.name}")
        return json.loads(line)

    def wait_until_up(self):
        """Returns how many seconds it took."""
        began = time.monotonic()
        self._answer(BOOT_SECONDS_MAX)
        return time.monotonic() - began

    def do(self, what, **values):
        """Has the agent do something; its answer."""
        self.process.stdin.write(json.dumps({"do": what, **values}) + "\n")
        self.process.stdin.flush()
        return self._answer(ANSWER_SECONDS_MAX)

    def must(self, what, **values):
        """As `do`, for what has to go well."""
        answer = self.do(what, **values)
        if not answer.get("ok"):
            raise CommandError(f"guest: {what}: {answer}")
        return answer

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
