// Into the latent space and out of it on tensor cores, beside attention_decode_hopper.cu, for heads of 128 + 64 / 128 and latents of 512
// (DeepSeek-V2, 2405.04434, §2.1.2). Few queries: what counts is that kv_b_proj is read once, 16 bytes a lane, all of it on its way at
// the same time. No lane's weights are another's: steps of a sum and columns of a result may be numbered in any way, so a lane's
// sixteen bytes are the steps, or the columns, that the numbering makes its own.
// The trap: codes with scales are multiplied as they are, since every E4M3 value is a BF16 one; the scale of a block of 128
// multiplies the sum of its steps, never an element.
#include "attention_decode.cuh"
#include "hopper.cuh"

constexpr int Nope = 128, Value = 128, Latent = 512;
constexpr int Rows = 16;          // sequences of a fragment
constexpr int Pieces16 = 8;       // BF16 in 16 bytes
constexpr int ProjectWarps = Value / 8, ProjectThreads = ProjectWarps * WarpSize;

using Vector = Pack<uint32_t, 4>; // 16 bytes
using Half = Pack<uint32_t, 2>;

// Element i of two vectors of 16 bytes as a pair of BF16, the first in the lower half. Exact.
template <typename W> __device__ __forceinline__ uint32_t pair_across(const Vector& first, const Vector& second, int i)
{
    if constexpr (sizeof(W) == 2) return __byte_perm(first.values[i / 2], second.values[i / 2], i % 2 == 0 ? 0x5410 : 0x7632);
    else
    {
        uint32_t codes = __byte_perm(first.values[i / 4], second.values[i / 4], i % 4 | (4 + i % 4) << 4);
        float low, high;
        Format<W>::decode(codes & 0xffff, low, high);
        return ptx::bf16x2_from_floats(low, high);
    }
}

// Elements 2 i and 2 i + 1 of a vector.
template <typename W> __device__ __forceinline__ uint32_t pair_along(const Vector& vector, int i)
{
    if constexpr (sizeof(W) == 2) return vector.values[i];
    else
    {
        float low, high;
        Format<W>::decode(vector.values[i / 2] >> (16 * (i % 2)) & 0xffff, low, high);
        return ptx::bf16x2_from_floats(low, high);
    }
}

__device__ __forceinline__ float scale_of_block(const Decode& p, int row, int column) { return p.scaleKind == Unscaled ? 1 : weight_scale(p, row, column); }

// ---- Into the latent space ----

