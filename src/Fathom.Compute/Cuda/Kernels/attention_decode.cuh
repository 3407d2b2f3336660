// What the kernels of absorbed decode share: the operands of a call, how a sequence is divided into splits, and scales of kv_b_proj. The
// trap: a sequence's result must not depend on the batch, so splits follow from its own length alone.
#pragma once
#include "attention.cuh"
#include "faults.cuh"
#include "formats.cuh"

constexpr int ShortSplit = 384, LongSplit = 512, MostSplits = 32;

enum ScaleKind { Unscaled, ScaledF32, ScaledE8M0 };

// DecodeCall on the host, field by field.
struct Decode
{
    Rows q;               // [B H, dn + dr]
    Rows output;          // [B H, dv]
    Rows weights;         // [H (dn + dv), R]
    Rows scales;          // [row blocks, column blocks]; one value where the strides of blocks are zero
    Rows cache;           // [blocks * block size, R + dr], or rows of codes
    const int32_t* blockTables; // [B, table columns]
    const int32_t* lengths;     // [B]
    void* absorbed;       // [B, H, query length]: queries in the latent space, then their rotary part, times scale log2 e; on Hopper BF16 and not scaled
    void* context;        // [B, splits, H, R]: F32 sums of latents relative to the split's largest score; on Hopper BF16 means of a split
    float* largest;       // [B, splits, H]; on Hopper the base-2 logarithms of the splits' denominators
    float* total;         // [B, splits, H]; not on Hopper
    float* latents;       // [B, H, R]: means of latents; not on Hopper
    Fault* fault;
    int64_t tableColumns, cacheBlocks;
    int32_t batch, heads, nope, rope, value, latent, blockSize;
    int32_t queryLength, splits, scaleKind, scaleRows, scaleColumns; // rows and columns of scales per block: 1, or 0 where one scale is for all
    int32_t vectors;      // rows of weights may be read four at a time
    float scale;

    __device__ __forceinline__ int64_t part(int b, int split, int h) const { return (static_cast<int64_t>(b) * splits + split) * heads + h; }
};

// Tokens of a split: 384, so that one sequence of a few thousand keeps many multiprocessors busy, until that would be more than 32 splits;
// then as many times 512 as keep to 32. Whole tiles of 64 in any case. DecodeVariant.SplitTokens on the host.
__device__ __forceinline__ int split_length(int length)
{
    constexpr uint32_t Most = LongSplit * MostSplits;
    if (length <= ShortSplit * MostSplits) return ShortSplit;
    return static_cast<int>((static_cast<uint32_t>(length) + Most - 1) / Most) * LongSplit;
}

__device__ __forceinline__ int split_count(int length) { return static_cast<int>((static_cast<uint32_t>(length) - 1) / split_length(length) + 1); }

// Cached tokens of a sequence; none, and so NaN as the result, where that is outside the tables. The thread that notes says so.
__device__ __forceinline__ int sequence_length(const Decode& p, int b, bool notes)
{
    int64_t most = p.tableColumns * p.blockSize;
    int length = p.lengths[b];
    if (length >= 1 && length <= most) return length;
    if (notes) *p.fault = {DecodeLengthFault, length, b, static_cast<int32_t>(most)};
    return 0;
}

// A cached token in codes (LatentRow on the host): codes of the latent, an F32 scale for each 128 of them, the rotary key in BF16.
struct latent8 { uint8_t byte; };

__device__ __forceinline__ const float* latent_scales(const latent8* token, int latent) { return reinterpret_cast<const float*>(token + latent); }

__device__ __forceinline__ const bf16* rotary_key(const latent8* token, int latent)
{
    return reinterpret_cast<const bf16*>(token + latent + sizeof(float) * ((latent + TileLength - 1) / TileLength));
}

// A number of a cached token, of its latent or of its rotary key.
template <typename C> __device__ __forceinline__ float cached_value(const C* token, int column, int) { return to_float(token[column]); }
__device__ __forceinline__ float cached_value(const latent8* token, int column, int latent)
{
    if (column >= latent) return to_float(rotary_key(token, latent)[column - latent]);
    return __fmul_rn(to_float(e4m3{token[column].byte}), latent_scales(token, latent)[column / TileLength]);
}

__device__ __forceinline__ float weight_scale(const Decode& p, int64_t row, int column)
{
    int64_t block = column / TileLength * p.scaleColumns;
    row = row / TileLength * p.scaleRows;
    return p.scaleKind == ScaledF32 ? p.scales.row<const float>(row)[block] : to_float(p.scales.row<const e8m0>(row)[block]);
}
