// SwiGLU of a quantised recipe ([P] §3.3.3): forward it reads gate and up once, and writes its result and both inputs as E4M3 in 1x128 tiles,
// 7 bytes an element where four kernels move 15; backward it reads those codes, 10 bytes where three kernels move 22. Values are BF16 and
// are rounded where a composition would have stored them.
#include "elementwise.cuh"
#include "formats.cuh"
#include "swiglu.cuh"

constexpr int RowThreads = 256;
constexpr int TileLanes = 8;
constexpr int Chunk = 8;                                   // values that a lane loads at once
constexpr int Chunks = TileLength / TileLanes / Chunk;     // of a tile and lane

// Codes of one matrix.
struct Codes
{
    uint8_t* codes;      // [rows, columns]
    int64_t stride;
    float* scales;       // [rows, tiles]
    int64_t scaleStride;
    uint64_t* fault;     // or null
};

// QuantizedSwiGlu of CudaActivation.cs.
struct QuantizedSwiGlu
{
    const bf16* gate;
    int64_t gateStride;
    const bf16* up;
    int64_t upStride;
    const float* rowScale; // [rows], or null
    Codes y, gateCodes, upCodes;
    int64_t rows, columns;
    float leastAmax;
};

__device__ __forceinline__ float rounded(float x) { return to_float(from_float<bf16>(x)); }

// A tile of eight lanes: scale and codes of what each of them holds, chunks lane and lane + 8.
__device__ __forceinline__ void store_tile(const Codes& to, const float (&x)[Chunks][Chunk], uint32_t row, uint32_t tile, uint32_t tiles, int left, float leastAmax)
{
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < Chunks; i++)
    {
#pragma unroll
        for (int j = 0; j < Chunk; j++) largest = max(largest, __float_as_uint(x[i][j]) & MagnitudeMask);
    }

#pragma unroll
    for (int distance = TileLanes / 2; distance > 0; distance /= 2) largest = max(largest, __shfl_xor_sync(AllLanes, largest, distance));
    if (left <= 0) return;
    int lane = threadIdx.x % TileLanes;
    float scale = tile_scale<e4m3>(largest, leastAmax, false);
    if (lane == 0)
    {
        to.scales[row * to.scaleStride + tile] = scale;
        if (largest >= SingleInfinity && to.fault != nullptr)
            atomicMin(reinterpret_cast<unsigned long long*>(to.fault), static_cast<unsigned long long>(static_cast<uint64_t>(row) * tiles + tile));
    }

    Divisor divisor(scale);
#pragma unroll
    for (int i = 0; i < Chunks; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        if (start >= left) continue;
        float q[Chunk];
#pragma unroll
        for (int j = 0; j < Chunk; j++) q[j] = divisor.quotient(divisor.moved(x[i][j]));
        store_codes<e4m3, Chunk>(to.codes + row * to.stride + static_cast<int64_t>(tile) * TileLength + start, q);
    }
}

// A block has 32 tiles, row after row. columns is a multiple of 8.
__global__ void __launch_bounds__(RowThreads) swiglu_quantized(const __grid_constant__ QuantizedSwiGlu p)
{
    uint32_t tiles = static_cast<uint32_t>(divide_up(p.columns, TileLength)), index = blockIdx.x * (RowThreads / TileLanes) + threadIdx.x / TileLanes;
    uint32_t row = index / tiles, tile = index - row * tiles;
    int left = row < p.rows ? static_cast<int>(min(p.columns - static_cast<int64_t>(tile) * TileLength, static_cast<int64_t>(TileLength))) : 0, lane = threadIdx.x % TileLanes;
    float gate[Chunks][Chunk], up[Chunks][Chunk], y[Chunks][Chunk], scale = left > 0 && p.rowScale != nullptr ? p.rowScale[row] : 1;
#pragma unroll
    for (int i = 0; i < Chunks; i++)
    {
        int start = (lane + i * TileLanes) * Chunk;
        int64_t column = static_cast<int64_t>(tile) * TileLength + start;
        if (start < left)
        {
            load(gate[i], p.gate + row * p.gateStride + column);
            load(up[i], p.up + row * p.upStride + column);
        }
        else
        {
#pragma unroll
            for (int j = 0; j < Chunk; j++) gate[i][j] = up[i][j] = 0;
        }

#pragma unroll
        for (int j = 0; j < Chunk; j++) y[i][j] = start < left ? rounded(swiglu_of(gate[i][j], up[i][j], scale)) : 0;
    }

    store_tile(p.y, y, row, tile, tiles, left, p.leastAmax);
    store_tile(p.gateCodes, gate, row, tile, tiles, left, p.leastAmax);
    store_tile(p.upCodes, up, row, tile, tiles, left, p.leastAmax);
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
        load_codes<e4m3, Chunk>(a, gate + row * gateStride + column);
        load_codes<e4m3, Chunk>(u, up + row * upStride + column);
        float gateScale = gateScales[row * gateScaleStride + column / TileLength], upScale = upScales[row * upScaleStride + column / TileLength];
#pragma unroll
        for (int i = 0; i < Chunk; i++)
        {
            a[i] = rounded(__fmul_rn(a[i], gateScale));
            u[i] = rounded(__fmul_rn(u[i], upScale));
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
