// Transposes of byte matrices: the tensor cores take 8-bit operands along the sum only. Every thread turns 4 x 4 bytes in its registers; words of
// four rows then change places through shared memory, where word w of column c lies at w ^ (c / 4), so that neither side's 32 lanes meet in a bank.
// Floor: 2 bytes an element.
#include "common.cuh"

constexpr int Side = 128;
constexpr int Threads = 256;
constexpr int WordsAcross = Side / 4;

// One tile of Side x Side: rows from[0, rows), columns [0, columns) of them, zeros elsewhere; to[column * toStride + row], all Side rows of it up to
// toRows. columns, strides and addresses are multiples of 4.
__device__ __forceinline__ void transpose_tile(const uint8_t* from, int64_t fromStride, int rows, int columns, uint8_t* to, int64_t toStride, int toRows)
{
    __shared__ uint32_t turned[Side * WordsAcross];
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize;
#pragma unroll
    for (int word = warp; word < WordsAcross; word += Threads / WarpSize)
    {
        uint32_t x[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            int row = 4 * word + i;
            x[i] = row < rows && 4 * lane < columns ? *reinterpret_cast<const uint32_t*>(from + row * fromStride + 4 * lane) : 0;
        }

#pragma unroll
        for (int c = 0; c < 4; c++)
        {
            uint32_t column = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) column |= (x[i] >> 8 * c & 0xff) << 8 * i;
            turned[(4 * lane + c) * WordsAcross + (word ^ lane)] = column;
        }
    }

    __syncthreads();
    for (int c = warp; c < columns; c += Threads / WarpSize)
    {
        if (4 * lane < toRows) *reinterpret_cast<uint32_t*>(to + c * toStride + 4 * lane) = turned[c * WordsAcross + (lane ^ c / 4)];
    }
}

// to[e, c, r] = from[e, r, c]. Grid: tiles of columns, tiles of rows, matrices.
__global__ void __launch_bounds__(Threads) transpose_matrices(
    const uint8_t* from, int64_t fromStride, int64_t fromMatrix, uint8_t* to, int64_t toStride, int64_t toMatrix, int rows, int columns)
{
    int column = blockIdx.x * Side, row = blockIdx.y * Side;
    from += blockIdx.z * fromMatrix + row * fromStride + column;
    to += blockIdx.z * toMatrix + column * toStride + row;
    transpose_tile(from, fromStride, rows - row, min(columns - column, Side), to, toStride, min(rows - row, Side));
}

// Rows in groups: row i of group g goes to column 128 (offsets[g] / 128 + g) + i, so that groups begin whole tiles; zeros fill up each
// group's last tile, and tiles between groups are left alone. Without offsets, one group of all rows. Grid: tiles of columns, tiles of
// rows and one for each group.
__global__ void __launch_bounds__(Threads) transpose_groups(
    const uint8_t* from, int64_t fromStride, const int32_t* offsets, int groups, uint8_t* to, int64_t toStride, int rows, int columns)
{
    int at = blockIdx.y, first = 0, end = rows, tile = at;
    if (offsets != nullptr)
    {
        // The last group that begins at this tile or before it.
        int low = 0, high = groups;
        while (high - low > 1)
        {
            int middle = (low + high) / 2;
            if (offsets[middle] / Side + middle <= at) low = middle;
            else high = middle;
        }

        first = offsets[low];
        end = offsets[low + 1];
        tile = at - (first / Side + low);
    }

    int row = first + tile * Side, column = blockIdx.x * Side;
    if (tile < 0 || row >= end) return;
    transpose_tile(from + row * fromStride + column, fromStride, end - row, min(columns - column, Side), to + column * toStride + static_cast<int64_t>(at) * Side, toStride, Side);
}
