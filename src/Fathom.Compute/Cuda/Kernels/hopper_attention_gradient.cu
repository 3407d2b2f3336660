// Gradients of causal attention on Hopper's wgmma (FlashAttention-2, 2307.08691, section 3.2). Two kernels compute the scores S and the
// gradient dP of their weights again, one for each side of the score matrix, because sums of dQ across blocks of keys would need an order:
// 1152 multiply-adds for each visible pair in place of 832. Score tiles stay in registers: an accumulator tile, rounded to BF16, is the left
// operand of the next product as it stands.
// The trap is what is under way: every product is asynchronous, so each section says which batches are, in the order they were begun.
#include "formats.cuh"
#include "hopper_attention.cuh"

// ---- Statistics of queries ----

constexpr int StatisticThreads = 256, RowLanes = Value / 8;
static_assert(Value == TileLength, "a row of codes has one scale");

// log2-sum-exp and delta = the row sums of doutput * output, by tiles; 16 lanes for each query of a head, heads next to each other.
// The output is values, or codes, which count as the values that they would be written out as.
template <bool Codes>
__global__ void __launch_bounds__(StatisticThreads) hopper_statistics(const __grid_constant__ HopperCausal p)
{
    const Causal& c = p.call;
    int64_t tiles = query_tiles(c), at = (static_cast<int64_t>(blockIdx.x) * StatisticThreads + threadIdx.x) / RowLanes;
    int h = at % c.heads, column = threadIdx.x % RowLanes * 8;
    int64_t token = at / c.heads;
    int i = token % (tiles * Side);
    int64_t b = token / (tiles * Side);
    bool exists = b < c.batch && i < c.queries;
    float delta = 0;
    if (exists)
    {
        float o[8], d[8];
        int64_t row = c.query_row(b, h, i);
        load<bf16, 8>(d, c.doutput.row<const bf16>(row) + column);
        if constexpr (Codes)
        {
            const e5m6x2* codes = c.output.row<const e5m6x2>(row) + column / 2;
            load_values<e5m6x2, 8>(o, reinterpret_cast<const uint8_t*>(codes), to_float(*p.outputScales.row<const e8m0>(row)));
        }
        else load<bf16, 8>(o, c.output.row<const bf16>(row) + column);
#pragma unroll
        for (int e = 0; e < 8; e++) delta = __fmaf_rn(o[e], d[e], delta);
    }

#pragma unroll
    for (int distance = RowLanes / 2; distance > 0; distance /= 2) delta += __shfl_xor_sync(AllLanes, delta, distance);
    if (column != 0 || b >= c.batch) return;
    TileStatistics& to = reinterpret_cast<TileStatistics*>(p.tileStatistics)[(b * c.heads + h) * tiles + i / Side];
    to.logSumExp[i % Side] = exists ? c.logSumExp[c.statistic(b, h, i)] * Log2E : Infinity;
    to.delta[i % Side] = delta;
}

// ---- dK and dV ----

// Shared memory: keys and values that stay, and a ring of tiles of queries, gradients of their outputs, and their statistics.
struct KeyGradientMemory
{
    static constexpr int Stages = 3, StageBytes = (KeyBoxes + ValueBoxes) * BoxBytes;

    unsigned char *keys, *values, *stages;
    TileStatistics* statistics;
    hopper::Barrier *filled, *emptied, *keysFilled, *keysEmptied;

    __device__ __forceinline__ explicit KeyGradientMemory(unsigned char* memory)
        : keys(align_tiles(memory)), values(keys + Teams * KeyBoxes * BoxBytes), stages(values + Teams * ValueBoxes * BoxBytes),
          statistics(reinterpret_cast<TileStatistics*>(stages + Stages * StageBytes)), filled(reinterpret_cast<hopper::Barrier*>(statistics + Stages)),
          emptied(filled + Stages), keysFilled(emptied + Stages), keysEmptied(keysFilled + 1) { }

    __device__ __forceinline__ unsigned char* queries(int stage) const { return stages + stage * StageBytes; }
    __device__ __forceinline__ unsigned char* doutputs(int stage) const { return queries(stage) + KeyBoxes * BoxBytes; }
};

