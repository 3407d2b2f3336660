// Codes for sums over rows (weight gradients): 128x1 tiles whose elements lie transposed, because the tensor cores take 8-bit operands along
// the sum only. From values, or from codes in 1x128 tiles as activations are kept, which become F32 values in registers and nowhere
// else: 2 bytes an element move where values written out, quantised and then transposed would be 12.
// A block has 128 rows of 128 columns, a warp 8 rows of all of them, a thread 4 columns of those: no column lies in two lanes of a
// warp, so largest magnitudes need no exchange but one through shared memory, and 8 codes of a column are one access there.
#include "held.cuh"
#include "tile_rows.cuh"

constexpr int Threads = 512;
constexpr int PatchRows = 8, PatchColumns = 4;
constexpr int Warps = Threads / WarpSize;
static_assert(Warps * PatchRows == TileLength && WarpSize * PatchColumns == TileLength);

// TransposedArguments of CudaQuantization.cs.
struct TransposedArguments
{
    const void* from;           // [rows, columns]: values, or codes
    int64_t fromStride;         // elements of values, bytes of codes
    const void* fromScales;     // of codes: [rows, columns / 128], float, or e8m0 where powersOfTwo
    int64_t fromScaleStride;
    uint8_t* codes;             // [columns, 128 tiles of rows]
    int64_t codeStride;
    float* scales;              // [tiles of rows, columns]
    int64_t scaleStride;
    const int32_t* rowOffsets;  // [groups + 1], or null
    uint64_t* fault;            // or null
    int64_t rows;
    int32_t columns;
    int32_t groups;
    int32_t powersOfTwo;
    float leastAmax;
};

// A thread's part of its warp's rows.
struct PatchPlace
{
    int64_t row;                // the first
    int rows;                   // that there are, of 8 or more; none are below 1
    int column, columnTile;
    int columns;                // that there are, of 4 or more; none are below 1
};

// Mostly all rows are there, and then nothing is asked of each.
template <typename Load>
__device__ __forceinline__ void load_rows(const PatchPlace& at, Load load)
{
    int rows = at.columns > 0 ? at.rows : 0;
    if (rows >= PatchRows)
    {
#pragma unroll
        for (int i = 0; i < PatchRows; i++) load(i);
    }
    else
    {
#pragma unroll
        for (int i = 0; i < PatchRows; i++)
        {
            if (i < rows) load(i);
        }
    }
}

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
        load_rows(at, [&](int i)
        {
            if constexpr (Wide) to[i] = hold<S, PatchColumns>(from + i * p.fromStride);
            else to[i] = hold_singly<PatchColumns>(from + i * p.fromStride, at.columns);
        });
    }
};

// Four E4M3 codes, aligned.
struct FourE4M3
{
    uint32_t word = 0;

    __device__ __forceinline__ static int64_t place(int column) { return column; }

    __device__ __forceinline__ void load(const uint8_t* from, int) { word = *reinterpret_cast<const uint32_t*>(from); }

