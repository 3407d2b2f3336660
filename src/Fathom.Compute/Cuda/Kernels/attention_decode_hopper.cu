// Attention of absorbed decode on Hopper's tensor cores, for latents of 512 and rotary keys of 64 (DeepSeek-V2, 2405.04434, §2.1.2). A block
// stays on its multiprocessor and takes one part after another: 64 heads of a sequence by one split of its cached tokens, 64 at a time.
// Its warpgroups have one task each. The loader fills two stages of keys by the copy engine. The scorer multiplies queries and keys and
// makes weights of the scores. Two summers add weighted latents, 256 columns each: 64 x 512 sums are too many for one warpgroup, and
// the scores, which all columns need, are made once. Stages are given back by quarters, and what comes next already lies in the
// second-level cache, so that the next scores can begin before the sums end. (To make the sums wait for the next scores was measured and
// is 9 % slower.)
// The traps: a tile of keys is a tile of values too, so the weights of 64 tokens are written over their rotary keys, which nobody
// needs any more, and each quarter of a tile is given back by the one who reads it last. What lies behind a sequence's end in its last
// cache block may be NaN, which a weight of zero would not take away: it is cleared.
#include "attention_decode.cuh"
#include "hopper_tiles.cuh"

constexpr int Heads = 64, Tokens = 64, Latent = 512, Stages = 2;
constexpr int BoxBytes = 64 * RowBytes;           // 64 rows of 64 columns
constexpr int LatentBoxes = Latent / 64, Boxes = LatentBoxes + 1;
constexpr int Quarters = 4, QuarterBoxes = LatentBoxes / Quarters, Rotary = Quarters, Pieces = Quarters + 1;
constexpr int Summers = 2, Scorer = Summers, Loader = Scorer + 1, BlockThreads = (Loader + 1) * TeamThreads, TeamWarps = TeamThreads / WarpSize;
constexpr int QuarterSums = Latent / Quarters / 2; // of a thread
constexpr int ScorerBarrier = 1;

// DecodeHopperCall on the host, byte for byte.
struct __align__(64) HopperDecode
{
    hopper::TensorMap queries; // [B H, 576]
    hopper::TensorMap keys;    // [blocks * block size, 576]
    Decode decode;
};

static_assert(sizeof(HopperDecode) == 512, "as DecodeHopperCall is declared");

// Pieces of a tile in the order in which they are loaded and multiplied, which is the order in which both summers give them back.
__device__ __forceinline__ constexpr int piece_at(int i) { return i == 1 ? 2 : i == 2 ? 1 : i; }
__device__ __forceinline__ constexpr int boxes_of(int piece) { return piece == Rotary ? 1 : QuarterBoxes; }

// ---- Shared memory ----

struct Memory
{
    unsigned char* queries;         // [Boxes]
    unsigned char* keys;            // [Stages, Boxes]
    hopper::Barrier* filled;        // [Stages, Pieces]: by the loader; with the first keys of a part come its queries
    hopper::Barrier* emptied;       // [Stages, Pieces]: by the summers
    hopper::Barrier* weighted;      // [Stages]: by the scorer: weights, factors and shares are there
    hopper::Barrier* queriesUsed;   // by the scorer
    float* factors;                 // [Stages, Heads]: what earlier sums are multiplied by
    float* shares;                  // [Stages, Heads]: one by the sum of all weights, with the last tokens of a part
    int* broken;                    // [Stages]: the tokens are not in the cache

    static constexpr int Bytes = (Stages + 1) * Boxes * BoxBytes + (2 * Stages * Pieces + Stages + 1) * static_cast<int>(sizeof(hopper::Barrier))
        + 2 * Stages * Heads * static_cast<int>(sizeof(float)) + Stages * static_cast<int>(sizeof(int));

    __device__ __forceinline__ explicit Memory(unsigned char* memory)
    {
        uint32_t misplaced = ptx::shared_address(memory) % TileAlignment;
        queries = memory + (misplaced == 0 ? 0 : TileAlignment - misplaced);
        keys = queries + Boxes * BoxBytes;
        filled = reinterpret_cast<hopper::Barrier*>(keys + Stages * Boxes * BoxBytes);
        emptied = filled + Stages * Pieces;
        weighted = emptied + Stages * Pieces;
        queriesUsed = weighted + Stages;
        factors = reinterpret_cast<float*>(queriesUsed + 1);
        shares = factors + Stages * Heads;
        broken = reinterpret_cast<int*>(shares + Stages * Heads);
    }

    __device__ __forceinline__ unsigned char* key_box(int stage, int box) const { return keys + (stage * Boxes + box) * BoxBytes; }
    __device__ __forceinline__ unsigned char* weights(int stage) const { return key_box(stage, LatentBoxes); }