// s = exp2(s factor - log-sum-exp) of transposed scores, one log-sum-exp for each column. On the diagonal, where the first row's key is the
// first column's query, a key behind the query is hidden. The warp's first row is `row`.
__device__ __forceinline__ void weigh(float (&s)[Side / 2], float factor, const float* logSumExp, bool diagonal, int row)
{
    int lane = threadIdx.x % WarpSize;
#pragma unroll
    for (int n = 0; n < Side / 8; n++)
    {
        float pair[2];
        load<float, 2>(pair, logSumExp + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int e = 0; e < 4; e++) s[4 * n + e] = __fmaf_rn(s[4 * n + e], factor, -pair[e % 2]);
    }

    if (diagonal)
    {
        int before = row + lane / 4 - lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < Side / 2; i++)
            if (before + i / 2 % 2 * 8 > i / 4 * 8 + i % 2) s[i] = -Infinity;
    }

#pragma unroll
    for (int i = 0; i < Side / 2; i++) s[i] = ptx::exp2_approximately(s[i]);
}

// The weights become weights (dp - delta), one delta for each column.
__device__ __forceinline__ void differentiate(uint32_t (&weights)[4][4], const float (&dp)[Side / 2], const float* delta)
{
    int lane = threadIdx.x % WarpSize;
#pragma unroll
    for (int n = 0; n < Side / 8; n++)
    {
        float pair[2];
        load<float, 2>(pair, delta + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            int i = 2 * n + h;
            uint32_t& both = weights[i / 4][i % 4];
            float low = __uint_as_float(both << 16), high = __uint_as_float(both & 0xffff0000u);
            both = ptx::bf16x2_from_floats(low * (dp[2 * i] - pair[0]), high * (dp[2 * i + 1] - pair[1]));
        }
    }
}

