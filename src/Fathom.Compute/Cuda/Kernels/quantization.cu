// Between activations or weights and the narrow formats of a precision recipe ([P] §3.3.2): one scale for a 1x128 tile, a 128x1 tile,
// a 128x128 block or a whole matrix. All are bound by memory, so each reads its values once, from memory into registers, finds the
// largest magnitudes there, and writes codes; only the scale of a whole matrix needs two passes.
//
// Chunk is what a thread reads at once: 16 bytes where addresses and columns allow it, else one value (E5M6: a pair).
#include "formats.cuh"
#include "held.cuh"
#include "rows.cuh"
#include "tile_rows.cuh"

// One layout for all kernels; CudaQuantization.cs declares it alike.
struct TileArguments
{
    void* plain;                // x or y, [rows, columns]
    int64_t plainStride;        // elements
    uint8_t* codes;             // [rows, columns]
    int64_t codeStride;         // bytes
    void* scales;               // float, or e8m0 where powerOfTwo
    int64_t scaleStride;        // from tile row to tile row
    const int32_t* rowOffsets;  // [groups + 1], or null; tiles of columns only
    uint64_t* fault;            // or null
    uint32_t* largest;          // [largestCount]: parts of the largest magnitude of a whole matrix
    int64_t rows;
    int32_t columns;
    int32_t groups;
    int32_t largestCount;
    int32_t powerOfTwo;
    float leastAmax;
    int32_t scaleRowShift;      // dequantisation: rows to tile rows
    int32_t scaleStep;          // dequantisation: from tile to tile of a row, 0 or 1
};

__device__ __forceinline__ void put_scale(const TileArguments& p, int64_t place, float scale)
{
    if (p.powerOfTwo) static_cast<uint8_t*>(p.scales)[place] = static_cast<uint8_t>(__float_as_uint(scale) >> 23);
    else static_cast<float*>(p.scales)[place] = scale;
}

__device__ __forceinline__ float get_scale(const TileArguments& p, int64_t place)
{
    return p.powerOfTwo ? to_float(static_cast<const e8m0*>(p.scales)[place]) : static_cast<const float*>(p.scales)[place];
}

__device__ __forceinline__ uint32_t magnitude(float x) { return __float_as_uint(x) & MagnitudeMask; }

// Chunk values at once where that is 16 bytes, which the caller has aligned, else one by one.
template <int Chunk, typename X>
__device__ __forceinline__ Pack<X, Chunk> load_chunk(const X* from)
{
    Pack<X, Chunk> pack;
    if constexpr (Chunk * sizeof(X) == 16) pack = *reinterpret_cast<const Pack<X, Chunk>*>(from);
    else
    {
#pragma unroll
        for (int i = 0; i < Chunk; i++) pack.values[i] = from[i];
    }

    return pack;
}

template <int Chunk, typename Y>
__device__ __forceinline__ void store_chunk(Y* to, const float (&x)[Chunk])
{
    if constexpr (Chunk * sizeof(Y) == 16) store<Y, Chunk>(to, x);
    else
    {
#pragma unroll
        for (int i = 0; i < Chunk; i++) to[i] = from_float<Y>(x[i]);
    }
}

// ---- 1x128 tiles: eight lanes a tile, sixteen values a lane ----

constexpr int TileLanes = 8;
constexpr int LaneValues = TileLength / TileLanes;
constexpr int RowThreads = 256;

struct RowTile
{
    int64_t row;
    int32_t tile, column, left;  // left: columns from here on, 0 past the last tile
};

__device__ __forceinline__ RowTile row_tile(const TileArguments& p, uint32_t index)
{
    uint32_t tiles = (static_cast<uint32_t>(p.columns) + TileLength - 1) / TileLength, row = index / tiles, tile = index - row * tiles;
    int column = static_cast<int>(tile) * TileLength;
    return {row, static_cast<int>(tile), column, row < p.rows ? min(p.columns - column, TileLength) : 0};
}

__device__ __forceinline__ uint32_t row_tile_index() { return blockIdx.x * (RowThreads / TileLanes) + threadIdx.x / TileLanes; }

