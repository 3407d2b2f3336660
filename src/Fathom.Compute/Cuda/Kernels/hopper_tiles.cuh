// What Hopper's matrix products have in common. A block stays on its multiprocessor and takes one tile of the result after the other.
// One thread of its last warpgroup loads tiles of the operands into a ring of stages in shared memory; the other warpgroups (teams)
// multiply them. A stage has barriers: filled (the bytes have come) and emptied (every warp of the teams has read them). Where the copy engine
// stores the result, the teams write it into stages of the ring as well (written), and another warp of the last warpgroup sends it.
// Tiles are counted over ragged groups whose sizes only the device knows, so that experts need one launch: groups of rows, each
// with its own weights, or groups of the sum (weight gradients), each with its own result.
#pragma once
#include "common.cuh"
#include "hopper.cuh"

constexpr int TeamThreads = 128;
constexpr int TileAlignment = 1024;
constexpr int RowBytes = 128; // of a tile of an operand
constexpr int StoreRows = 16; // that a warp stores at a time by the copy engine
constexpr int BandTiles = 8;  // tiles of rows that take turns with a tile of columns, so that both are found in the second-level cache

// Everything a product needs; the host fills it and Cuda/Hopper/HopperProduct.cs declares the same bytes.
struct __align__(64) Product
{
    hopper::TensorMap a, b;           // A [rows, depth] and B [columns, depth], or their transposes
    hopper::TensorMap scaleA, scaleB; // weight gradients: [tiles of the sum, rows] and [tiles of the sum, columns]
    hopper::TensorMap old, stored;    // D, in boxes of a tile's rows where it is added to, and of StoreRows where the copy engine stores it
    const float* rowScales;           // A in 1x128 tiles: [rows, tiles of the sum]
    int64_t rowScaleStride;
    const float* blockScales;         // B in 128x128 blocks, by strides: block of columns, block of the sum, group
    int64_t blockScaleColumn, blockScaleDepth, blockScaleGroup;
    void* d;                          // [rows, columns], or [groups, rows, columns]
    int64_t dStride, dGroup;
    const int32_t* offsets;           // [groups + 1], or null for one group of everything
    uint32_t* report;                 // where a bounded wait says what it waited for
    int32_t rows, columns, depth, groups;
};

static_assert(sizeof(Product) == 896, "as HopperProduct is declared");

// ---- Waiting ----

enum Wait : uint32_t { ForNothing, ForFilled, ForEmptied, ForWritten, ForTurn };

// Until `ended` says so. Bounded waits give up after two seconds, or when another has: the kernel then ends with a wrong result and with a
// report of the first one, from which the host makes an error.
template <bool Bounded, typename Ended>
__device__ __forceinline__ void wait_until(Ended ended, uint32_t parity, uint32_t* report, Wait kind, int stage, int step)
{
    if constexpr (!Bounded)
    {
        while (!ended()) { }
    }
    else
    {
        constexpr uint64_t Patience = 2000000000;
        uint64_t start = hopper::nanoseconds();
        while (!ended())
        {
            if (*static_cast<volatile uint32_t*>(report) != ForNothing) return;
            if (hopper::nanoseconds() - start < Patience) continue;
            if (atomicCAS(report, static_cast<uint32_t>(ForNothing), static_cast<uint32_t>(kind)) == ForNothing)
            {
                report[1] = blockIdx.x;
                report[2] = threadIdx.x;
                report[3] = stage;
                report[4] = step;
                report[5] = parity;
            }

            return;
        }
    }
}

template <bool Bounded>
__device__ __forceinline__ void wait(hopper::Barrier* barrier, uint32_t parity, uint32_t* report, Wait kind, int stage, int step)
{
    wait_until<Bounded>([=] { return hopper::barrier_poll(barrier, parity); }, parity, report, kind, stage, step);
}

// ---- The ring of stages ----

// A place in the ring and how often it was passed.
template <int Stages>
struct Place
{
    int stage = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ void advance()
    {
        if (++stage == Stages)
        {
            stage = 0;
            parity ^= 1;
        }
    }