// Score tiles are transposed: 64 keys of a team by 64 queries. Blocks: (groups of heads, tiles of 128 keys, sequences), those with the most
// queries first. The rotary key's gradient stays in its sums from head to head of the group.
template <bool Bounded>
__global__ void __launch_bounds__(BlockThreads, 1) hopper_key_gradient(const __grid_constant__ HopperCausal p)
{
    constexpr int Stages = KeyGradientMemory::Stages;
    DYNAMIC_SHARED(memory);
    const KeyGradientMemory at(memory);
    const Causal& c = p.call;
    if (threadIdx.x == 0)
    {
        make_barriers(at.filled, at.emptied, Stages);
        make_barriers(at.keysFilled, at.keysEmptied, 1);
        hopper::barriers_made();
    }

    __syncthreads();
    int b = blockIdx.z, first = blockIdx.y * BlockRows, tiles = divide_up(c.queries - first, Side);
    int head = blockIdx.x * c.groupHeads, lastHead = min(head + c.groupHeads, c.heads) - 1;
    int team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    Place<Stages> place;
    uint32_t keysParity = 0;
    if (team == Teams)
    {
        hopper::give_registers<LoadingRegisters>();
        if (threadIdx.x % TeamThreads != 0) return;
        for (; head <= lastHead; head++, keysParity ^= 1)
        {
            wait<Bounded>(at.keysEmptied, keysParity ^ 1, p.report, ForEmptied, Stages, head);
            hopper::barrier_arrive_expecting(at.keysFilled, Teams * (KeyBoxes + ValueBoxes) * BoxBytes);
#pragma unroll
            for (int i = 0; i < Teams; i++)
            {
                load_keys(at.keys + i * KeyBoxes * BoxBytes, BoxBytes, p, at.keysFilled, head, first + i * Side, b);
                load_values(at.values + i * ValueBoxes * BoxBytes, BoxBytes, p, at.keysFilled, head, first + i * Side, b);
            }

            int row = (b * c.heads + head) * static_cast<int>(query_tiles(c)) + first / Side;
            for (int tile = 0; tile < tiles; tile++, place.advance())
            {
                hopper::Barrier* filled = at.filled + place.stage;
                wait<Bounded>(at.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, tile);
                hopper::barrier_arrive_expecting(filled, KeyGradientMemory::StageBytes + sizeof(TileStatistics));
                load_boxes<KeyBoxes>(at.queries(place.stage), BoxBytes, &p.q, filled, 0, head, first + tile * Side, b);
                hopper::load_tile(at.statistics + place.stage, &p.statistics, filled, 0, row + tile);
                load_boxes<ValueBoxes>(at.doutputs(place.stage), BoxBytes, &p.doutput, filled, 0, head, first + tile * Side, b);
            }
        }

        return;
    }

    hopper::take_registers<TeamRegisters>();
    int warp = threadIdx.x % TeamThreads / WarpSize;
    float dkNope[Nope / 2] = {}, dkRope[Rope / 2] = {}, dv[Value / 2] = {}, s[Side / 2] = {};
    uint32_t weights[4][4];
    hopper::Operand keys = hopper::along_sum(at.keys + team * KeyBoxes * BoxBytes), values = hopper::along_sum(at.values + team * ValueBoxes * BoxBytes);
    for (; head <= lastHead; head++, keysParity ^= 1)
    {
        wait<Bounded>(at.keysFilled, keysParity, p.report, ForFilled, Stages, head);
        int tile = team;
        if (team > 0)
        {
            // All of the first tile's queries come before these keys.
            wait<Bounded>(at.filled + place.stage, place.parity, p.report, ForFilled, place.stage, 0);
            release(at.emptied + place.stage);
            place.advance();
        }

        int begin = tile, previous = place.stage;
        if (tile < tiles)
        {
            auto multiply_keys = [&]
            {
                wait<Bounded>(at.filled + place.stage, place.parity, p.report, ForFilled, place.stage, tile);
                hopper::begin_products();
                multiply_rows<KeyBoxes>(s, keys, BoxBytes, hopper::along_sum(at.queries(place.stage)), BoxBytes);
                hopper::commit_products();
            };
            auto differentiate_tile = [&](bool isFirst)
            {
                const TileStatistics& statistics = at.statistics[place.stage];
                hopper::Operand across = hopper::across_sum(at.doutputs(place.stage), BoxBytes), along = hopper::along_sum(at.doutputs(place.stage));
                weigh(s, p.factor, statistics.logSumExp, isFirst, warp * 16);
                pack(weights, s);
                hopper::begin_products();
                multiply_rows<ValueBoxes>(s, values, BoxBytes, along, BoxBytes);
                multiply_weights(dv, weights, across, !isFirst);
                hopper::commit_products();
                hopper::await_sums<0>(s);
                differentiate(weights, s, statistics.delta);
                previous = place.stage;
                place.advance();
                tile++;
            };
            auto add_keys = [&](bool isFirst)
            {
                const unsigned char* queries = at.queries(previous);
                multiply_weights(dkNope, weights, hopper::across_sum(queries, BoxBytes), !isFirst);
                multiply_weights(dkRope, weights, hopper::across_sum(queries + NopeBoxes * BoxBytes, BoxBytes), true);
                hopper::commit_products();
            };
            multiply_keys();
            hopper::await_sums<0>(s);
            differentiate_tile(true);
            for (; tile < tiles;)
            {
                // The next scores are begun first: while the other team computes on its tile, both products wait for nothing.
                multiply_keys();
                add_keys(tile == begin + 1);
                hopper::await_sums<0>(s);
                release(at.emptied + previous);
                differentiate_tile(false);
            }

            hopper::begin_products();
            add_keys(tile == begin + 1);
            hopper::finish_products(dv);
            hopper::finish_products(dkNope);
            hopper::finish_products(dkRope);
            release(at.emptied + previous);
        }

        release(at.keysEmptied);
        if (tile == begin) continue; // no queries, so these keys are behind the end
        int row = first + ptx::thread_again() / WarpSize * 16;
        bf16* to = c.dkv.row<bf16>(c.key_row(b, head, 0));
        scale_sums(dkNope, c.scale);
        store_sums(dkNope, to, c.heads * c.dkv.stride, row, c.keys, 0, Nope);
        store_sums(dv, to + Nope, c.heads * c.dkv.stride, row, c.keys, 0, Value);
    }

    int row = first + ptx::thread_again() / WarpSize * 16;
    float* to = c.rotary + (static_cast<int64_t>(blockIdx.x) * c.batch + b) * c.keys * Rope;
    scale_sums(dkRope, c.scale);
    store_sums(dkRope, to, Rope, row, c.keys, 0, Rope);
}

