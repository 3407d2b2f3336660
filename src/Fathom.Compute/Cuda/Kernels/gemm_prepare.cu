// What cuBLASLt wants before it multiplies E4M3: scales in its own orders (documentation of cuBLAS, 128-element 1D and 128x128 2D
// block scaling); and F32 as the sum of matrices that tensor cores take.
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

// parts[0] + parts[1] + parts[2] = x, exactly: each takes the next eight bits of the significand. What is not finite is the first part alone.
__device__ __forceinline__ void split_single(float x, bf16 (&parts)[3])
{
    bool finite = (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
#pragma unroll
    for (int part = 0; part < 3; part++)
    {
        uint32_t bits = __float_as_uint(x);
        // A NaN's payload may lie in the bits that are cut off.
        parts[part] = {static_cast<uint16_t>(bits >> 16 | (finite || (bits & 0xffff) == 0 ? 0 : 1))};
        x = finite ? x - __uint_as_float(bits & 0xffff0000u) : 0;
        if (!finite && part == 0) finite = true;
    }
}

// parts: [3, elements].
__global__ void split_singles(const float* from, int64_t stride, int64_t columns, int64_t elements, bf16* parts)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= elements) return;
    bf16 split[3];
    split_single(from[i / columns * stride + i % columns], split);
#pragma unroll
    for (int part = 0; part < 3; part++) parts[part * elements + i] = split[part];
}

// The six products of parts that matter in F32, 0 0, 0 1, 1 0, 0 2, 1 1 and 2 0, side by side along the sum: six copies of a matrix, `apart`
// elements from one to the next, of the part that the left (or right) factor of each has.
__global__ void stack_singles(const float* from, int64_t stride, int64_t columns, int64_t elements, bf16* to, int64_t toStride, int64_t apart, bool right)
{
    constexpr int Left[6] = {0, 0, 1, 0, 1, 2}, Right[6] = {0, 1, 0, 2, 1, 0};
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= elements) return;
    int64_t row = i / columns, column = i % columns;
    bf16 split[3];
    split_single(from[row * stride + column], split);
    to += row * toStride + column;
#pragma unroll
    for (int term = 0; term < 6; term++) to[term * apart] = right ? split[Right[term]] : split[Left[term]];
}
