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

// D[rows, columns] = A Bᵀ, or +=, rows grouped: A [rows, depth] in 1x128 tiles, B one matrix a group in 128x128 blocks.
template <typename D, bool Add, int Teams, int Waves, int BlockN, int Stages, int PerMultiprocessor, bool Bounded>
__global__ void __launch_bounds__(TeamThreads* (Teams + 1), PerMultiprocessor) fp8_rows(const __grid_constant__ Product p)
{
    using Memory = Ring<D, Teams, Waves, BlockN, Stages, false>;
    using Walk = Tiles<Memory::BlockM, BlockN, false, true>;
    using Roles = Registers<Teams, PerMultiprocessor>;
    // Columns that surely lie in one block of scales, since tiles begin at multiples of their width.
    constexpr int Chunk = BlockN % 128 == 0 ? 128 : BlockN % 64 == 0 ? 64 : 32, Chunks = BlockN / Chunk, Count = BlockN / 2;
    DYNAMIC_SHARED(memory);
    Memory ring(memory, p.groups);
    ring.template prepare<Walk>(p);
    Walk walk(p, ring.start, ring.before);
    Place<Stages> place;
    Tile tile;
    int steps = (p.depth + StepDepth - 1) / StepDepth, team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    if (team == Teams)
    {
        if constexpr (Roles::Moves) hopper::give_registers<Roles::Loading>();
        if (threadIdx.x == Teams * TeamThreads)
        {
            for (int index = blockIdx.x; walk.find(index, tile); index += gridDim.x)
            {
                for (int step = 0; step < steps; step++, place.advance())
                {
                    wait<Bounded>(ring.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, step);
                    hopper::Barrier* filled = ring.filled + place.stage;
                    hopper::barrier_arrive_expecting(filled, Memory::StageBytes);
                    hopper::load_tile(ring.a(place.stage), &p.a, filled, step * StepDepth, tile.row);
                    hopper::load_tile(ring.b(place.stage), &p.b, filled, step * StepDepth, tile.column, tile.group);
                }

                if constexpr (Add) load_old<D, Bounded>(p, ring, place, tile, 0);
            }
        }
    }
    else
    {
        if constexpr (Roles::Moves) hopper::take_registers<Roles::Team>();
        int lane = threadIdx.x % WarpSize, quad = lane % 4, warp = threadIdx.x % TeamThreads / WarpSize;
        int firstRow = team * 64 * Waves;
        float sum[Waves][Count], part[Count] = {};
        for (int index = blockIdx.x; walk.find(index, tile); index += gridDim.x)
        {
            // Scales of this lane's step of four: of its rows, and of the chunks of columns.
            const float* rowScales[Waves][2];
            const float* chunkScales[Chunks];
            float nextRow[Waves][2], nextChunk[Chunks], scale[Waves][2][Chunks];
            auto fetch = [&](int step)
            {
                int own = min(step + quad, steps - 1);
#pragma unroll
                for (int w = 0; w < Waves; w++)
                {
                    nextRow[w][0] = __ldg(rowScales[w][0] + own);
                    nextRow[w][1] = __ldg(rowScales[w][1] + own);
                }

#pragma unroll
                for (int c = 0; c < Chunks; c++) nextChunk[c] = __ldg(chunkScales[c] + own * p.blockScaleDepth);
            };
#pragma unroll
            for (int w = 0; w < Waves; w++)
            {
#pragma unroll
                for (int h = 0; h < 2; h++)
                {
                    int row = tile.row + firstRow + 64 * w + 16 * warp + lane / 4 + 8 * h;
                    rowScales[w][h] = p.rowScales + min(row, p.rows - 1) * p.rowScaleStride;
                }

#pragma unroll
                for (int i = 0; i < Count; i++) sum[w][i] = 0;
            }

#pragma unroll
            for (int c = 0; c < Chunks; c++)
            {
                int block = min(tile.column + c * Chunk, p.columns - 1) / StepDepth;
                chunkScales[c] = p.blockScales + tile.group * p.blockScaleGroup + block * p.blockScaleColumn;
            }

            fetch(0);
            for (int step = 0; step < steps; step++, place.advance())
            {
                if (step % 4 == 0)
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

                    fetch(step + 4);
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
                        now[0][c] = __shfl_sync(AllLanes, scale[w][0][c], source);
                        now[1][c] = __shfl_sync(AllLanes, scale[w][1][c], source);
                    }

                    hopper::finish_products(part);
                    if (w == Waves - 1 && lane == 0) hopper::barrier_arrive(ring.emptied + place.stage);
#pragma unroll
                    for (int i = 0; i < Count; i++) sum[w][i] = __fmaf_rn(now[i / 2 % 2][i / 4 * 8 / Chunk], part[i], sum[w][i]);
                }
            }

            finish_tile<Add, Bounded>(p, ring, place, tile, static_cast<D*>(p.d), firstRow + 16 * warp, sum);
        }
    }
}

