#!/bin/bash
# Builds the emulator's libraries: tests/cuda-emulator/build.sh OUT_DIR. Needs g++ 12 or later on x86-64 Linux.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 OUT_DIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
# Images of another build of the emulator are refused, so its sources name it; the number makes the compiler's version, on which caches of
# compiled kernels depend.
build=$(cat device/* driver/* nvrtc/* | sha256sum | cut -c1-7)
flags="-std=c++20 -O2 -g1 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -pthread -Wl,-z,defs"
flags="$flags -DEMULATOR_BUILD=\"$build\" -DEMULATOR_BUILD_NUMBER=0x$build"
library() # NAME SOURCES AND FLAGS
{
    # Renamed, not overwritten: a process may have the old one open.
    g++ $flags -Wl,-soname,"$1" -o "$out/$1.new" "${@:2}" && mv "$out/$1.new" "$out/$1"
}
library libnvrtc.so.13 nvrtc/nvrtc.cpp &
nvrtc=$!
library libcuda.so.1 -ftls-model=initial-exec driver/*.cpp -ldl
library libcublasLt.so.13 -O3 cublaslt/*.cpp "$out/libcuda.so.1" -Wl,-rpath,'$ORIGIN'
wait $nvrtc