// A lane's values: chunks lane, lane + 8, … of its tile; zeros past the end. Returns the largest magnitude of the lane's.
template <typename X, int Chunk>
__device__ __forceinline__ uint32_t load_tile(Held<X, Chunk> (&x)[LaneValues / Chunk], const TileArguments& p, const RowTile& at)
{
    const X* from = static_cast<const X*>(p.plain) + at.row * p.plainStride + at.column;
    int lane = threadIdx.x % TileLanes;
#pragma unroll
    for (int i = 0; i < LaneValues / Chunk; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        x[i] = {};
        if (start >= at.left) continue;
        if constexpr (Chunk * sizeof(X) == 16) x[i] = hold<X, Chunk>(from + start);
        else x[i] = hold_singly<Chunk>(from + start, Chunk);
    }

    Held<X, Chunk> magnitudes = {};
#pragma unroll
    for (int i = 0; i < LaneValues / Chunk; i++) magnitudes.raise(x[i]);
    return __float_as_uint(magnitudes.largest());
}

template <bool Moves, typename Q, typename X, int Chunk>
__device__ __forceinline__ void store_quotients(const TileArguments& p, const RowTile& at, const Held<X, Chunk> (&x)[LaneValues / Chunk], const Divisor& divisor)
{
    uint8_t* to = p.codes + at.row * p.codeStride + code_bytes<Q>(at.column);
    int lane = threadIdx.x % TileLanes;
#pragma unroll
    for (int i = 0; i < LaneValues / Chunk; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        if (start >= at.left) continue;
        float quotients[Chunk];
#pragma unroll
        for (int j = 0; j < Chunk; j++) quotients[j] = divisor.quotient(Moves ? divisor.moved(x[i].get(j)) : x[i].get(j));
        store_codes<Q, Chunk>(to + code_bytes<Q>(start), quotients);
    }
}

template <typename Q, typename X, int Chunk>
__device__ __forceinline__ void store_tile(const TileArguments& p, const RowTile& at, const Held<X, Chunk> (&x)[LaneValues / Chunk], const Divisor& divisor)
{
    if (divisor.moves()) store_quotients<true, Q, X, Chunk>(p, at, x, divisor);
    else store_quotients<false, Q, X, Chunk>(p, at, x, divisor);
}

// The same with the largest magnitude of the tile, in all its lanes.
template <typename X, int Chunk>
__device__ __forceinline__ uint32_t load_whole_tile(Held<X, Chunk> (&x)[LaneValues / Chunk], const TileArguments& p, const RowTile& at)
{
    uint32_t largest = load_tile<X, Chunk>(x, p, at);
#pragma unroll
    for (int distance = TileLanes / 2; distance > 0; distance /= 2) largest = max(largest, __shfl_xor_sync(AllLanes, largest, distance));
    return largest;
}

// Scale and codes of a tile that its lanes hold.
template <typename Q, typename X, int Chunk>
__device__ __forceinline__ void quantize_tile(const TileArguments& p, const RowTile& at, const Held<X, Chunk> (&x)[LaneValues / Chunk], uint32_t largest)
{
    float scale = tile_scale<Q>(largest, p.leastAmax, p.powerOfTwo);
    if (threadIdx.x % TileLanes == 0)
    {
        put_scale(p, at.row * p.scaleStride + at.tile, scale);
        if (largest >= SingleInfinity) report_tile(p.fault, at.row * divide_up(p.columns, TileLength) + at.tile);
    }

    store_tile<Q, X, Chunk>(p, at, x, Divisor(scale));
}

template <typename X, typename Q, int Chunk>
__global__ void __launch_bounds__(RowThreads) quantize_rows(const __grid_constant__ TileArguments p)
{
    RowTile at = row_tile(p, row_tile_index());
    Held<X, Chunk> x[LaneValues / Chunk];
    uint32_t largest = load_whole_tile<X, Chunk>(x, p, at);
    if (at.left == 0) return;
    quantize_tile<Q, X, Chunk>(p, at, x, largest);
}

// Two formats of the same matrix, which is read once; CudaQuantization.cs declares it alike.
struct TwiceArguments
{
    TileArguments first, second;
};

