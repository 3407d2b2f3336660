// RMSNorm. One block takes one row and keeps it in registers, as it is stored, between the sum and the result, so memory is read
// once. The weight's gradient sums columns over pieces of rows that depend on the shape alone; a second kernel adds the pieces in
// order. Where a norm's result is only the operand of quantised products ([P] §3.3.3), it is written as E4M3 in 1x128 tiles, 3 bytes an
// element where two kernels move 7.
#include "elementwise.cuh"
#include "formats.cuh"
#include "held.cuh"

// Of a block that has a row; NormShape.MostThreads.
constexpr int MostThreads = 512;

// A thread's accesses of N elements to a row: Items of them, known to the compiler, or as many as it takes where Items is 0. They
// are counted in accesses: of a column in elements the compiler would not know any more that it is aligned, and store one by one.
template <int N, int Items>
struct Accesses
{
    int64_t all;

    __device__ __forceinline__ explicit Accesses(int64_t columns) : all(columns / N) {}

    __device__ __forceinline__ int count() const { return Items > 0 ? Items : static_cast<int>(divide_up(all, blockDim.x)); }

    __device__ __forceinline__ int64_t at(int item) const { return threadIdx.x + static_cast<int64_t>(item) * blockDim.x; }

    __device__ __forceinline__ bool holds(int item) const { return at(item) < all; }
};

// What a thread reads of a row: in registers as it is stored, or where Items is 0 from memory again each time.
template <typename T, int N, int Items>
struct Row
{
    const T* row;
    Pack<T, N> held[Items > 0 ? Items : 1];

    __device__ __forceinline__ Row(const T* row, const Accesses<N, Items>& accesses) : row(row)
    {
#pragma unroll
        for (int item = 0; item < Items; item++)
        {
            if (accesses.holds(item)) held[item] = reinterpret_cast<const Pack<T, N>*>(row)[accesses.at(item)];
        }
    }

    __device__ __forceinline__ void get(float (&to)[N], int item, int64_t access) const
    {
        if constexpr (Items > 0)
        {
#pragma unroll
            for (int i = 0; i < N; i++) to[i] = to_float(held[item].values[i]);
        }
        else
        {
            read(to, row + access * N);
        }
    }
};

template <int N, typename T>
__device__ __forceinline__ void write_access(T* row, int64_t access, const float (&from)[N])
{
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; i++) pack.values[i] = from_float<T>(from[i]);
    reinterpret_cast<Pack<T, N>*>(row)[access] = pack;
}

// 1 / sqrt(mean(x^2) + epsilon) of the block's row, in every thread; kept where a backward pass asks for it.
template <typename X, int N, int Items>
__device__ __forceinline__ float reciprocal_root(const Row<X, N, Items>& row, const Accesses<N, Items>& accesses, float epsilon, float* rstd, int64_t columns)
{
    float squares = 0;
#pragma unroll
    for (int item = 0; item < accesses.count(); item++)
    {
        if (!accesses.holds(item)) continue;
        float a[N];
        row.get(a, item, accesses.at(item));
#pragma unroll
        for (int i = 0; i < N; i++) squares += a[i] * a[i];
    }

    float r = 1 / sqrtf(block_reduce<Sum>(squares) / static_cast<float>(columns) + epsilon);
    if (rstd != nullptr && threadIdx.x == 0) rstd[blockIdx.x] = r;
    return r;
}

// y = x * rstd * weight; y may be x.
template <typename X, typename W, int N, int Items>
__global__ void __launch_bounds__(MostThreads) rms_norm(
    const X* x, int64_t xStride, const W* weight, float epsilon, X* y, int64_t yStride, float* rstd, int64_t columns)
{
    Accesses<N, Items> accesses(columns);
    Row<X, N, Items> row(x + blockIdx.x * xStride, accesses);
    y += blockIdx.x * yStride;
    float r = reciprocal_root(row, accesses, epsilon, rstd, columns);
#pragma unroll
    for (int item = 0; item < accesses.count(); item++)
    {
        if (!accesses.holds(item)) continue;
        int64_t access = accesses.at(item);
        float a[N], w[N];
        row.get(a, item, access);
        read(w, weight + access * N);
#pragma unroll
        for (int i = 0; i < N; i++) a[i] = a[i] * r * w[i];
        write_access(y, access, a);
    }
}

