// y = x wᵀ for a handful of rows, as in decoding: all that counts is that w comes once from memory, at full width. Lanes read w
// straight into registers, 16 bytes each. On tensor cores every warp has outputs of its own, so that x and scales, which all warps of
// a block want, come from the first-level cache; in F32 they share the depth and add up through shared memory in a fixed order. Where
// w has few rows, blocks share the depth, and combine_splits adds what they found, in order.
#include "gemm.cuh"

constexpr int FewThreads = 256;
constexpr int FewWarps = FewThreads / WarpSize;
constexpr int FewRows = 8;

// What is known of a block's part: rows [rowFirst, rowEnd), outputs from columnFirst on, and of the depth the 128s from firstStep on,
// every stepStride-th.
template <int Outputs, int RowsAtOnce>
__device__ __forceinline__ bool find_few(const GemmProduct& p, GemmSlice& s)
{
    s.rowFirst = static_cast<int64_t>(blockIdx.y) * RowsAtOnce;
    s.rowEnd = min(p.rows, s.rowFirst + RowsAtOnce);
    s.columnFirst = static_cast<int64_t>(blockIdx.x) * Outputs;
    s.depthFirst = 0;
    s.depth = p.depth;
    s.group = 0;
    s.b = p.b.elements;
    s.bStride = p.b.stride;
    s.bScales = p.b.scales;
    if (p.grouping == NoGroups) return true;
    GroupTile tile = find_group(p.rowOffsets, p.groups, RowsAtOnce, blockIdx.y);
    if (tile.group < 0) return false;
    s.group = tile.group;
    s.rowFirst = tile.first;
    s.rowEnd = min(tile.end, tile.first + RowsAtOnce);
    GemmExpert expert = p.experts[tile.group];
    s.b = expert.elements;
    s.bStride = expert.stride;
    s.bScales.values = expert.scales;
    if (s.bScales.rowStride + s.bScales.depthStride != 0) s.bScales.rowStride = expert.scaleStride;
    return true;
}

// A sum to the result, or to this split's part of p.partial.
template <typename C>
__device__ __forceinline__ void put_few(const GemmProduct& p, int64_t row, int64_t column, float sum)
{
    if (p.partial != nullptr) p.partial[(blockIdx.z * p.rows + row) * p.columns + column] = sum;
    else put(static_cast<C*>(p.c) + row * p.cStride + column, sum, p.accumulate);
}

// Sums of a block's warps, [warp][output][row], to the result.
template <typename C, int Outputs, int RowsAtOnce>
__device__ __forceinline__ void finish_few(const GemmProduct& p, const GemmSlice& s, const float* sums)
{
    __syncthreads();
    for (int i = threadIdx.x; i < Outputs * RowsAtOnce; i += FewThreads)
    {
        int row = i / Outputs, output = i % Outputs;
        float sum = 0;
        for (int warp = 0; warp < FewWarps; warp++) sum += sums[(warp * Outputs + output) * RowsAtOnce + row];
        int64_t y = s.rowFirst + row, column = s.columnFirst + output;
        if (y < s.rowEnd && column < p.columns) put_few<C>(p, y, column, sum);
    }
}

// Sixteen bytes of elements as pairs of BF16.
template <typename Element>
__device__ __forceinline__ void expand(uint32_t (&pairs)[16 / sizeof(Element) / 2], const Pack<uint32_t, 4>& raw)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        if constexpr (SameType<Element, bf16>::value) pairs[i] = raw.values[i];
        else expand_codes<Element>(raw.values[i], pairs[2 * i], pairs[2 * i + 1]);
    }
}

// Count elements of x as pairs of BF16; Count * sizeof(X) bytes, aligned.
template <typename X, int Count>
__device__ __forceinline__ void load_pairs(uint32_t (&pairs)[Count / 2], const void* elements, int64_t at, bool valid)
{
    const X* from = static_cast<const X*>(elements) + at;
    if constexpr (SameType<X, bf16>::value)
    {
#pragma unroll
        for (int i = 0; i < Count / 8; i++)
        {
            Pack<uint32_t, 4> four = valid ? reinterpret_cast<const Pack<uint32_t, 4>*>(from)[i] : Pack<uint32_t, 4>{};
#pragma unroll
            for (int j = 0; j < 4; j++) pairs[4 * i + j] = four.values[j];
        }
    }
    else
    {
        Pack<uint32_t, Count / 4> codes = valid ? *reinterpret_cast<const Pack<uint32_t, Count / 4>*>(from) : Pack<uint32_t, Count / 4>{};
#pragma unroll
        for (int i = 0; i < Count / 4; i++) expand_codes<X>(codes.values[i], pairs[2 * i], pairs[2 * i + 1]);
    }
}

// What a lane holds of w, as it lies in memory: Tiles times 128 of the depth, of two outputs eight apart.
template <typename W, int Tiles>
struct FewWeights
{
    static constexpr int Chunk = 16 / sizeof(W), Steps = TileLength / (4 * Chunk);

