// Which rows a tile of 128 holds, where rows may be grouped by expert and every group begins a tile of its own.
#pragma once
#include "formats.cuh"

struct RowRange
{
    int64_t first;
    int count;  // at most 128; 0 for a tile of no group
};

// The rows of a tile row. In groups, group g has the tile rows from offsets[g] / 128 + g on, a number that grows with g: the group of
// a tile is the last one that does not begin behind it. Whole warps call.
__device__ __forceinline__ RowRange tile_rows(const int32_t* offsets, int groups, int64_t rows, int64_t tile)
{
    if (offsets == nullptr)
    {
        int64_t start = tile * TileLength;
        return {start, static_cast<int>(min(rows - start, static_cast<int64_t>(TileLength)))};
    }

    int begun = 0;
    for (int g = threadIdx.x % WarpSize; g < groups; g += WarpSize) begun += offsets[g] / TileLength + g <= tile;
    begun = warp_reduce<Sum>(begun);
    if (begun == 0) return {0, 0};
    int group = begun - 1;
    int64_t first = offsets[group] + (tile - offsets[group] / TileLength - group) * TileLength, left = offsets[group + 1] - first;
    return {first, static_cast<int>(max(static_cast<int64_t>(0), min(left, static_cast<int64_t>(TileLength))))};
}