constexpr int CodeChunk = 8;                          // values of an access, 16 bytes of BF16
constexpr int TileLanes = TileLength / CodeChunk;     // threads beside each other that hold a tile

// The same with y in E4M3, of values rounded to BF16. Columns are whole accesses, and a row's last tile may have fewer than 128. A tile's
// lanes hold an access of each item: lane i makes the scale of item i and tells the others.
template <typename W, int Items>
__global__ void __launch_bounds__(MostThreads) rms_norm_quantized(
    const bf16* x, int64_t xStride, const W* weight, float epsilon, uint8_t* codes, int64_t codeStride, float* scales, int64_t scaleStride,
    uint64_t* fault, float leastAmax, float* rstd, int64_t columns)
{
    constexpr int AtOnce = Items > 0 ? Items : 1;
    using Chunk = Held<bf16, CodeChunk>;
    Accesses<CodeChunk, Items> accesses(columns);
    Row<bf16, CodeChunk, Items> row(x + blockIdx.x * xStride, accesses);
    codes += blockIdx.x * codeStride;
    scales += blockIdx.x * scaleStride;
    float r = reciprocal_root(row, accesses, epsilon, rstd, columns);
    int own = threadIdx.x % TileLanes % AtOnce;
    for (int first = 0; first < accesses.count(); first += AtOnce)
    {
        Chunk y[AtOnce];
        uint32_t largestOfOwn = 0;
#pragma unroll
        for (int item = 0; item < AtOnce; item++)
        {
            y[item] = Chunk::zeros();
            if (accesses.holds(first + item))
            {
                int64_t access = accesses.at(first + item);
                float a[CodeChunk], w[CodeChunk];
                row.get(a, item, access);
                read(w, weight + access * CodeChunk);
#pragma unroll
                for (int i = 0; i < CodeChunk; i += 2) y[item].words[i / 2] = ptx::bf16x2_from_floats(a[i] * r * w[i], a[i + 1] * r * w[i + 1]);
            }

            Chunk magnitudes = Chunk::zeros();
            magnitudes.raise(y[item]);
            uint32_t largest = __float_as_uint(magnitudes.largest());
#pragma unroll
            for (int distance = TileLanes / 2; distance > 0; distance /= 2) largest = max(largest, __shfl_xor_sync(AllLanes, largest, distance));
            if (own == item) largestOfOwn = largest;
        }

        float scale = tile_scale<e4m3>(largestOfOwn, leastAmax, false);
        Divisor divisor(scale);
        int64_t tile = accesses.at(first + own) / TileLanes, tiles = divide_up(columns, TileLength);
        if (threadIdx.x % TileLanes < AtOnce && tile < tiles)
        {
            scales[tile] = scale;
            if (largestOfOwn >= SingleInfinity) report_tile(fault, blockIdx.x * tiles + tile);
        }

        bool moves = __any_sync(AllLanes, divisor.moves());
#pragma unroll
        for (int item = 0; item < AtOnce; item++)
        {
            Divisor shared = divisor.of_lane(item, TileLanes);
            float q[CodeChunk];
#pragma unroll
            for (int i = 0; i < CodeChunk; i++) q[i] = y[item].get(i);
            if (moves)
            {
                shared.up = __shfl_sync(AllLanes, divisor.up, item, TileLanes);
#pragma unroll
                for (int i = 0; i < CodeChunk; i++) q[i] = shared.moved(q[i]);
            }

#pragma unroll
            for (int i = 0; i < CodeChunk; i++) q[i] = shared.quotient(q[i]);
            if (accesses.holds(first + item)) store_codes<e4m3, CodeChunk>(codes + accesses.at(first + item) * CodeChunk, q);
        }
    }
}

