// Gradients of causal attention on Hopper's wgmma (FlashAttention-2, 2307.08691, section 3.2; FlashAttention-3, 2407.08608). A block has 128
// keys of a head, whose gradients stay in registers, and goes through the queries that see them. Score tiles stay in registers: an accumulator
// tile, rounded to BF16, is the left operand of the next product as it stands.
// dQ is a sum over blocks of keys, and rotary keys have one gradient for all heads: sums over blocks of threads, which hopper_attention_sums.cuh has.
// The traps: every product is asynchronous, so each section says which batches are under way, in the order they were begun; and no block may wait for
// one that could begin later.
#include "hopper_attention_sums.cuh"

// Shared memory: keys and values that stay; a ring of tiles of queries, gradients of their outputs, and their statistics; and a ring of two tiles
// of the scores' gradients, keys by queries, which the teams compute for each other.
struct GradientMemory
{
    static constexpr int Stages = 2, StageBytes = (KeyBoxes + ValueBoxes) * BoxBytes, ScoreStages = 2, ScoreBytes = Teams * BoxBytes;

    unsigned char *keys, *values, *stages, *scores;
    TileStatistics* statistics;
    hopper::Barrier *filled, *emptied, *keysFilled;
    hopper::Barrier *scoresWritten, *scoresRead;
    hopper::Barrier *turn, *added; // a team's turn to add has come; it has added
    int* number;

    __device__ __forceinline__ explicit GradientMemory(unsigned char* memory)
        : keys(align_tiles(memory)), values(keys + Teams * KeyBoxes * BoxBytes), stages(values + Teams * ValueBoxes * BoxBytes),
          scores(stages + Stages * StageBytes), statistics(reinterpret_cast<TileStatistics*>(scores + ScoreStages * ScoreBytes)),
          filled(reinterpret_cast<hopper::Barrier*>(statistics + Stages)), emptied(filled + Stages), keysFilled(emptied + Stages), scoresWritten(keysFilled + 1),
          scoresRead(scoresWritten + ScoreStages), turn(scoresRead + ScoreStages), added(turn + Teams), number(reinterpret_cast<int*>(added + Teams)) { }

    __device__ __forceinline__ unsigned char* queries(int stage) const { return stages + stage * StageBytes; }
    __device__ __forceinline__ unsigned char* doutputs(int stage) const { return queries(stage) + KeyBoxes * BoxBytes; }
    __device__ __forceinline__ unsigned char* score_gradients(int stage) const { return scores + stage * ScoreBytes; }

    // One thread calls.
    __device__ __forceinline__ void make() const
    {
        constexpr int TeamWarps = TeamThreads / WarpSize;
        make_barriers(filled, emptied, Stages);
        hopper::barrier_make(keysFilled, 1);
        for (int i = 0; i < ScoreStages; i++)
        {
            hopper::barrier_make(scoresWritten + i, Teams * TeamWarps);
            hopper::barrier_make(scoresRead + i, Teams * TeamWarps);
        }

        for (int i = 0; i < Teams; i++)
        {
            hopper::barrier_make(turn + i, 1);
            hopper::barrier_make(added + i, TeamWarps);
        }

        hopper::barriers_made();
    }
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

// dp = weights (dp - delta), one delta for each column.
__device__ __forceinline__ void differentiate(float (&dp)[Side / 2], const uint32_t (&weights)[4][4], const float* delta)
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
            uint32_t both = weights[i / 4][i % 4];
            dp[2 * i] = __uint_as_float(both << 16) * (dp[2 * i] - pair[0]);
            dp[2 * i + 1] = __uint_as_float(both & 0xffff0000u) * (dp[2 * i + 1] - pair[1]);
        }
    }
}

// A team's tile of the scores' gradients, 64 keys by 64 queries, as the other operand's products take it: rows of 128 bytes, swizzled.
__device__ __forceinline__ void write_gradients(unsigned char* to, const uint32_t (&gradients)[4][4], int row)
{
    int lane = threadIdx.x % WarpSize, key = row + lane / 4;
    unsigned char* at = to + key * RowBytes + lane % 4 * 4;
#pragma unroll
    for (int i = 0; i < 16; i++)
        *reinterpret_cast<uint32_t*>(at + i % 2 * 8 * RowBytes + (i / 2 ^ key % 8) * 16) = gradients[i / 4][i % 4];
}

