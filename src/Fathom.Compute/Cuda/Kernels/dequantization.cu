// Codes back to values: y = element * scale. Bound by memory; a thread has all its codes before it writes.
#include "quantization_tiles.cuh"

__device__ __forceinline__ float get_scale(const TileArguments& p, int64_t place)
{
    return p.powerOfTwo ? to_float(static_cast<const e8m0*>(p.scales)[place]) : static_cast<const float*>(p.scales)[place];
}

template <int Chunk, typename Y>
__device__ __forceinline__ void store_chunk(Y* to, const float (&x)[Chunk])
{
    if constexpr (Chunk * sizeof(Y) == 16) store<Y, Chunk>(to, x);
    else
    {
#pragma unroll
        for (int i = 0; i < Chunk; i++) to[i] = from_float<Y>(x[i]);
    }
}

// Scales that do not change within 128 columns of a row: of 1x128 tiles, of blocks, of a whole matrix.
template <typename Y, typename Q, int Chunk>
__global__ void __launch_bounds__(RowThreads) dequantize_rows(const __grid_constant__ TileArguments p)
{
    RowTile at = row_tile(p, row_tile_index());
    if (at.left == 0) return;
    float scale = get_scale(p, (at.row >> p.scaleRowShift) * p.scaleStride + at.tile * p.scaleStep);
    const uint8_t* from = p.codes + at.row * p.codeStride + code_bytes<Q>(at.column);
    Y* to = static_cast<Y*>(p.plain) + at.row * p.plainStride + at.column;
    int lane = threadIdx.x % TileLanes;
    float values[LaneValues / Chunk][Chunk] = {};
#pragma unroll
    for (int i = 0; i < LaneValues / Chunk; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        if (start < at.left) load_codes<Q, Chunk>(values[i], from + code_bytes<Q>(start));
    }

#pragma unroll
    for (int i = 0; i < LaneValues / Chunk; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        if (start >= at.left) continue;
#pragma unroll
        for (int j = 0; j < Chunk; j++) values[i][j] = __fmul_rn(values[i][j], scale);
        store_chunk<Chunk>(to + start, values[i]);
    }
}

template <typename Y, typename Q, int Chunk>
__global__ void __launch_bounds__(StripThreads) dequantize_columns(const __grid_constant__ TileArguments p)
{
    using Strip = Panel<Y, Chunk, StripColumns, StripThreads>;
    uint32_t strips = (static_cast<uint32_t>(p.columns) + StripColumns - 1) / StripColumns, tile = blockIdx.x / strips;
    int column = static_cast<int>(blockIdx.x - tile * strips) * StripColumns + Strip::column();
    RowRange range = tile_rows(p.rowOffsets, p.groups, p.rows, tile);
    if (column >= p.columns) return;
    float scales[Chunk];
#pragma unroll
    for (int j = 0; j < Chunk; j++) scales[j] = range.count > 0 ? get_scale(p, tile * p.scaleStride + column + j) : 0.0f;
    const uint8_t* from = p.codes + range.first * p.codeStride + column;
    Y* to = static_cast<Y*>(p.plain) + range.first * p.plainStride + column;
#pragma unroll 4
    for (int row = Strip::row(0); row < range.count; row += Strip::RowsAtOnce)
    {
        float values[Chunk];
        load_codes<Q, Chunk>(values, from + row * p.codeStride);
#pragma unroll
        for (int j = 0; j < Chunk; j++) values[j] = __fmul_rn(values[j], scales[j]);
        store_chunk<Chunk>(to + row * p.plainStride, values);
    }
}
