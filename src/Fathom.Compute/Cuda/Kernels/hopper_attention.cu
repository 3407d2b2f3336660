// Causal attention on Hopper's wgmma (FlashAttention-3, 2407.08608): a block keeps 128 queries, 64 for each of two teams, and streams tiles
// of 128 keys and values past them. A tile's weights stay in registers: the accumulators of the scores, rounded to BF16, are the left operand
// of the product with the values. The next tile's scores are begun before that product, so the exponentials of one tile are computed while
// the tensor cores work on the other.
// The traps: which batches of products are under way (said at each wait, in the order they were begun), and rows of queries that see none
// of a tile's keys, whose largest score is then minus infinity.
#include "hopper_attention.cuh"

constexpr int KeyRows = 128, Panel = KeyRows * RowBytes; // keys of a tile; 64 columns of them

// Shared memory: queries that stay, and two rings, of keys and of values.
struct ForwardMemory
{
    static constexpr int Stages = 2, KeyBytes = KeyBoxes * Panel, ValueBytes = ValueBoxes * Panel;

    unsigned char *queries, *keyStages, *valueStages;
    hopper::Barrier *keysFilled, *keysEmptied, *valuesFilled, *valuesEmptied, *queriesFilled, *queriesEmptied;

    __device__ __forceinline__ explicit ForwardMemory(unsigned char* memory)
        : queries(align_tiles(memory)), keyStages(queries + Teams * KeyBoxes * BoxBytes), valueStages(keyStages + Stages * KeyBytes),
          keysFilled(reinterpret_cast<hopper::Barrier*>(valueStages + Stages * ValueBytes)), keysEmptied(keysFilled + Stages),
          valuesFilled(keysEmptied + Stages), valuesEmptied(valuesFilled + Stages), queriesFilled(valuesEmptied + Stages),
          queriesEmptied(queriesFilled + 1) { }

    __device__ __forceinline__ unsigned char* keys(int stage) const { return keyStages + stage * KeyBytes; }
    __device__ __forceinline__ unsigned char* values(int stage) const { return valueStages + stage * ValueBytes; }
};

// Over the four lanes that hold a row.
template <typename Op>
__device__ __forceinline__ float row_reduce(float x)
{
    x = Op::combine(x, __shfl_xor_sync(AllLanes, x, 1));
    return Op::combine(x, __shfl_xor_sync(AllLanes, x, 2));
}

// The softmax of a thread's two rows, tile by tile.
struct RunningSoftmax
{
    float largest[2] = {-Infinity, -Infinity}; // of the scores, before scaling
    float total[2] = {};                       // this lane's part of the sum of the weights

    // Scores become weights, relative to the largest score so far; results before this tile count rescale times as much.
    __device__ __forceinline__ void add(float (&s)[KeyRows / 2], float factor, float (&rescale)[2])
    {
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            float now = largest[h];
#pragma unroll
            for (int i = 0; i < KeyRows / 2; i++)
                if (i / 2 % 2 == h) now = fmaxf(now, s[i]);
            now = row_reduce<Max>(now);
            float zero = (now == -Infinity ? 0 : now) * factor, sum = 0;
            rescale[h] = ptx::exp2_approximately(__fmaf_rn(largest[h], factor, -zero));
            largest[h] = now;
#pragma unroll
            for (int i = 0; i < KeyRows / 2; i++)
            {
                if (i / 2 % 2 != h) continue;
                s[i] = ptx::exp2_approximately(__fmaf_rn(s[i], factor, -zero));
                sum += s[i];
            }

            total[h] = __fmaf_rn(total[h], rescale[h], sum);
        }
    }
};

