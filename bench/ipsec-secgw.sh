#!/usr/bin/env bash
# Builds DPDK's example ipsec-secgw from Debian's source package of the DPDK that is installed,
# for `sluice-bench gateway`. Prints where it is. The package index goes to a folder of its own:
# the system's sources stay as they are.
set -euo pipefail

if [ "${1:-}" = --help ]; then
    echo "usage: bench/ipsec-secgw.sh FOLDER    (needs libdpdk-dev, make, a C compiler)"
    exit 0
fi
folder=$(realpath -m "${1:?a folder to build in; see --help}")
mkdir -p "$folder/apt/parts" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
cd "$folder"

sources=/etc/apt/sources.list.d/debian.sources
if [ -f "$sources" ]; then
    sed 's/^Types: .*/Types: deb-src/' "$sources" > apt/parts/debian.sources
else
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > apt/parts/debian.list
fi
options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$folder/apt/parts"
    -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache")
version=$(dpkg-query -W -f '${Version}' libdpdk-dev)
apt-get "${options[@]}" update >&2
apt-get "${options[@]}" source --download-only "dpdk=$version" >&2
tar --wildcards --strip-components=1 -xf dpdk_*.orig.tar.xz '*/examples/ipsec-secgw/*'
cd examples/ipsec-secgw
# It asks every port for checksum offloads, which no virtual device has, and reads none of them
# where the mask of offloads is 0.
sed -i 's/\.offloads = RTE_ETH_RX_OFFLOAD_CHECKSUM/.offloads = 0/' ipsec-secgw.c
make -s >&2
echo "$PWD/build/ipsec-secgw"
