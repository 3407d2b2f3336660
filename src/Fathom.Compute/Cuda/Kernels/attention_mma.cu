// Causal attention on tensor cores: BF16 operands, F32 scores and sums, mma.sync 16x8x16 (FlashAttention-2, 2307.08691, and its
// backward pass). A block of four warps keeps its own rows in shared memory and streams tiles of the other side past them; a score
// tile is a warp's accumulator and becomes the left operand of the next product in registers, without a way through memory.
// Head dimensions are template integers, multiples of 16; what is missing to them is zero in shared memory. Two blocks share a
// multiprocessor (94 KiB forward, 109 KiB backward at 192/128), so one computes its softmax while the other multiplies.
// The traps: rows of a tile past the sequence's end (zero, and masked or not stored), and copies that write what a slower warp still
// reads: every tile is refilled right after the barrier that follows its last use.
#include "attention.cuh"

constexpr int Warps = 4, Threads = Warps * WarpSize;
constexpr int Tile = 64; // keys of the forward pass, rows and columns of the backward pass
constexpr int QueryRows = 32, QueryTile = Warps * QueryRows; // of the forward pass

// Elements from row to row of a tile: an odd number of 16-byte pieces, so that eight rows of a matrix lie in different banks.
__host__ __device__ constexpr int pitch(int columns) { return columns + 8; }

// Begins to copy a tile: row i from + i * stride, of which `rows` are there; columns from `columns` to Columns become zero.
template <int RowCount, int Columns, int Pitch>
__device__ __forceinline__ void copy_tile(bf16* to, const bf16* from, int64_t stride, int rows, int columns)
{
    // A thread keeps its column where the pieces of a row divide the threads; then a pointer that moves on is all it needs.
    constexpr int Pieces = Columns / 8, Step = Threads % Pieces == 0 ? Threads / Pieces : 1;
    if constexpr (Threads % Pieces == 0)
    {
        int row = threadIdx.x / Pieces, column = threadIdx.x % Pieces * 8;
        const bf16* source = from + row * stride + column;
        to += row * Pitch + column;
        if (column >= columns) rows = 0;
#pragma unroll
        for (int i = 0; i < RowCount; i += Step, source += Step * stride)
            if (RowCount % Step == 0 || row + i < RowCount) ptx::copy_async16(to + i * Pitch, row + i < rows ? source : from, row + i < rows);
    }
    else
    {
        for (int at = threadIdx.x; at < RowCount * Pieces; at += Threads)
        {
            int row = at / Pieces, column = at % Pieces * 8;
            bool valid = row < rows && column < columns;
            ptx::copy_async16(to + row * Pitch + column, valid ? from + row * stride + column : from, valid);
        }
    }
}

// One head of one sequence, by tiles.
template <int Nope, int Rope, int Value> struct Tiles
{
    static constexpr int Key = Nope + Rope, KeyPitch = pitch(Key), ValuePitch = pitch(Value);

    const Causal& p;
    int b, h;

    template <int RowCount> __device__ __forceinline__ void queries(bf16* to, int first) const
    {
        const bf16* from = p.q.row<const bf16>(p.query_row(b, h, first));
        copy_tile<RowCount, Nope, KeyPitch>(to, from, p.heads * p.q.stride, p.queries - first, p.nope);
        copy_tile<RowCount, Rope, KeyPitch>(to + Nope, from + p.nope, p.heads * p.q.stride, p.queries - first, p.rope);
    }

    __device__ __forceinline__ void keys(bf16* to, int first) const
    {
        copy_tile<Tile, Nope, KeyPitch>(to, p.kv.row<const bf16>(p.key_row(b, h, first)), p.heads * p.kv.stride, p.keys - first, p.nope);
        copy_tile<Tile, Rope, KeyPitch>(to + Nope, p.kRope.row<const bf16>(p.rope_row(b, first)), p.kRope.stride, p.keys - first, p.rope);
    }

    __device__ __forceinline__ void values(bf16* to, int first) const
    {
        copy_tile<Tile, Value, ValuePitch>(to, p.kv.row<const bf16>(p.key_row(b, h, first)) + p.nope, p.heads * p.kv.stride, p.keys - first, p.value);
    }

    __device__ __forceinline__ void doutputs(bf16* to, int first) const
    {
        copy_tile<Tile, Value, ValuePitch>(to, p.doutput.row<const bf16>(p.query_row(b, h, first)), p.heads * p.doutput.stride, p.queries - first, p.value);
    }
};

