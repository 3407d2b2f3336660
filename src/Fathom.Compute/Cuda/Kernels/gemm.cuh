// What the matrix products share: how a product is described, which part of it a block computes, scales, and 8-bit elements as BF16.
// Every product is c[m, n] (+)= sum over d of a(m, d) b(n, d); "transposed" says that an operand lies [depth, m] instead of [m, depth].
// The structures here have twins in GemmParameters.cs, field for field.
#pragma once
#include "formats.cuh"

// Scale of (row, d): values[(row >> rowShift) * rowStride + (d >> depthShift) * depthStride]; no values: 1.
struct GemmScales
{
    const void* values;
    int64_t rowStride;
    int64_t depthStride;
    int32_t rowShift;
    int32_t depthShift;
    int32_t powersOfTwo;      // E8M0 codes instead of floats
    int32_t beginWithGroups;  // 128x1 tiles over grouped depth: group e has its own from row first / 128 + e on
};

struct GemmOperand
{
    const void* elements;
    int64_t stride;
    GemmScales scales;
};

// One expert's matrix.
struct GemmExpert
{
    const void* elements;
    const void* scales;
    int64_t stride;
    int64_t scaleStride;
};

enum GemmGroups { NoGroups, GroupedRows, GroupedDepth };

struct GemmProduct
{
    GemmOperand a;
    GemmOperand b;
    void* c;
    int64_t cStride;
    int64_t cGroupStride;     // elements from one group's result to the next, where the depth is grouped
    int64_t rows;
    int64_t columns;
    int64_t depth;
    const int32_t* rowOffsets; // [groups + 1]
    const GemmExpert* experts; // [groups], matrices b where the rows are grouped
    float* partial;            // [splits, rows, columns] where blocks share the depth, blockIdx.z
    int32_t groups;
    int32_t grouping;
    int32_t accumulate;
    int32_t bandRows;         // row tiles that are walked together, so that their operands stay in the second-level cache
};

// The part of a product that is one block's.
struct GemmSlice
{
    int64_t rowFirst;
    int64_t rowEnd;
    int64_t columnFirst;
    int64_t depthFirst;
    int64_t depth;
    int64_t group;
    const void* b;
    GemmScales bScales;
    int64_t bStride;
};

// The group that holds a row tile, where every group begins a tile of its own. The whole block calls.
struct GroupTile
{
    int32_t group;
    int32_t first;
    int32_t end;
};

__device__ __forceinline__ GroupTile find_group(const int32_t* offsets, int groups, int tileRows, int64_t tile)
{
    __shared__ int32_t totals[WarpSize];
    __shared__ GroupTile found;
    int warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize, warps = blockDim.x / WarpSize;
    if (threadIdx.x == 0) found.group = -1;
    int64_t before = 0;
    for (int base = 0; base < groups; base += static_cast<int>(blockDim.x))
    {
        int e = base + static_cast<int>(threadIdx.x);
        int32_t first = e < groups ? offsets[e] : 0, end = e < groups ? offsets[e + 1] : 0;
        int32_t tiles = (end - first + tileRows - 1) / tileRows, upTo = tiles;
#pragma unroll
        for (int distance = 1; distance < WarpSize; distance *= 2)
        {
            int32_t other = __shfl_up_sync(AllLanes, upTo, distance);
            if (lane >= distance) upTo += other;
        }

        if (lane == WarpSize - 1) totals[warp] = upTo;
        __syncthreads();
        int64_t start = before + upTo - tiles;
        int32_t all = 0;
        for (int i = 0; i < warps; i++)
        {
            if (i < warp) start += totals[i];
            all += totals[i];
        }

        if (tile >= start && tile < start + tiles)
        {
            found.group = e;
            found.first = first + static_cast<int32_t>(tile - start) * tileRows;
            found.end = end;
        }

        __syncthreads();
        before += all;
        if (tile < before) break;
    }

    if (groups == 0) __syncthreads();
    return found;
}

// Which part of the product block blockIdx (x: tiles, z: groups of the depth) has; false where there is nothing to do. The whole block calls.
template <int TileRows, int TileColumns, bool TransposedB>
__device__ __forceinline__ bool find_slice(const GemmProduct& p, GemmSlice& s)
{
    int64_t columnTiles = divide_up(p.columns, TileColumns), rowTiles = static_cast<int64_t>(gridDim.x) / columnTiles;
    int64_t band = blockIdx.x / (p.bandRows * columnTiles), within = blockIdx.x % (p.bandRows * columnTiles);
    int64_t bandHeight = min(static_cast<int64_t>(p.bandRows), rowTiles - band * p.bandRows);
    int64_t rowTile = band * p.bandRows + within % bandHeight;
    s.columnFirst = within / bandHeight * TileColumns;
    s.rowFirst = rowTile * TileRows;
    s.rowEnd = p.rows;
    s.depthFirst = 0;
    s.depth = p.depth;
    s.group = 0;
    s.b = p.b.elements;
    s.bStride = p.b.stride;
    s.bScales = p.b.scales;
    if (p.grouping == GroupedRows)
    {
        GroupTile tile = find_group(p.rowOffsets, p.groups, TileRows, rowTile);
        if (tile.group < 0) return false;
        s.group = tile.group;
        s.rowFirst = tile.first;
        s.rowEnd = tile.end;
        GemmExpert expert = p.experts[tile.group];
        s.b = expert.elements;
        s.bStride = expert.stride;
        s.bScales.values = expert.scales;
        // A scale of the whole matrix has no stride.
        if (s.bScales.rowStride + s.bScales.depthStride != 0) (TransposedB ? s.bScales.depthStride : s.bScales.rowStride) = expert.scaleStride;
    }
    else if (p.grouping == GroupedDepth)
    {
        s.group = blockIdx.z;
        s.depthFirst = p.rowOffsets[s.group];
        s.depth = p.rowOffsets[s.group + 1] - s.depthFirst;
        if (s.depth == 0 && p.accumulate) return false;
    }

    return true;
}

// Scale of a row at a place in the depth that is counted from the slice's first.
__device__ __forceinline__ float scale_at(const GemmScales& s, const GemmSlice& slice, int64_t row, int64_t d)
{
    if (s.values == nullptr) return 1;
    int64_t tile = s.beginWithGroups ? slice.depthFirst / TileLength + slice.group + (d >> s.depthShift) : (slice.depthFirst + d) >> s.depthShift;
    int64_t at = (row >> s.rowShift) * s.rowStride + tile * s.depthStride;
    return s.powersOfTwo ? to_float(static_cast<const e8m0*>(s.values)[at]) : static_cast<const float*>(s.values)[at];
}

// Four bytes of 8-bit elements as two pairs of BF16, exactly: BF16 holds every value of the 8-bit formats.
template <typename T> __device__ __forceinline__ void expand_codes(uint32_t codes, uint32_t& low, uint32_t& high)
{
    float first, second;
    Format<T>::decode(codes & 0xffff, first, second);
    low = ptx::bf16x2_from_floats(first, second);
    Format<T>::decode(codes >> 16, first, second);
    high = ptx::bf16x2_from_floats(first, second);
}

// Writes one element of the result, or adds to it.
template <typename C>
__device__ __forceinline__ void put(C* c, float value, bool accumulate)
{
    *c = from_float<C>(accumulate ? value + to_float(*c) : value);
}

template <typename A, typename B> struct SameType { static constexpr bool value = false; };
template <typename A> struct SameType<A, A> { static constexpr bool value = true; };

// A type without reference and const.
template <typename T> struct Plain { using type = T; };
template <typename T> struct Plain<const T&> { using type = T; };
