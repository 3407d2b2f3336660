// Causal attention on the general cores, in F32 arithmetic, for any head dimensions and alignment: what the fp32 recipe runs, and
// BF16 operands that do not fit the tensor cores' tiles (attention_mma.cu). A block of 256 threads holds 64 x 64 scores, four rows
// and four columns a thread, and never more of the T x T matrix.
// The backward pass is one kernel for each gradient: all recompute the probabilities P from the saved log-sum-exp, then
//   dV = P^T dO,  dS = P (dO V^T - delta) scale,  dQ = dS K,  dK = dS^T Q,   delta = row sums of dO O   (FlashAttention, 2205.14135).
// Sums run in the order of the tiles: the same bits in every run. The trap is the rotary key's gradient, a sum over heads: a block
// takes a group of heads one after another, and the groups' sums are added in order afterwards.
#include "attention.cuh"

constexpr int Threads = 256;
constexpr int Tile = 64;               // rows and columns of scores of a block
constexpr int Depth = 32;              // terms of a product that are staged in shared memory at a time
constexpr int DepthPitch = Depth + 4;  // quarter warps read 16 bytes of eight rows without conflicts
constexpr int TilePitch = Tile + 4;

// A block's shared memory; the host asks for 4 (2 Tile DepthPitch + Tile TilePitch + Depth Tile Quads) bytes.
struct Stage
{
    float *left, *right;  // [Tile, Depth]
    float* weights;       // [Tile, TilePitch]
    float* wide;          // [Depth, 64 Quads]

    __device__ explicit Stage(unsigned char* shared)
    {
        left = reinterpret_cast<float*>(shared);
        right = left + Tile * DepthPitch;
        weights = right + Tile * DepthPitch;
        wide = weights + Tile * TilePitch;
    }
};

// One head of one sequence; elements outside are zero.
template <typename T> struct Head
{
    const Causal& p;
    int b, h;

    __device__ float query(int i, int d) const
    {
        return i < p.queries && d < p.nope + p.rope ? to_float(p.q.template row<const T>(p.query_row(b, h, i))[d]) : 0;
    }

    __device__ float key(int j, int d) const
    {
        if (j >= p.keys || d >= p.nope + p.rope) return 0;
        return d < p.nope ? to_float(p.kv.template row<const T>(p.key_row(b, h, j))[d]) : to_float(p.kRope.template row<const T>(p.rope_row(b, j))[d - p.nope]);
    }

    __device__ float value(int j, int v) const
    {
        return j < p.keys && v < p.value ? to_float(p.kv.template row<const T>(p.key_row(b, h, j))[p.nope + v]) : 0;
    }

    __device__ float doutput(int i, int v) const
    {
        return i < p.queries && v < p.value ? to_float(p.doutput.template row<const T>(p.query_row(b, h, i))[v]) : 0;
    }
};

template <int RowCount, int Columns, int Pitch, typename Element>
__device__ __forceinline__ void fill(float* to, Element element)
{
#pragma unroll 4
    for (int i = threadIdx.x; i < RowCount * Columns; i += Threads) to[i / Columns * Pitch + i % Columns] = element(i / Columns, i % Columns);
}

// sum[i][j] += the product over depth of left row 4 y + i and right row x + 16 j, for thread (x, y) of 16 x 16.
template <typename Left, typename Right>
__device__ __forceinline__ void add_product(float (&sum)[4][4], const Stage& stage, int depth, Left left, Right right)
{
    int x = threadIdx.x % 16, y = threadIdx.x / 16;
    for (int from = 0; from < depth; from += Depth)
    {
        __syncthreads();
        fill<Tile, Depth, DepthPitch>(stage.left, [&](int r, int d) { return left(r, from + d); });
        fill<Tile, Depth, DepthPitch>(stage.right, [&](int r, int d) { return right(r, from + d); });
        __syncthreads();
#pragma unroll
        for (int d = 0; d < Depth; d += 4)
        {
            float a[4][4], b[4][4];
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                load(a[i], stage.left + (4 * y + i) * DepthPitch + d);
                load(b[i], stage.right + (x + 16 * i) * DepthPitch + d);
            }

#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) sum[i][j] = __fmaf_rn(a[i][e], b[j][e], sum[i][j]);
        }
    }
}