// D[groups, rows, columns] = Aᵀ B, or +=, the sum grouped: a weight gradient. Both operands in 128x1 tiles of the sum, and transposed, so that
// the sum runs along rows; each group begins a new tile, where tile first / 128 + group lies, with zeros behind its last step.
template <bool Add, int Teams, int Waves, int BlockN, int Stages, int PerMultiprocessor, bool Bounded>
__global__ void __launch_bounds__(TeamThreads* (Teams + 1), PerMultiprocessor) fp8_weights(const __grid_constant__ Product p)
{
    using Memory = Ring<float, Teams, Waves, BlockN, Stages, true>;
    using Walk = Tiles<Memory::BlockM, BlockN, true, Add>;
    using Roles = Registers<Teams, PerMultiprocessor>;
    constexpr int Count = BlockN / 2;
    DYNAMIC_SHARED(memory);
    Memory ring(memory, p.groups);
    ring.template prepare<Walk>(p);
    Walk walk(p, ring.start, ring.before);
    Place<Stages> place;
    Tile tile;
    int team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    if (team == Teams)
    {
        if constexpr (Roles::Moves) hopper::give_registers<Roles::Loading>();
        if (threadIdx.x == Teams * TeamThreads)
        {
            for (int index = blockIdx.x; walk.find(index, tile); index += gridDim.x)
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

                if constexpr (Add) load_old<float, Bounded>(p, ring, place, tile, tile.group);
            }
        }
    }
    else
    {
        if constexpr (Roles::Moves) hopper::take_registers<Roles::Team>();
        int lane = threadIdx.x % WarpSize, quad = lane % 4, warp = threadIdx.x % TeamThreads / WarpSize;
        int firstRow = team * 64 * Waves;
        float sum[Waves][Count], part[Count] = {};
        for (int index = blockIdx.x; walk.find(index, tile); index += gridDim.x)
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
                const float* rowScales = ring.a_scales(place.stage) + firstRow + 16 * warp + lane / 4;
                const float* columnScales = ring.b_scales(place.stage) + 2 * quad;
#pragma unroll
                for (int w = 0; w < Waves; w++)
                {
                    multiply_stage(part, a.plus(64 * w * RowBytes), b);
                    float row0 = rowScales[64 * w], row1 = rowScales[64 * w + 8];
                    hopper::finish_products(part);
#pragma unroll
                    for (int j = 0; j < Count / 4; j++)
                    {
                        float column[2];
                        load<float, 2>(column, columnScales + 8 * j);
                        sum[w][4 * j] = __fmaf_rn(row0 * column[0], part[4 * j], sum[w][4 * j]);
                        sum[w][4 * j + 1] = __fmaf_rn(row0 * column[1], part[4 * j + 1], sum[w][4 * j + 1]);
                        sum[w][4 * j + 2] = __fmaf_rn(row1 * column[0], part[4 * j + 2], sum[w][4 * j + 2]);
                        sum[w][4 * j + 3] = __fmaf_rn(row1 * column[1], part[4 * j + 3], sum[w][4 * j + 3]);
                    }
                }

                // The scales too have been read by all lanes.
                __syncwarp();
                if (lane == 0) hopper::barrier_arrive(ring.emptied + place.stage);
            }

            finish_tile<Add, Bounded>(p, ring, place, tile, static_cast<float*>(p.d) + tile.group * p.dGroup, firstRow + 16 * warp, sum);
        }
    }
}