    __device__ __forceinline__ void advance(int steps)
    {
        stage += steps;
        parity ^= stage / Stages & 1;
        stage %= Stages;
    }
};

// A block's shared memory: stages of operands and of their scales, barriers, and the tables of the groups.
template <typename D, int Teams, int Waves, int BlockN, int Stages, bool Scaled>
struct Ring
{
    static constexpr int BlockM = 64 * Waves * Teams, TeamWarps = Teams * TeamThreads / WarpSize;
    static constexpr int ABytes = BlockM * RowBytes, BBytes = BlockN * RowBytes, StageBytes = ABytes + BBytes;
    static constexpr int ScaleBytes = Scaled ? (BlockM + BlockN) * 4 : 0;

    // A tile of D: boxes of 128 bytes a row, as large as those of A, how many a stage holds, and the stages that they fill.
    static constexpr int DBoxes = (BlockN * static_cast<int>(sizeof(D)) + RowBytes - 1) / RowBytes, DInStage = StageBytes / ABytes, DSteps = (DBoxes + DInStage - 1) / DInStage;

    unsigned char* stages;
    hopper::Barrier* filled;
    hopper::Barrier* emptied;
    hopper::Barrier* written; // by every warp of the teams, to be stored
    int* start;
    int* before;

    __device__ __forceinline__ Ring(unsigned char* memory, int groups)
    {
        uint32_t misplaced = ptx::shared_address(memory) % TileAlignment;
        stages = memory + (misplaced == 0 ? 0 : TileAlignment - misplaced);
        filled = reinterpret_cast<hopper::Barrier*>(stages + Stages * (StageBytes + ScaleBytes));
        emptied = filled + Stages;
        written = emptied + Stages;
        start = reinterpret_cast<int*>(written + Stages);
        before = start + groups + 1;
    }

    __device__ __forceinline__ unsigned char* a(int stage) const { return stages + stage * StageBytes; }
    __device__ __forceinline__ unsigned char* b(int stage) const { return stages + stage * StageBytes + ABytes; }
    __device__ __forceinline__ float* a_scales(int stage) const { return reinterpret_cast<float*>(stages + Stages * StageBytes + stage * ScaleBytes); }
    __device__ __forceinline__ float* b_scales(int stage) const { return a_scales(stage) + BlockM; }

    // All threads of the block call, first of all.
    template <typename Walk>
    __device__ __forceinline__ void prepare(const Product& p)
    {
        if (threadIdx.x < WarpSize) Walk::prepare(p, start, before);
        if (threadIdx.x == WarpSize)
        {
            for (int i = 0; i < Stages; i++)
            {
                hopper::barrier_make(filled + i, 1);
                hopper::barrier_make(emptied + i, TeamWarps);
                hopper::barrier_make(written + i, TeamWarps);
            }

            hopper::barriers_made();
            hopper::prefetch(&p.a);
            hopper::prefetch(&p.b);
        }

        __syncthreads();
    }

    // A warp has read a stage. One lane calls.
    __device__ __forceinline__ void release(int stage) const { hopper::barrier_arrive(emptied + stage); }
};

// Registers of the loading warpgroup and of the teams; together not more than the block was given at its start.
template <int Teams, int PerMultiprocessor>
struct Registers
{
    static constexpr bool Moves = Teams * PerMultiprocessor > 1;
    static constexpr int Loading = 24, Team = Teams == 2 ? 240 : 232;
};

// ---- Which tile is next ----

// One tile of the result and the part of the sum that belongs to it.
struct Tile
{
    int group;
    int row, rowEnd;     // first row of D, and the end of the rows that may be written
    int column;
    int first, depth;    // the sum runs over first to first + depth - 1 of the operands
};

