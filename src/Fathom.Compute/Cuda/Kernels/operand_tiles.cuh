// A tile of 128 rows by 128 columns on its way to the products' operands: codes over rows (128x1 tiles) whose elements lie transposed, because
// the tensor cores take 8-bit operands along the sum only, and codes of rows (1x128 tiles), both from what the threads hold.
// A block has one tile, a warp 8 rows of all its columns, a thread 4 columns of those: no column lies in two lanes of a warp, so largest
// magnitudes of columns need no exchange but one through shared memory, and 8 codes of a column are one access there.
#pragma once
#include "held.cuh"
#include "tile_rows.cuh"

constexpr int PatchThreads = 512;
constexpr int PatchRows = 8, PatchColumns = 4;
constexpr int PatchWarps = PatchThreads / WarpSize;
static_assert(PatchWarps * PatchRows == TileLength && WarpSize * PatchColumns == TileLength);

// A thread's part of its warp's rows.
struct PatchPlace
{
    int64_t row;                // the first
    int rows;                   // that there are, of 8 or more; none are below 1
    int column, columnTile;
    int columns;                // that there are, of 4 or more; none are below 1

    __device__ __forceinline__ PatchPlace(const RowRange& range, int tile, int matrixColumns)
        : row(range.first + threadIdx.x / WarpSize * PatchRows), rows(range.count - static_cast<int>(threadIdx.x / WarpSize) * PatchRows),
          column(tile * TileLength + static_cast<int>(threadIdx.x % WarpSize) * PatchColumns), columnTile(tile), columns(matrixColumns - column) { }
};

// Mostly all rows are there, and then nothing is asked of each.
template <typename Do>
__device__ __forceinline__ void for_rows(const PatchPlace& at, Do act)
{
    int rows = at.columns > 0 ? at.rows : 0;
    if (rows >= PatchRows)
    {
#pragma unroll
        for (int i = 0; i < PatchRows; i++) act(i);
    }
    else
    {
#pragma unroll
        for (int i = 0; i < PatchRows; i++)
        {
            if (i < rows) act(i);
        }
    }
}

// Four E4M3 codes, aligned.
struct FourE4M3
{
    uint32_t word = 0;

    __device__ __forceinline__ static int64_t place(int column) { return column; }

    __device__ __forceinline__ void load(const uint8_t* from, int) { word = *reinterpret_cast<const uint32_t*>(from); }

    __device__ __forceinline__ void decode(float& first, float& second, int pair) const { Format<e4m3>::decode(pair == 0 ? word & 0xffffu : word >> 16, first, second); }
};

// Of every column of the block's tile.
struct ColumnScales
{
    __align__(16) float scales[TileLength], reciprocals[TileLength], ups[TileLength];
    int moves; // whether any column must be moved
};

// What a block shares over its tile's columns. Eight codes of column c, rows 8 u to 8 u + 7, lie at c, u ^ c / 4: the 16 lanes that write 8
// bytes each at once have one u and sixteen c / 4, those that read have one c and all u, and neither meet in a bank.
struct ColumnMemory
{
    Pack<uint32_t, 2> codes[TileLength][PatchWarps];
    __align__(16) float largest[PatchWarps][TileLength];
    ColumnScales columns;
};

// Codes of a column's eight rows; hardly ever must values be moved first, so that is compiled apart.
template <bool Moves, typename Row>
__device__ __forceinline__ void encode_columns(ColumnMemory& shared, const Row (&rows)[PatchRows])
{
    const ColumnScales& tile = shared.columns;
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize, inTile = lane * PatchColumns;
    Pack<float, PatchColumns> scales = *reinterpret_cast<const Pack<float, PatchColumns>*>(tile.scales + inTile);
    Pack<float, PatchColumns> reciprocals = *reinterpret_cast<const Pack<float, PatchColumns>*>(tile.reciprocals + inTile);
#pragma unroll
    for (int pair = 0; pair < PatchColumns / 2; pair++)
    {
        float x[2][PatchRows];
#pragma unroll
        for (int i = 0; i < PatchRows; i++) rows[i].get(x[0][i], x[1][i], pair);
#pragma unroll
        for (int k = 0; k < 2; k++)
        {
            int j = 2 * pair + k;
            Divisor divisor;
            divisor.scale = scales.values[j];
            divisor.reciprocal = reciprocals.values[j];
            if constexpr (Moves) divisor.up = tile.ups[inTile + j];
            float q[PatchRows];
#pragma unroll
            for (int i = 0; i < PatchRows; i++) q[i] = divisor.quotient(Moves ? divisor.moved(x[k][i]) : x[k][i]);
            Pack<uint32_t, 2> unit;
#pragma unroll
            for (int i = 0; i < 2; i++)
                unit.values[i] = Format<e4m3>::encode(q[4 * i], q[4 * i + 1]) | Format<e4m3>::encode(q[4 * i + 2], q[4 * i + 3]) << 16;
            shared.codes[inTile + j][warp ^ lane % PatchWarps] = unit;
        }
    }
}

