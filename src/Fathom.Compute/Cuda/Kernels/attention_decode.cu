// Absorbed decode over the paged latent cache (DeepSeek-V2, 2405.04434, §2.1.2), for any type and size: all heads of a sequence attend to
// its latents, of which each split is a block's (attend), and splits are joined in order (join). Keys and values are never expanded; a
// latent is read once for up to 64 heads. attention_decode_projections.cu brings queries here and results back.
// The trap: a sequence's result must not depend on the batch. Splits follow from its own length (split_length), sums of a head and a
// query run in the same order however many heads or queries a block takes, and blocks past a sequence's end leave.
#include "attention_decode.cuh"

constexpr int Threads = 256, Warps = Threads / WarpSize;
constexpr int TokenTile = 32; // cached tokens that are multiplied at a time

// ---- Attention of a split ----

// Null where the table names a block that is not there; `broken` then becomes true, and the sequence's result NaN.
template <typename C> __device__ __forceinline__ const C* cached_token(const Decode& p, int b, int token, int& broken)
{
    int block = p.blockTables[b * p.tableColumns + token / p.blockSize];
    if (!in_range(block, p.cacheBlocks, b, DecodeBlockFault, p.fault))
    {
        broken = true;
        return nullptr;
    }

    return p.cache.row<const C>(static_cast<int64_t>(block) * p.blockSize + token % p.blockSize);
}

// In F32: sixteen heads by a split, a thread for two scores of a tile and for Columns columns of all sixteen sums.
// Blocks: (groups of heads, splits, sequences). Shared: [16, pitch], [TokenTile, pitch], pitch = queryLength up to the next 4, plus 4.
template <typename C, int Columns>
__global__ void __launch_bounds__(Threads) decode_attend(const __grid_constant__ Decode p)
{
    constexpr int Heads = 16, WeightPitch = TokenTile + 4;
    DYNAMIC_SHARED(shared);
    __shared__ __align__(16) float weights[Heads * WeightPitch];
    __shared__ float factors[Heads];
    __shared__ int broken;
    int b = blockIdx.z, length = sequence_length(p, b, threadIdx.x == 0), first = blockIdx.y * split_length(length), end = min(length, first + split_length(length));
    if (first >= length) return;
    int columns = p.latent + p.rope, pitch = (columns + 3) / 4 * 4 + 4, firstHead = blockIdx.x * Heads;
    float *queries = reinterpret_cast<float*>(shared), *tokens = queries + Heads * pitch;
    for (int i = threadIdx.x; i < Heads * pitch; i += Threads)
    {
        int h = firstHead + i / pitch, c = i % pitch;
        queries[i] = h < p.heads && c < columns ? static_cast<const float*>(p.absorbed)[(static_cast<int64_t>(b) * p.heads + h) * p.queryLength + c] : 0;
    }

    if (threadIdx.x == 0) broken = false;
    int head = threadIdx.x / 16, token = threadIdx.x % 16;
    float largest = -Infinity, total = 0, sum[Heads][Columns] = {};
    for (int start = first; start < end; start += TokenTile)
    {
        __syncthreads(); // the tile before is used
        for (int t = threadIdx.x / WarpSize; t < TokenTile; t += Warps)
        {
            const C* from = start + t < end ? cached_token<C>(p, b, start + t, broken) : nullptr;
            for (int c = threadIdx.x % WarpSize; c < pitch; c += WarpSize) tokens[t * pitch + c] = from != nullptr && c < columns ? cached_value(from, c, p.latent) : 0;
        }

        __syncthreads();
        float s[2][4] = {};
        for (int c = 0; c < columns; c += 4)
        {
            float u[4];
            load(u, queries + head * pitch + c);
#pragma unroll
            for (int j = 0; j < 2; j++)
            {
                float x[4];
                load(x, tokens + (token + 16 * j) * pitch + c);
#pragma unroll
                for (int e = 0; e < 4; e++) s[j][e] = __fmaf_rn(u[e], x[e], s[j][e]);
            }
        }

        float score[2], now = largest;
#pragma unroll
        for (int j = 0; j < 2; j++)
        {
            score[j] = start + token + 16 * j < end ? (s[j][0] + s[j][1]) + (s[j][2] + s[j][3]) : -Infinity;
            now = fmaxf(now, score[j]);
        }

#pragma unroll
        for (int distance = 8; distance > 0; distance /= 2) now = fmaxf(now, __shfl_xor_sync(AllLanes, now, distance));
        float factor = exp2f(largest - now), row = 0;
        largest = now;
#pragma unroll
        for (int j = 0; j < 2; j++)
        {
            float power = exp2f(score[j] - now);
            weights[head * WeightPitch + token + 16 * j] = power;
            row += power;
        }

#pragma unroll
        for (int distance = 8; distance > 0; distance /= 2) row += __shfl_xor_sync(AllLanes, row, distance);
        total = total * factor + row;
        if (token == 0) factors[head] = factor;
        __syncthreads();
#pragma unroll
        for (int h = 0; h < Heads; h++)
#pragma unroll
            for (int j = 0; j < Columns; j++) sum[h][j] *= factors[h];
        for (int t = 0; t < TokenTile; t += 4)
        {
            float x[4][Columns];
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int j = 0; j < Columns; j++)
                {
                    int c = threadIdx.x + Threads * j;
                    x[k][j] = c < p.latent ? tokens[(t + k) * pitch + c] : 0;
                }

#pragma unroll
            for (int h = 0; h < Heads; h++)
            {
                float w[4];
                load(w, weights + h * WeightPitch + t);
#pragma unroll
                for (int k = 0; k < 4; k++)
#pragma unroll
                    for (int j = 0; j < Columns; j++) sum[h][j] = __fmaf_rn(w[k], x[k][j], sum[h][j]);
            }
        }
    }