// sum[i][q][e] += weights row 4 y + i times column 64 q + 4 x + e of a matrix of Tile rows.
template <int Quads, typename Matrix>
__device__ __forceinline__ void add_weighted(float (&sum)[4][Quads][4], const Stage& stage, Matrix matrix)
{
    int x = threadIdx.x % 16, y = threadIdx.x / 16;
    for (int from = 0; from < Tile; from += Depth)
    {
        __syncthreads();
        fill<Depth, 64 * Quads, 64 * Quads>(stage.wide, [&](int r, int c) { return matrix(from + r, c); });
        __syncthreads();
#pragma unroll 2
        for (int d = 0; d < Depth; d += 4)
        {
            float w[4][4];
#pragma unroll
            for (int i = 0; i < 4; i++) load(w[i], stage.weights + (4 * y + i) * TilePitch + from + d);
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int q = 0; q < Quads; q++)
                {
                    float m[4];
                    load(m, stage.wide + (d + k) * 64 * Quads + 64 * q + 4 * x);
#pragma unroll
                    for (int i = 0; i < 4; i++)
#pragma unroll
                        for (int e = 0; e < 4; e++) sum[i][q][e] = __fmaf_rn(w[i][k], m[e], sum[i][q][e]);
                }
        }
    }
}

__device__ __forceinline__ void put_weights(const Stage& stage, const float (&w)[4][4])
{
    int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) stage.weights[(4 * y + i) * TilePitch + x + 16 * j] = w[i][j];
}

// Over the sixteen threads of a row.
template <typename Op>
__device__ __forceinline__ float row_reduce(float x)
{
#pragma unroll
    for (int distance = 8; distance > 0; distance /= 2) x = Op::combine(x, __shfl_xor_sync(AllLanes, x, distance));
    return x;
}

// Blocks: (tiles of queries times chunks of 64 Quads value columns, heads, sequences), those with the most keys first.
template <typename T, int Quads>
__global__ void __launch_bounds__(Threads, 2) causal_forward(const __grid_constant__ Causal p)
{
    DYNAMIC_SHARED(shared);
    Stage stage(shared);
    int chunks = divide_up(p.value, 64 * Quads), column = blockIdx.x % chunks * 64 * Quads;
    int first = (gridDim.x / chunks - 1 - blockIdx.x / chunks) * Tile, x = threadIdx.x % 16, y = threadIdx.x / 16;
    Head<T> head{p, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y)};
    float sum[4][Quads][4] = {}, largest[4], total[4] = {};
    for (float& m : largest) m = -Infinity;
    for (int key = 0, end = min(p.keys, p.last_key(first + Tile - 1) + 1); key < end; key += Tile)
    {
        float s[4][4] = {};
        add_product(s, stage, p.nope + p.rope, [&](int r, int d) { return head.query(first + r, d); }, [&](int r, int d) { return head.key(key + r, d); });
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            float m = largest[i], rowSum = 0;
#pragma unroll
            for (int j = 0; j < 4; j++)
            {
                s[i][j] = key + x + 16 * j <= p.last_key(first + 4 * y + i) ? s[i][j] * p.scale : -Infinity;
                m = fmaxf(m, s[i][j]);
            }

            m = row_reduce<Max>(m);
            float factor = expf(largest[i] - m);
            largest[i] = m;
#pragma unroll
            for (int j = 0; j < 4; j++) rowSum += s[i][j] = expf(s[i][j] - m);
            total[i] = total[i] * factor + row_reduce<Sum>(rowSum);
#pragma unroll
            for (int q = 0; q < Quads; q++)
#pragma unroll
                for (int e = 0; e < 4; e++) sum[i][q][e] *= factor;
        }

        put_weights(stage, s);
        add_weighted<Quads>(sum, stage, [&](int r, int c) { return head.value(key + r, column + c); });
    }

    for (int i = 0; i < 4; i++)
    {
        int query = first + 4 * y + i;
        if (query >= p.queries) continue;
        T* to = p.output.row<T>(p.query_row(head.b, head.h, query));
#pragma unroll
        for (int q = 0; q < Quads; q++)
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                int c = column + 64 * q + 4 * x + e;
                if (c < p.value) to[c] = from_float<T>(sum[i][q][e] / total[i]);
            }

        if (p.logSumExp != nullptr && x == 0 && column == 0) p.logSumExp[p.statistic(head.b, head.h, query)] = largest[i] + logf(total[i]);
    }
}

// delta; a warp for each row of the output.
template <typename T>
__global__ void __launch_bounds__(Threads) causal_delta(const __grid_constant__ Causal p)
{
    int64_t row = (static_cast<int64_t>(blockIdx.x) * Threads + threadIdx.x) / WarpSize;
    if (row >= static_cast<int64_t>(p.batch) * p.queries * p.heads) return;
    const T *output = p.output.row<const T>(row), *doutput = p.doutput.row<const T>(row);
    float sum = 0;
    for (int v = threadIdx.x % WarpSize; v < p.value; v += WarpSize) sum = __fmaf_rn(to_float(output[v]), to_float(doutput[v]), sum);
    sum = warp_reduce<Sum>(sum);
    int64_t token = row / p.heads;
    int b = token / p.queries, h = row % p.heads, i = token % p.queries;
    if (threadIdx.x % WarpSize == 0) p.delta[p.statistic(b, h, i)] = sum;
}

