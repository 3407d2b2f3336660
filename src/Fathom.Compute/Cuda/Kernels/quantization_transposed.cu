// Codes for sums over rows (weight gradients): 128x1 tiles whose elements lie transposed (operand_tiles.cuh). From values, or from codes in
// 1x128 tiles as activations are kept, which become F32 values in registers and nowhere else: 2 bytes an element move where values written
// out, quantised and then transposed would be 12. From values also together with the codes of their rows, of one read.
#include "operand_tiles.cuh"

// TransposedArguments of CudaQuantization.cs.
struct TransposedArguments
{
    const void* from;           // [rows, columns]: values, or codes
    int64_t fromStride;         // elements of values, bytes of codes
    const void* fromScales;     // of codes: [rows, columns / 128], float, or e8m0 where powersOfTwo
    int64_t fromScaleStride;
    Codes transposed;           // codes [columns, 128 tiles of rows], scales [tiles of rows, columns]
    Codes ofRows;               // where they are asked for
    const int32_t* rowOffsets;  // [groups + 1], or null
    int64_t rows;
    int32_t columns;
    int32_t groups;
    int32_t powersOfTwo;
    float leastAmax;
};

// What a thread holds of values: themselves.
template <typename S> struct Source
{
    using Row = Held<S, PatchColumns>;

    template <bool Wide>
    __device__ __forceinline__ static void load(Row (&to)[PatchRows], const TransposedArguments& p, const PatchPlace& at)
    {
        const S* from = static_cast<const S*>(p.from) + at.row * p.fromStride + at.column;
#pragma unroll
        for (int i = 0; i < PatchRows; i++) to[i] = {};
        for_rows(at, [&](int i)
        {
            if constexpr (Wide) to[i] = hold<S, PatchColumns>(from + i * p.fromStride);
            else to[i] = hold_singly<PatchColumns>(from + i * p.fromStride, at.columns);
        });
    }
};

// Four E5M6 codes, six bytes that begin in the middle of a word in every other place. Columns are a multiple of 8, so both words lie
// within the row.
struct FourE5M6
{
    uint32_t low = 0, high = 0;

    __device__ __forceinline__ static int64_t place(int column) { return column / PatchColumns * 3ll / 2 * 4; }

    __device__ __forceinline__ void load(const uint8_t* from, int column)
    {
        const uint32_t* words = reinterpret_cast<const uint32_t*>(from);
        uint32_t first = words[0], second = words[1];
        bool inMiddle = column & PatchColumns;
        low = inMiddle ? first >> 16 | second << 16 : first;
        high = inMiddle ? second >> 16 : second;
    }

    __device__ __forceinline__ void decode(float& first, float& second, int pair) const { Format<e5m6x2>::decode(pair == 0 ? low : low >> 24 | high << 8, first, second); }
};

// Four codes of a row and the row's scale, of which values are made when they are needed: a third of their registers.
template <typename Four>
struct HeldCodes
{
    using Magnitudes = Held<float, PatchColumns>;

    Four codes;
    float scale = 0;

    __device__ __forceinline__ void get(float& first, float& second, int pair) const
    {
        codes.decode(first, second, pair);
        first = __fmul_rn(first, scale);
        second = __fmul_rn(second, scale);
    }

    __device__ __forceinline__ Magnitudes all() const
    {
        Magnitudes x;
#pragma unroll
        for (int pair = 0; pair < PatchColumns / 2; pair++) get(x.values[2 * pair], x.values[2 * pair + 1], pair);
        return x;
    }
};

// What a thread holds of codes. A lane reads one of the rows' scales, and all are told.
template <typename Four> struct CodeSource
{
    using Row = HeldCodes<Four>;

    template <bool Wide>
    __device__ __forceinline__ static void load(Row (&to)[PatchRows], const TransposedArguments& p, const PatchPlace& at)
    {
        const uint8_t* from = static_cast<const uint8_t*>(p.from) + at.row * p.fromStride + Four::place(at.column);
        for_rows(at, [&](int i) { to[i].codes.load(from + i * p.fromStride, at.column); });
        float scale = 0;
        int line = threadIdx.x % PatchRows;
        if (line < at.rows)
        {
            int64_t place = (at.row + line) * p.fromScaleStride + at.columnTile;
            scale = p.powersOfTwo ? to_float(static_cast<const e8m0*>(p.fromScales)[place]) : static_cast<const float*>(p.fromScales)[place];
        }

#pragma unroll
        for (int i = 0; i < PatchRows; i++) to[i].scale = __shfl_sync(AllLanes, scale, i);
    }
};

template <> struct Source<e4m3> : CodeSource<FourE4M3> {};
template <> struct Source<e5m6x2> : CodeSource<FourE5M6> {};

// Blocks go down the rows first: what they write beside each other is a row of the transpose, and what they read next lies beside what was read.
template <typename S, bool Wide, bool BothWays>
__global__ void __launch_bounds__(PatchThreads, sizeof(typename Source<S>::Row) == 8 && !BothWays ? 3 : 2) quantize_transposed(const __grid_constant__ TransposedArguments p)
{
    __shared__ ColumnMemory shared;
    RowRange range = tile_rows(p.rowOffsets, p.groups, p.rows, blockIdx.x);
    if (range.count == 0) return;
    PatchPlace at(range, static_cast<int>(blockIdx.y), p.columns);
    typename Source<S>::Row rows[PatchRows];
    Source<S>::template load<Wide>(rows, p, at);
    if constexpr (BothWays) store_rows(rows, at, p.ofRows, p.columns, p.leastAmax);
    store_transposed(shared, rows, p.transposed, blockIdx.x, at.columnTile, p.columns, p.leastAmax);
}