// The tiles of all groups, counted through. Tables lie in shared memory behind the stages. Where the sum is grouped, a group without steps has
// tiles only if SkipsEmpty says so not: a sum of nothing is stored as zeros, but need not be added.
template <int Rows, int Columns, bool ByDepth, bool SkipsEmpty>
struct Tiles
{
    const int* start;  // [groups + 1], where each group begins
    const int* before; // [groups + 1], tiles of the groups before
    int rows, columns, depth, groups;
    int group = 0;

    static __device__ __forceinline__ int of_group(const Product& p, int length)
    {
        int across = (p.columns + Columns - 1) / Columns;
        return (((ByDepth ? p.rows : length) + Rows - 1) / Rows) * (ByDepth && SkipsEmpty && length == 0 ? 0 : across);
    }

    // Writes the tables; one warp calls, and a barrier of the block must follow.
    static __device__ void prepare(const Product& p, int* start, int* before)
    {
        int lane = threadIdx.x % WarpSize, whole = ByDepth ? p.depth : p.rows, total = 0;
        for (int base = 0; base < p.groups; base += WarpSize)
        {
            int g = base + lane;
            bool exists = g < p.groups;
            int first = p.offsets == nullptr || !exists ? 0 : p.offsets[g];
            int end = !exists ? 0 : p.offsets == nullptr ? whole : p.offsets[g + 1];
            int own = of_group(p, end - first), sum = own;
#pragma unroll
            for (int distance = 1; distance < WarpSize; distance *= 2)
            {
                int other = __shfl_up_sync(AllLanes, sum, distance);
                if (lane >= distance) sum += other;
            }

            if (exists)
            {
                start[g] = first;
                before[g] = total + sum - own;
                if (g + 1 == p.groups)
                {
                    start[p.groups] = end;
                    before[p.groups] = total + sum;
                }
            }

            total += __shfl_sync(AllLanes, sum, WarpSize - 1);
        }
    }

    __device__ __forceinline__ Tiles(const Product& p, const int* start, const int* before)
        : start(start), before(before), rows(p.rows), columns(p.columns), depth(p.depth), groups(p.groups) { }

    // The tile of an index, which never falls from call to call; false behind the last. Bands of row tiles go along the columns.
    __device__ __forceinline__ bool find(int index, Tile& tile)
    {
        while (group < groups && index >= before[group + 1]) group++;
        if (group >= groups) return false;
        int first = start[group], end = start[group + 1], local = index - before[group];
        int down = ((ByDepth ? rows : end - first) + Rows - 1) / Rows, across = (columns + Columns - 1) / Columns;
        int band = local / (BandTiles * across), inBand = local - band * BandTiles * across;
        int height = min(BandTiles, down - band * BandTiles);
        int column = inBand / height, row = band * BandTiles + inBand - column * height;
        tile.group = group;
        tile.row = row * Rows + (ByDepth ? 0 : first);
        tile.rowEnd = ByDepth ? rows : end;
        tile.column = column * Columns;
        tile.first = ByDepth ? first : 0;
        tile.depth = ByDepth ? end - first : depth;
        return true;
    }
};

// ---- Before a result is stored ----

// The old values of a tile come through the ring behind its operands, while those are multiplied; a loop that read them at the end would wait
// for memory. Rows behind the end of a group are another tile's: read, but never stored. One thread calls.
template <typename D, bool Bounded, typename Memory, int Stages>
__device__ __forceinline__ void load_old(const Product& p, const Memory& ring, Place<Stages>& place, const Tile& tile, int group)
{
    for (int step = 0; step < Memory::DSteps; step++, place.advance())
    {
        wait<Bounded>(ring.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, step);
        hopper::Barrier* filled = ring.filled + place.stage;
        int first = step * Memory::DInStage, end = min(first + Memory::DInStage, Memory::DBoxes);
        hopper::barrier_arrive_expecting(filled, (end - first) * Memory::ABytes);
        for (int box = first; box < end; box++)
            hopper::load_tile(ring.a(place.stage) + (box - first) * Memory::ABytes, &p.old, filled, tile.column + RowBytes / static_cast<int>(sizeof(D)) * box, tile.row, group);
    }
}