#pragma unroll
    for (int h = 0; h < Heads; h++)
#pragma unroll
        for (int j = 0; j < Columns; j++)
        {
            int c = threadIdx.x + Threads * j;
            if (firstHead + h < p.heads && c < p.latent) static_cast<float*>(p.context)[p.part(b, blockIdx.y, firstHead + h) * p.latent + c] = sum[h][j];
        }

    if (token == 0 && firstHead + head < p.heads)
    {
        p.largest[p.part(b, blockIdx.y, firstHead + head)] = largest;
        p.total[p.part(b, blockIdx.y, firstHead + head)] = broken ? not_a_number() : total;
    }
}

// Eight threads' share of a cached token in codes: read in pieces of eight numbers, written as BF16. A row is whole 16 bytes.
template <int Latent, int Key>
struct WidenedToken
{
    static constexpr int Pieces = (Key / 8 + 7) / 8, CodePieces = (Latent / 8 + 7) / 8, KeyPieces = Pieces - Latent / 64;
    uint2 codes[CodePieces];
    float scales[CodePieces];
    Pack<bf16, 8> key[KeyPieces];

    static __device__ __forceinline__ int column(int piece) { return (threadIdx.x % 8 + 8 * piece) * 8; }

    // Zeros where there is no token, and behind its columns.
    __device__ __forceinline__ void fetch(const latent8* token, int columns)
    {
#pragma unroll
        for (int i = 0; i < CodePieces; i++)
        {
            int c = column(i);
            bool there = token != nullptr && c < Latent;
            codes[i] = there ? *reinterpret_cast<const uint2*>(token + c) : make_uint2(0, 0);
            scales[i] = there ? latent_scales(token, Latent)[c / TileLength] : 0;
        }

#pragma unroll
        for (int i = 0; i < KeyPieces; i++)
        {
            int c = column(Latent / 64 + i);
            key[i] = {};
            if (token != nullptr && c >= Latent && c < columns) key[i] = *reinterpret_cast<const Pack<bf16, 8>*>(rotary_key(token, Latent) + (c - Latent));
        }
    }