template <typename X, typename First, typename Second, int Chunk>
__global__ void __launch_bounds__(RowThreads) quantize_rows_twice(const __grid_constant__ TwiceArguments p)
{
    RowTile at = row_tile(p.first, row_tile_index());
    Held<X, Chunk> x[LaneValues / Chunk];
    uint32_t largest = load_whole_tile<X, Chunk>(x, p.first, at);
    if (at.left == 0) return;
    quantize_tile<First, X, Chunk>(p.first, at, x, largest);
    quantize_tile<Second, X, Chunk>(p.second, at, x, largest);
}

// ---- One scale: the largest magnitude of parts, then codes ----

template <typename X, int Chunk>
__global__ void __launch_bounds__(RowThreads) largest_magnitudes(const __grid_constant__ TileArguments p)
{
    int64_t tiles = p.rows * divide_up(p.columns, TileLength), step = static_cast<int64_t>(gridDim.x) * (RowThreads / TileLanes);
    uint32_t largest = 0;
    for (int64_t index = row_tile_index(); index < tiles; index += step)
    {
        Held<X, Chunk> x[LaneValues / Chunk];
        largest = max(largest, load_tile<X, Chunk>(x, p, row_tile(p, static_cast<uint32_t>(index))));
    }

    largest = block_reduce<Max>(largest);
    if (threadIdx.x == 0) p.largest[blockIdx.x] = largest;
}

template <typename X, typename Q, int Chunk>
__global__ void __launch_bounds__(RowThreads) quantize_whole(const __grid_constant__ TileArguments p)
{
    uint32_t largest = 0;
    for (int i = threadIdx.x; i < p.largestCount; i += RowThreads) largest = max(largest, p.largest[i]);
    largest = block_reduce<Max>(largest);
    float scale = tile_scale<Q>(largest, p.leastAmax, p.powerOfTwo);
    if (blockIdx.x == 0 && threadIdx.x == 0)
    {
        put_scale(p, 0, scale);
        if (largest >= SingleInfinity) report_tile(p.fault, 0);
    }

    RowTile at = row_tile(p, row_tile_index());
    Held<X, Chunk> x[LaneValues / Chunk];
    load_tile<X, Chunk>(x, p, at);
    store_tile<Q, X, Chunk>(p, at, x, Divisor(scale));
}

// ---- Panels of 128 rows ----

// Up to 128 rows of some columns in the registers of a block: a thread has Chunk columns of every RowsAtOnce-th row.
template <typename X, int Chunk, int Columns, int Threads>
struct Panel
{
    static constexpr int ThreadsOfRow = Columns / Chunk;
    static constexpr int RowsAtOnce = Threads / ThreadsOfRow;
    static constexpr int Passes = TileLength / RowsAtOnce;
    static_assert(ThreadsOfRow * RowsAtOnce == Threads && RowsAtOnce * Passes == TileLength);

    Pack<X, Chunk> values[Passes];

    __device__ __forceinline__ static int row(int pass) { return threadIdx.x / ThreadsOfRow + pass * RowsAtOnce; }
    __device__ __forceinline__ static int column() { return threadIdx.x % ThreadsOfRow * Chunk; }

    __device__ __forceinline__ void load(const TileArguments& p, const RowRange& range, int firstColumn)
    {
        bool within = firstColumn + column() < p.columns;
        const X* from = static_cast<const X*>(p.plain) + range.first * p.plainStride + firstColumn + column();
#pragma unroll
        for (int i = 0; i < Passes; i++)
        {
            values[i] = {};
            if (within && row(i) < range.count) values[i] = load_chunk<Chunk>(from + row(i) * p.plainStride);
        }
    }
};

constexpr int StripColumns = 64;
constexpr int StripThreads = 256;