// As many blocks as there are multiprocessors, or fewer; each goes through its blocks of queries. Key tiles run from the diagonal to the
// first. The scale is positive.
template <bool Bounded>
__global__ void __launch_bounds__(BlockThreads, 1) hopper_causal_forward(const __grid_constant__ HopperCausal p)
{
    constexpr int Stages = ForwardMemory::Stages;
    DYNAMIC_SHARED(memory);
    const ForwardMemory at(memory);
    const Causal& c = p.call;
    if (threadIdx.x == 0)
    {
        make_barriers(at.keysFilled, at.keysEmptied, Stages);
        make_barriers(at.valuesFilled, at.valuesEmptied, Stages);
        make_barriers(at.queriesFilled, at.queriesEmptied, 1);
        hopper::barriers_made();
    }

    __syncthreads();
    int b, head, first, team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    QueryBlocks blocks;
    Place<Stages> keys, values;
    uint32_t queriesParity = 0;
    auto last_tile = [&] { return min(c.last_key(first + BlockRows - 1), c.keys - 1) / KeyRows; };
    if (team == Teams)
    {
        hopper::give_registers<LoadingRegisters>();
        if (threadIdx.x % TeamThreads != 0) return;
        for (; blocks.next(c, b, head, first); queriesParity ^= 1)
        {
            // Values are wanted one tile later than keys.
            int last = last_tile();
            for (int tile = last; tile >= -1; tile--)
            {
                if (tile >= 0)
                {
                    hopper::Barrier* filled = at.keysFilled + keys.stage;
                    wait<Bounded>(at.keysEmptied + keys.stage, keys.parity ^ 1, p.report, ForEmptied, keys.stage, tile);
                    hopper::barrier_arrive_expecting(filled, ForwardMemory::KeyBytes);
#pragma unroll
                    for (int i = 0; i < KeyRows / Side; i++) load_keys(at.keys(keys.stage) + i * BoxBytes, Panel, p, filled, head, tile * KeyRows + i * Side, b);
                    keys.advance();
                }

                if (tile < last)
                {
                    hopper::Barrier* filled = at.valuesFilled + values.stage;
                    wait<Bounded>(at.valuesEmptied + values.stage, values.parity ^ 1, p.report, ForEmptied, Stages + values.stage, tile);
                    hopper::barrier_arrive_expecting(filled, ForwardMemory::ValueBytes);
#pragma unroll
                    for (int i = 0; i < KeyRows / Side; i++)
                        load_values(at.values(values.stage) + i * BoxBytes, Panel, p, filled, head, (tile + 1) * KeyRows + i * Side, b);
                    values.advance();
                }
                else
                {
                    wait<Bounded>(at.queriesEmptied, queriesParity ^ 1, p.report, ForEmptied, 2 * Stages, tile);
                    hopper::barrier_arrive_expecting(at.queriesFilled, Teams * KeyBoxes * BoxBytes);
#pragma unroll
                    for (int i = 0; i < Teams; i++)
                        load_boxes<KeyBoxes>(at.queries + i * KeyBoxes * BoxBytes, BoxBytes, &p.q, at.queriesFilled, 0, head, first + i * Side, b);
                }
            }
        }

        return;
    }

    hopper::take_registers<TeamRegisters>();
    int lane = threadIdx.x % WarpSize, ownRow = team * Side + threadIdx.x % TeamThreads / WarpSize * 16 + lane / 4;
    float o[Value / 2] = {}, s[KeyRows / 2] = {}, rescale[2];
    uint32_t weights[KeyRows / 16][4];
    hopper::Operand queries = hopper::along_sum(at.queries + team * KeyBoxes * BoxBytes);
    for (; blocks.next(c, b, head, first); queriesParity ^= 1)
    {
        int tile = last_tile();
        RunningSoftmax softmax;
        auto multiply_keys = [&]
        {
            wait<Bounded>(at.keysFilled + keys.stage, keys.parity, p.report, ForFilled, keys.stage, tile);
            hopper::begin_products();
            multiply_rows<KeyBoxes>(s, queries, BoxBytes, hopper::along_sum(at.keys(keys.stage)), Panel);
            hopper::commit_products();
        };
        auto multiply_values = [&](bool add)
        {
            wait<Bounded>(at.valuesFilled + values.stage, values.parity, p.report, ForFilled, Stages + values.stage, tile + 1);
            hopper::begin_products();
            multiply_weights(o, weights, hopper::across_sum(at.values(values.stage), Panel), add);
            hopper::commit_products();
        };
        auto weigh = [&]
        {
            // The keys are read.
            release(at.keysEmptied + keys.stage);
            keys.advance();
            if (tile * KeyRows + KeyRows - 1 > c.last_key(first + team * Side))
            {
                int visible = c.last_key(first + ownRow) - tile * KeyRows - lane % 4 * 2;
#pragma unroll
                for (int i = 0; i < KeyRows / 2; i++)
                    if (i / 4 * 8 + i % 2 > visible + i / 2 % 2 * 8) s[i] = -Infinity;
            }

            softmax.add(s, p.factor, rescale);
        };
        wait<Bounded>(at.queriesFilled, queriesParity, p.report, ForFilled, 2 * Stages, tile);
        multiply_keys();
        hopper::await_sums<0>(s);
        weigh();
        pack(weights, s);
        bool add = false;
        for (tile--; tile >= 0; tile--)
        {
            multiply_keys();
            multiply_values(add);

            // Under way: S, the product of the weights before.
            hopper::await_sums<1>(s);
            weigh();
            hopper::compute_first(softmax.total[0] + softmax.total[1]);
            hopper::await_sums<0>(o);
            release(at.valuesEmptied + values.stage);
            values.advance();
#pragma unroll
            for (int i = 0; i < Value / 2; i++) o[i] *= rescale[i / 2 % 2];
            pack(weights, s);
            add = true;
        }

        release(at.queriesEmptied);
        multiply_values(add);
        hopper::finish_products(o);
        release(at.valuesEmptied + values.stage);
        values.advance();
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            int query = first + ownRow + 8 * h;
            float total = row_reduce<Sum>(softmax.total[h]), inverse = 1 / total;
#pragma unroll
            for (int i = 0; i < Value / 2; i++)
                if (i / 2 % 2 == h) o[i] *= inverse;
            if (c.logSumExp != nullptr && lane % 4 == 0 && query < c.queries)
                c.logSumExp[c.statistic(b, head, query)] = __fmaf_rn(softmax.largest[h], c.scale, logf(total));
        }

        store_sums(o, c.output.row<bf16>(c.query_row(b, head, 0)), c.heads * c.output.stride, first + ownRow - lane / 4, c.queries, 0, Value);
    }
}