    // All threads of the block call, first of all.
    __device__ __forceinline__ void prepare(const HopperDecode& p) const
    {
        if (threadIdx.x == 0)
        {
            for (int i = 0; i < Stages * Pieces; i++)
            {
                hopper::barrier_make(filled + i, 1);
                hopper::barrier_make(emptied + i, i % Pieces == Rotary ? Summers * TeamWarps : TeamWarps);
            }

            for (int i = 0; i < Stages; i++) hopper::barrier_make(weighted + i, TeamThreads);
            hopper::barrier_make(queriesUsed, TeamWarps);
            hopper::barriers_made();
            hopper::prefetch(&p.queries);
            hopper::prefetch(&p.keys);
        }

        __syncthreads();
    }
};

// ---- Parts ----

// The parts of a block, counted so that neighbouring blocks have other heads of the same tokens, and that splits which only long
// sequences have come last. Every warpgroup goes the same way.
struct Walk
{
    const Decode& p;
    int groups, index;
    int sequence, split, firstHead, first, tokens; // of the part: first of its cached tokens, and how many

    __device__ __forceinline__ explicit Walk(const Decode& p) : p(p), groups((p.heads + Heads - 1) / Heads), index(blockIdx.x) { }

    __device__ __forceinline__ bool next()
    {
        int parts = p.splits * p.batch * groups;
        for (; index < parts; index += gridDim.x)
        {
            sequence = index / groups % p.batch;
            split = index / groups / p.batch;
            int length = sequence_length(p, sequence, false);
            first = split * split_length(length);
            tokens = min(length - first, split_length(length));
            if (tokens <= 0) continue;
            firstHead = index % groups * Heads;
            index += gridDim.x;
            return true;
        }

        return false;
    }

    __device__ __forceinline__ int tiles() const { return (tokens + Tokens - 1) / Tokens; }
};

// ---- Tasks ----

// One warp. Its lanes look up where 32 tiles lie at a time, its first lane starts the copies.
__device__ __forceinline__ void load_parts(const HopperDecode& p, const Memory& memory)
{
    const Decode& d = p.decode;
    Walk walk(d);
    Place<Stages> place;
    int lane = threadIdx.x % WarpSize, missing = static_cast<int>(d.cacheBlocks * d.blockSize); // behind the last cached token there are zeros
    uint32_t queriesParity = 1;
    while (walk.next())
    {
        int tiles = walk.tiles(), known = missing;
        for (int tile = 0; tile < tiles; tile++, place.advance())
        {
            if (tile % WarpSize == 0 && tile + lane < tiles)
            {
                int token = walk.first + (tile + lane) * Tokens, block = d.blockTables[walk.sequence * d.tableColumns + token / d.blockSize];
                known = in_range(block, d.cacheBlocks, walk.sequence, DecodeBlockFault, d.fault) ? block * d.blockSize + token % d.blockSize : missing;
            }

            int next = tile + 1, row = __shfl_sync(AllLanes, known, tile % WarpSize), nextRow = __shfl_sync(AllLanes, known, next % WarpSize);
            if (lane != 0) continue;
            // The first tiles find empty stages. Other heads' blocks read the same tokens at about the same time.
            if (next >= Stages && next < tiles && next % WarpSize != 0 && walk.firstHead == 0 && nextRow != missing)
            {
#pragma unroll
                for (int box = 0; box < Boxes; box++) hopper::prefetch_tile(&p.keys, box * 64, nextRow);
            }

            if (tile == 0)
            {
                hopper::barrier_wait(memory.queriesUsed, queriesParity);
                queriesParity ^= 1;
            }

#pragma unroll
            for (int i = 0; i < Pieces; i++)
            {
                int piece = piece_at(i);
                hopper::Barrier* filled = memory.filled + place.stage * Pieces + piece;
                hopper::barrier_wait(memory.emptied + place.stage * Pieces + piece, place.parity ^ 1);
                if (i == 0) memory.broken[place.stage] = row == missing;
                hopper::barrier_arrive_expecting(filled, boxes_of(piece) * BoxBytes * (tile == 0 ? 2 : 1));
#pragma unroll
                for (int j = 0; j < boxes_of(piece); j++)
                {
                    int box = piece * QuarterBoxes + j;
                    if (tile == 0) hopper::load_tile(memory.queries + box * BoxBytes, &p.queries, filled, box * 64, walk.sequence * d.heads + walk.firstHead);
                    hopper::load_tile(memory.key_box(place.stage, box), &p.keys, filled, box * 64, row);
                }
            }
        }
    }
}

