// What the kernels of causal attention on Hopper's wgmma share: DeepSeek-V3's head dimensions, tiles, and the arithmetic on score tiles.
// A block has three warpgroups: two that multiply (teams), each with 64 rows of its own, and one of which a thread loads. Everything in
// shared memory is made of boxes of 64 rows by 64 columns of BF16, as the copy engine brings them: rows of 128 bytes, swizzled. Maps have
// sequences as a dimension of their own, so that a box which hangs over a sequence's end is filled up with zeros and not with its neighbour.
// The keys of a head are two boxes from kv and one from kRope.
#pragma once
#include "attention.cuh"
#include "hopper_tiles.cuh"

constexpr int Teams = 2, BlockThreads = (Teams + 1) * TeamThreads;
constexpr int Nope = 128, Rope = 64, Value = 128, KeyColumns = Nope + Rope;
constexpr int Side = 64, BlockRows = Teams * Side; // of a box; of what stays in a block
constexpr int BoxBytes = Side * RowBytes, KeyBoxes = KeyColumns / Side, NopeBoxes = Nope / Side, ValueBoxes = Value / Side;
constexpr int LoadingRegisters = 24, TeamRegisters = 240; // 24 + 2 * 240 = 3 * 168, which a block is given at its start

// CausalCall of Cuda/Hopper/HopperAttention.cs, byte for byte.
struct __align__(64) HopperCausal
{
    hopper::TensorMap q, kv, kRope, doutput; // [columns, heads, tokens, sequences] in boxes of 64 columns and 64 tokens
    hopper::TensorMap statistics;            // [128, tiles of queries of all heads]: 64 times log2-sum-exp, 64 times delta
    Causal call;
    Rows outputScales;                       // where call.output is codes, pairs of E5M6: [B T H, 1], e8m0
    float* tileStatistics;                   // what the map describes
    uint32_t* report;                        // where a bounded wait says what it waited for
    float* querySums;                        // of the backward pass: [slots, tiles of queries, what 256 threads hold of 64 x 192]
    uint32_t* counts;                        // blocks that were taken, and by how many each tile's sum and each rotary sum has been added to
    float factor;                            // of scores whose exponentials are to the base of two
    int32_t slots;                           // heads of sequences that are summed at the same time
    int32_t countWords;
};

static_assert(sizeof(HopperCausal) == 896, "as HopperAttention declares it");

// A row of the statistics: what a tile of 64 queries of a head knows of itself. Queries that are not there have an infinite sum, so that
// their weights are zero.
struct TileStatistics
{
    float logSumExp[Side]; // to the base of two
    float delta[Side];
};

// Blocks of 128 queries of a head that a block of threads takes one after another: of the head's blocks the last and the first, the last but
// one and the second, and so on, since under the causal mask each such pair has the same work. Pairs of a head follow each other, so that
// its keys are found in the second-level cache. The warpgroup that loads is ahead by as much as its rings hold.
struct QueryBlocks
{
    int pair = blockIdx.x;
    bool second = false;

    // The next block; false behind the last.
    __device__ __forceinline__ bool next(const Causal& p, int& sequence, int& head, int& first)
    {
        int blocks = divide_up(p.queries, BlockRows), pairs = (blocks + 1) / 2;
        int row = pair / pairs, place = pair - row * pairs;
        if (second && 2 * place + 1 == blocks)
        {
            // The block in the middle has no partner.
            second = false;
            pair += gridDim.x;
            row = pair / pairs;
            place = pair - row * pairs;
        }

        sequence = row / p.heads;
        if (sequence >= p.batch) return false;
        head = row - sequence * p.heads;
        first = (second ? place : blocks - 1 - place) * BlockRows;
        pair += second ? gridDim.x : 0;
        second = !second;
        return true;
    }
};

__device__ __forceinline__ int64_t query_tiles(const Causal& p) { return divide_up(p.queries, Side); }

__device__ __forceinline__ unsigned char* align_tiles(unsigned char* memory)
{
    uint32_t misplaced = ptx::shared_address(memory) % TileAlignment;
    return memory + (misplaced == 0 ? 0 : TileAlignment - misplaced);
}

// ---- Loading: one thread ----

// Boxes of 64 tokens from a column on, so many bytes apart.
template <int Boxes>
__device__ __forceinline__ void load_boxes(unsigned char* to, int apart, const hopper::TensorMap* map, hopper::Barrier* barrier, int column, int head, int token, int sequence)
{
#pragma unroll
    for (int i = 0; i < Boxes; i++) hopper::load_tile(to + i * apart, map, barrier, column + i * Side, head, token, sequence);
}

