// SwiGLU of a quantised recipe ([P] §3.3.3): forward it reads gate and up once, and writes its result and both inputs as E4M3 in 1x128 tiles,
// 7 bytes an element where four kernels move 15; backward it reads those codes, 10 bytes where three kernels move 22. Values are BF16 and
// are rounded where a composition would have stored them.
#include "elementwise.cuh"
#include "formats.cuh"
#include "held.cuh"
#include "swiglu.cuh"

constexpr int RowThreads = 256;
constexpr int TileLanes = 8;
constexpr int Chunk = 8;                                   // values that a lane loads at once
constexpr int Chunks = TileLength / TileLanes / Chunk;     // of a tile and lane

constexpr int Results = 3;

// QuantizedSwiGlu of CudaActivation.cs.
struct QuantizedSwiGlu
{
    const bf16* gate;
    int64_t gateStride;
    const bf16* up;
    int64_t upStride;
    const float* rowScale; // [rows], or null
    Codes to[Results];     // of y, gate and up: codes [rows, columns], scales [rows, tiles]
    int64_t rows, columns;
    float leastAmax;
};

using Chunked = Held<bf16, Chunk>;

// The largest magnitude that the eight lanes of a tile hold, as bits, in all of them.
__device__ __forceinline__ uint32_t largest_of_tile(const Chunked (&x)[Chunks])
{
    Chunked magnitudes = {};
#pragma unroll
    for (int i = 0; i < Chunks; i++) magnitudes.raise(x[i]);
    uint32_t largest = __float_as_uint(magnitudes.largest());
#pragma unroll
    for (int distance = TileLanes / 2; distance > 0; distance /= 2) largest = max(largest, __shfl_xor_sync(AllLanes, largest, distance));
    return largest;
}

// Codes of what a lane holds: chunks lane and lane + 8 of a tile.
template <bool Moves>
__device__ __forceinline__ void store_tile(uint8_t* to, const Chunked (&x)[Chunks], const Divisor& divisor, int left)
{
    int lane = threadIdx.x % TileLanes;
#pragma unroll
    for (int i = 0; i < Chunks; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        float q[Chunk];
#pragma unroll
        for (int j = 0; j < Chunk; j++) q[j] = divisor.quotient(Moves ? divisor.moved(x[i].get(j)) : x[i].get(j));
        if (start < left) store_codes<e4m3, Chunk>(to + start, q);
    }
}

// A block has 32 tiles, row after row; columns is a multiple of 8. A lane of a tile makes one of its three scales, lane 0 that of y, 1 of
// gate, all others of up, and tells the other lanes.
__global__ void __launch_bounds__(RowThreads, 4) swiglu_quantized(const __grid_constant__ QuantizedSwiGlu p)
{
    uint32_t tiles = static_cast<uint32_t>(divide_up(p.columns, TileLength)), index = blockIdx.x * (RowThreads / TileLanes) + threadIdx.x / TileLanes;
    uint32_t row = index / tiles, tile = index - row * tiles;
    int64_t first = static_cast<int64_t>(tile) * TileLength;
    int left = row < p.rows ? static_cast<int>(min(p.columns - first, static_cast<int64_t>(TileLength))) : 0, lane = threadIdx.x % TileLanes;
    Chunked x[Results][Chunks] = {};
    const bf16* gate = p.gate + row * p.gateStride + first;
    const bf16* up = p.up + row * p.upStride + first;
#pragma unroll
    for (int i = 0; i < Chunks; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        if (start >= left) continue;
        x[1][i] = hold<bf16, Chunk>(gate + start);
        x[2][i] = hold<bf16, Chunk>(up + start);
    }

    float scale = left > 0 && p.rowScale != nullptr ? p.rowScale[row] : 1;
#pragma unroll
    for (int i = 0; i < Chunks; i++)
    {
#pragma unroll
        for (int j = 0; j < Chunk; j += 2)
            x[0][i].words[j / 2] = ptx::bf16x2_from_floats(swiglu_of(x[1][i].get(j), x[2][i].get(j), scale), swiglu_of(x[1][i].get(j + 1), x[2][i].get(j + 1), scale));
        if ((lane + i * TileLanes) * Chunk >= left) x[0][i] = {}; // the row's scale need not be finite
    }

    uint32_t largest[Results];
#pragma unroll
    for (int i = 0; i < Results; i++) largest[i] = largest_of_tile(x[i]);
    uint32_t mine = lane == 0 ? largest[0] : lane == 1 ? largest[1] : largest[2];
    float tileScale = tile_scale<e4m3>(mine, p.leastAmax, false);
    Divisor divisor(tileScale);
    if (lane < Results && left > 0)
    {
        const Codes& to = p.to[lane];
        to.scales[row * to.scaleStride + tile] = tileScale;
        to.report(mine, static_cast<int64_t>(row) * tiles + tile);
    }

    bool moves = __any_sync(AllLanes, divisor.moves());
#pragma unroll
    for (int i = 0; i < Results; i++)
    {
        Divisor shared = divisor.of_lane(i, TileLanes);
        uint8_t* to = p.to[i].codes + row * p.to[i].stride + first;
        if (moves)
        {
            shared.up = __shfl_sync(AllLanes, divisor.up, i, TileLanes);
            store_tile<true>(to, x[i], shared, left);
        }
        else store_tile<false>(to, x[i], shared, left);
    }
}

// A block a row, threads and sums as in swiglu_gradient. columns is a multiple of 8.
__global__ void swiglu_gradient_quantized(
    const bf16* dy, int64_t dyStride, const uint8_t* gate, int64_t gateStride, const float* gateScales, int64_t gateScaleStride,
    const uint8_t* up, int64_t upStride, const float* upScales, int64_t upScaleStride, const float* rowScale,
    bf16* dgate, int64_t dgateStride, bf16* dup, int64_t dupStride, float* drowScale, bf16* y, int64_t yStride, int64_t columns)
{
    int64_t row = blockIdx.x;
    float scale = rowScale == nullptr ? 1 : rowScale[row], sum = 0;
    for (int64_t column = static_cast<int64_t>(threadIdx.x) * Chunk; column < columns; column += static_cast<int64_t>(blockDim.x) * Chunk)
    {
        float d[Chunk], a[Chunk], u[Chunk], h[Chunk];
        read(d, dy + row * dyStride + column);
        float gateScale = gateScales[row * gateScaleStride + column / TileLength], upScale = upScales[row * upScaleStride + column / TileLength];
        load_values<e4m3, Chunk>(a, gate + row * gateStride + column, gateScale);
        load_values<e4m3, Chunk>(u, up + row * upStride + column, upScale);
#pragma unroll
        for (int i = 0; i < Chunk; i++)
        {
            h[i] = swiglu_of(a[i], u[i], scale);
            swiglu_gradients(d[i], a[i], u[i], scale, sum);
        }

        write(dgate + row * dgateStride + column, d);
        write(dup + row * dupStride + column, u);
        write(y + row * yStride + column, h);
    }

    if (drowScale == nullptr) return;
    sum = block_reduce<Sum>(sum);
    if (threadIdx.x == 0) drowScale[row] = sum;
}
