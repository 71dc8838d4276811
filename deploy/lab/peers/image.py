"""What the guest boots: Debian's kernel, and an initial file system with a few programs.

Nothing is installed: the kernel's package is unpacked into a folder of ours.
"""

import json
import re
import stat
from pathlib import Path

from shell import CommandError, run

# Where .ci/install-deps puts the package.
KERNELS = Path("/var/cache/sluice-lab")
PYTHON = "/usr/bin/python3"
BUSYBOX = "/bin/busybox"
IP = "/sbin/ip"
HERE = Path(__file__).parent
# What the agent and traffic.py import, and what Python imports when it meets an address.
IMPORTS = (
    "argparse, encodings.idna, itertools, json, os, selectors, socket, struct, subprocess, sys, termios,"
    "threading, time, tty"
)
MODULES = (
    "virtio_pci", "virtio_net",
    "xfrm_user", "esp4", "esp6",
    "gcm", "ctr", "ghash-generic", "seqiv", "echainiv", "aesni-intel",
    "chacha20poly1305", "chacha_generic", "poly1305_generic",
    # Of random numbers, for the kernel's own IVs.
    "sha512_generic", "drbg",
)  # fmt: skip
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module; done
exec {python} -I -S /agent.py
"""


def kernel_package():
    """The newest kernel package that was downloaded."""
    found = sorted(KERNELS.glob("linux-image-*-cloud-amd64_*.deb"), key=lambda it: it.stat().st_mtime)
    if not found:
        raise CommandError(f"no kernel package in {KERNELS}: run .ci/install-deps (make deps)")
    return found[-1]


def unpack_kernel(folder):
    """Unpacks the kernel; returns its image and the folder of its modules."""
    tree = folder / "kernel"
    run("dpkg", "-x", kernel_package(), tree, timeout=60)
    (image,) = (tree / "boot").glob("vmlinuz-*")
    # A module may be under usr/lib or lib, as Debian has it at the time.
    modules = next(it for it in (tree / "lib/modules", tree / "usr/lib/modules") if it.is_dir())
    return image, modules


class Tree:
    """An initial file system in the making: a cpio archive (newc)."""

    def __init__(self):
        self.files = {}

    def add(self, path, data, mode=0o755):
        self.files[str(path).lstrip("/")] = (stat.S_IFREG | mode, data)

    def copy(self, source):
        """A file of this machine at its own path, and the libraries it is linked with."""
        source = Path(source)
        name = str(source).lstrip("/")
        if name in self.files:
            return
        self.add(name, source.read_bytes())
        if self.files[name][1][:4] == b"\x7fELF":
            for library in re.findall(r"(/\S+) \(0x", run("ldd", source, check=False)):
                self.copy(library)

    def archive(self):
        folders = {parent for path in self.files for parent in Path(path).parents}
        folders |= {Path(name) for name in ("proc", "sys", "dev", "run", "tmp")}
        folders.discard(Path("."))
        entries = [(str(it), stat.S_IFDIR | 0o755, b"") for it in sorted(folders)]
        entries += [(path, mode, data) for path, (mode, data) in self.files.items()]
        entries.append(("TRAILER!!!", 0, b""))
        out = bytearray()
        for inode, (path, mode, data) in enumerate(entries, 1):
            name = path.encode() + b"\0"
            numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
            out += b"070701" + b"".join(b"%08X" % it for it in numbers) + name
            out += bytes(-len(out) % 4)
            out += data
            out += bytes(-len(out) % 4)
        return bytes(out)


def in_order(modules):
    """The files of MODULES and of what they need, each after those it needs."""
    files = {it.stem.replace("-", "_"): it for it in modules.rglob("*.ko")}
    ordered = []

    def visit(name):
        # What isn't a file is built in.
        file = files.get(name.replace("-", "_"))
        if file is None or file in ordered:
            return
        needs = re.search(rb"\0depends=([^\0]*)\0", file.read_bytes())
        for needed in needs[1].decode().split(",") if needs else ():
            visit(needed)
        ordered.append(file)

    for name in MODULES:
        visit(name)
    return ordered


def python_files():
    """Every file that Python and the imports of the agent come from."""
    script = (
        f"import {IMPORTS}; import json, sys;"
        "print(json.dumps([it.__file__ for it in sys.modules.values()"
        " if getattr(it, '__file__', None)]))"
    )
    return json.loads(run(PYTHON, "-I", "-S", "-c", script))


def build(folder):
    """Makes kernel and file system in `folder`; returns both paths."""
    kernel, modules = unpack_kernel(folder)
    tree = Tree()
    for program in (BUSYBOX, IP):
        tree.copy(program)
    # /usr/bin/python3 is a link.
    python = Path(PYTHON).resolve()
    tree.copy(python)
    for file in python_files():
        tree.copy(file)
    ordered = in_order(modules)
    for file in ordered:
        tree.add(f"modules/{file.name}", file.read_bytes())
    tree.add("agent.py", (HERE / "agent.py").read_bytes())
    tree.add("traffic.py", (HERE.parent / "traffic.py").read_bytes())
    init = INIT.format(modules=" ".join(it.name for it in ordered), python=python)
    tree.add("init", init.encode())
    initrd = folder / "initrd"
    initrd.write_bytes(tree.archive())
    return kernel, initrd
