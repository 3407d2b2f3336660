// What cuBLASLt wants before it multiplies E4M3: scales in its own orders (documentation of cuBLAS, 128-element 1D and 128x128 2D
// block scaling).
#include "gemm.cuh"

// to[outer * toOuter + tile * toTile] = from[outer * fromOuter + tile * fromTile] as F32, zero for tiles past the last.
template <typename S>
__global__ void arrange_scales(
    const S* from, int64_t fromOuter, int64_t fromTile, float* to, int64_t toOuter, int64_t toTile, int64_t outer, int64_t tiles, int64_t paddedTiles)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= outer * paddedTiles) return;
    // Neighbouring threads write neighbouring elements.
    int64_t tile = toTile == 1 ? i % paddedTiles : i / outer, row = toTile == 1 ? i / paddedTiles : i % outer;
    to[row * toOuter + tile * toTile] = tile < tiles ? to_float(from[row * fromOuter + tile * fromTile]) : 0;
}
