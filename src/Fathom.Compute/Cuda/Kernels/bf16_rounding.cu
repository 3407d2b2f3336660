// BF16 without scales: y = x rounded to BF16, to narrow, to widen, and in place.
#include "common.cuh"
#include "rows.cuh"

constexpr int RowThreads = 256;

template <typename X, typename Y, int Chunk>
__global__ void __launch_bounds__(RowThreads) through_bf16(
    const X* x, int64_t xStride, Y* y, int64_t yStride, int64_t rows, int32_t columns, int32_t width, int32_t rowsOfBlock)
{
    constexpr int ChunksOfThread = 4;
    RowPlace at = row_place(rows, width, rowsOfBlock, ChunksOfThread);
    if (!at.valid) return;
    Pack<X, Chunk> packs[ChunksOfThread];
#pragma unroll
    for (int i = 0; i < ChunksOfThread; i++)
    {
        int64_t column = (at.first + i * width) * Chunk;
        if (column < columns) packs[i] = *reinterpret_cast<const Pack<X, Chunk>*>(x + at.row * xStride + column);
    }

#pragma unroll
    for (int i = 0; i < ChunksOfThread; i++)
    {
        int64_t column = (at.first + i * width) * Chunk;
        if (column >= columns) continue;
        float values[Chunk];
#pragma unroll
        for (int j = 0; j < Chunk; j++) values[j] = to_float(from_float<bf16>(to_float(packs[i].values[j])));
        store<Y, Chunk>(y + at.row * yStride + column, values);
    }
}