// 128x1 tiles: a block has 128 rows of 64 columns.
template <typename X, typename Q, int Chunk>
__global__ void __launch_bounds__(StripThreads) quantize_columns(const __grid_constant__ TileArguments p)
{
    using Strip = Panel<X, Chunk, StripColumns, StripThreads>;
    __shared__ uint32_t largest[StripColumns];
    __shared__ float ups[StripColumns], scales[StripColumns], reciprocals[StripColumns];
    uint32_t strips = (static_cast<uint32_t>(p.columns) + StripColumns - 1) / StripColumns, tile = blockIdx.x / strips;
    int firstColumn = static_cast<int>(blockIdx.x - tile * strips) * StripColumns;
    RowRange range = tile_rows(p.rowOffsets, p.groups, p.rows, tile);
    if (range.count == 0) return;

    Strip strip;
    strip.load(p, range, firstColumn);
    if (threadIdx.x < StripColumns) largest[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < Chunk; j++)
    {
        uint32_t mine = 0;
#pragma unroll
        for (int i = 0; i < Strip::Passes; i++) mine = max(mine, magnitude(to_float(strip.values[i].values[j])));
#pragma unroll
        for (int distance = WarpSize / 2; distance >= Strip::ThreadsOfRow; distance /= 2) mine = max(mine, __shfl_xor_sync(AllLanes, mine, distance));
        if (threadIdx.x % WarpSize < Strip::ThreadsOfRow) atomicMax(&largest[Strip::column() + j], mine);
    }

    __syncthreads();
    if (threadIdx.x < StripColumns)
    {
        int column = firstColumn + threadIdx.x;
        float scale = tile_scale<Q>(largest[threadIdx.x], p.leastAmax, p.powerOfTwo);
        Divisor divisor(scale);
        ups[threadIdx.x] = divisor.up;
        scales[threadIdx.x] = divisor.scale;
        reciprocals[threadIdx.x] = divisor.reciprocal;
        if (column < p.columns)
        {
            put_scale(p, tile * p.scaleStride + column, scale);
            if (largest[threadIdx.x] >= SingleInfinity) report_tile(p.fault, static_cast<int64_t>(tile) * p.columns + column);
        }
    }

    __syncthreads();
    int column = Strip::column();
    if (firstColumn + column >= p.columns) return;
    Divisor divisors[Chunk];
#pragma unroll
    for (int j = 0; j < Chunk; j++)
    {
        divisors[j].up = ups[column + j];
        divisors[j].scale = scales[column + j];
        divisors[j].reciprocal = reciprocals[column + j];
    }

    uint8_t* to = p.codes + range.first * p.codeStride + firstColumn + column;
#pragma unroll
    for (int i = 0; i < Strip::Passes; i++)
    {
        if (Strip::row(i) >= range.count) break;
        float quotients[Chunk];
#pragma unroll
        for (int j = 0; j < Chunk; j++) quotients[j] = divisors[j].quotient(divisors[j].moved(to_float(strip.values[i].values[j])));
        store_codes<Q, Chunk>(to + Strip::row(i) * p.codeStride, quotients);
    }
}

constexpr int BlockThreads = 512;

// 128x128 blocks, one a block of threads.
template <typename X, typename Q, int Chunk>
__global__ void __launch_bounds__(BlockThreads) quantize_blocks(const __grid_constant__ TileArguments p)
{
    using Square = Panel<X, Chunk, TileLength, BlockThreads>;
    uint32_t columnTiles = (static_cast<uint32_t>(p.columns) + TileLength - 1) / TileLength, tile = blockIdx.x / columnTiles;
    int columnTile = static_cast<int>(blockIdx.x - tile * columnTiles), firstColumn = columnTile * TileLength;
    RowRange range = tile_rows(nullptr, 0, p.rows, tile);
    Square square;
    square.load(p, range, firstColumn);
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < Square::Passes; i++)
    {
#pragma unroll
        for (int j = 0; j < Chunk; j++) largest = max(largest, magnitude(to_float(square.values[i].values[j])));
    }

    largest = block_reduce<Max>(largest);
    float scale = tile_scale<Q>(largest, p.leastAmax, p.powerOfTwo);
    if (threadIdx.x == 0)
    {
        put_scale(p, tile * p.scaleStride + columnTile, scale);
        if (largest >= SingleInfinity) report_tile(p.fault, static_cast<int64_t>(tile) * columnTiles + columnTile);
    }

    int column = firstColumn + Square::column();
    if (column >= p.columns) return;
    Divisor divisor(scale);
    uint8_t* to = p.codes + range.first * p.codeStride + code_bytes<Q>(column);
#pragma unroll
    for (int i = 0; i < Square::Passes; i++)
    {
        if (Square::row(i) >= range.count) break;
        float quotients[Chunk];
#pragma unroll
        for (int j = 0; j < Chunk; j++) quotients[j] = divisor.quotient(divisor.moved(to_float(square.values[i].values[j])));
        store_codes<Q, Chunk>(to + Square::row(i) * p.codeStride, quotients);
    }
}