// Gives the teams the stages behind a tile's operands, to write the result into. One thread calls.
template <bool Bounded, typename Memory, int Stages>
__device__ __forceinline__ void give_stages(const Product& p, const Memory& ring, Place<Stages>& place)
{
    for (int step = 0; step < Memory::DSteps; step++, place.advance())
    {
        wait<Bounded>(ring.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, step);
        hopper::barrier_arrive(ring.filled + place.stage);
    }
}

// A stage that was sent, for all warps of the teams. All lanes call.
template <typename Memory>
__device__ __forceinline__ void give_back(const Memory& ring, int stage)
{
    __syncwarp();
    if (threadIdx.x % WarpSize < Memory::TeamWarps) ring.release(stage);
}

// What the teams need from the loading thread to finish a tile, behind its operands.
template <typename D, bool Add, bool Copies, bool Bounded, typename Memory, int Stages>
__device__ __forceinline__ void prepare_result(const Product& p, const Memory& ring, Place<Stages>& place, const Tile& tile, int group)
{
    if constexpr (Add) load_old<D, Bounded>(p, ring, place, tile, group);
    else if constexpr (Copies) give_stages<Bounded>(p, ring, place);
}

// ---- Storing sums ----

// Lane q of every four holds word p = q of four chunks of four words; afterwards it holds all four words of chunk q.
__device__ __forceinline__ void gather_chunk(uint32_t (&words)[4])
{
    bool high = threadIdx.x & 2, odd = threadIdx.x & 1;
    uint32_t far0 = __shfl_xor_sync(AllLanes, high ? words[0] : words[2], 2);
    uint32_t far1 = __shfl_xor_sync(AllLanes, high ? words[1] : words[3], 2);
    // x[i][s]: chunk i of the pair that this lane's half keeps, word of the lower or upper lane of its parity.
    uint32_t x00 = high ? far0 : words[0], x01 = high ? words[2] : far0;
    uint32_t x10 = high ? far1 : words[1], x11 = high ? words[3] : far1;
    uint32_t near0 = __shfl_xor_sync(AllLanes, odd ? x00 : x10, 1);
    uint32_t near1 = __shfl_xor_sync(AllLanes, odd ? x01 : x11, 1);
    uint32_t own0 = odd ? x10 : x00, own1 = odd ? x11 : x01;
    words[0] = odd ? near0 : own0;
    words[1] = odd ? own0 : near0;
    words[2] = odd ? near1 : own1;
    words[3] = odd ? own1 : near1;
}

struct __align__(16) Words { uint32_t values[4]; };

// A warp's 16 rows of a team's sums, from row on, as wgmma leaves them; of their chunks of eight columns those from first to end - 1.
// columns is a multiple of 8. All lanes call.
template <typename D, int Count>
__device__ __forceinline__ void store_sums(const float (&sum)[Count], D* d, int64_t stride, int row, int rowEnd, int column, int columns, int first, int end)
{
    int lane = threadIdx.x % WarpSize, quad = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; h++)
    {
        int r = row + lane / 4 + 8 * h;
        bool inside = r < rowEnd;
        D* to = d + r * stride + column;
        if constexpr (sizeof(D) == 2)
        {
            // 16 bytes a lane, 64 in a row.
#pragma unroll
            for (int j = first; j < end; j += 4)
            {
                uint32_t words[4];
#pragma unroll
                for (int i = 0; i < 4; i++) words[i] = ptx::bf16x2_from_floats(sum[4 * (j + i) + 2 * h], sum[4 * (j + i) + 2 * h + 1]);
                gather_chunk(words);
                int c = 8 * (j + quad);
                if (inside && column + c < columns) *reinterpret_cast<Words*>(to + c) = {{words[0], words[1], words[2], words[3]}};
            }
        }
        else
        {
            // Of two neighbouring chunks of eight columns, lanes in pairs exchange what makes 16 bytes of one: 64 bytes in a row.
            bool odd = quad & 1;
#pragma unroll
            for (int j = first; j < end; j += 2)
            {
                float low0 = sum[4 * j + 2 * h], low1 = sum[4 * j + 2 * h + 1], high0 = sum[4 * j + 4 + 2 * h], high1 = sum[4 * j + 4 + 2 * h + 1];
                float far0 = __shfl_xor_sync(AllLanes, odd ? low0 : high0, 1), far1 = __shfl_xor_sync(AllLanes, odd ? low1 : high1, 1);
                float four[4] = {odd ? far0 : low0, odd ? far1 : low1, odd ? high0 : far0, odd ? high1 : far1};
                int c = 8 * (j + odd) + 4 * (quad / 2);
                if (inside && column + c < columns) store<float, 4>(to + c, four);
            }
        }
    }
}