// The left operand of 16 rows and 16 columns of a tile.
__device__ __forceinline__ void load_left(uint32_t (&a)[4], const bf16* tile, int pitch)
{
    int lane = threadIdx.x % WarpSize;
    ptx::load_matrices(a, tile + lane % 16 * pitch + lane / 16 * 8);
}

// sum[m][n] += rows of `left` times rows of `right`: RowTiles times 16 rows, Columns rows of the right side, Inner terms.
template <int RowTiles, int Columns, int Inner, int Pitch>
__device__ __forceinline__ void multiply_rows(float (&sum)[RowTiles][Columns / 8][4], const bf16* left, const bf16* right)
{
    int lane = threadIdx.x % WarpSize;
    right += (lane % 8 + lane / 16 * 8) * Pitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < Inner; k += 16)
    {
        uint32_t a[RowTiles][4];
#pragma unroll
        for (int m = 0; m < RowTiles; m++) load_left(a[m], left + m * 16 * Pitch + k, Pitch);
#pragma unroll
        for (int n = 0; n < Columns / 16; n++)
        {
            uint32_t b[4];
            ptx::load_matrices(b, right + n * 16 * Pitch + k);
#pragma unroll
            for (int m = 0; m < RowTiles; m++)
            {
                ptx::multiply_bf16(sum[m][2 * n], a[m], b[0], b[1]);
                ptx::multiply_bf16(sum[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// sum[m][n] += weights times the Tile rows of `right`; weights[m][k] are the left operand of rows 16 k on.
template <int RowTiles, int Columns, int Pitch>
__device__ __forceinline__ void multiply_weights(float (&sum)[RowTiles][Columns / 8][4], const uint32_t (&weights)[RowTiles][Tile / 16][4], const bf16* right)
{
    int lane = threadIdx.x % WarpSize;
    right += lane % 16 * Pitch + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < Tile / 16; k++)
#pragma unroll
        for (int n = 0; n < Columns / 16; n++)
        {
            uint32_t b[4];
            ptx::load_matrices_transposed(b, right + k * 16 * Pitch + n * 16);
#pragma unroll
            for (int m = 0; m < RowTiles; m++)
            {
                ptx::multiply_bf16(sum[m][2 * n], weights[m][k], b[0], b[1]);
                ptx::multiply_bf16(sum[m][2 * n + 1], weights[m][k], b[2], b[3]);
            }
        }
}

// A score tile as a left operand. Accumulator n holds columns 8 n + 2 (lane % 4) + {0, 1} of rows lane / 4 (0, 1) and lane / 4 + 8 (2, 3).
template <int RowTiles>
__device__ __forceinline__ void pack(uint32_t (&weights)[RowTiles][Tile / 16][4], const float (&s)[RowTiles][Tile / 8][4])
{
#pragma unroll
    for (int m = 0; m < RowTiles; m++)
#pragma unroll
        for (int k = 0; k < Tile / 16; k++)
#pragma unroll
            for (int e = 0; e < 4; e++) weights[m][k][e] = ptx::bf16x2_from_floats(s[m][2 * k + e / 2][e % 2 * 2], s[m][2 * k + e / 2][e % 2 * 2 + 1]);
}

__device__ __forceinline__ void store_pair(bf16* to, float a, float b) { *reinterpret_cast<uint32_t*>(to) = ptx::bf16x2_from_floats(a, b); }

// Over the four lanes that hold a row.
template <typename Op>
__device__ __forceinline__ float row_reduce(float x)
{
    x = Op::combine(x, __shfl_xor_sync(AllLanes, x, 1));
    return Op::combine(x, __shfl_xor_sync(AllLanes, x, 2));
}

// Blocks: (tiles of queries, heads, sequences), those with the most keys first. Key tiles run from the diagonal to the first.
template <int Nope, int Rope, int Value>
__global__ void __launch_bounds__(Threads, 2) causal_forward_mma(const __grid_constant__ Causal p)
{
    using T = Tiles<Nope, Rope, Value>;
    DYNAMIC_SHARED(shared);
    bf16 *q = reinterpret_cast<bf16*>(shared), *k = q + QueryTile * T::KeyPitch, *v = k + Tile * T::KeyPitch;
    T tiles{p, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y)};
    int first = (gridDim.x - 1 - blockIdx.x) * QueryTile, warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize;
    int row = first + warp * QueryRows + lane / 4; // of accumulator rows: + 16 m + 8 half
    float o[2][Value / 8][4] = {}, largest[2][2], total[2][2] = {};
    for (auto& pair : largest) pair[0] = pair[1] = -Infinity;
    float factor = p.scale * Log2E;
    int key = (min(p.keys, p.last_key(first + QueryTile - 1) + 1) - 1) / Tile * Tile;
    tiles.template queries<QueryTile>(q, first);
    tiles.keys(k, key);
    ptx::copy_async_commit();
    for (; key >= 0; key -= Tile)
    {
        ptx::copy_async_wait<0>();
        __syncthreads(); // the keys are here, and the values before are used
        tiles.values(v, key);
        ptx::copy_async_commit();
        bool visible = key <= p.last_key(first + warp * QueryRows + QueryRows - 1); // to any row of the warp
        float s[2][Tile / 8][4] = {};
        if (visible) multiply_rows<2, Tile, T::Key, T::KeyPitch>(s, q + warp * QueryRows * T::KeyPitch, k);
        ptx::copy_async_wait<0>();
        __syncthreads(); // the values are here, and the keys are used
        if (key > 0) tiles.keys(k, key - Tile);
        ptx::copy_async_commit();
        if (!visible) continue;
        bool masked = key + Tile - 1 > p.last_key(first + warp * QueryRows);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int half = 0; half < 2; half++)
            {
                int hidden = p.last_key(row + 16 * m + 8 * half) + 1 - key - lane % 4 * 2; // accumulator columns from here on
                float before = largest[m][half], now = before;
#pragma unroll
                for (int n = 0; n < Tile / 8; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                    {
                        float& x = s[m][n][2 * half + e];
                        x = masked && 8 * n + e >= hidden ? -Infinity : x * factor;
                        now = fmaxf(now, x);
                    }

                now = row_reduce<Max>(now);
                largest[m][half] = now;
                // A row that has seen no key yet: every power below is that of minus infinity.
                float from = now == -Infinity ? 0 : now, shrink = exp2f(before - from), sum = 0;
#pragma unroll
                for (int n = 0; n < Tile / 8; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) sum += s[m][n][2 * half + e] = exp2f(s[m][n][2 * half + e] - from);
                total[m][half] = total[m][half] * shrink + sum;
#pragma unroll
                for (int n = 0; n < Value / 8; n++)
                {
                    o[m][n][2 * half] *= shrink;
                    o[m][n][2 * half + 1] *= shrink;
                }
            }

        uint32_t weights[2][Tile / 16][4];
        pack(weights, s);
        multiply_weights<2, Value, T::ValuePitch>(o, weights, v);
    }

#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            int query = row + 16 * m + 8 * half;
            float sum = row_reduce<Sum>(total[m][half]), inverse = 1 / sum;
            if (query >= p.queries) continue;
            bf16* to = p.output.row<bf16>(p.query_row(tiles.b, tiles.h, query));
#pragma unroll
            for (int n = 0; n < Value / 8; n++)
                if (8 * n < p.value) store_pair(to + 8 * n + lane % 4 * 2, o[m][n][2 * half] * inverse, o[m][n][2 * half + 1] * inverse);
            if (p.logSumExp != nullptr && lane % 4 == 0)
                p.logSumExp[p.statistic(tiles.b, tiles.h, query)] = (largest[m][half] + log2f(sum)) * Ln2;
        }
}

// Blocks: (tiles of queries, heads, sequences), those with the most keys first.
template <int Nope, int Rope, int Value>
__global__ void __launch_bounds__(Threads, 2) causal_query_gradient_mma(const __grid_constant__ Causal p)
{
    using T = Tiles<Nope, Rope, Value>;
    DYNAMIC_SHARED(shared);
    bf16 *q = reinterpret_cast<bf16*>(shared), *k = q + Tile * T::KeyPitch, *v = k + 2 * Tile * T::KeyPitch, *doutput = v + Tile * T::ValuePitch;
    T tiles{p, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y)};
    int first = (gridDim.x - 1 - blockIdx.x) * Tile, warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize;
    int row = first + warp * 16 + lane / 4; // of accumulator rows: + 8 half
    float dq[1][T::Key / 8][4] = {}, logSumExp[2], delta[2], factor = p.scale * Log2E;
#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        bool there = row + 8 * half < p.queries;
        int64_t at = p.statistic(tiles.b, tiles.h, there ? row + 8 * half : 0);
        logSumExp[half] = there ? p.logSumExp[at] * Log2E : Infinity;
        delta[half] = there ? p.delta[at] : 0;
    }

    tiles.template queries<Tile>(q, first);
    tiles.doutputs(doutput, first);
    tiles.keys(k, 0);
    tiles.values(v, 0);
    ptx::copy_async_commit();
    for (int key = 0, buffer = 0; key <= first; key += Tile, buffer ^= 1)
    {
        const bf16* now = k + buffer * Tile * T::KeyPitch;
        ptx::copy_async_wait<0>();
        __syncthreads(); // this tile is here, and the keys before are used
        if (key < first) tiles.keys(k + (buffer ^ 1) * Tile * T::KeyPitch, key + Tile);
        ptx::copy_async_commit();
        float s[1][Tile / 8][4] = {}, dp[1][Tile / 8][4] = {};
        multiply_rows<1, Tile, T::Key, T::KeyPitch>(s, q + warp * 16 * T::KeyPitch, now);
        multiply_rows<1, Tile, Value, T::ValuePitch>(dp, doutput + warp * 16 * T::ValuePitch, v);
        __syncthreads(); // the values are used
        if (key < first) tiles.values(v, key + Tile);
        ptx::copy_async_commit();
#pragma unroll
        for (int n = 0; n < Tile / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                bool hidden = key + 8 * n + lane % 4 * 2 + e % 2 > row + e / 2 * 8;
                float probability = hidden ? 0 : exp2f(__fmaf_rn(s[0][n][e], factor, -logSumExp[e / 2]));
                s[0][n][e] = probability * (dp[0][n][e] - delta[e / 2]);
            }

        uint32_t weights[1][Tile / 16][4];
        pack(weights, s);
        multiply_weights<1, T::Key, T::KeyPitch>(dq, weights, now);
    }

#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        if (row + 8 * half >= p.queries) continue;
        bf16* to = p.dq.row<bf16>(p.query_row(tiles.b, tiles.h, row + 8 * half)) + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < T::Key / 8; n++)
        {
            int column = 8 * n < Nope ? 8 * n : 8 * n - Nope;
            if (column < (8 * n < Nope ? p.nope : p.rope))
                store_pair(to + column + (8 * n < Nope ? 0 : p.nope), dq[0][n][2 * half] * p.scale, dq[0][n][2 * half + 1] * p.scale);
        }
    }
}