// dx = rstd * (dy * weight - x * rstd^2 * mean(dy * weight * x)), or added + that; dx may be dy, or added.
template <typename X, typename W, int N, int Items, bool Adds>
__global__ void __launch_bounds__(MostThreads) rms_norm_input_gradient(
    const X* dy, int64_t dyStride, const X* x, int64_t xStride, const W* weight, const float* rstd, X* dx, int64_t dxStride,
    const X* added, int64_t addedStride, int64_t columns)
{
    Accesses<N, Items> accesses(columns);
    dx += blockIdx.x * dxStride;
    Row<X, N, Items> gradient(dy + blockIdx.x * dyStride, accesses), row(x + blockIdx.x * xStride, accesses);
    Row<X, N, Adds ? Items : 0> before(added + blockIdx.x * addedStride, Accesses<N, Adds ? Items : 0>(columns));
    float r = rstd[blockIdx.x], projection = 0;
#pragma unroll
    for (int item = 0; item < accesses.count(); item++)
    {
        if (!accesses.holds(item)) continue;
        int64_t access = accesses.at(item);
        float d[N], a[N], w[N];
        gradient.get(d, item, access);
        row.get(a, item, access);
        read(w, weight + access * N);
#pragma unroll
        for (int i = 0; i < N; i++) projection += d[i] * w[i] * a[i];
    }

    projection = block_reduce<Sum>(projection) * (r * r / static_cast<float>(columns));
#pragma unroll
    for (int item = 0; item < accesses.count(); item++)
    {
        if (!accesses.holds(item)) continue;
        int64_t access = accesses.at(item);
        float d[N], a[N], w[N], b[N];
        gradient.get(d, item, access);
        row.get(a, item, access);
        read(w, weight + access * N);
        if constexpr (Adds) before.get(b, item, access);
#pragma unroll
        for (int i = 0; i < N; i++)
        {
            d[i] = (d[i] * w[i] - a[i] * projection) * r;
            if constexpr (Adds) d[i] += b[i];
        }

        write_access(dx, access, d);
    }
}

// A block's columns and piece of rows. Its warps take every eighth row of the piece each, and the sums of the warps are added in order.
constexpr int WarpsOfPiece = 8;

// sums[piece, d] = sum of dy * x * rstd over the rows of the piece. Grid: columns, pieces.
template <typename X, int N>
__global__ void __launch_bounds__(WarpsOfPiece * WarpSize) rms_norm_weight_gradient(
    const X* dy, int64_t dyStride, const X* x, int64_t xStride, const float* rstd, float* sums, int64_t rows, int64_t columns,
    int64_t rowsOfPiece)
{
    __shared__ float partial[WarpsOfPiece][WarpSize * N];
    int warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize;
    int64_t column = (static_cast<int64_t>(blockIdx.x) * WarpSize + lane) * N;
    int64_t first = blockIdx.y * rowsOfPiece, last = first + rowsOfPiece < rows ? first + rowsOfPiece : rows;
    float sum[N] = {};
    if (column < columns)
    {
#pragma unroll 4
        for (int64_t row = first + warp; row < last; row += WarpsOfPiece)
        {
            float d[N], a[N], r = rstd[row];
            read(d, dy + row * dyStride + column);
            read(a, x + row * xStride + column);
#pragma unroll
            for (int i = 0; i < N; i++) sum[i] += d[i] * (a[i] * r);
        }
    }

#pragma unroll
    for (int i = 0; i < N; i++) partial[warp][i * WarpSize + lane] = sum[i];
    __syncthreads();
    for (int i = threadIdx.x; i < WarpSize * N; i += WarpsOfPiece * WarpSize)
    {
        float total = partial[0][i];
        for (int w = 1; w < WarpsOfPiece; w++) total += partial[w][i];
        int64_t at = (static_cast<int64_t>(blockIdx.x) * WarpSize + i % WarpSize) * N + i / WarpSize;
        if (at < columns) sums[blockIdx.y * columns + at] = total;
    }
}

// dweight = the pieces' sums, in order, or +=. One thread a column; no pieces where there are no rows.
__global__ void rms_norm_add_pieces(const float* sums, float* dweight, int64_t columns, int32_t pieces, bool accumulate)
{
    int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    float sum = pieces > 0 ? sums[column] : 0;
    for (int piece = 1; piece < pieces; piece++) sum += sums[piece * columns + column];
    dweight[column] = accumulate ? dweight[column] + sum : sum;
}