// ---- dQ ----

// Shared memory: queries and gradients of their outputs that stay, and a ring of tiles of keys and values.
struct QueryGradientMemory
{
    static constexpr int Stages = 3, StageBytes = (KeyBoxes + ValueBoxes) * BoxBytes;

    unsigned char *queries, *doutputs, *stages;
    hopper::Barrier *filled, *emptied, *queriesFilled, *queriesEmptied;

    __device__ __forceinline__ explicit QueryGradientMemory(unsigned char* memory)
        : queries(align_tiles(memory)), doutputs(queries + Teams * KeyBoxes * BoxBytes), stages(doutputs + Teams * ValueBoxes * BoxBytes),
          filled(reinterpret_cast<hopper::Barrier*>(stages + Stages * StageBytes)), emptied(filled + Stages), queriesFilled(emptied + Stages),
          queriesEmptied(queriesFilled + 1) { }

    __device__ __forceinline__ unsigned char* keys(int stage) const { return stages + stage * StageBytes; }
    __device__ __forceinline__ unsigned char* values(int stage) const { return keys(stage) + KeyBoxes * BoxBytes; }
};

// As many blocks as there are multiprocessors, or fewer; each goes through its blocks of queries. Key tiles run from the diagonal to the first.
template <bool Bounded>
__global__ void __launch_bounds__(BlockThreads, 1) hopper_query_gradient(const __grid_constant__ HopperCausal p)
{
    constexpr int Stages = QueryGradientMemory::Stages;
    DYNAMIC_SHARED(memory);
    const QueryGradientMemory at(memory);
    const Causal& c = p.call;
    if (threadIdx.x == 0)
    {
        make_barriers(at.filled, at.emptied, Stages);
        make_barriers(at.queriesFilled, at.queriesEmptied, 1);
        hopper::barriers_made();
    }

    __syncthreads();
    int b, head, first, team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    QueryBlocks blocks;
    Place<Stages> place;
    uint32_t queriesParity = 0;
    auto last_tile = [&] { return (min(first + BlockRows, c.queries) - 1) / Side; };
    if (team == Teams)
    {
        hopper::give_registers<LoadingRegisters>();
        if (threadIdx.x % TeamThreads != 0) return;
        for (; blocks.next(c, b, head, first); queriesParity ^= 1)
        {
            int last = last_tile();
            for (int tile = last; tile >= 0; tile--, place.advance())
            {
                hopper::Barrier* filled = at.filled + place.stage;
                wait<Bounded>(at.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, tile);
                hopper::barrier_arrive_expecting(filled, QueryGradientMemory::StageBytes);
                load_keys(at.keys(place.stage), BoxBytes, p, filled, head, tile * Side, b);
                load_values(at.values(place.stage), BoxBytes, p, filled, head, tile * Side, b);
                if (tile < last) continue;
                wait<Bounded>(at.queriesEmptied, queriesParity ^ 1, p.report, ForEmptied, Stages, tile);
                hopper::barrier_arrive_expecting(at.queriesFilled, Teams * (KeyBoxes + ValueBoxes) * BoxBytes);
#pragma unroll
                for (int i = 0; i < Teams; i++)
                {
                    load_boxes<KeyBoxes>(at.queries + i * KeyBoxes * BoxBytes, BoxBytes, &p.q, at.queriesFilled, 0, head, first + i * Side, b);
                    load_boxes<ValueBoxes>(at.doutputs + i * ValueBoxes * BoxBytes, BoxBytes, &p.doutput, at.queriesFilled, 0, head, first + i * Side, b);
                }
            }
        }

        return;
    }

    hopper::take_registers<TeamRegisters>();
    int lane = threadIdx.x % WarpSize, row = threadIdx.x % TeamThreads / WarpSize * 16 + lane / 4;
    float dq[KeyColumns / 2] = {}, s[Side / 2] = {}, dp[Side / 2] = {};
    uint32_t gradients[4][4], held[Nope / 16][4]; // of the queries, as many columns as registers are left for: shared memory is what binds
    hopper::Operand queries = hopper::along_sum(at.queries + team * KeyBoxes * BoxBytes), doutputs = hopper::along_sum(at.doutputs + team * ValueBoxes * BoxBytes);
    for (; blocks.next(c, b, head, first); queriesParity ^= 1)
    {
        int tile = last_tile(), diagonal = first / Side + team;
        float logSumExp[2] = {Infinity, Infinity}, delta[2] = {};
        if (diagonal * Side < c.queries)
        {
            int64_t statisticsRow = (static_cast<int64_t>(b) * c.heads + head) * query_tiles(c) + diagonal;
            const TileStatistics& statistics = reinterpret_cast<const TileStatistics*>(p.tileStatistics)[statisticsRow];
#pragma unroll
            for (int h = 0; h < 2; h++)
            {
                logSumExp[h] = statistics.logSumExp[row + 8 * h];
                delta[h] = statistics.delta[row + 8 * h];
            }
        }

        auto multiply_both = [&]
        {
            wait<Bounded>(at.filled + place.stage, place.parity, p.report, ForFilled, place.stage, tile);
            hopper::begin_products();
            multiply_held_rows<KeyBoxes>(s, held, queries, BoxBytes, hopper::along_sum(at.keys(place.stage)), BoxBytes);
            hopper::commit_products();
            multiply_rows<ValueBoxes>(dp, doutputs, BoxBytes, hopper::along_sum(at.values(place.stage)), BoxBytes);
            hopper::commit_products();
        };
        auto weigh_rows = [&]
        {
#pragma unroll
            for (int i = 0; i < Side / 2; i++) s[i] = __fmaf_rn(s[i], p.factor, -logSumExp[i / 2 % 2]);
            if (tile == diagonal)
            {
                int after = row - lane % 4 * 2;
#pragma unroll
                for (int i = 0; i < Side / 2; i++)
                    if (i / 4 * 8 + i % 2 > after + i / 2 % 2 * 8) s[i] = -Infinity;
            }

#pragma unroll
            for (int i = 0; i < Side / 2; i++) s[i] = ptx::exp2_approximately(s[i]);
        };
        auto differentiate_rows = [&]
        {
#pragma unroll
            for (int i = 0; i < Side / 2; i++) s[i] *= dp[i] - delta[i / 2 % 2];
        };
        wait<Bounded>(at.queriesFilled, queriesParity, p.report, ForFilled, Stages, tile);
        hold_rows(held, at.queries + team * KeyBoxes * BoxBytes);
        if (tile > diagonal)
        {
            // The last keys come after all queries of this team.
            wait<Bounded>(at.filled + place.stage, place.parity, p.report, ForFilled, place.stage, tile);
            release(at.emptied + place.stage);
            place.advance();
            tile--;
        }

        multiply_both();
        hopper::await_sums<1>(s);
        weigh_rows();
        hopper::await_sums<0>(dp);
        differentiate_rows();
        pack(gradients, s);
        int previous = place.stage;
        bool add = false;
        place.advance();
        for (tile--; tile >= 0; tile--)
        {
            multiply_both();
            multiply_weights(dq, gradients, hopper::across_sum(at.keys(previous), BoxBytes), add);
            hopper::commit_products();

            // Under way: S, dP, dQ of the tile before.
            hopper::await_sums<2>(s);
            weigh_rows();
            hopper::compute_first(s[29] + s[30] + s[31]);
            hopper::await_sums<1>(dp);
            differentiate_rows();
            hopper::compute_first(s[29] + s[30] + s[31]);
            hopper::wait_products<0>();
            release(at.emptied + previous);
            pack(gradients, s);
            previous = place.stage;
            add = true;
            place.advance();
        }

        release(at.queriesEmptied);
        hopper::begin_products();
        multiply_weights(dq, gradients, hopper::across_sum(at.keys(previous), BoxBytes), add);
        hopper::commit_products();
        hopper::finish_products(dq);
        release(at.emptied + previous);
        scale_sums(dq, c.scale);
        store_sums(dq, c.dq.row<bf16>(c.query_row(b, head, 0)), c.heads * c.dq.stride, first + team * Side + row - lane / 4, c.queries, 0, KeyColumns);
    }
}
