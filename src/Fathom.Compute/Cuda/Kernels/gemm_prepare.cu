// What cuBLASLt wants before it multiplies E4M3 with scales: both operands along the depth, and scales in its own orders
// (documentation of cuBLAS, section on 128-element and 128x128 block scaling).
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

constexpr int TransposeSide = 128;
constexpr int TransposeThreads = 256;

// to[c, r] = from[r, c] for bytes; to has toStride >= rows columns, the last ones zero. Rows of both begin at four bytes and
// columns is a multiple of four. Four by four bytes change places in registers, the rest in shared memory.
template <typename T>
__global__ void __launch_bounds__(TransposeThreads) transpose_codes(const T* from, int64_t stride, T* to, int64_t toStride, int64_t rows, int64_t columns)
{
    constexpr int Words = TransposeSide / 4;
    __shared__ uint32_t tile[TransposeSide][Words + 1];
    int64_t columnFirst = static_cast<int64_t>(blockIdx.x) * TransposeSide, rowFirst = static_cast<int64_t>(blockIdx.y) * TransposeSide;
#pragma unroll
    for (int j = 0; j < Words * Words / TransposeThreads; j++)
    {
        int block = static_cast<int>(threadIdx.x) + j * TransposeThreads, across = block % Words, down = block / Words;
        uint32_t in[4], out[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            int64_t row = rowFirst + 4 * down + i, column = columnFirst + 4 * across;
            in[i] = row < rows && column < columns ? *reinterpret_cast<const uint32_t*>(from + row * stride + column) : 0;
        }

#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            out[i] = (in[0] >> 8 * i & 0xff) | (in[1] >> 8 * i & 0xff) << 8 | (in[2] >> 8 * i & 0xff) << 16 | (in[3] >> 8 * i & 0xff) << 24;
            tile[4 * across + i][down] = out[i];
        }
    }

    __syncthreads();
#pragma unroll
    for (int j = 0; j < TransposeSide * Words / TransposeThreads; j++)
    {
        int word = static_cast<int>(threadIdx.x) + j * TransposeThreads, line = word / Words, within = word % Words;
        int64_t column = columnFirst + line, row = rowFirst + 4 * within;
        if (column < columns && row < toStride) *reinterpret_cast<uint32_t*>(to + column * toStride + row) = tile[line][within];
    }
}