enum Gradient { OfQueries, OfKeys, OfValues };

// Rows of the scores' tile are queries for dQ, and keys for dK and dV.
// Blocks: (chunks of 64 Quads columns, groups of heads for dK or heads, tiles of rows times sequences), those with the most work first.
template <typename T, Gradient Of, int Quads>
__global__ void __launch_bounds__(Threads, 2) causal_gradient(const __grid_constant__ Causal p)
{
    DYNAMIC_SHARED(shared);
    Stage stage(shared);
    int x = threadIdx.x % 16, y = threadIdx.x / 16, column = blockIdx.x * 64 * Quads, tiles = gridDim.z / p.batch;
    int b = blockIdx.z % p.batch, tile = blockIdx.z / p.batch, first = (Of == OfQueries ? tiles - 1 - tile : tile) * Tile;
    int groupHeads = Of == OfKeys ? p.groupHeads : 1, firstHead = blockIdx.y * groupHeads, lastHead = min(firstHead + groupHeads, p.heads) - 1;
    float sum[4][Quads][4] = {};
    for (int h = firstHead; h <= lastHead; h++)
    {
        Head<T> head{p, b, h};
        int begin = Of == OfQueries ? 0 : first, end = Of == OfQueries ? min(first + Tile, p.queries) : p.queries;
        for (int other = begin; other < end; other += Tile)
        {
            int query = Of == OfQueries ? first : other, key = Of == OfQueries ? other : first;
            float w[4][4] = {}, dp[4][4] = {};
            auto queries = [&](int r, int d) { return head.query(query + r, d); };
            auto keys = [&](int r, int d) { return head.key(key + r, d); };
            auto values = [&](int r, int v) { return head.value(key + r, v); };
            auto doutputs = [&](int r, int v) { return head.doutput(query + r, v); };
            if constexpr (Of == OfQueries)
            {
                add_product(w, stage, p.nope + p.rope, queries, keys);
                add_product(dp, stage, p.value, doutputs, values);
            }
            else
            {
                add_product(w, stage, p.nope + p.rope, keys, queries);
                if constexpr (Of == OfKeys) add_product(dp, stage, p.value, values, doutputs);
            }

#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                {
                    int row = 4 * y + i, other = x + 16 * j;
                    int theQuery = query + (Of == OfQueries ? row : other), theKey = key + (Of == OfQueries ? other : row);
                    bool visible = theQuery < p.queries && theKey <= theQuery;
                    int64_t at = p.statistic(b, h, visible ? theQuery : 0);
                    float probability = visible ? expf(__fmaf_rn(w[i][j], p.scale, -p.logSumExp[at])) : 0;
                    w[i][j] = Of == OfValues || !visible ? probability : probability * (dp[i][j] - p.delta[at]) * p.scale;
                }

            put_weights(stage, w);
            add_weighted<Quads>(sum, stage, [&](int r, int c)
            {
                return Of == OfQueries ? head.key(key + r, column + c) : Of == OfKeys ? head.query(query + r, column + c) : head.doutput(query + r, column + c);
            });
        }

#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int q = 0; q < Quads; q++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                {
                    int row = first + 4 * y + i, c = column + 64 * q + 4 * x + e;
                    int columns = Of == OfQueries ? p.nope + p.rope : Of == OfKeys ? p.nope : p.value;
                    if (row < p.queries && c < columns)
                    {
                        int64_t at = p.query_row(b, h, row);
                        T* to = Of == OfQueries ? p.dq.row<T>(at) : p.dkv.row<T>(at) + (Of == OfKeys ? 0 : p.nope);
                        to[c] = from_float<T>(sum[i][q][e]);
                    }

                    if (Of == OfKeys && row < p.queries && c >= p.nope && c < p.nope + p.rope && h == lastHead)
                        p.rotary[(static_cast<int64_t>(blockIdx.y) * p.batch * p.queries + p.rope_row(b, row)) * p.rope + c - p.nope] = sum[i][q][e];
                    if (Of == OfKeys && c < p.nope) sum[i][q][e] = 0;
                }
    }
}

// dkRope = the groups' sums, added in order; a thread for each element.
template <typename T>
__global__ void __launch_bounds__(Threads) sum_rotary(const __grid_constant__ Causal p)
{
    int64_t at = static_cast<int64_t>(blockIdx.x) * Threads + threadIdx.x, elements = static_cast<int64_t>(p.batch) * p.keys * p.rope;
    if (at >= elements) return;
    float sum = 0;
    for (int group = 0; group < p.groups; group++) sum += p.rotary[group * elements + at];
    p.dkRope.row<T>(at / p.rope)[at % p.rope] = from_float<T>(sum);
}
