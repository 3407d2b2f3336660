// Products of BF16 matrices on Hopper's tensor cores, alone or grouped: D = A Bᵀ, D = A B and D = Aᵀ B. Operands of 16 bits may lie along the
// sum or across it, so none is ever transposed. Sums stay in the tensor cores' F32 accumulators from the first step to the last.
#include "hopper_tiles.cuh"

constexpr int StepDepth = 64;
constexpr int BoxBytes = 64 * RowBytes; // 64 steps of the sum of 64 rows or columns, where an operand runs across

// Steps of a stage behind the end of a group belong to the next one: zeros in their place. Threads of both teams call.
template <int Boxes>
__device__ __forceinline__ void clear_steps(unsigned char* boxes, int from)
{
    int thread = threadIdx.x % (2 * TeamThreads);
    for (int box = 0; box < Boxes; box++)
    {
        for (int row = from + thread / 8; row < StepDepth; row += 2 * TeamThreads / 8)
            *reinterpret_cast<Words*>(boxes + box * BoxBytes + row * RowBytes + thread % 8 * 16) = {};
    }
}

// A is [rows, depth], or [depth, rows] where AcrossA; B is [columns, depth], or [depth, columns] where AcrossB. ByDepth: both across, the
// groups are ranges of the sum, D is [groups, rows, columns]. Otherwise the groups are ranges of rows with a B each.
template <typename D, bool Add, bool AcrossA, bool AcrossB, bool ByDepth, int BlockN, int Stages, bool Bounded>
__global__ void __launch_bounds__(TeamThreads * 3, 1) bf16_product(const __grid_constant__ Product p)
{
    constexpr int Teams = 2, Count = BlockN / 2;
    using Memory = Ring<D, Teams, 1, BlockN, Stages, false>;
    using Walk = Tiles<Memory::BlockM, BlockN, ByDepth, Add>;
    using Roles = Registers<Teams, 1>;
    DYNAMIC_SHARED(memory);
    Memory ring(memory, p.groups);
    ring.template prepare<Walk>(p);
    Walk walk(p, ring.start, ring.before);
    Place<Stages> place;
    Tile tile;
    int team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    if (team == Teams)
    {
        hopper::give_registers<Roles::Loading>();
        if (threadIdx.x == Teams * TeamThreads)
        {
            for (int index = blockIdx.x; walk.find(index, tile); index += gridDim.x)
            {
                int steps = (tile.depth + StepDepth - 1) / StepDepth, group = ByDepth ? 0 : tile.group;
                for (int step = 0; step < steps; step++, place.advance())
                {
                    wait<Bounded>(ring.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, step);
                    hopper::Barrier* filled = ring.filled + place.stage;
                    unsigned char* a = ring.a(place.stage);
                    unsigned char* b = ring.b(place.stage);
                    int at = tile.first + step * StepDepth;
                    hopper::barrier_arrive_expecting(filled, Memory::StageBytes);
                    if constexpr (AcrossA)
                    {
#pragma unroll
                        for (int i = 0; i < Memory::BlockM / 64; i++) hopper::load_tile(a + i * BoxBytes, &p.a, filled, tile.row + 64 * i, at);
                    }
                    else
                    {
                        hopper::load_tile(a, &p.a, filled, at, tile.row);
                    }

                    if constexpr (AcrossB)
                    {
#pragma unroll
                        for (int i = 0; i < BlockN / 64; i++) hopper::load_tile(b + i * BoxBytes, &p.b, filled, tile.column + 64 * i, at, group);
                    }
                    else
                    {
                        hopper::load_tile(b, &p.b, filled, at, tile.column, group);
                    }
                }

                prepare_result<D, Add, false, Bounded>(p, ring, place, tile, ByDepth ? tile.group : 0);
            }
        }
    }
    else
    {
        hopper::take_registers<Roles::Team>();
        int lane = threadIdx.x % WarpSize, warp = threadIdx.x % TeamThreads / WarpSize;
        float sums[1][Count] = {};
        float (&sum)[Count] = sums[0];
        for (int index = blockIdx.x; walk.find(index, tile); index += gridDim.x)
        {
            int steps = (tile.depth + StepDepth - 1) / StepDepth, previous = 0;
            for (int step = 0; step < steps; step++, place.advance())
            {
                wait<Bounded>(ring.filled + place.stage, place.parity, p.report, ForFilled, place.stage, step);
                unsigned char* aTile = ring.a(place.stage);
                unsigned char* bTile = ring.b(place.stage);
                if constexpr (ByDepth)
                {
                    int left = tile.depth - step * StepDepth;
                    if (left < StepDepth)
                    {
                        clear_steps<Memory::BlockM / 64>(aTile, left);
                        clear_steps<BlockN / 64>(bTile, left);
                        hopper::fence_async();
                        hopper::sync_some(1, Teams * TeamThreads);
                    }
                }

                hopper::Operand a = AcrossA ? hopper::across_sum(aTile + team * BoxBytes, BoxBytes) : hopper::along_sum(aTile + team * BoxBytes);
                hopper::Operand b = AcrossB ? hopper::across_sum(bTile, BoxBytes) : hopper::along_sum(bTile);
                hopper::begin_products();
#pragma unroll
                for (int k = 0; k < StepDepth / 16; k++)
                    hopper::multiply_bf16<AcrossA, AcrossB>(sum, a.plus(k * (AcrossA ? 16 * RowBytes : 32)), b.plus(k * (AcrossB ? 16 * RowBytes : 32)), step + k > 0);
                hopper::commit_products();

                // One batch stays under way; the one before has read its stage.
                hopper::wait_products<1>();
                if (step > 0 && lane == 0) ring.release(previous);
                previous = place.stage;
            }

            hopper::finish_products(sum);
            if constexpr (ByDepth && !Add)
            {
                if (steps == 0)
                {
#pragma unroll
                    for (int i = 0; i < Count; i++) sum[i] = 0;
                }
            }

            if (steps > 0 && lane == 0) ring.release(previous);
            store_result<D, Add, false, Bounded>(p, ring, place, tile, ByDepth ? tile.group : 0, team * 64 + 16 * warp, sums);
        }
    }
}