// part = the columns of dQ that a box of keys holds from an offset on: 64 queries by so many columns, summed over 128 keys.
template <int Count>
__device__ __forceinline__ void multiply_gradients(float (&part)[Count], hopper::Operand gradients, hopper::Operand box)
{
#pragma unroll
    for (int k = 0; k < BlockRows / 16; k++)
        hopper::multiply_bf16<true, true>(part, gradients.plus(k * 16 * RowBytes), box.plus(k / 4 * KeyBoxes * BoxBytes + k % 4 * 16 * RowBytes), k > 0);
}

// Loads what the teams need.
template <bool Bounded>
__device__ __forceinline__ void load_operands(const HopperCausal& p, const GradientMemory& at, const Keys& own)
{
    Place<GradientMemory::Stages> place;
    hopper::barrier_arrive_expecting(at.keysFilled, Teams * (KeyBoxes + ValueBoxes) * BoxBytes);
#pragma unroll
    for (int i = 0; i < Teams; i++)
    {
        load_keys(at.keys + i * KeyBoxes * BoxBytes, BoxBytes, p, at.keysFilled, own.head, own.first + i * Side, own.sequence);
        load_values(at.values + i * ValueBoxes * BoxBytes, BoxBytes, p, at.keysFilled, own.head, own.first + i * Side, own.sequence);
    }

    for (int tile = 0; tile < own.tiles; tile++, place.advance())
    {
        int token = own.first + tile * Side;
        hopper::Barrier* filled = at.filled + place.stage;
        wait<Bounded>(at.emptied + place.stage, place.parity ^ 1, p.report, ForEmptied, place.stage, tile);
        hopper::barrier_arrive_expecting(filled, GradientMemory::StageBytes + sizeof(TileStatistics));
        load_boxes<KeyBoxes>(at.queries(place.stage), BoxBytes, &p.q, filled, 0, own.head, token, own.sequence);
        hopper::load_tile(at.statistics + place.stage, &p.statistics, filled, 0, own.row * own.rowTiles + token / Side);
        load_boxes<ValueBoxes>(at.doutputs(place.stage), BoxBytes, &p.doutput, filled, 0, own.head, token, own.sequence);
    }
}

// Tells a team when its turn to add to a sum has come, and the other blocks what it has added.
template <bool Bounded>
__device__ __forceinline__ void keep_order(const HopperCausal& p, const GradientMemory& at, const Keys& own, int team)
{
    for (int i = 0; i <= own.tiles; i++)
    {
        SharedSum sum = i < own.tiles ? own.of_queries(p, i, team) : own.of_rotary(p, team);
        wait_until<Bounded>([=] { return ptx::load_acquired(sum.count) >= sum.turn; }, 0, p.report, ForTurn, team, i);
        hopper::barrier_arrive(at.turn + team);
        wait<Bounded>(at.added + team, i & 1, p.report, ForWritten, team, i);
        ptx::store_released(sum.count, sum.turn + 1);
    }
}