// All of them.
template <typename D, int Count>
__device__ __forceinline__ void store_sums(const float (&sum)[Count], D* d, int64_t stride, int row, int rowEnd, int column, int columns)
{
    store_sums(sum, d, stride, row, rowEnd, column, columns, 0, Count / 4);
}

// Stores a warp's sums, or adds them to D: 16 rows from row of the tile on, and the same in the next 64 rows for every further wave. All lanes call.
template <bool Add, bool Bounded, typename D, typename Memory, int Stages, int Waves, int Count>
__device__ __forceinline__ void finish_tile(const Product& p, const Memory& ring, Place<Stages>& place, const Tile& tile, D* d, int row, float (&sum)[Waves][Count])
{
    // Eight columns take Chunks pieces of 16 bytes, which the swizzle moved; of them this lane has Pair bytes.
    constexpr int Pair = 2 * sizeof(D), Chunks = sizeof(D) / 2, InBox = 8 / Chunks, InStep = Add ? InBox * Memory::DInStage : Count / 4;
    int lane = threadIdx.x % WarpSize, ofQuad = lane % 4 * Pair, swizzle = lane / 4;
#pragma unroll
    for (int first = 0; first < Count / 4; first += InStep)
    {
        int end = min(first + InStep, Count / 4);
        if constexpr (Add)
        {
            wait<Bounded>(ring.filled + place.stage, place.parity, p.report, ForFilled, place.stage, first);
            const unsigned char* boxes = ring.a(place.stage) + (row + lane / 4) * RowBytes + ofQuad % 16;
#pragma unroll
            for (int j = first; j < end; j++)
            {
                const unsigned char* chunk = boxes + (j - first) / InBox * Memory::ABytes + ((j % InBox * Chunks + ofQuad / 16) ^ swizzle) * 16;
#pragma unroll
                for (int w = 0; w < Waves; w++)
                {
#pragma unroll
                    for (int h = 0; h < 2; h++)
                    {
                        float pair[2];
                        load<D, 2>(pair, reinterpret_cast<const D*>(chunk + (64 * w + 8 * h) * RowBytes));
                        sum[w][4 * j + 2 * h] += pair[0];
                        sum[w][4 * j + 2 * h + 1] += pair[1];
                    }
                }
            }
        }

#pragma unroll
        for (int w = 0; w < Waves; w++) store_sums(sum[w], d, p.dStride, tile.row + row + 64 * w, tile.rowEnd, tile.column, p.columns, first, end);
        if constexpr (Add)
        {
            // All lanes have read the stage. Given back before the sums are stored, it would cost registers: ptxas would then add late.
            __syncwarp();
            if (lane == 0) ring.release(place.stage);
            place.advance();
        }
    }
}

