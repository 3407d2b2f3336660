// Products of E4M3 matrices with fine-grained scales on Hopper's tensor cores ([P] §3.3.2): D = A Bᵀ, alone or grouped. The products of 128 steps
// of the sum stay in the tensor cores, whose own sums keep about 14 bits; then they are multiplied by their scales and added in F32
// registers. A warp's scales of four such steps are fetched by four lanes each, four steps ahead, and handed round by shuffles.
// A team multiplies 64 rows at a time; while it adds what it got, the other team has the tensor cores.
#include "hopper_tiles.cuh"

constexpr int StepDepth = 128;

// part[64 x BlockN] = 64 rows of A by B of one stage.
template <int Count>
__device__ __forceinline__ void multiply_stage(float (&part)[Count], hopper::Operand a, hopper::Operand b)
{
    hopper::begin_products();
#pragma unroll
    for (int k = 0; k < RowBytes; k += 32) hopper::multiply_e4m3(part, a.plus(k), b.plus(k), k > 0);
    hopper::commit_products();
}

// A lane's scales of a tile: of its two rows of every wave, and of the chunks of columns that surely lie in one block, since tiles begin at
// multiples of their width. Each lane of four fetches those of one step of four, and they are handed round.
template <int Waves, int Chunk, int Chunks>
struct TileScales
{
    const float* ofRow[Waves][2];
    const float* ofChunk[Chunks];
    float nextRow[Waves][2], nextChunk[Chunks], scale[Waves][2][Chunks];

    // Those of a tile's first steps, for the lane whose first row of the tile this is.
    __device__ __forceinline__ void begin(const Product& p, const Tile& tile, int row, int steps)
    {
#pragma unroll
        for (int w = 0; w < Waves; w++)
        {
#pragma unroll
            for (int h = 0; h < 2; h++) ofRow[w][h] = p.rowScales + min(tile.row + row + 64 * w + 8 * h, p.rows - 1) * p.rowScaleStride;
        }

#pragma unroll
        for (int c = 0; c < Chunks; c++)
        {
            int block = min(tile.column + c * Chunk, p.columns - 1) / StepDepth;
            ofChunk[c] = p.blockScales + tile.group * p.blockScaleGroup + block * p.blockScaleColumn;
        }

        fetch(p, 0, steps);
    }

    __device__ __forceinline__ void fetch(const Product& p, int step, int steps)
    {
        int own = min(step + static_cast<int>(threadIdx.x % 4), steps - 1);
#pragma unroll
        for (int w = 0; w < Waves; w++)
        {
            nextRow[w][0] = __ldg(ofRow[w][0] + own);
            nextRow[w][1] = __ldg(ofRow[w][1] + own);
        }

#pragma unroll
        for (int c = 0; c < Chunks; c++) nextChunk[c] = __ldg(ofChunk[c] + own * p.blockScaleDepth);
    }

    // Takes what was fetched.
    __device__ __forceinline__ void take()
    {
#pragma unroll
        for (int w = 0; w < Waves; w++)
        {
#pragma unroll
            for (int c = 0; c < Chunks; c++)
            {
                scale[w][0][c] = nextRow[w][0] * nextChunk[c];
                scale[w][1][c] = nextRow[w][1] * nextChunk[c];
            }
        }
    }
};