// Codes over the rows of a tile, all threads of the block; tile after tile may follow. What a fault is said of is the place among the scales.
template <typename Row>
__device__ __forceinline__ void store_transposed(ColumnMemory& shared, const Row (&rows)[PatchRows], const Codes& to, int64_t tileRow, int columnTile, int columns, float leastAmax)
{
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize, inTile = lane * PatchColumns, firstColumn = columnTile * TileLength;
    typename Row::Magnitudes magnitudes = {};
#pragma unroll
    for (int i = 0; i < PatchRows; i++) magnitudes.raise(rows[i].all());
    Pack<float, PatchColumns> mine;
#pragma unroll
    for (int j = 0; j < PatchColumns; j++) mine.values[j] = magnitudes.get(j);
    *reinterpret_cast<Pack<float, PatchColumns>*>(&shared.largest[warp][inTile]) = mine;
    if (threadIdx.x == 0) shared.columns.moves = 0;
    __syncthreads();

    if (threadIdx.x < TileLength)
    {
        uint32_t magnitude = 0;
#pragma unroll
        for (int i = 0; i < PatchWarps; i++) magnitude = max(magnitude, __float_as_uint(shared.largest[i][threadIdx.x]));
        float scale = tile_scale<e4m3>(magnitude, leastAmax, false);
        Divisor divisor(scale);
        shared.columns.scales[threadIdx.x] = divisor.scale;
        shared.columns.reciprocals[threadIdx.x] = divisor.reciprocal;
        shared.columns.ups[threadIdx.x] = divisor.up;
        if (divisor.moves()) shared.columns.moves = 1;
        int64_t place = firstColumn + threadIdx.x;
        if (place < columns)
        {
            to.scales[tileRow * to.scaleStride + place] = scale;
            to.report(magnitude, tileRow * columns + place);
        }
    }

    __syncthreads();
    if (shared.columns.moves) encode_columns<true>(shared, rows);
    else encode_columns<false>(shared, rows);
    __syncthreads();
    constexpr int ColumnsAtOnce = PatchThreads / PatchWarps;
    static_assert(ColumnsAtOnce / PatchColumns == PatchWarps / 2);
    int unit = threadIdx.x % PatchWarps, out = threadIdx.x / PatchWarps, turned = unit ^ out / PatchColumns; // of the first pass
    uint8_t* from = to.codes + (firstColumn + out) * to.stride + tileRow * TileLength + PatchRows * unit;
#pragma unroll
    for (int pass = 0; pass < TileLength / ColumnsAtOnce; pass++, out += ColumnsAtOnce, from += ColumnsAtOnce * to.stride)
    {
        if (firstColumn + out < columns) *reinterpret_cast<Pack<uint32_t, 2>*>(from) = shared.codes[out][turned ^ pass * (ColumnsAtOnce / PatchColumns) % PatchWarps];
    }
}

// Codes of a thread's part of its rows, whose divisors the lanes have.
template <bool Moves, typename Row>
__device__ __forceinline__ void encode_rows(uint32_t (&words)[PatchRows], const Row (&rows)[PatchRows], const Divisor& ofLane)
{
#pragma unroll
    for (int i = 0; i < PatchRows; i++)
    {
        Divisor divisor = ofLane.of_lane(i);
        if constexpr (Moves) divisor.up = __shfl_sync(AllLanes, ofLane.up, i);
        float q[PatchColumns];
#pragma unroll
        for (int j = 0; j < PatchColumns; j++) q[j] = divisor.quotient(Moves ? divisor.moved(rows[i].get(j)) : rows[i].get(j));
        words[i] = Format<e4m3>::encode(q[0], q[1]) | Format<e4m3>::encode(q[2], q[3]) << 16;
    }
}

// Codes of a warp's rows; columns are a multiple of 4. A lane makes the scale of one row and tells the others.
template <typename Row>
__device__ __forceinline__ void store_rows(const Row (&rows)[PatchRows], const PatchPlace& at, const Codes& to, int columns, float leastAmax)
{
    int lane = threadIdx.x % WarpSize;
    uint32_t mine = 0;
#pragma unroll
    for (int i = 0; i < PatchRows; i++)
    {
        Row magnitudes = {};
        magnitudes.raise(rows[i]);
        uint32_t largest = __reduce_max_sync(AllLanes, __float_as_uint(magnitudes.largest()));
        if (lane % PatchRows == i) mine = largest;
    }

    float scale = tile_scale<e4m3>(mine, leastAmax, false);
    Divisor divisor(scale);
    if (lane < PatchRows && lane < at.rows)
    {
        int64_t row = at.row + lane;
        to.scales[row * to.scaleStride + at.columnTile] = scale;
        to.report(mine, row * divide_up(columns, TileLength) + at.columnTile);
    }

    uint32_t words[PatchRows];
    if (__any_sync(AllLanes, divisor.moves())) encode_rows<true>(words, rows, divisor);
    else encode_rows<false>(words, rows, divisor);
    uint8_t* first = to.codes + at.row * to.stride + at.column;
    for_rows(at, [&](int i) { *reinterpret_cast<uint32_t*>(first + i * to.stride) = words[i]; });
}