// One warpgroup: S = U Cᵀ, the largest score so far, weights relative to it, and their sum. Thread t has tokens 8 j + 2 (t % 4) + c of
// heads 16 (t / 32) + (t % 32) / 4 + 8 h in s[4 j + 2 h + c].
__device__ __forceinline__ void score_parts(const HopperDecode& p, const Memory& memory)
{
    const Decode& d = p.decode;
    Walk walk(d);
    Place<Stages> place;
    int thread = threadIdx.x % TeamThreads, lane = thread % WarpSize, quad = lane % 4, row = thread / WarpSize * 16 + lane / 4;
    float factor = d.scale * Log2E, s[Tokens / 2];
    while (walk.next())
    {
        float largest[2] = {-Infinity, -Infinity}, total[2] = {};
        bool broken = false;
        for (int tile = 0; tile < walk.tiles(); tile++, place.advance())
        {
            bool isLast = tile + 1 == walk.tiles();
            int valid = walk.tokens - tile * Tokens; // tokens that are there, if fewer than a tile
#pragma unroll
            for (int i = 0; i < Pieces; i++)
            {
                int piece = piece_at(i);
                hopper::barrier_wait(memory.filled + place.stage * Pieces + piece, place.parity);
                hopper::begin_products();
#pragma unroll
                for (int j = 0; j < boxes_of(piece); j++)
                {
                    int box = piece * QuarterBoxes + j;
                    hopper::Operand u = hopper::along_sum(memory.queries + box * BoxBytes), c = hopper::along_sum(memory.key_box(place.stage, box));
#pragma unroll
                    for (int k = 0; k < RowBytes; k += 32) hopper::multiply_bf16<false, false>(s, u.plus(k), c.plus(k), i + j + k > 0);
                }
            }

            hopper::commit_products();
            hopper::finish_products(s);
            if (isLast && lane == 0) hopper::barrier_arrive(memory.queriesUsed);

            broken |= memory.broken[place.stage] != 0;

            // The summers have read this stage's factors and shares, or its keys would not have been loaded: a chain through a copy, which race
            // checkers do not follow.
            hopper::barrier_wait(memory.emptied + place.stage * Pieces + Rotary, place.parity ^ 1);

#pragma unroll
            for (int i = 0; i < Tokens / 2; i++) s[i] *= factor;
            if (valid < Tokens)
            {
#pragma unroll
                for (int i = 0; i < Tokens / 2; i++)
                    if (i / 4 * 8 + quad * 2 + i % 2 >= valid) s[i] = -Infinity;
            }

            float now[2] = {largest[0], largest[1]};
#pragma unroll
            for (int i = 0; i < Tokens / 2; i++) now[i / 2 % 2] = fmaxf(now[i / 2 % 2], s[i]);

#pragma unroll
            for (int h = 0; h < 2; h++)
            {
                now[h] = fmaxf(now[h], __shfl_xor_sync(AllLanes, now[h], 1));
                now[h] = fmaxf(now[h], __shfl_xor_sync(AllLanes, now[h], 2));
                float shrink = ptx::exp2_approximately(largest[h] - now[h]);
                largest[h] = now[h];
                total[h] *= shrink; // of this lane's tokens alone
                if (quad == 0) memory.factors[place.stage * Heads + row + 8 * h] = shrink;
            }

#pragma unroll
            for (int i = 0; i < Tokens / 2; i++)
            {
                s[i] = ptx::exp2_approximately(s[i] - now[i / 2 % 2]);
                total[i / 2 % 2] += s[i];
            }

            if (isLast)
            {
#pragma unroll
                for (int h = 0; h < 2; h++)
                {
                    total[h] += __shfl_xor_sync(AllLanes, total[h], 1);
                    total[h] += __shfl_xor_sync(AllLanes, total[h], 2);
                    int head = walk.firstHead + row + 8 * h;
                    if (quad != 0) continue;
                    memory.shares[place.stage * Heads + row + 8 * h] = 1 / total[h];
                    if (head < d.heads) d.largest[d.part(walk.sequence, walk.split, head)] = broken ? not_a_number() : largest[h] + log2f(total[h]);
                }
            }

            hopper::sync_some(ScorerBarrier, TeamThreads); // all warps have multiplied all keys
            unsigned char* weights = memory.weights(place.stage);
#pragma unroll
            for (int h = 0; h < 2; h++)
            {
                unsigned char* to = weights + (row + 8 * h) * RowBytes + quad * 4;
#pragma unroll
                for (int j = 0; j < Tokens / 8; j++)
                    *reinterpret_cast<uint32_t*>(to + (j ^ row % 8) * 16) = ptx::bf16x2_from_floats(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]);
            }

            if (valid < Tokens)
            {
                for (int i = thread; i < LatentBoxes * (Tokens - valid) * 8; i += TeamThreads)
                {
                    int token = valid + i / 8 % (Tokens - valid), box = i / 8 / (Tokens - valid);
                    *reinterpret_cast<Words*>(memory.key_box(place.stage, box) + token * RowBytes + i % 8 * 16) = {};
                }
            }

            // Every thread arrives for what it wrote itself: factors, shares and weights, and what it read of the tile.
            hopper::fence_async();
            hopper::barrier_arrive(memory.weighted + place.stage);
        }
    }
}