// u[b, h] = q_nope[b, h] W_UK[h], and the rotary part as it is. A warp has as many columns as eight lanes hold in 16 bytes each; the
// four lanes of a kind have other rows. Everything is on its way before the first product: each lane copies what it will read itself to
// shared memory of its own, so that no thread waits for another. Blocks: (heads, groups of Rows * Tiles sequences), a warp for each 128
// bytes of a row. Shared: [Pairs, 8 + 2 Tiles, threads] vectors.
template <typename W, int Tiles>
__global__ void __launch_bounds__(WarpSize * Latent * sizeof(W) / 128) decode_absorb_mma(const __grid_constant__ Decode p)
{
    constexpr int Own = 16 / sizeof(W), Pairs = Nope / 32, Slots = 8 + 2 * Tiles, RotaryPieces = 64 / Pieces16, Threads = WarpSize * Latent * sizeof(W) / 128;
    DYNAMIC_SHARED(shared);
    Vector* own = reinterpret_cast<Vector*>(shared) + threadIdx.x;
    int lane = threadIdx.x % WarpSize, outer = lane / 4, inner = lane % 4, h = blockIdx.x, firstQuery = blockIdx.y * Rows * Tiles;
    int column = threadIdx.x / WarpSize * 8 * Own, firstRow = h * (Nope + Value);
    bf16* absorbed = static_cast<bf16*>(p.absorbed);

    // Two products at a time: steps 8 inner + i of their 32 are a lane's own, the first four in the first product.
    const W* from = p.weights.row<const W>(firstRow + 8 * inner) + column + Own * outer;
#pragma unroll
    for (int pair = 0; pair < Pairs; pair++)
    {
        int d = 32 * pair + 8 * inner;
#pragma unroll
        for (int i = 0; i < 8; i++)
        {
            ptx::copy_async16(own + (pair * Slots + i) * Threads, from, true);
            from += p.weights.stride;
        }

        from += (32 - 8) * p.weights.stride;
#pragma unroll
        for (int i = 0; i < 2 * Tiles; i++)
        {
            int b = firstQuery + outer + 8 * i;
            bool there = b < p.batch;
            ptx::copy_async16(own + (pair * Slots + 8 + i) * Threads, p.q.row<const bf16>(static_cast<int64_t>(there ? b : 0) * p.heads + h) + d, there);
        }

        ptx::copy_async_commit();
    }

    if (blockIdx.y == 0)
    {
        // W_UV is wanted after attention, which leaves memory time for it where there are few sequences.
        constexpr int Lines = Latent * sizeof(W) / 128;
        for (int i = threadIdx.x; i < Value * Lines; i += Threads) hopper::prefetch_line(p.weights.row<const W>(firstRow + Nope + i / Lines) + i % Lines * (128 / sizeof(W)));
    }

    for (int i = threadIdx.x; i < Rows * Tiles * RotaryPieces; i += Threads)
    {
        int b = firstQuery + i / RotaryPieces, d = i % RotaryPieces * Pieces16;
        if (b >= p.batch) continue;
        int64_t row = static_cast<int64_t>(b) * p.heads + h;
        *reinterpret_cast<Vector*>(absorbed + row * p.queryLength + Latent + d) = *reinterpret_cast<const Vector*>(p.q.row<const bf16>(row) + Nope + d);
    }

    float sum[Tiles][Own][4] = {};
    auto multiply = [&](int pair)
    {
        Vector weights[8], queries[2 * Tiles];
#pragma unroll
        for (int i = 0; i < 8; i++) weights[i] = own[(pair * Slots + i) * Threads];
#pragma unroll
        for (int i = 0; i < 2 * Tiles; i++) queries[i] = own[(pair * Slots + 8 + i) * Threads];
#pragma unroll
        for (int s = 0; s < 2; s++)
        {
#pragma unroll
            for (int n = 0; n < Own; n++)
            {
                uint32_t first = pair_across<W>(weights[4 * s], weights[4 * s + 1], n), second = pair_across<W>(weights[4 * s + 2], weights[4 * s + 3], n);
#pragma unroll
                for (int tile = 0; tile < Tiles; tile++)
                {
                    const Vector &upper = queries[2 * tile], &lower = queries[2 * tile + 1];
                    uint32_t left[4] = {upper.values[2 * s], lower.values[2 * s], upper.values[2 * s + 1], lower.values[2 * s + 1]};
                    ptx::multiply_bf16(sum[tile][n], left, first, second);
                }
            }
        }
    };
    static_assert(Pairs == 4);
    ptx::copy_async_wait<3>();
    multiply(0);
    ptx::copy_async_wait<2>();
    multiply(1);
    ptx::copy_async_wait<1>();
    multiply(2);
    ptx::copy_async_wait<0>();
    multiply(3);

    // Columns 2 inner and 2 inner + 1 of product n are elements n of the vectors of lanes that have these as their outer number.
    float scale = scale_of_block(p, firstRow, column);
    int firstOwn = column + Own * 2 * inner;
#pragma unroll
    for (int tile = 0; tile < Tiles; tile++)
    {
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            int b = firstQuery + Rows * tile + outer + 8 * half;
            if (b >= p.batch) continue;
            bf16* to = absorbed + (static_cast<int64_t>(b) * p.heads + h) * p.queryLength + firstOwn;
#pragma unroll
            for (int i = 0; i < 2 * Own; i += Pieces16)
            {
                float values[Pieces16];
#pragma unroll
                for (int e = 0; e < Pieces16; e++) values[e] = sum[tile][(i + e) % Own][2 * half + (i + e) / Own] * scale;
                store(to + i, values);
            }
        }
    }
}

// ---- Out of the latent space ----