    __device__ __forceinline__ void decode(float (&x)[PatchColumns]) const
    {
        Format<e4m3>::decode(word & 0xffffu, x[0], x[1]);
        Format<e4m3>::decode(word >> 16, x[2], x[3]);
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

    __device__ __forceinline__ void decode(float (&x)[PatchColumns]) const
    {
        Format<e5m6x2>::decode(low, x[0], x[1]);
        Format<e5m6x2>::decode(low >> 24 | high << 8, x[2], x[3]);
    }
};

// What a thread holds of codes: their values. A lane reads one of the rows' scales, and all are told.
template <typename Four> struct CodeSource
{
    using Row = Held<float, PatchColumns>;

    template <bool Wide>
    __device__ __forceinline__ static void load(Row (&to)[PatchRows], const TransposedArguments& p, const PatchPlace& at)
    {
        const uint8_t* from = static_cast<const uint8_t*>(p.from) + at.row * p.fromStride + Four::place(at.column);
        Four codes[PatchRows];
        load_rows(at, [&](int i) { codes[i].load(from + i * p.fromStride, at.column); });
        float scale = 0;
        int line = threadIdx.x % PatchRows;
        if (line < at.rows)
        {
            int64_t place = (at.row + line) * p.fromScaleStride + at.columnTile;
            scale = p.powersOfTwo ? to_float(static_cast<const e8m0*>(p.fromScales)[place]) : static_cast<const float*>(p.fromScales)[place];
        }

#pragma unroll
        for (int i = 0; i < PatchRows; i++)
        {
            float ofRow = __shfl_sync(AllLanes, scale, i);
            codes[i].decode(to[i].values);
#pragma unroll
            for (int j = 0; j < PatchColumns; j++) to[i].values[j] = __fmul_rn(to[i].values[j], ofRow);
        }
    }
};

template <> struct Source<e4m3> : CodeSource<FourE4M3> {};
template <> struct Source<e5m6x2> : CodeSource<FourE5M6> {};

// Of every column of the block's tile.
struct TileScales
{
    __align__(16) float scales[TileLength], reciprocals[TileLength], ups[TileLength];
    int moves; // whether any column must be moved
};

// Codes of a column's eight rows; hardly ever must values be moved first, so that is compiled apart.
template <bool Moves, typename Row>
__device__ __forceinline__ void encode(Pack<uint32_t, 2> (&units)[PatchColumns], const Row (&rows)[PatchRows], const TileScales& tile, int inTile)
{
    Pack<float, PatchColumns> scales = *reinterpret_cast<const Pack<float, PatchColumns>*>(tile.scales + inTile);
    Pack<float, PatchColumns> reciprocals = *reinterpret_cast<const Pack<float, PatchColumns>*>(tile.reciprocals + inTile);
#pragma unroll
    for (int j = 0; j < PatchColumns; j++)
    {
        Divisor divisor;
        divisor.scale = scales.values[j];
        divisor.reciprocal = reciprocals.values[j];
        if constexpr (Moves) divisor.up = tile.ups[inTile + j];
        float q[PatchRows];
#pragma unroll
        for (int i = 0; i < PatchRows; i++) q[i] = divisor.quotient(Moves ? divisor.moved(rows[i].get(j)) : rows[i].get(j));
#pragma unroll
        for (int i = 0; i < 2; i++)
            units[j].values[i] = Format<e4m3>::encode(q[4 * i], q[4 * i + 1]) | Format<e4m3>::encode(q[4 * i + 2], q[4 * i + 3]) << 16;
    }
}

// Eight codes of column c, rows 8 u to 8 u + 7, lie at c, u ^ c / 4: the 16 lanes that write 8 bytes each at once have one u and
// sixteen c / 4, those that read have one c and all u, and neither meet in a bank. Blocks go down the rows first: what they write beside
// each other is a row of the transpose, and what they read next lies beside what was read.
template <typename S, bool Wide>
__global__ void __launch_bounds__(Threads, sizeof(typename Source<S>::Row) == 8 ? 3 : 2) quantize_transposed(const __grid_constant__ TransposedArguments p)
{
    __shared__ Pack<uint32_t, 2> codes[TileLength][Warps];
    __shared__ __align__(16) float largest[Warps][TileLength];
    __shared__ TileScales tileScales;
    uint32_t tile = blockIdx.x;
    int columnTile = static_cast<int>(blockIdx.y), firstColumn = columnTile * TileLength;
    RowRange range = tile_rows(p.rowOffsets, p.groups, p.rows, tile);
    if (range.count == 0) return;
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize, inTile = lane * PatchColumns;
    if (threadIdx.x == 0) tileScales.moves = 0;

    typename Source<S>::Row rows[PatchRows], magnitudes = {};
    int column = firstColumn + inTile, columns = p.columns - column;
    Source<S>::template load<Wide>(rows, p, {range.first + warp * PatchRows, range.count - warp * PatchRows, column, columnTile, columns});
#pragma unroll
    for (int i = 0; i < PatchRows; i++) magnitudes.raise(rows[i]);
    Pack<float, PatchColumns> mine;
#pragma unroll
    for (int j = 0; j < PatchColumns; j++) mine.values[j] = magnitudes.get(j);
    *reinterpret_cast<Pack<float, PatchColumns>*>(&largest[warp][inTile]) = mine;
    __syncthreads();

    if (threadIdx.x < TileLength)
    {
        uint32_t magnitude = 0;
#pragma unroll
        for (int i = 0; i < Warps; i++) magnitude = max(magnitude, __float_as_uint(largest[i][threadIdx.x]));
        float scale = tile_scale<e4m3>(magnitude, p.leastAmax, false);
        Divisor divisor(scale);
        tileScales.scales[threadIdx.x] = divisor.scale;
        tileScales.reciprocals[threadIdx.x] = divisor.reciprocal;
        tileScales.ups[threadIdx.x] = divisor.up;
        if (divisor.moves()) tileScales.moves = 1;
        int64_t place = firstColumn + threadIdx.x;
        if (place < p.columns)
        {
            p.scales[tile * p.scaleStride + place] = scale;
            if (magnitude >= SingleInfinity && p.fault != nullptr)
                atomicMin(reinterpret_cast<unsigned long long*>(p.fault), static_cast<unsigned long long>(static_cast<int64_t>(tile) * p.columns + place));
        }
    }

    __syncthreads();
    Pack<uint32_t, 2> units[PatchColumns];
    if (tileScales.moves) encode<true>(units, rows, tileScales, inTile);
    else encode<false>(units, rows, tileScales, inTile);
#pragma unroll
    for (int j = 0; j < PatchColumns; j++) codes[inTile + j][warp ^ lane % Warps] = units[j];

    __syncthreads();
    constexpr int ColumnsAtOnce = Threads / Warps;
    static_assert(ColumnsAtOnce / PatchColumns == Warps / 2);
    int unit = threadIdx.x % Warps, out = threadIdx.x / Warps, turned = unit ^ out / PatchColumns; // of the first pass
    uint8_t* to = p.codes + (firstColumn + out) * p.codeStride + static_cast<int64_t>(tile) * TileLength + PatchRows * unit;
#pragma unroll
    for (int pass = 0; pass < TileLength / ColumnsAtOnce; pass++, out += ColumnsAtOnce, to += ColumnsAtOnce * p.codeStride)
    {
        if (firstColumn + out < p.columns) *reinterpret_cast<Pack<uint32_t, 2>*>(to) = codes[out][turned ^ pass * (ColumnsAtOnce / PatchColumns) % Warps];
    }
}
