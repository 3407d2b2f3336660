#!/bin/sh
# Builds the emulator's libraries: tests/cuda-emulator/build.sh OUT_DIR. Needs g++ 12 or later on x86-64 Linux.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 OUT_DIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
# Images of another build of the emulator are refused, so its sources name it.
build=$(cat device/* driver/* nvrtc/* | sha256sum | cut -c1-16)
flags="-std=c++20 -O2 -g1 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -DEMULATOR_BUILD=\"$build\" -pthread"
g++ $flags -ftls-model=initial-exec -Wl,-soname,libcuda.so.1 -o "$out/libcuda.so.1.new" driver/*.cpp -ldl &
driver=$!
g++ $flags -Wl,-soname,libnvrtc.so.13 -o "$out/libnvrtc.so.13.new" nvrtc/nvrtc.cpp
wait $driver
# Renamed, not overwritten: a process may have the old ones open.
for library in libcuda.so.1 libnvrtc.so.13; do mv "$out/$library.new" "$out/$library"; done