// D[rows, columns] = A Bᵀ, or +=, rows grouped: A [rows, depth] in 1x128 tiles, B one matrix a group in 128x128 blocks.
template <typename D, bool Add, int Teams, int Waves, int BlockN, int Stages, int PerMultiprocessor, bool Bounded>
__global__ void __launch_bounds__(TeamThreads* (Teams + 1), PerMultiprocessor) fp8_rows(const __grid_constant__ Product p)
{
    using Memory = Ring<D, Teams, Waves, BlockN, Stages, false>;
    using Walk = Tiles<Memory::BlockM, BlockN, false, true>;
    using Roles = Registers<Teams, PerMultiprocessor>;
    constexpr int Chunk = BlockN % 128 == 0 ? 128 : BlockN % 64 == 0 ? 64 : 32, Chunks = BlockN / Chunk, Count = BlockN / 2;
    DYNAMIC_SHARED(memory);
    Memory ring(memory, p.groups);
    ring.template prepare<Walk>(p);
    Walk walk(p, ring.start, ring.before);
    Place<Stages> place;
    Tile tile;
    int index = blockIdx.x, stride = gridDim.x;
    int steps = (p.depth + StepDepth - 1) / StepDepth, team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    if (team == Teams)
    {
        if constexpr (Roles::Moves) hopper::give_registers<Roles::Loading>();
        if (threadIdx.x == Teams * TeamThreads)
        {
            for (; walk.find(index, tile); index += stride)
            {
                for (int step = 0; step < steps; step++, place.advance())
                {
                    wait<Bounded>(ring.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, step);
                    hopper::Barrier* filled = ring.filled + place.stage;
                    hopper::barrier_arrive_expecting(filled, Memory::StageBytes);
                    hopper::load_tile(ring.a(place.stage), &p.a, filled, step * StepDepth, tile.row);
                    hopper::load_tile(ring.b(place.stage), &p.b, filled, step * StepDepth, tile.column, tile.group);
                }

                prepare_result<D, Add, false, Bounded>(p, ring, place, tile, 0);
            }
        }
    }
    else
    {
        if constexpr (Roles::Moves) hopper::take_registers<Roles::Team>();
        int lane = threadIdx.x % WarpSize, quad = lane % 4, firstRow = team * 64 * Waves, warpRow = firstRow + 16 * (threadIdx.x % TeamThreads / WarpSize);
        float sum[Waves][Count], part[Count] = {};
        TileScales<Waves, Chunk, Chunks> scales;
        Tile next;
        auto find = [&]
        {
            if (!walk.find(index, next)) return false;
            scales.begin(p, next, warpRow + lane / 4, steps);
            index += stride;
            return true;
        };
        for (bool more = find(); more;)
        {
            tile = next;
#pragma unroll
            for (int w = 0; w < Waves; w++)
            {
#pragma unroll
                for (int i = 0; i < Count; i++) sum[w][i] = 0;
            }

            for (int step = 0; step < steps; step++, place.advance())
            {
                if (step % 4 == 0)
                {
                    scales.take();
                    scales.fetch(p, step + 4, steps);
                }

                wait<Bounded>(ring.filled + place.stage, place.parity, p.report, ForFilled, place.stage, step);
                hopper::Operand a = hopper::along_sum(ring.a(place.stage) + firstRow * RowBytes), b = hopper::along_sum(ring.b(place.stage));
                int source = lane - quad + step % 4;
#pragma unroll
                for (int w = 0; w < Waves; w++)
                {
                    multiply_stage(part, a.plus(64 * w * RowBytes), b);
                    float now[2][Chunks];
#pragma unroll
                    for (int c = 0; c < Chunks; c++)
                    {
                        now[0][c] = __shfl_sync(AllLanes, scales.scale[w][0][c], source);
                        now[1][c] = __shfl_sync(AllLanes, scales.scale[w][1][c], source);
                    }

                    hopper::finish_products(part);
                    if (w == Waves - 1 && lane == 0) ring.release(place.stage);
#pragma unroll
                    for (int i = 0; i < Count; i++) sum[w][i] = __fmaf_rn(now[i / 2 % 2][i / 4 * 8 / Chunk], part[i], sum[w][i]);
                }
            }

            // The next tile's scales come from memory while this one is stored.
            more = find();
            store_result<D, Add, false, Bounded>(p, ring, place, tile, 0, warpRow, sum);
        }
    }
}