    __device__ __forceinline__ void store(bf16* to) const
    {
#pragma unroll
        for (int i = 0; i < Pieces; i++)
        {
            int c = column(i);
            if (c >= Key) break;
            if (c >= Latent)
            {
                *reinterpret_cast<Pack<bf16, 8>*>(to + c) = key[i - Latent / 64];
                continue;
            }

            uint32_t pairs[4] = {codes[i].x & 0xffffu, codes[i].x >> 16, codes[i].y & 0xffffu, codes[i].y >> 16};
            float x[8];
#pragma unroll
            for (int j = 0; j < 4; j++)
            {
                Format<e4m3>::decode(pairs[j], x[2 * j], x[2 * j + 1]);
                x[2 * j] = __fmul_rn(x[2 * j], scales[i]);
                x[2 * j + 1] = __fmul_rn(x[2 * j + 1], scales[i]);
            }

            store_anywhere(to + c, x);
        }
    }
};

// On tensor cores: Heads heads (16, 32 or 64) by a split. Three tiles of tokens are under way; the first Latent columns of a tile are
// its values too. Scores go through shared memory, so that a warp has whole rows of them: sums do not depend on Heads.
// Latent is a multiple of 16, Key = R + dr up to the next 32. Blocks: (groups of heads, splits, sequences).
// Shared: [Heads, pitch] and [Stages, TokenTile, pitch] BF16; [Heads, ScorePitch] F32; [Heads, WeightPitch] BF16; [3, Heads] F32.
// A cache of codes (C is latent8, rows of whole 16 bytes) is widened on its way: what memory brings during one tile's products is
// written to shared memory after them.
template <int Heads, int Latent, int Key, typename C>
__global__ void __launch_bounds__(Threads, 1) decode_attend_mma(const __grid_constant__ Decode p)
{
    constexpr int Stages = 3, Pitch = Key + 8, ScorePitch = TokenTile + 4, WeightPitch = TokenTile + 8, TokenTiles = TokenTile / 8;
    constexpr int ScoreTiles = Heads / 16 * TokenTiles, WarpScoreTiles = ScoreTiles < Warps ? 1 : ScoreTiles / Warps;
    constexpr int RowGroups = Heads == 64 ? 2 : 1, RowTiles = Heads / 16 / RowGroups, ColumnParts = Warps / RowGroups;
    constexpr bool Widens = sizeof(C) == 1;
    constexpr int Units = Latent / 16, WarpUnits = (Units + ColumnParts - 1) / ColumnParts; // sixteen columns of the sums
    DYNAMIC_SHARED(shared);
    __shared__ int broken;
    bf16 *queries = reinterpret_cast<bf16*>(shared), *tokens = queries + Heads * Pitch;
    float* scores = reinterpret_cast<float*>(tokens + Stages * TokenTile * Pitch);
    bf16* weights = reinterpret_cast<bf16*>(scores + Heads * ScorePitch);
    float *factors = reinterpret_cast<float*>(weights + Heads * WeightPitch), *largest = factors + Heads, *total = largest + Heads;
    int b = blockIdx.z, length = sequence_length(p, b, threadIdx.x == 0), first = blockIdx.y * split_length(length), end = min(length, first + split_length(length));
    if (first >= length) return;
    int firstHead = blockIdx.x * Heads, warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize, columns = p.latent + p.rope;

    // Eight threads for each token of a tile.
    WidenedToken<Latent, Key> fetched;
    auto fetch_tokens = [&](int start)
    {
        int t = threadIdx.x / 8;
        fetched.fetch(start + t < end ? cached_token<latent8>(p, b, start + t, broken) : nullptr, columns);
    };
    auto store_tokens = [&](int stage) { fetched.store(tokens + (stage * TokenTile + threadIdx.x / 8) * Pitch); };
    auto copy_tokens = [&](int start, int stage)
    {
        int t = threadIdx.x / 8;
        bool there = start + t < end;
        const bf16* from = there ? cached_token<bf16>(p, b, start + t, broken) : nullptr;
        there = from != nullptr;
        bf16* to = tokens + (stage * TokenTile + t) * Pitch;
#pragma unroll
        for (int i = 0; i < (Key / 8 + 7) / 8; i++)
        {
            int c = (threadIdx.x % 8 + 8 * i) * 8;
            if (c < Key) ptx::copy_async16(to + c, there && c < columns ? from + c : p.cache.row<const bf16>(0), there && c < columns);
        }
    };

    for (int i = threadIdx.x; i < Heads * (Key / 8); i += Threads)
    {
        int h = i / (Key / 8), c = i % (Key / 8) * 8;
        const bf16* from = static_cast<const bf16*>(p.absorbed);
        bool there = firstHead + h < p.heads;
        ptx::copy_async16(queries + h * Pitch + c, there ? from + (static_cast<int64_t>(b) * p.heads + firstHead + h) * Key + c : from, there);
    }

    if (threadIdx.x < Heads) largest[threadIdx.x] = -Infinity, total[threadIdx.x] = 0;
    if (threadIdx.x == 0) broken = false;
    __syncthreads();
    if constexpr (Widens)
    {
        fetch_tokens(first);
        store_tokens(0);
        fetch_tokens(first + TokenTile);
        store_tokens(1);
        ptx::copy_async_commit();
        ptx::copy_async_commit();
    }
    else
    {
        copy_tokens(first, 0);
        ptx::copy_async_commit();
        copy_tokens(first + TokenTile, 1);
        ptx::copy_async_commit();
    }

    float sum[RowTiles][2 * WarpUnits][4] = {};
    int rowGroup = warp % RowGroups, unit = warp / RowGroups * WarpUnits, stage = 0;
    for (int start = first; start < end; start += TokenTile)
    {
        const bf16* tile = tokens + stage * TokenTile * Pitch;
        ptx::copy_async_wait<1>();
        __syncthreads(); // this tile is here, and the one before is used
        int later = (stage + 2) % Stages;
        if constexpr (Widens) fetch_tokens(start + 2 * TokenTile);
        else copy_tokens(start + 2 * TokenTile, later);
        ptx::copy_async_commit();
        stage = (stage + 1) % Stages;

        // Scores: of sixteen heads and eight tokens at a time, thirty-two terms in each step.
        int scoreTile = warp * WarpScoreTiles;
        if (scoreTile < ScoreTiles)
        {
            int row = scoreTile / TokenTiles * 16, column = scoreTile % TokenTiles * 8;
            const bf16 *left = queries + (row + lane % 16) * Pitch + lane / 16 * 8, *right = tile + (column + lane % 8) * Pitch + lane / 8 * 8;
            float s[WarpScoreTiles][4] = {};
#pragma unroll 3
            for (int c = 0; c < Key; c += 32)
            {
                uint32_t a0[4], a1[4], x[4];
                ptx::load_matrices(a0, left + c);
                ptx::load_matrices(a1, left + c + 16);
#pragma unroll
                for (int n = 0; n < WarpScoreTiles; n++)
                {
                    ptx::load_matrices(x, right + n * 8 * Pitch + c);
                    ptx::multiply_bf16(s[n], a0, x[0], x[1]);
                    ptx::multiply_bf16(s[n], a1, x[2], x[3]);
                }
            }

#pragma unroll
            for (int n = 0; n < WarpScoreTiles; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) scores[(row + lane / 4 + e / 2 * 8) * ScorePitch + column + 8 * n + lane % 4 * 2 + e % 2] = s[n][e];
        }

        __syncthreads();
        for (int row = warp; row < Heads; row += Warps)
        {
            float before = largest[row], score = start + lane < end ? scores[row * ScorePitch + lane] : -Infinity;
            float now = fmaxf(before, warp_reduce<Max>(score)), factor = exp2f(before - now), power = exp2f(score - now);
            float rowSum = total[row] * factor + warp_reduce<Sum>(power);
            weights[row * WeightPitch + lane] = from_float<bf16>(power);
            __syncwarp(); // every lane has read what lane 0 writes
            if (lane == 0) factors[row] = factor, largest[row] = now, total[row] = rowSum;
        }

        __syncthreads();
        bool shrinks = false;
        float factor[RowTiles][2];
#pragma unroll
        for (int m = 0; m < RowTiles; m++)
#pragma unroll
            for (int half = 0; half < 2; half++)
            {
                factor[m][half] = factors[(rowGroup * RowTiles + m) * 16 + lane / 4 + 8 * half];
                shrinks |= factor[m][half] != 1;
            }

        if (__any_sync(AllLanes, shrinks))
        {
#pragma unroll
            for (int m = 0; m < RowTiles; m++)
#pragma unroll
                for (int n = 0; n < 2 * WarpUnits; n++)
#pragma unroll
                    for (int e = 0; e < 4; e++) sum[m][n][e] *= factor[m][e / 2];
        }

#pragma unroll
        for (int t = 0; t < TokenTile; t += 16)
        {
            uint32_t w[RowTiles][4];
#pragma unroll
            for (int m = 0; m < RowTiles; m++)
                ptx::load_matrices(w[m], weights + ((rowGroup * RowTiles + m) * 16 + lane % 16) * WeightPitch + t + lane / 16 * 8);
            const bf16* right = tile + (t + lane % 16) * Pitch + unit * 16 + lane / 16 * 8;
#pragma unroll
            for (int u = 0; u < WarpUnits; u++)
            {
                if (Units % ColumnParts != 0 && unit + u >= Units) break;
                uint32_t x[4];
                ptx::load_matrices_transposed(x, right + u * 16);
#pragma unroll
                for (int m = 0; m < RowTiles; m++)
                {
                    ptx::multiply_bf16(sum[m][2 * u], w[m], x[0], x[1]);
                    ptx::multiply_bf16(sum[m][2 * u + 1], w[m], x[2], x[3]);
                }
            }
        }

        if constexpr (Widens) store_tokens(later);
    }

#pragma unroll
    for (int m = 0; m < RowTiles; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            int h = firstHead + (rowGroup * RowTiles + m) * 16 + lane / 4 + 8 * half;
            if (h >= p.heads) continue;
            float* to = static_cast<float*>(p.context) + p.part(b, blockIdx.y, h) * Latent + unit * 16 + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < 2 * WarpUnits; n++)
            {
                float pair[2] = {sum[m][n][2 * half], sum[m][n][2 * half + 1]};
                if (Units % ColumnParts == 0 || unit + n / 2 < Units) store(to + 8 * n, pair);
            }
        }

    if (threadIdx.x < Heads && firstHead + threadIdx.x < p.heads)
    {
        int64_t at = p.part(b, blockIdx.y, firstHead + threadIdx.x);
        p.largest[at] = largest[threadIdx.x];
        p.total[at] = broken ? not_a_number() : total[threadIdx.x];
    }
}

// ---- Splits joined ----

// The mean of latents over all splits of a sequence, a block for each head and sequence.
__global__ void __launch_bounds__(Threads) decode_join(const __grid_constant__ Decode p)
{
    int h = blockIdx.x, b = blockIdx.y, length = sequence_length(p, b, threadIdx.x == 0), splits = length > 0 ? split_count(length) : 0;
    const float* context = static_cast<const float*>(p.context);
    float largest = -Infinity, total = 0;
    for (int s = 0; s < splits; s++) largest = fmaxf(largest, p.largest[p.part(b, s, h)]);
    for (int s = 0; s < splits; s++) total = __fmaf_rn(exp2f(p.largest[p.part(b, s, h)] - largest), p.total[p.part(b, s, h)], total);
    for (int c = threadIdx.x; c < p.latent; c += Threads)
    {
        float sum = 0;
#pragma unroll 4
        for (int s = 0; s < splits; s++)
            sum = __fmaf_rn(exp2f(p.largest[p.part(b, s, h)] - largest), context[p.part(b, s, h) * p.latent + c], sum);
        p.latents[(static_cast<int64_t>(b) * p.heads + h) * p.latent + c] = sum / total;
    }
}
