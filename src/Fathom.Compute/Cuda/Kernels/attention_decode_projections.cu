// Into the latent space and out of it (DeepSeek-V2, 2405.04434, §2.1.2), for any type and size: queries times W_UK before attention_decode.cu
// (absorb), its results times W_UV after it (project). The matrices are the two parts of kv_b_proj; a block reads its part once for
// several sequences.
// The trap: sums of a query run in the same order however many queries a block takes.
#include "attention_decode.cuh"

constexpr int Threads = 256, Warps = Threads / WarpSize;
constexpr int ColumnGroups = 4;          // of absorb: parts of the rows of W_UK that are summed beside each other
constexpr int ColumnBlock = Threads / ColumnGroups * 4; // of absorb: latent columns of a block
constexpr int ValueRows = 4;             // of project: rows of W_UV of a warp

// ---- kv_b_proj ----

// Four values of a row from a multiple of four on; zero past the last column.
template <typename W>
__device__ __forceinline__ void load_weights(float (&values)[4], const Decode& p, int64_t row, int column)
{
    const W* from = p.weights.row<const W>(row) + column;
    Pack<W, 4> pack = {};
    if (p.vectors && column < p.latent) pack = *reinterpret_cast<const Pack<W, 4>*>(from);
    else
    {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (column + e < p.latent) pack.values[e] = from[e];
    }

    float scale = p.scaleKind != Unscaled && column < p.latent ? weight_scale(p, row, column) : 1;
#pragma unroll
    for (int e = 0; e < 4; e++) values[e] = to_float(pack.values[e]) * scale;
}

// ---- Into the latent space ----

// Blocks: (chunks of latent columns, heads, groups of Queries sequences). Shared: [Queries, dn], [ColumnGroups, Queries, ColumnBlock].
template <typename T, typename W, typename Absorbed, int Queries>
__global__ void __launch_bounds__(Threads) decode_absorb(const __grid_constant__ Decode p)
{
    DYNAMIC_SHARED(shared);
    float *queries = reinterpret_cast<float*>(shared), *partial = queries + (Queries * p.nope + 3) / 4 * 4;
    int h = blockIdx.y, firstQuery = blockIdx.z * Queries, group = threadIdx.x / (Threads / ColumnGroups), lane = threadIdx.x % (Threads / ColumnGroups);
    int column = blockIdx.x * ColumnBlock + 4 * lane;
    float factor = p.scale * Log2E;
    for (int i = threadIdx.x; i < Queries * p.nope; i += Threads)
    {
        int b = firstQuery + i / p.nope;
        queries[i] = b < p.batch ? to_float(p.q.row<const T>(static_cast<int64_t>(b) * p.heads + h)[i % p.nope]) * factor : 0;
    }

    __syncthreads();
    float sum[Queries][4] = {};
    int rows = divide_up(p.nope, ColumnGroups), end = min(p.nope, (group + 1) * rows);
#pragma unroll 8
    for (int d = group * rows; d < end; d++)
    {
        float w[4];
        load_weights<W>(w, p, static_cast<int64_t>(h) * (p.nope + p.value) + d, column);
#pragma unroll
        for (int s = 0; s < Queries; s++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[s][e] = __fmaf_rn(queries[s * p.nope + d], w[e], sum[s][e]);
    }

#pragma unroll
    for (int s = 0; s < Queries; s++) store_anywhere(partial + (group * Queries + s) * ColumnBlock + 4 * lane, sum[s]);
    __syncthreads();
    for (int i = threadIdx.x; i < Queries * ColumnBlock; i += Threads)
    {
        int b = firstQuery + i / ColumnBlock, c = blockIdx.x * ColumnBlock + i % ColumnBlock;
        if (b >= p.batch || c >= p.latent) continue;
        float total = partial[i];
        for (int g = 1; g < ColumnGroups; g++) total += partial[g * Queries * ColumnBlock + i];
        static_cast<Absorbed*>(p.absorbed)[(static_cast<int64_t>(b) * p.heads + h) * p.queryLength + c] = from_float<Absorbed>(total);
    }

    if (blockIdx.x != 0) return;
    int tail = p.queryLength - p.latent; // the rotary part, and zeros to the end
    for (int i = threadIdx.x; i < Queries * tail; i += Threads)
    {
        int b = firstQuery + i / tail, d = i % tail;
        if (b >= p.batch) continue;
        int64_t row = static_cast<int64_t>(b) * p.heads + h;
        float x = d < p.rope ? to_float(p.q.row<const T>(row)[p.nope + d]) * factor : 0;
        static_cast<Absorbed*>(p.absorbed)[row * p.queryLength + p.latent + d] = from_float<Absorbed>(x);
    }
}

// ---- Out of the latent space ----

// Blocks: (rows of W_UV, heads, groups of Queries sequences). Shared: [Queries, R up to the next 4].
template <typename T, typename W, int Queries>
__global__ void __launch_bounds__(Threads) decode_project(const __grid_constant__ Decode p)
{
    DYNAMIC_SHARED(shared);
    float* latents = reinterpret_cast<float*>(shared);
    int pitch = (p.latent + 3) / 4 * 4, h = blockIdx.y, firstQuery = blockIdx.z * Queries, lane = threadIdx.x % WarpSize;
    for (int i = threadIdx.x; i < Queries * pitch; i += Threads)
    {
        int b = firstQuery + i / pitch, c = i % pitch;
        latents[i] = b < p.batch && c < p.latent ? p.latents[(static_cast<int64_t>(b) * p.heads + h) * p.latent + c] : 0;
    }

    __syncthreads();
    int first = (blockIdx.x * Warps + threadIdx.x / WarpSize) * ValueRows;
    if (first >= p.value) return;
    float sum[ValueRows][Queries] = {};
#pragma unroll 4
    for (int c = 4 * lane; c < p.latent; c += 4 * WarpSize)
    {
        float w[ValueRows][4];
#pragma unroll
        for (int v = 0; v < ValueRows; v++) // rows past the last one are the last one, and are not stored
            load_weights<W>(w[v], p, static_cast<int64_t>(h) * (p.nope + p.value) + p.nope + min(first + v, p.value - 1), c);
#pragma unroll
        for (int s = 0; s < Queries; s++)
        {
            float x[4];
            load(x, latents + s * pitch + c);
#pragma unroll
            for (int v = 0; v < ValueRows; v++)
#pragma unroll
                for (int e = 0; e < 4; e++) sum[v][s] = __fmaf_rn(w[v][e], x[e], sum[v][s]);
        }
    }

#pragma unroll
    for (int v = 0; v < ValueRows; v++)
#pragma unroll
        for (int s = 0; s < Queries; s++)
        {
            float result = warp_reduce<Sum>(sum[v][s]);
            if (lane == 0 && first + v < p.value && firstQuery + s < p.batch)
                p.output.row<T>(static_cast<int64_t>(firstQuery + s) * p.heads + h)[first + v] = from_float<T>(result);
        }
}