    Pack<uint32_t, 4> above[Tiles][Steps], below[Tiles][Steps];

    // The tiles first, first + stride, ...; zeros where there is nothing.
    __device__ __forceinline__ void load(const GemmProduct& p, const GemmSlice& s, int64_t output, int64_t first, int64_t stride, int quarter)
    {
        const W* upper = static_cast<const W*>(s.b) + output * s.bStride;
        const W* lower = upper + 8 * s.bStride;
#pragma unroll
        for (int tile = 0; tile < Tiles; tile++)
        {
#pragma unroll
            for (int step = 0; step < Steps; step++)
            {
                int64_t d = (first + tile * stride) * TileLength + step * 4 * Chunk + quarter * Chunk;
                above[tile][step] = d < s.depth && output < p.columns ? *reinterpret_cast<const Pack<uint32_t, 4>*>(upper + d) : Pack<uint32_t, 4>{};
                below[tile][step] = d < s.depth && output + 8 < p.columns ? *reinterpret_cast<const Pack<uint32_t, 4>*>(lower + d) : Pack<uint32_t, 4>{};
            }
        }
    }
};

// On tensor cores: 16 outputs are the rows of an m16n8k16 product and up to eight rows of x its columns. A fragment's places along
// the depth may be any as long as both operands agree, so each lane takes 16 bytes in a row and feeds them to successive products.
// 128 of the depth is what a scale covers; a lane has its next bytes of w under way, 128 of them where registers allow, while it
// multiplies those before. Rows begin at 16 bytes and hold whole chunks.
template <typename X, typename W, typename C, bool Scaled, int RowTiles>
__global__ void __launch_bounds__(FewThreads, RowTiles > 2 ? 1 : 2) few_rows_tensor(const __grid_constant__ GemmProduct p)
{
    constexpr int Outputs = 16, Chunk = 16 / sizeof(W), Products = Chunk / 4, Tiles = RowTiles == 2 ? 1 : 2 / sizeof(W);
    using Weights = FewWeights<W, Tiles>;
    GemmSlice s;
    if (!find_few<Outputs * FewWarps, FewRows * RowTiles>(p, s)) return;
    int warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize, line = lane / 4, quarter = lane % 4;
    int64_t output = s.columnFirst + warp * Outputs + line;
    if (output - line >= p.columns) return;
    int64_t tiles = divide_up(s.depth, TileLength), first = blockIdx.z, stride = gridDim.z;
    float total[RowTiles][4] = {};
    Weights current;
    current.load(p, s, output, first, stride, quarter);
    for (; first < tiles; first += Tiles * stride)
    {
        Weights next;
        next.load(p, s, output, first + Tiles * stride, stride, quarter);
        // Products of different tiles and steps do not wait for each other where there is one row tile: more have company enough.
        constexpr int Chains = RowTiles == 1 ? Weights::Steps : 1;
#pragma unroll
        for (int t = 0; t < Tiles; t++)
        {
            int64_t tile = first + t * stride;
            float scales[RowTiles][4];
            if constexpr (Scaled)
            {
                bool there = tile < tiles;
                float up = there && output < p.columns ? scale_at(s.bScales, s, output, tile * TileLength) : 0;
                float down = there && output + 8 < p.columns ? scale_at(s.bScales, s, output + 8, tile * TileLength) : 0;
#pragma unroll
                for (int j = 0; j < RowTiles; j++)
                {
#pragma unroll
                    for (int k = 0; k < 2; k++)
                    {
                        int64_t row = s.rowFirst + 8 * j + 2 * quarter + k;
                        float ofX = there && row < s.rowEnd ? scale_at(p.a.scales, s, row, tile * TileLength) : 0;
                        scales[j][k] = up * ofX;
                        scales[j][2 + k] = down * ofX;
                    }
                }
            }

            float part[Chains][RowTiles][4] = {};
#pragma unroll
            for (int step = 0; step < Weights::Steps; step++)
            {
                uint32_t above[Chunk / 2], below[Chunk / 2];
                expand<W>(above, current.above[t][step]);
                expand<W>(below, current.below[t][step]);
                int64_t d = tile * TileLength + step * 4 * Chunk + quarter * Chunk;
#pragma unroll
                for (int j = 0; j < RowTiles; j++)
                {
                    int64_t row = s.rowFirst + 8 * j + line;
                    uint32_t x[Chunk / 2];
                    load_pairs<X, Chunk>(x, p.a.elements, row * p.a.stride + d, d < s.depth && row < s.rowEnd);
#pragma unroll
                    for (int i = 0; i < Products; i++)
                    {
                        uint32_t a[4] = {above[2 * i], below[2 * i], above[2 * i + 1], below[2 * i + 1]};
                        ptx::multiply_bf16(part[step % Chains][j], a, x[2 * i], x[2 * i + 1]);
                    }
                }
            }

#pragma unroll
            for (int j = 0; j < RowTiles; j++)
            {
#pragma unroll
                for (int k = 0; k < 4; k++)
                {
                    float sum = part[0][j][k];
#pragma unroll
                    for (int chain = 1; chain < Chains; chain++) sum += part[chain][j][k];
                    total[j][k] = Scaled ? __fmaf_rn(sum, scales[j][k], total[j][k]) : total[j][k] + sum;
                }
            }
        }

        current = next;
    }

#pragma unroll
    for (int j = 0; j < RowTiles; j++)
    {
#pragma unroll
        for (int k = 0; k < 4; k++)
        {
            int64_t y = s.rowFirst + 8 * j + 2 * quarter + k % 2, column = output + k / 2 * 8;
            if (y < s.rowEnd && column < p.columns) put_few<C>(p, y, column, total[j][k]);
        }
    }
}