// One quarter of a tile: sum[64 heads x 128 columns] += P C.
__device__ __forceinline__ void add_quarter(float (&sum)[QuarterSums], hopper::Operand weights, const unsigned char* latents, bool isFirst)
{
    hopper::Operand c = hopper::across_sum(latents, BoxBytes);
#pragma unroll
    for (int k = 0; k < Tokens / 16; k++) hopper::multiply_bf16<false, true>(sum, weights.plus(32 * k), c.plus(16 * RowBytes * k), k > 0 || !isFirst);
    hopper::commit_products();
}

// A quarter's 16 heads of a warp, from row on, as means in BF16.
__device__ __forceinline__ void store_quarter(float (&sum)[QuarterSums], const float (&share)[2], const Walk& walk, int row, int quarter)
{
#pragma unroll
    for (int i = 0; i < QuarterSums; i++) sum[i] *= share[i / 2 % 2];
    bf16* means = static_cast<bf16*>(walk.p.context) + walk.p.part(walk.sequence, walk.split, 0) * Latent;
    store_sums(sum, means, Latent, walk.firstHead + row, walk.p.heads, quarter * (Latent / Quarters), Latent);
}

// One warpgroup: the sums of two quarters of the latent.
__device__ __forceinline__ void sum_parts(const HopperDecode& p, const Memory& memory, int team)
{
    Walk walk(p.decode);
    Place<Stages> place;
    int lane = threadIdx.x % WarpSize, row = threadIdx.x % TeamThreads / WarpSize * 16, quarter = 2 * team;
    float near[QuarterSums], far[QuarterSums];
    while (walk.next())
    {
        float share[2];
        for (int tile = 0; tile < walk.tiles(); tile++, place.advance())
        {
            hopper::Barrier *filled = memory.filled + place.stage * Pieces + quarter, *emptied = memory.emptied + place.stage * Pieces;
            hopper::barrier_wait(filled, place.parity);
            hopper::barrier_wait(filled + 1, place.parity);
            hopper::barrier_wait(memory.weighted + place.stage, place.parity);
            const float *factors = memory.factors + place.stage * Heads + row + lane / 4, *shares = memory.shares + place.stage * Heads + row + lane / 4;
            float factor[2] = {factors[0], factors[8]};
            if (tile + 1 == walk.tiles())
            {
                share[0] = shares[0];
                share[1] = shares[8];
            }

            __syncwarp(); // a warp's arrivals at "emptied" are one lane's, and must follow the reads of all
            if (tile > 0 && __any_sync(AllLanes, factor[0] != 1 || factor[1] != 1))
            {
#pragma unroll
                for (int i = 0; i < QuarterSums; i++)
                {
                    near[i] *= factor[i / 2 % 2];
                    far[i] *= factor[i / 2 % 2];
                }
            }

            hopper::Operand weights = hopper::along_sum(memory.weights(place.stage));
            hopper::begin_products();
            add_quarter(near, weights, memory.key_box(place.stage, quarter * QuarterBoxes), tile == 0);
            add_quarter(far, weights, memory.key_box(place.stage, (quarter + 1) * QuarterBoxes), tile == 0);
            hopper::wait_products<1>();
            if (lane == 0) hopper::barrier_arrive(emptied + quarter);
            hopper::finish_products(near);
            hopper::finish_products(far);
            if (lane == 0)
            {
                hopper::barrier_arrive(emptied + quarter + 1);
                hopper::barrier_arrive(emptied + Rotary);
            }
        }

        store_quarter(near, share, walk, row, quarter);
        store_quarter(far, share, walk, row, quarter + 1);
    }
}

// Blocks: as many as there are multiprocessors, or parts.
__global__ void __launch_bounds__(BlockThreads, 1) decode_attend_hopper(const __grid_constant__ HopperDecode p)
{
    DYNAMIC_SHARED(shared);
    Memory memory(shared);
    memory.prepare(p);
    int team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    if (team == Loader)
    {
        hopper::give_registers<40>();
        if (threadIdx.x / WarpSize == Loader * TeamWarps) load_parts(p, memory);
    }
    else if (team == Scorer)
    {
        hopper::give_registers<104>();
        score_parts(p, memory);
    }
    else
    {
        hopper::take_registers<184>();
        sum_parts(p, memory, team);
    }
}