// Score tiles are transposed: 64 keys of a team by 64 queries. Each team also has half of the columns of dQ: of 192, a whole box and half of the one
// in the middle. What it needs for that from the other team is a tile old, so that the teams can stay half a tile apart, one with the tensor cores
// and the other one with its exponentials.
template <bool Bounded>
__global__ void __launch_bounds__(BlockThreads, 1) hopper_gradients(const __grid_constant__ HopperCausal p)
{
    DYNAMIC_SHARED(memory);
    const GradientMemory at(memory);
    const Causal& c = p.call;
    if (threadIdx.x == 0)
    {
        at.make();
        *at.number = static_cast<int>(atomicAdd(p.counts, 1u));
    }

    __syncthreads();
    const Keys own(c, p.slots, *at.number);
    int team = __shfl_sync(AllLanes, threadIdx.x / TeamThreads, 0);
    if (team == Teams)
    {
        hopper::give_registers<LoadingRegisters>();
        if (threadIdx.x % WarpSize != 0) return;
        int task = threadIdx.x % TeamThreads / WarpSize;
        if (task < Teams) keep_order<Bounded>(p, at, own, task);
        else if (task == Teams) load_operands<Bounded>(p, at, own);
        return;
    }

    hopper::take_registers<TeamRegisters>();
    int warpRow = threadIdx.x % TeamThreads / WarpSize * 16;
    float dkNope[Nope / 2] = {}, dkRope[Rope / 2] = {}, dv[Value / 2] = {}, s[Side / 2] = {};
    uint32_t weights[4][4] = {}; // of a tile, then the gradients of its scores
    hopper::Operand keys = hopper::along_sum(at.keys + team * KeyBoxes * BoxBytes), values = hopper::along_sum(at.values + team * ValueBoxes * BoxBytes);

    // Of dQ: boxes 0 and 2, and the halves of box 1.
    hopper::Operand wholeBox = hopper::across_sum(at.keys + team * 2 * BoxBytes, BoxBytes), halfBox = hopper::across_sum(at.keys + BoxBytes + team * RowBytes / 2, BoxBytes);
    int wholeColumn = team * 2 * Side, halfColumn = Side + team * Side / 2;
    Place<GradientMemory::Stages> place;
    Place<GradientMemory::ScoreStages> next;   // where this team writes the next gradients of scores
    Place<GradientMemory::ScoreStages> oldest; // what dQ takes next
    uint32_t turnParity = 0;

    // Writes the scores' gradients of a tile, which say_written says to both teams.
    auto write_tile = [&](int tile)
    {
        wait<Bounded>(at.scoresRead + next.stage, next.parity ^ 1, p.report, ForEmptied, next.stage, tile);
        write_gradients(at.score_gradients(next.stage) + team * BoxBytes, weights, warpRow);
    };
    auto say_written = [&]
    {
        hopper::fence_async();
        release(at.scoresWritten + next.stage);
        next.advance();
    };

    // Behind the last tile, scores are computed of what lies there, and not used: a branch here would cost all products their overlap.
    auto multiply_scores = [&](int tile)
    {
        if (tile < own.tiles) wait<Bounded>(at.filled + place.stage, place.parity, p.report, ForFilled, place.stage, tile);
        multiply_rows<KeyBoxes>(s, keys, BoxBytes, hopper::along_sum(at.queries(place.stage)), BoxBytes);
        hopper::commit_products();
    };

    // With the scores of a tile under way: the weights become their gradients. Nothing is under way afterwards.
    auto differentiate_tile = [&](int tile, bool isFirst)
    {
        const TileStatistics& statistics = at.statistics[place.stage];
        hopper::Operand across = hopper::across_sum(at.doutputs(place.stage), BoxBytes), along = hopper::along_sum(at.doutputs(place.stage));
        hopper::await_sums<0>(s);
        weigh(s, p.factor, statistics.logSumExp, isFirst, warpRow);
        pack(weights, s);
        hopper::begin_products();
        multiply_rows<ValueBoxes>(s, values, BoxBytes, along, BoxBytes);
        hopper::commit_products();
        multiply_weights(dv, weights, across, !isFirst);
        hopper::commit_products();
        hopper::await_sums<1>(s);
        differentiate(s, weights, statistics.delta);
        hopper::compute_first(s[29] + s[30] + s[31]);
        hopper::wait_products<0>();
        pack(weights, s);
        write_tile(tile);
    };
    auto add_keys = [&](bool isFirst)
    {
        const unsigned char* queries = at.queries(place.stage);
        multiply_weights(dkNope, weights, hopper::across_sum(queries, BoxBytes), !isFirst);
        multiply_weights(dkRope, weights, hopper::across_sum(queries + NopeBoxes * BoxBytes, BoxBytes), !isFirst);
        hopper::commit_products();
    };
    auto multiply_whole = [&](int tile)
    {
        wait<Bounded>(at.scoresWritten + oldest.stage, oldest.parity, p.report, ForWritten, oldest.stage, tile);
        multiply_gradients(s, hopper::across_sum(at.score_gradients(oldest.stage), BoxBytes), wholeBox);
        hopper::commit_products();
    };

    auto await_turn = [&](int step)
    {
        wait<Bounded>(at.turn + team, turnParity, p.report, ForTurn, team, step);
        turnParity ^= 1;
    };

    // Adds columns of a tile's dQ, from a vector on, or finishes them.
    auto add_queries = [&](auto& part, int tile, int vector, int column)
    {
        float* sum = own.of_queries(p, tile, team).values + vector * VectorFloats;
        bool isFirst = tile < Teams;
        if (own.block > 0)
        {
            add_part(sum, part, isFirst);
        }
        else
        {
            take_sum(sum, part, isFirst, c.scale);
            store_sums(part, c.dq.row<bf16>(c.query_row(own.sequence, own.head, 0)), c.heads * c.dq.stride, tile * Side + warpRow, c.queries, column, KeyColumns);
        }
    };

    // The rest of a tile's dQ, whose first columns have been multiplied; `begin` begins what is to be under way meanwhile, and afterwards.
    auto finish_queries = [&](int tile, auto begin)
    {
        float half[Side / 4];
        await_turn(tile);
        add_queries(s, tile, 0, wholeColumn);
        hopper::wait_products<0>(); // dK no longer needs the weights' registers
        hopper::begin_products();
        multiply_gradients(half, hopper::across_sum(at.score_gradients(oldest.stage), BoxBytes), halfBox);
        hopper::commit_products();
        begin();
        hopper::await_sums<1>(half);
        release(at.scoresRead + oldest.stage);
        add_queries(half, tile, Side / 8, halfColumn);
        release(at.added + team);
        oldest.advance();
    };

    wait<Bounded>(at.keysFilled, 0, p.report, ForFilled, GradientMemory::Stages, 0);
    if (team > 0)
    {
        // All of the first tile's queries come before these keys, whose gradients there are zero.
        wait<Bounded>(at.filled + place.stage, place.parity, p.report, ForFilled, place.stage, 0);
        release(at.emptied + place.stage);
        place.advance();
        write_tile(0);
        say_written();
    }

    int tile = team;
    if (tile < own.tiles)
    {
        hopper::begin_products();
        if (team > 0)
        {
            multiply_whole(0);
            hopper::await_sums<0>(s);
            finish_queries(0, [&] { multiply_scores(1); });
        }
        else
        {
            multiply_scores(0);
        }

        differentiate_tile(tile, true);
        int previous = place.stage;
        hopper::begin_products();
        add_keys(true);
        place.advance();
        multiply_scores(tile + 1);
        say_written();
        hopper::wait_products<1>();
        release(at.emptied + previous);
        for (tile++; tile < own.tiles; tile++)
        {
            differentiate_tile(tile, false);

            // Under way: dQ of the tile before, dK; then the rest of dQ and the next scores.
            hopper::begin_products();
            multiply_whole(tile - 1);
            add_keys(false);
            say_written();
            hopper::await_sums<1>(s);
            previous = place.stage;
            place.advance();
            finish_queries(tile - 1, [&] { multiply_scores(tile + 1); });
            release(at.emptied + previous);
        }

        hopper::finish_products(s);
        hopper::finish_products(dv);
        hopper::finish_products(dkNope);
        hopper::finish_products(dkRope);
    }

    hopper::begin_products();
    multiply_whole(own.tiles - 1);
    hopper::await_sums<0>(s);
    finish_queries(own.tiles - 1, [&] { hopper::commit_products(); });

    int row = own.first + ptx::thread_again() / WarpSize * 16;
    bf16* to = c.dkv.row<bf16>(c.key_row(own.sequence, own.head, 0));
    scale_sums(dkNope, c.scale);
    store_sums(dkNope, to, c.heads * c.dkv.stride, row, c.keys, 0, Nope);
    store_sums(dv, to + Nope, c.heads * c.dkv.stride, row, c.keys, 0, Value);

    await_turn(own.tiles);
    SharedSum sum = own.of_rotary(p, team);
    if (!sum.isLast)
    {
        add_part(sum.values, dkRope, sum.isFirst);
    }
    else
    {
        take_sum(sum.values, dkRope, sum.isFirst, c.scale);
        store_sums(dkRope, c.dkRope.row<bf16>(c.rope_row(own.sequence, 0)), c.dkRope.stride, row, c.keys, 0, Rope);
    }

    release(at.added + team);
}