// D[groups, rows, columns] = Aᵀ B, or +=, the sum grouped: a weight gradient. Both operands in 128x1 tiles of the sum, and transposed, so that
// the sum runs along rows; each group begins a new tile, where tile first / 128 + group lies, with zeros behind its last step.
template <bool Add, int Teams, int Waves, int BlockN, int Stages, int PerMultiprocessor, bool Copies, bool Bounded>
__global__ void __launch_bounds__(TeamThreads* (Teams + 1), PerMultiprocessor) fp8_weights(const __grid_constant__ Product p)
{
    using Memory = Ring<float, Teams, Waves, BlockN, Stages, true>;
    using Walk = Tiles<Memory::BlockM, BlockN, true, Add>;
    using Roles = Registers<Teams, PerMultiprocessor>;
    constexpr int Count = BlockN / 2;
    static_assert(!(Add && Copies));
    DYNAMIC_SHARED(memory);
    Memory ring(memory, p.groups);
    ring.template prepare<Walk>(p);
    Walk walk(p, ring.start, ring.before);
    Place<Stages> place;
    Tile tile;
    int index = blockIdx.x, stride = gridDim.x;
    int team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    if (team == Teams)
    {
        if constexpr (Roles::Moves) hopper::give_registers<Roles::Loading>();
        if (threadIdx.x == Teams * TeamThreads)
        {
            for (; walk.find(index, tile); index += stride)
            {
                int steps = (tile.depth + StepDepth - 1) / StepDepth, firstTile = tile.first / StepDepth + tile.group;
                for (int step = 0; step < steps; step++, place.advance())
                {
                    wait<Bounded>(ring.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, step);
                    hopper::Barrier* filled = ring.filled + place.stage;
                    int at = firstTile + step;
                    hopper::barrier_arrive_expecting(filled, Memory::StageBytes + Memory::ScaleBytes);
                    hopper::load_tile(ring.a(place.stage), &p.a, filled, at * StepDepth, tile.row);
                    hopper::load_tile(ring.b(place.stage), &p.b, filled, at * StepDepth, tile.column);
                    hopper::load_tile(ring.a_scales(place.stage), &p.scaleA, filled, tile.row, at);
                    hopper::load_tile(ring.b_scales(place.stage), &p.scaleB, filled, tile.column, at);
                }

                prepare_result<float, Add, Copies, Bounded>(p, ring, place, tile, tile.group);
            }
        }
        else if (Copies && threadIdx.x / WarpSize == Teams * TeamThreads / WarpSize + 1)
        {
            uint32_t passed = 0;
            for (; walk.find(index, tile); index += stride)
            {
                place.advance((tile.depth + StepDepth - 1) / StepDepth);
                send_tile<float, Bounded>(p, ring, place, passed, tile, tile.group);
            }
        }
    }
    else
    {
        if constexpr (Roles::Moves) hopper::take_registers<Roles::Team>();
        int lane = threadIdx.x % WarpSize, quad = lane % 4, firstRow = team * 64 * Waves, warpRow = firstRow + 16 * (threadIdx.x % TeamThreads / WarpSize);
        float sum[Waves][Count], part[Count] = {};
        for (; walk.find(index, tile); index += stride)
        {
#pragma unroll
            for (int w = 0; w < Waves; w++)
            {
#pragma unroll
                for (int i = 0; i < Count; i++) sum[w][i] = 0;
            }

            int steps = (tile.depth + StepDepth - 1) / StepDepth;
            for (int step = 0; step < steps; step++, place.advance())
            {
                wait<Bounded>(ring.filled + place.stage, place.parity, p.report, ForFilled, place.stage, step);
                hopper::Operand a = hopper::along_sum(ring.a(place.stage) + firstRow * RowBytes), b = hopper::along_sum(ring.b(place.stage));
                const float* rowScales = ring.a_scales(place.stage) + warpRow + lane / 4;
                const float* columnScales = ring.b_scales(place.stage) + 2 * quad;
                float columns[Count / 4][2];
#pragma unroll
                for (int w = 0; w < Waves; w++)
                {
                    multiply_stage(part, a.plus(64 * w * RowBytes), b);
                    float row0 = rowScales[64 * w], row1 = rowScales[64 * w + 8];

                    // Read once for all waves: shared memory gives a warp 128 bytes a clock, of which the products take most.
                    if (w == 0)
                    {
#pragma unroll
                        for (int j = 0; j < Count / 4; j++) load<float, 2>(columns[j], columnScales + 8 * j);
                    }

                    hopper::finish_products(part);
                    if (w == Waves - 1)
                    {
                        // All lanes have read the scales too.
                        __syncwarp();
                        if (lane == 0) ring.release(place.stage);
                    }

#pragma unroll
                    for (int j = 0; j < Count / 4; j++)
                    {
                        sum[w][4 * j] = __fmaf_rn(row0 * columns[j][0], part[4 * j], sum[w][4 * j]);
                        sum[w][4 * j + 1] = __fmaf_rn(row0 * columns[j][1], part[4 * j + 1], sum[w][4 * j + 1]);
                        sum[w][4 * j + 2] = __fmaf_rn(row1 * columns[j][0], part[4 * j + 2], sum[w][4 * j + 2]);
                        sum[w][4 * j + 3] = __fmaf_rn(row1 * columns[j][1], part[4 * j + 3], sum[w][4 * j + 3]);
                    }
                }
            }

            store_result<float, Add, Copies, Bounded>(p, ring, place, tile, tile.group, warpRow, sum);
        }
    }
}