// Score tiles are transposed: their rows are keys. Blocks: (groups of heads, tiles of keys, sequences), those with the most queries
// first. The rotary key's gradient stays in its accumulators from head to head of the group.
template <int Nope, int Rope, int Value>
__global__ void __launch_bounds__(Threads, 2) causal_key_gradient_mma(const __grid_constant__ Causal p)
{
    using T = Tiles<Nope, Rope, Value>;
    DYNAMIC_SHARED(shared);
    bf16 *k = reinterpret_cast<bf16*>(shared), *q = k + Tile * T::KeyPitch, *doutput = q + 2 * Tile * T::KeyPitch, *v = doutput + Tile * T::ValuePitch;
    float* statistics = reinterpret_cast<float*>(v + Tile * T::ValuePitch); // [2 buffers][log-sum-exp, delta][Tile]
    int b = blockIdx.z, first = blockIdx.y * Tile, warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize;
    int row = first + warp * 16 + lane / 4; // of accumulator rows: + 8 half
    float dk[1][T::Key / 8][4] = {}, dv[1][Value / 8][4], factor = p.scale * Log2E;
    for (int h = blockIdx.x * p.groupHeads, end = min(h + p.groupHeads, p.heads); h < end; h++)
    {
        T tiles{p, b, h};
        auto load_statistics = [&](int query, int buffer)
        {
            int i = threadIdx.x % Tile;
            bool isDelta = threadIdx.x / Tile == 1, there = query + i < p.queries;
            int64_t at = p.statistic(b, h, there ? query + i : 0);
            statistics[(2 * buffer + isDelta) * Tile + i] = isDelta ? (there ? p.delta[at] : 0) : there ? p.logSumExp[at] * Log2E : Infinity;
        };
#pragma unroll
        for (int n = 0; n < Nope / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) dk[0][n][e] = 0;
#pragma unroll
        for (int n = 0; n < Value / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) dv[0][n][e] = 0;
        __syncthreads(); // the tiles of the head before are used
        tiles.keys(k, first);
        tiles.values(v, first);
        tiles.template queries<Tile>(q, first);
        tiles.doutputs(doutput, first);
        ptx::copy_async_commit();
        load_statistics(first, 0);
        for (int query = first, buffer = 0; query < p.queries; query += Tile, buffer ^= 1)
        {
            const bf16* now = q + buffer * Tile * T::KeyPitch;
            const float *logSumExp = statistics + 2 * buffer * Tile, *delta = logSumExp + Tile;
            bool more = query + Tile < p.queries;
            ptx::copy_async_wait<0>();
            __syncthreads(); // this tile is here, and the queries before are used
            if (more) tiles.template queries<Tile>(q + (buffer ^ 1) * Tile * T::KeyPitch, query + Tile);
            ptx::copy_async_commit();
            if (more) load_statistics(query + Tile, buffer ^ 1);
            uint32_t weights[1][Tile / 16][4];
            {
                float s[1][Tile / 8][4] = {};
                multiply_rows<1, Tile, T::Key, T::KeyPitch>(s, k + warp * 16 * T::KeyPitch, now);
#pragma unroll
                for (int n = 0; n < Tile / 8; n++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                    {
                        int column = 8 * n + lane % 4 * 2 + e % 2;
                        bool hidden = row + e / 2 * 8 > query + column;
                        s[0][n][e] = hidden ? 0 : exp2f(__fmaf_rn(s[0][n][e], factor, -logSumExp[column]));
                    }

                pack(weights, s);
            }

            multiply_weights<1, Value, T::ValuePitch>(dv, weights, doutput);
            float dp[1][Tile / 8][4] = {};
            multiply_rows<1, Tile, Value, T::ValuePitch>(dp, v + warp * 16 * T::ValuePitch, doutput);
            __syncthreads(); // the output's gradients are used
            if (more) tiles.doutputs(doutput, query + Tile);
            ptx::copy_async_commit();
#pragma unroll
            for (int n = 0; n < Tile / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                {
                    uint32_t pair = weights[0][n / 2][n % 2 * 2 + e / 2];
                    float probability = __uint_as_float(e % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
                    dp[0][n][e] = probability * (dp[0][n][e] - delta[8 * n + lane % 4 * 2 + e % 2]);
                }

            pack(weights, dp);
            multiply_weights<1, T::Key, T::KeyPitch>(dk, weights, now);
        }

#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            if (row + 8 * half >= p.keys) continue;
            bf16* to = p.dkv.row<bf16>(p.key_row(b, h, row + 8 * half)) + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < Nope / 8; n++)
                if (8 * n < p.nope) store_pair(to + 8 * n, dk[0][n][2 * half] * p.scale, dk[0][n][2 * half + 1] * p.scale);
#pragma unroll
            for (int n = 0; n < Value / 8; n++)
                if (8 * n < p.value) store_pair(to + p.nope + 8 * n, dv[0][n][2 * half], dv[0][n][2 * half + 1]);
        }
    }

#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        if (row + 8 * half >= p.keys) continue;
        float* to = p.rotary + (static_cast<int64_t>(blockIdx.x) * p.batch * p.keys + p.rope_row(b, row + 8 * half)) * p.rope + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < Rope / 8; n++)
        {
            float pair[2] = {dk[0][Nope / 8 + n][2 * half] * p.scale, dk[0][Nope / 8 + n][2 * half + 1] * p.scale};
            if (8 * n < p.rope) store(to + 8 * n, pair);
        }
    }
}