// ---- Back to values ----

// Scales that do not change within 128 columns of a row: of 1x128 tiles, of blocks, of a whole matrix.
template <typename Y, typename Q, int Chunk>
__global__ void __launch_bounds__(RowThreads) dequantize_rows(const __grid_constant__ TileArguments p)
{
    RowTile at = row_tile(p, row_tile_index());
    if (at.left == 0) return;
    float scale = get_scale(p, (at.row >> p.scaleRowShift) * p.scaleStride + at.tile * p.scaleStep);
    const uint8_t* from = p.codes + at.row * p.codeStride + code_bytes<Q>(at.column);
    Y* to = static_cast<Y*>(p.plain) + at.row * p.plainStride + at.column;
    int lane = threadIdx.x % TileLanes;
    float values[LaneValues / Chunk][Chunk] = {};
#pragma unroll
    for (int i = 0; i < LaneValues / Chunk; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        if (start < at.left) load_codes<Q, Chunk>(values[i], from + code_bytes<Q>(start));
    }

#pragma unroll
    for (int i = 0; i < LaneValues / Chunk; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        if (start >= at.left) continue;
#pragma unroll
        for (int j = 0; j < Chunk; j++) values[i][j] = __fmul_rn(values[i][j], scale);
        store_chunk<Chunk>(to + start, values[i]);
    }
}

template <typename Y, typename Q, int Chunk>
__global__ void __launch_bounds__(StripThreads) dequantize_columns(const __grid_constant__ TileArguments p)
{
    using Strip = Panel<Y, Chunk, StripColumns, StripThreads>;
    uint32_t strips = (static_cast<uint32_t>(p.columns) + StripColumns - 1) / StripColumns, tile = blockIdx.x / strips;
    int column = static_cast<int>(blockIdx.x - tile * strips) * StripColumns + Strip::column();
    RowRange range = tile_rows(p.rowOffsets, p.groups, p.rows, tile);
    if (column >= p.columns) return;
    float scales[Chunk];
#pragma unroll
    for (int j = 0; j < Chunk; j++) scales[j] = range.count > 0 ? get_scale(p, tile * p.scaleStride + column + j) : 0.0f;
    const uint8_t* from = p.codes + range.first * p.codeStride + column;
    Y* to = static_cast<Y*>(p.plain) + range.first * p.plainStride + column;
#pragma unroll 4
    for (int row = Strip::row(0); row < range.count; row += Strip::RowsAtOnce)
    {
        float values[Chunk];
        load_codes<Q, Chunk>(values, from + row * p.codeStride);
#pragma unroll
        for (int j = 0; j < Chunk; j++) values[j] = __fmul_rn(values[j], scales[j]);
        store_chunk<Chunk>(to + row * p.plainStride, values);
    }
}

// ---- BF16 without scales ----

// y = x rounded to BF16: to narrow, to widen, and in place.
template <typename X, typename Y, int Chunk>
__global__ void __launch_bounds__(RowThreads) through_bf16(
    const X* x, int64_t xStride, Y* y, int64_t yStride, int64_t rows, int32_t columns, int32_t width, int32_t rowsOfBlock)
{
    constexpr int ChunksOfThread = 4;
    RowPlace at = row_place(rows, width, rowsOfBlock, ChunksOfThread);
    if (!at.valid) return;
    Pack<X, Chunk> packs[ChunksOfThread];
#pragma unroll
    for (int i = 0; i < ChunksOfThread; i++)
    {
        int64_t column = (at.first + i * width) * Chunk;
        if (column < columns) packs[i] = *reinterpret_cast<const Pack<X, Chunk>*>(x + at.row * xStride + column);
    }

#pragma unroll
    for (int i = 0; i < ChunksOfThread; i++)
    {
        int64_t column = (at.first + i * width) * Chunk;
        if (column >= columns) continue;
        float values[Chunk];
#pragma unroll
        for (int j = 0; j < Chunk; j++) values[j] = to_float(from_float<bf16>(to_float(packs[i].values[j])));
        store<Y, Chunk>(y + at.row * yStride + column, values);
    }
}