__device__ __forceinline__ void load_keys(unsigned char* to, int apart, const HopperCausal& p, hopper::Barrier* barrier, int head, int token, int sequence)
{
    load_boxes<NopeBoxes>(to, apart, &p.kv, barrier, 0, head, token, sequence);
    load_boxes<1>(to + NopeBoxes * apart, apart, &p.kRope, barrier, 0, 0, token, sequence);
}

__device__ __forceinline__ void load_values(unsigned char* to, int apart, const HopperCausal& p, hopper::Barrier* barrier, int head, int token, int sequence)
{
    load_boxes<ValueBoxes>(to, apart, &p.kv, barrier, Nope, head, token, sequence);
}

// ---- Barriers ----

// A warp has read what a barrier guards.
__device__ __forceinline__ void release(hopper::Barrier* emptied)
{
    __syncwarp();
    if (threadIdx.x % WarpSize == 0) hopper::barrier_arrive(emptied);
}

// Barriers of a pair: what a load fills, and what every warp of the teams empties. One thread calls.
__device__ __forceinline__ void make_barriers(hopper::Barrier* filled, hopper::Barrier* emptied, int count)
{
    for (int i = 0; i < count; i++)
    {
        hopper::barrier_make(filled + i, 1);
        hopper::barrier_make(emptied + i, Teams * TeamThreads / WarpSize);
    }
}

// ---- Products of a team ----

// sum = the rows of two tiles of so many boxes, multiplied with each other along their columns.
template <int Boxes, int Count>
__device__ __forceinline__ void multiply_rows(float (&sum)[Count], hopper::Operand left, int leftApart, hopper::Operand right, int rightApart)
{
#pragma unroll
    for (int k = 0; k < Boxes * Side / 16; k++)
        hopper::multiply_bf16<false, false>(sum, left.plus(k / 4 * leftApart + k % 4 * 32), right.plus(k / 4 * rightApart + k % 4 * 32), k > 0);
}

// The first columns of a warp's 16 rows, of boxes that lie one behind the other, as left operands of so many steps.
template <int Steps>
__device__ __forceinline__ void hold_rows(uint32_t (&held)[Steps][4], const unsigned char* tile)
{
    int lane = threadIdx.x % WarpSize, row = threadIdx.x % TeamThreads / WarpSize * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < Steps; k++) ptx::load_matrices(held[k], tile + k / 4 * BoxBytes + row * RowBytes + ((k % 4 * 2 + lane / 16) ^ row % 8) * 16);
}

// As multiply_rows, with the left tile's first columns in registers.
template <int Boxes, int Steps, int Count>
__device__ __forceinline__ void multiply_held_rows(float (&sum)[Count], const uint32_t (&held)[Steps][4], hopper::Operand left, int leftApart, hopper::Operand right, int rightApart)
{
#pragma unroll
    for (int k = 0; k < Boxes * Side / 16; k++)
    {
        hopper::Operand step = right.plus(k / 4 * rightApart + k % 4 * 32);
        if (k < Steps) hopper::multiply_bf16<false>(sum, held[k], step, k > 0);
        else hopper::multiply_bf16<false, false>(sum, left.plus(k / 4 * leftApart + k % 4 * 32), step, k > 0);
    }
}

// sum = weights times the rows of a tile, or +=.
template <int Steps, int Count>
__device__ __forceinline__ void multiply_weights(float (&sum)[Count], const uint32_t (&weights)[Steps][4], hopper::Operand right, bool add)
{
#pragma unroll
    for (int k = 0; k < Steps; k++) hopper::multiply_bf16<true>(sum, weights[k], right.plus(k * 16 * RowBytes), add || k > 0);
}

// Sums as the left operand of another product.
template <int Steps, int Count>
__device__ __forceinline__ void pack(uint32_t (&weights)[Steps][4], const float (&sum)[Count])
{
    static_assert(Count == 8 * Steps);
#pragma unroll
    for (int i = 0; i < Count / 2; i++) weights[i / 4][i % 4] = ptx::bf16x2_from_floats(sum[2 * i], sum[2 * i + 1]);
}

template <int Count>
__device__ __forceinline__ void scale_sums(float (&sum)[Count], float factor)
{
#pragma unroll
    for (int i = 0; i < Count; i++) sum[i] *= factor;
}
