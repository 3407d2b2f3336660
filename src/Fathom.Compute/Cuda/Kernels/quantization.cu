// Activations or weights in the narrow formats of a precision recipe ([P] §3.3.2): one scale for a 1x128 tile, a 128x1 tile,
// a 128x128 block or a whole matrix. All are bound by memory, so each reads its values once, from memory into registers, finds the
// largest magnitudes there, and writes codes; only the scale of a whole matrix needs two passes.
#include "held.cuh"
#include "quantization_tiles.cuh"

__device__ __forceinline__ void put_scale(const TileArguments& p, int64_t place, float scale)
{
    if (p.powerOfTwo) static_cast<uint8_t*>(p.scales)[place] = static_cast<uint8_t>(__float_as_uint(scale) >> 23);
    else static_cast<float*>(p.scales)[place] = scale;
}

__device__ __forceinline__ uint32_t magnitude(float x) { return __float_as_uint(x) & MagnitudeMask; }

// ---- 1x128 tiles ----

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
