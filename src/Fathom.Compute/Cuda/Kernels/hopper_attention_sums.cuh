// Sums of attention's gradients to which blocks of threads add one after another. dQ is a sum over blocks of keys: each adds its part to F32 sums in
// the second-level cache, in an order that is always the same: that of keys from the diagonal to the first one. Blocks of threads take their keys in
// the order of a counter, the last keys of a head first, so who must be waited for has begun before, and as it had fewer queries to go through it is
// usually done. The block of the first keys finishes the sum. Rotary keys have one gradient for all heads, a sum that goes from head to head in the
// same way.
#pragma once
#include "hopper_attention.cuh"

// A team's half of a sum in vectors of four values: a thread's lie VectorBytes apart, as its accumulators hold them.
constexpr int VectorFloats = TeamThreads * 4, VectorBytes = VectorFloats * 4, QueryVectors = KeyColumns / 16, RotaryVectors = Rope / 8;

// A team's half of what a block adds to: the sum of a tile of 64 queries, or that of 128 rotary keys. A count of the blocks that have added
// to it is the order as well.
struct SharedSum
{
    uint32_t* count;
    uint32_t turn; // the count at which this block adds
    float* values; // this thread's
    bool isFirst; // this block begins the sum
    bool isLast;  // this block has it in the end
};

// A block's 128 keys of a head, in the order in which they are taken: heads of sequences, and the last keys of each first.
struct Keys
{
    int row, head, sequence, block, first, tiles, blocks, rowTiles;
    int use, slot; // of the sums of dQ: heads of sequences take turns with `slots` of them

    __device__ __forceinline__ Keys(const Causal& c, int slots, int number)
        : blocks(divide_up(c.keys, BlockRows)), rowTiles(divide_up(c.queries, Side))
    {
        row = number / blocks;
        use = row / slots;
        slot = row - use * slots;
        block = blocks - 1 - (number - row * blocks);
        sequence = row / c.heads;
        head = row - sequence * c.heads;
        first = block * BlockRows;
        tiles = rowTiles - first / Side;
    }

    // The sum of the tile of queries that is so many behind the diagonal, to which blocks add from that of its own keys to the first.
    __device__ __forceinline__ SharedSum of_queries(const HopperCausal& p, int tile, int team) const
    {
        int at = first / Side + tile, blocksOfTile = at / Teams + 1;
        int64_t half = (static_cast<int64_t>(slot) * rowTiles + at) * Teams + team;
        uint32_t turn = use * blocksOfTile + blocksOfTile - 1 - block;
        return {p.counts + 1 + half, turn, p.querySums + half * (QueryVectors * VectorFloats) + threadIdx.x % TeamThreads * 4, tile < Teams, block == 0};
    }

    // The sum of rotary keys, to which heads add one after another.
    __device__ __forceinline__ SharedSum of_rotary(const HopperCausal& p, int team) const
    {
        int64_t half = (static_cast<int64_t>(sequence) * blocks + block) * Teams + team;
        uint32_t* counts = p.counts + 1 + static_cast<int64_t>(p.slots) * rowTiles * Teams;
        float* values = p.call.rotary + half * (RotaryVectors * VectorFloats) + threadIdx.x % TeamThreads * 4;
        return {counts + half, static_cast<uint32_t>(head), values, head == 0, head == p.call.heads - 1};
    }
};

// Adds vectors of a part, from the I-th on.
template <int I = 0, int Count>
__device__ __forceinline__ void add_vectors(float* to, const float (&part)[Count])
{
    ptx::add_four<I * VectorBytes>(to, part[4 * I], part[4 * I + 1], part[4 * I + 2], part[4 * I + 3]);
    if constexpr (I + 1 < Count / 4) add_vectors<I + 1>(to, part);
}

// The first block to add to a sum stores its part.
template <int Count>
__device__ __forceinline__ void add_part(float* to, const float (&part)[Count], bool isFirst)
{
    if (!isFirst)
    {
        add_vectors(to, part);
        return;
    }

#pragma unroll
    for (int i = 0; i < Count / 4; i++) store<float, 4>(to + i * VectorFloats, {part[4 * i], part[4 * i + 1], part[4 * i + 2], part[4 * i + 3]});
}

// The last one has the sum.
template <int Count>
__device__ __forceinline__ void take_sum(const float* from, float (&part)[Count], bool isFirst, float scale)
{
#pragma unroll
    for (int i = 0; i < Count / 4; i++)
    {
        float before[4] = {};
        if (!isFirst) ptx::load_four(from + i * VectorFloats, before);
#pragma unroll
        for (int e = 0; e < 4; e++) part[4 * i + e] = (before[e] + part[4 * i + e]) * scale;
    }
}