// Splits joined and out[b, h] = W_UV[h] o[b, h]. The means of splits are weighted by their denominators, in order of the splits, and
// rounded once; of one split nothing changes. Blocks: (heads, groups of Rows sequences), a warp for eight rows of W_UV.
template <typename W>
__global__ void __launch_bounds__(ProjectThreads, 2) decode_project_mma(const __grid_constant__ Decode p)
{
    constexpr int Own = 16 / sizeof(W), Span = 4 * Own, Ahead = 4, Pitch = Latent + Pieces16;
    __shared__ __align__(16) bf16 means[Rows * Pitch];
    __shared__ float shares[Rows][MostSplits];
    __shared__ int splits[Rows];
    int warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize, outer = lane / 4, inner = lane % 4;
    int h = blockIdx.x, firstQuery = blockIdx.y * Rows, firstRow = h * (Nope + Value) + Nope;
    const W* from = p.weights.row<const W>(firstRow + 8 * warp + outer) + Own * inner;
    Vector weights[Ahead]; // on their way while the splits are joined
#pragma unroll
    for (int i = 0; i < Ahead; i++) weights[i] = *reinterpret_cast<const Vector*>(from + i * Span);
#pragma unroll
    for (int i = Ahead; i < Latent / Span; i++) hopper::prefetch_line(from + i * Span);

    // A warp for the splits of a sequence.
    {
        int b = firstQuery + warp, length = b < p.batch ? sequence_length(p, b, h == 0 && lane == 0) : 0, count = length > 0 ? split_count(length) : 0;
        float logarithm = lane < count ? p.largest[p.part(b, lane, h)] : -Infinity, largest = warp_reduce<Max>(logarithm);
        float share = lane < count ? exp2f(logarithm - largest) : 0, total = warp_reduce<Sum>(share);
        shares[warp][lane] = __fdividef(share, total);
        if (lane == 0) splits[warp] = count;
    }

    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < Rows * Latent / Pieces16; i += ProjectThreads)
    {
        int row = i / (Latent / Pieces16), c = i % (Latent / Pieces16) * Pieces16, b = firstQuery + row;
        float mean[Pieces16] = {};
        if (b < p.batch)
        {
            if (splits[row] == 0)
            {
#pragma unroll
                for (int e = 0; e < Pieces16; e++) mean[e] = not_a_number();
            }

            const bf16* parts = static_cast<const bf16*>(p.context) + p.part(b, 0, h) * Latent + c;
#pragma unroll 4
            for (int s = 0; s < splits[row]; s++)
            {
                float part[Pieces16], share = shares[row][s];
                load(part, parts + static_cast<int64_t>(s) * p.heads * Latent);
#pragma unroll
                for (int e = 0; e < Pieces16; e++) mean[e] = __fmaf_rn(share, part[e], mean[e]);
            }
        }

        store_anywhere(means + row * Pitch + c, mean);
    }

    __syncthreads();
    float sum[4] = {};
#pragma unroll
    for (int start = 0; start < Latent; start += TileLength)
    {
        if (start > 0 && start % (Ahead * Span) == 0)
        {
#pragma unroll
            for (int i = 0; i < Ahead; i++) weights[i] = *reinterpret_cast<const Vector*>(from + start + i * Span);
        }

        float block[4] = {};
#pragma unroll
        for (int c = start; c < start + TileLength; c += Span)
        {
#pragma unroll
            for (int s = 0; s < Own / 4; s++)
            {
                // Step 4 s + i of a lane's elements is column 2 inner + i % 2 + 8 (i / 2) of a fragment.
                const Vector& w = weights[c / Span % Ahead];
                const bf16* left = means + outer * Pitch + c + Own * inner + 4 * s;
                Half upper = *reinterpret_cast<const Half*>(left), lower = *reinterpret_cast<const Half*>(left + 8 * Pitch);
                uint32_t a[4] = {upper.values[0], lower.values[0], upper.values[1], lower.values[1]};
                ptx::multiply_bf16(block, a, pair_along<W>(w, 2 * s), pair_along<W>(w, 2 * s + 1));
            }
        }

        float scale = scale_of_block(p, firstRow, start);
#pragma unroll
        for (int e = 0; e < 4; e++) sum[e] = __fmaf_rn(scale, block[e], sum[e]);
    }

#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        int b = firstQuery + outer + 8 * half;
        float pair[2] = {sum[2 * half], sum[2 * half + 1]};
        if (b < p.batch) store(p.output.row<bf16>(static_cast<int64_t>(b) * p.heads + h) + 8 * warp + 2 * inner, pair);
    }
}