// The same where the copy engine stores and nothing is added: sums lie in stages of the ring, in boxes of 128 bytes a row, swizzled, until
// send_tile has sent them; the teams go on to the next tile.
template <bool Bounded, typename D, typename Memory, int Stages, int Waves, int Count>
__device__ __forceinline__ void write_tile(const Product& p, const Memory& ring, Place<Stages>& place, int row, const float (&sum)[Waves][Count])
{
    static_assert(Count * 2 * sizeof(D) % RowBytes == 0, "whole boxes");
    constexpr int Pair = 2 * sizeof(D), Chunks = sizeof(D) / 2, InBox = 8 / Chunks;
    int lane = threadIdx.x % WarpSize, ofQuad = lane % 4 * Pair, swizzle = lane / 4;
#pragma unroll
    for (int step = 0; step < Memory::DSteps; step++, place.advance())
    {
        constexpr int InStage = Memory::DInStage;
        int first = step * InStage, end = min(first + InStage, Memory::DBoxes);
        wait<Bounded>(ring.filled + place.stage, place.parity, p.report, ForFilled, place.stage, step);
        unsigned char* boxes = ring.a(place.stage) + (row + lane / 4) * RowBytes + ofQuad % 16;
#pragma unroll
        for (int j = first * InBox; j < end * InBox; j++)
        {
            unsigned char* chunk = boxes + (j / InBox - first) * Memory::ABytes + ((j % InBox * Chunks + ofQuad / 16) ^ swizzle) * 16;
#pragma unroll
            for (int w = 0; w < Waves; w++)
            {
#pragma unroll
                for (int h = 0; h < 2; h++)
                {
                    D* at = reinterpret_cast<D*>(chunk + (64 * w + 8 * h) * RowBytes);
                    *reinterpret_cast<Pack<D, 2>*>(at) = {{from_float<D>(sum[w][4 * j + 2 * h]), from_float<D>(sum[w][4 * j + 2 * h + 1])}};
                }
            }
        }

        hopper::fence_async();
        __syncwarp();
        if (lane == 0) hopper::barrier_arrive(ring.written + place.stage);
    }
}

// Sends what the teams write of a tile, stage by stage, and gives the stages back when they have been read. One warp does this and nothing
// else. A bit of `passed` for every stage says which phase of its `written` is next.
template <typename D, bool Bounded, typename Memory, int Stages>
__device__ __forceinline__ void send_tile(const Product& p, const Memory& ring, Place<Stages>& place, uint32_t& passed, const Tile& tile, int group)
{
    constexpr int Pieces = Memory::BlockM / StoreRows, AtOnce = WarpSize / Pieces;
    int lane = threadIdx.x % WarpSize, piece = lane % Pieces, previous = 0;
    for (int step = 0; step < Memory::DSteps; step++, place.advance())
    {
        wait<Bounded>(ring.written + place.stage, passed >> place.stage & 1, p.report, ForWritten, place.stage, step);
        passed ^= 1u << place.stage;
        int first = step * Memory::DInStage, end = min(first + Memory::DInStage, Memory::DBoxes);
        for (int box = first + lane / Pieces; box < end; box += AtOnce)
        {
            const unsigned char* from = ring.a(place.stage) + (box - first) * Memory::ABytes + piece * StoreRows * RowBytes;
            int column = tile.column + RowBytes / static_cast<int>(sizeof(D)) * box, row = tile.row + piece * StoreRows;
            hopper::store_tile(&p.stored, from, column, row, group);
        }

        // The stage before has been read, or will soon be, while this one is.
        hopper::commit_stores();
        if (step > 0)
        {
            hopper::await_stores_read<1>();
            give_back(ring, previous);
        }

        previous = place.stage;
    }

    hopper::await_stores_read<0>();
    give_back(ring, previous);
}

// A warp's sums of a tile: 16 rows from row of the tile on, and the same in the next 64 rows for every further wave. All lanes call.
template <typename D, bool Add, bool Copies, bool Bounded, typename Memory, int Stages, int Waves, int Count>
__device__ __forceinline__ void store_result(const Product& p, const Memory& ring, Place<Stages>& place, const Tile& tile, int group, int row, float (&sum)[Waves][Count])
{
    if constexpr (Copies) write_tile<Bounded, D>(p, ring, place, row, sum);
    else finish_tile<Add, Bounded>(p, ring, place, tile, static_cast<D*>(p.d) + group * p.dGroup, row, sum);
}