// In F32: a warp takes four outputs and 128 of the depth at a time, four elements a lane; scales go into the elements.
template <typename X, typename W, typename C, bool ScaledX, bool ScaledW, bool Vector>
__global__ void __launch_bounds__(FewThreads, 2) few_rows_simt(const __grid_constant__ GemmProduct p)
{
    constexpr int Outputs = 4;
    __shared__ float sums[FewWarps * Outputs * FewRows];
    GemmSlice s;
    if (!find_few<Outputs, FewRows>(p, s)) return;
    int warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize, rows = static_cast<int>(s.rowEnd - s.rowFirst);
    int64_t tiles = divide_up(s.depth, TileLength);
    float total[Outputs][FewRows] = {};
    // Four elements of a row from d on: neighbours, or a warp's width apart.
    auto read = [&](float (&values)[4], auto* from, int64_t d, bool valid)
    {
        if constexpr (Vector)
        {
#pragma unroll
            for (int i = 0; i < 4; i++) values[i] = 0;
            if (!valid || d >= s.depth) return;
            auto pack = *reinterpret_cast<const Pack<typename Plain<decltype(*from)>::type, 4>*>(from + d);
#pragma unroll
            for (int i = 0; i < 4; i++) values[i] = to_float(pack.values[i]);
        }
        else
        {
#pragma unroll
            for (int i = 0; i < 4; i++) values[i] = valid && d + i * WarpSize < s.depth ? to_float(from[d + i * WarpSize]) : 0;
        }
    };

    for (int64_t tile = warp + static_cast<int64_t>(FewWarps) * blockIdx.z; tile < tiles; tile += static_cast<int64_t>(FewWarps) * gridDim.z)
    {
        int64_t d = tile * TileLength + (Vector ? 4 * lane : lane);
        float w[Outputs][4];
#pragma unroll
        for (int o = 0; o < Outputs; o++)
        {
            int64_t output = s.columnFirst + o;
            bool valid = output < p.columns;
            read(w[o], static_cast<const W*>(s.b) + (valid ? output * s.bStride : 0), d, valid);
            if constexpr (ScaledW)
            {
                float scale = valid ? scale_at(s.bScales, s, output, tile * TileLength) : 0;
#pragma unroll
                for (int i = 0; i < 4; i++) w[o][i] *= scale;
            }
        }

#pragma unroll
        for (int row = 0; row < FewRows; row++)
        {
            if (row >= rows) break;
            float x[4];
            read(x, static_cast<const X*>(p.a.elements) + (s.rowFirst + row) * p.a.stride, d, true);
            if constexpr (ScaledX)
            {
                float scale = scale_at(p.a.scales, s, s.rowFirst + row, tile * TileLength);
#pragma unroll
                for (int i = 0; i < 4; i++) x[i] *= scale;
            }

#pragma unroll
            for (int o = 0; o < Outputs; o++)
            {
#pragma unroll
                for (int i = 0; i < 4; i++) total[o][row] = __fmaf_rn(x[i], w[o][i], total[o][row]);
            }
        }
    }

#pragma unroll
    for (int o = 0; o < Outputs; o++)
    {
#pragma unroll
        for (int row = 0; row < FewRows; row++)
        {
            float sum = warp_reduce<Sum>(total[o][row]);
            if (lane == 0) sums[(warp * Outputs + o) * FewRows + row] = sum;
        }
    }

    finish_few<C, Outputs, FewRows>(p, s, sums);
}

// y = sum of the parts, in order; partial [splits][rows][columns].
template <typename C>
__global__ void combine_splits(const float* partial, int splits, int64_t rows, int64_t columns, C* y, int64_t stride, bool accumulate)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= rows * columns) return;
    float sum = 0;
    for (int split = 0; split < splits; split++) sum += partial[split * rows * columns + i];
    put(y + i / columns * stride + i % columns, sum, accumulate);
}
