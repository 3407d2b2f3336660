// RMSNorm. One block takes one row and keeps it in registers, as it is stored, between the sum and the result, so memory is read
// once. The weight's gradient sums columns over pieces of rows that depend on the shape alone; a second kernel adds the pieces in
// order.
#include "elementwise.cuh"

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

// y = x * rstd * weight; y may be x.
template <typename X, typename W, int N, int Items>
__global__ void __launch_bounds__(MostThreads) rms_norm(
    const X* x, int64_t xStride, const W* weight, float epsilon, X* y, int64_t yStride, float* rstd, int64_t columns)
{
    Accesses<N, Items> accesses(columns);
    Row<X, N, Items> row(x + blockIdx.x * xStride, accesses);
    y += blockIdx.x * yStride;
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
