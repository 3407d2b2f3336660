// What the kernels between values and codes share, in either direction: the arguments of a call, and which part of a matrix is a thread's.
// Chunk is what a thread reads at once: 16 bytes where addresses and columns allow it, else one value (E5M6: a pair).
#pragma once
#include "formats.cuh"
#include "tile_rows.cuh"

// One layout for all kernels; CudaQuantization.cs declares it alike.
struct TileArguments
{
    void* plain;                // x or y, [rows, columns]
    int64_t plainStride;        // elements
    uint8_t* codes;             // [rows, columns]
    int64_t codeStride;         // bytes
    void* scales;               // float, or e8m0 where powerOfTwo
    int64_t scaleStride;        // from tile row to tile row
    const int32_t* rowOffsets;  // [groups + 1], or null; tiles of columns only
    uint64_t* fault;            // or null
    uint32_t* largest;          // [largestCount]: parts of the largest magnitude of a whole matrix
    int64_t rows;
    int32_t columns;
    int32_t groups;
    int32_t largestCount;
    int32_t powerOfTwo;
    float leastAmax;
    int32_t scaleRowShift;      // dequantisation: rows to tile rows
    int32_t scaleStep;          // dequantisation: from tile to tile of a row, 0 or 1
};

// Chunk values at once where that is 16 bytes, which the caller has aligned, else one by one.
template <int Chunk, typename X>
__device__ __forceinline__ Pack<X, Chunk> load_chunk(const X* from)
{
    Pack<X, Chunk> pack;
    if constexpr (Chunk * sizeof(X) == 16) pack = *reinterpret_cast<const Pack<X, Chunk>*>(from);
    else
    {
#pragma unroll
        for (int i = 0; i < Chunk; i++) pack.values[i] = from[i];
    }

    return pack;
}

// ---- 1x128 tiles: eight lanes a tile, sixteen values a lane ----

constexpr int TileLanes = 8;
constexpr int LaneValues = TileLength / TileLanes;
constexpr int RowThreads = 256;

struct RowTile
{
    int64_t row;
    int32_t tile, column, left;  // left: columns from here on, 0 past the last tile
};

__device__ __forceinline__ RowTile row_tile(const TileArguments& p, uint32_t index)
{
    uint32_t tiles = (static_cast<uint32_t>(p.columns) + TileLength - 1) / TileLength, row = index / tiles, tile = index - row * tiles;
    int column = static_cast<int>(tile) * TileLength;
    return {row, static_cast<int>(tile), column, row < p.rows ? min(p.columns - column, TileLength) : 0};
}

__device__ __forceinline__ uint32_t row_tile_index() { return blockIdx.x * (RowThreads / TileLanes) + threadIdx.x / TileLanes; }

// ---- Panels of 128 rows ----

// Up to 128 rows of some columns in the registers of a block: a thread has Chunk columns of every RowsAtOnce-th row.
template <typename X, int Chunk, int Columns, int Threads>
struct Panel
{
    static constexpr int ThreadsOfRow = Columns / Chunk;
    static constexpr int RowsAtOnce = Threads / ThreadsOfRow;
    static constexpr int Passes = TileLength / RowsAtOnce;
    static_assert(ThreadsOfRow * RowsAtOnce == Threads && RowsAtOnce * Passes == TileLength);

    Pack<X, Chunk> values[Passes];

    __device__ __forceinline__ static int row(int pass) { return threadIdx.x / ThreadsOfRow + pass * RowsAtOnce; }
    __device__ __forceinline__ static int column() { return threadIdx.x % ThreadsOfRow * Chunk; }

    __device__ __forceinline__ void load(const TileArguments& p, const RowRange& range, int firstColumn)
    {
        bool within = firstColumn + column() < p.columns;
        const X* from = static_cast<const X*>(p.plain) + range.first * p.plainStride + firstColumn + column();
#pragma unroll
        for (int i = 0; i < Passes; i++)
        {
            values[i] = {};
            if (within && row(i) < range.count) values[i] = load_chunk<Chunk>(from + row(i) * p.plainStride);
        }
    }
};

constexpr int StripColumns = 64;
constexpr int StripThreads = 256;
