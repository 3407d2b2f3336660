// Products on tensor cores through mma.sync, for every chip from Ampere on. A ring of tiles in shared memory is filled ahead of the
// arithmetic: BF16 (and E4M3 where both operands are it and lie along the depth) by asynchronous copies, 8-bit elements otherwise
// through registers, where they become BF16, which holds them exactly. Scaled products sum 128 of the depth in the tensor
// cores' registers, then add them with their scales in F32 ([P] §3.3.2). On Hopper mma.sync multiplies E4M3 as halves with
// F32 sums, so no more accuracy is lost than with BF16.
// The caller grants that rows of operands begin at 16 bytes and hold whole 16 bytes; results may be ragged.
#include "gemm.cuh"

constexpr int StageBytesPerRow = 128;

// A tile of an operand: Rows by 128 bytes of depth, or the same lying across it. Chunks of 16 bytes change places within eight rows
// (by exclusive or), which lets ldmatrix read eight rows of a column of chunks without bank conflicts.
template <typename Element, typename Staged, int Rows, bool Transposed, int Threads>
struct TileLoader
{
    static constexpr bool Copies = SameType<Element, Staged>::value;
    static constexpr int Depth = StageBytesPerRow / sizeof(Staged);
    static constexpr int PerLoad = 16 / sizeof(Element);            // elements that one load brings
    static constexpr int Line = Transposed ? Rows : Depth;          // elements that lie next to each other
    static constexpr int LoadsPerLine = Line / PerLoad;
    static constexpr int LineBytes = Line * static_cast<int>(sizeof(Staged));
    static constexpr int Loads = Rows * Depth / PerLoad / Threads;
    static constexpr int ChunksPerLoad = PerLoad * static_cast<int>(sizeof(Staged)) / 16;
    static_assert(Rows * Depth % (PerLoad * Threads) == 0, "every thread loads the same number of chunks");

    const Element* origin; // of the tile's first row (or column) at the slice's first depth
    int64_t stride;
    int64_t rowsLeft;
    int64_t depth;
    Pack<uint32_t, 4> held[Copies ? 1 : Loads];

    __device__ __forceinline__ TileLoader(const void* elements, int64_t stride, int64_t row, int64_t rowEnd, int64_t depthFirst, int64_t depth)
        : origin(static_cast<const Element*>(elements) + (Transposed ? depthFirst * stride + row : row * stride + depthFirst)),
          stride(stride), rowsLeft(rowEnd - row), depth(depth)
    {
    }

    __device__ __forceinline__ static unsigned char* place(unsigned char* tile, int line, int chunk)
    {
        return tile + line * LineBytes + ((chunk ^ (line & 7)) << 4);
    }

    __device__ __forceinline__ void begin(unsigned char* tile, int64_t d)
    {
#pragma unroll
        for (int j = 0; j < Loads; j++)
        {
            int load = static_cast<int>(threadIdx.x) + j * Threads, line = load / LoadsPerLine, within = load % LoadsPerLine * PerLoad;
            bool valid = Transposed ? d + line < depth && within < rowsLeft : line < rowsLeft && d + within < depth;
            const Element* from = origin + (Transposed ? (d + line) * stride + within : line * stride + d + within);
            if constexpr (Copies) ptx::copy_async16(place(tile, line, load % LoadsPerLine), valid ? from : origin, valid);
            else held[j] = valid ? *reinterpret_cast<const Pack<uint32_t, 4>*>(from) : Pack<uint32_t, 4>{};
        }
    }

    __device__ __forceinline__ void finish(unsigned char* tile)
    {
        if constexpr (!Copies)
        {
#pragma unroll
            for (int j = 0; j < Loads; j++)
            {
                int load = static_cast<int>(threadIdx.x) + j * Threads, line = load / LoadsPerLine;
#pragma unroll
                for (int half = 0; half < ChunksPerLoad; half++)
                {
                    Pack<uint32_t, 4> chunk;
                    expand_codes<Element>(held[j].values[2 * half], chunk.values[0], chunk.values[1]);
                    expand_codes<Element>(held[j].values[2 * half + 1], chunk.values[2], chunk.values[3]);
                    *reinterpret_cast<Pack<uint32_t, 4>*>(place(tile, line, load % LoadsPerLine * ChunksPerLoad + half)) = chunk;
                }
            }
        }
    }
};

// The 16 x 32-byte fragment of a: rows from row on, 32 bytes of depth from step on.
template <int Rows, bool Transposed>
__device__ __forceinline__ void load_a(uint32_t (&fragment)[4], const unsigned char* tile, int row, int step, int lane)
{
    if constexpr (Transposed)
    {
        int line = step * 16 + (lane & 7) + (lane >> 4) * 8, chunk = row / 8 + (lane >> 3 & 1);
        ptx::load_matrices_transposed(fragment, tile + line * Rows * 2 + ((chunk ^ (line & 7)) << 4));
    }
    else
    {
        int line = row + (lane & 15), chunk = step * 2 + (lane >> 4);
        ptx::load_matrices(fragment, tile + line * StageBytesPerRow + ((chunk ^ (line & 7)) << 4));
    }
}

// Fragments of b for 16 columns: two of 8 columns by 32 bytes of depth.
template <int Rows, bool Transposed>
__device__ __forceinline__ void load_b(uint32_t (&fragment)[4], const unsigned char* tile, int column, int step, int lane)
{
    if constexpr (Transposed)
    {
        int line = step * 16 + (lane & 15), chunk = column / 8 + (lane >> 4);
        ptx::load_matrices_transposed(fragment, tile + line * Rows * 2 + ((chunk ^ (line & 7)) << 4));
    }
    else
    {
        int line = column + (lane & 7) + (lane >> 4) * 8, chunk = step * 2 + (lane >> 3 & 1);
        ptx::load_matrices(fragment, tile + line * StageBytesPerRow + ((chunk ^ (line & 7)) << 4));
    }
}

__device__ __forceinline__ void multiply(bf16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { ptx::multiply_bf16(d, a, b0, b1); }
__device__ __forceinline__ void multiply(e4m3, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { ptx::multiply_e4m3(d, a, b0, b1); }

// Tile x Tile results a block; 128: eight warps of 64 x 32, 64: four of 32 x 32. Threads = 2 Tile.
template <typename A, typename B, typename C, typename Staged, bool TransposedA, bool TransposedB, bool Scaled, int Tile>
__global__ void __launch_bounds__(2 * Tile, Tile == 64 ? 2 : Scaled ? 1 : 2) gemm_tensor(const __grid_constant__ GemmProduct p)
{
    constexpr int Threads = 2 * Tile, Stages = Tile == 128 ? 3 : 4, WarpRows = Tile / 2, WarpColumns = 32;
    constexpr int TileBytes = Tile * StageBytesPerRow, RowFragments = WarpRows / 16, ColumnFragments = WarpColumns / 8;
    constexpr int Depth = StageBytesPerRow / sizeof(Staged), Steps = 4;
    using LoaderA = TileLoader<A, Staged, Tile, TransposedA, Threads>;
    using LoaderB = TileLoader<B, Staged, Tile, TransposedB, Threads>;
    DYNAMIC_SHARED(shared); // Stages of (a, b), then Stages of scales: Tile of a, Tile of b

    GemmSlice s;
    if (!find_slice<Tile, Tile, TransposedB>(p, s)) return;
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize;
    int warpRow = warp % 2 * WarpRows, warpColumn = warp / 2 * WarpColumns;
    LoaderA loaderA(p.a.elements, p.a.stride, s.rowFirst, s.rowEnd, s.depthFirst, s.depth);
    LoaderB loaderB(s.b, s.bStride, s.columnFirst, p.columns, s.depthFirst, s.depth);
    float* scales = reinterpret_cast<float*>(shared + Stages * 2 * TileBytes);
    float heldScale = 0;

    auto begin = [&](int64_t tile)
    {
        unsigned char* stage = shared + tile % Stages * 2 * TileBytes;
        loaderA.begin(stage, tile * Depth);
        loaderB.begin(stage + TileBytes, tile * Depth);
        if constexpr (Scaled)
        {
            bool ofA = threadIdx.x < Tile;
            int64_t row = ofA ? s.rowFirst + threadIdx.x : s.columnFirst + threadIdx.x - Tile;
            heldScale = 0;
            if (ofA && row < s.rowEnd) heldScale = scale_at(p.a.scales, s, row, tile * Depth);
            if (!ofA && row < p.columns) heldScale = scale_at(s.bScales, s, row, tile * Depth);
        }
    };
    auto finish = [&](int64_t tile)
    {
        unsigned char* stage = shared + tile % Stages * 2 * TileBytes;
        loaderA.finish(stage);
        loaderB.finish(stage + TileBytes);
        if constexpr (Scaled) scales[tile % Stages * Threads + threadIdx.x] = heldScale;
    };

    // Blocks that share the depth have whole 128s of it, which scales cover.
    int64_t tiles = divide_up(s.depth, Depth), first = 0;
    bool shares = p.partial != nullptr;
    if (shares)
    {
        int64_t each = divide_up(divide_up(s.depth, TileLength), gridDim.z) * (TileLength / Depth);
        first = blockIdx.z * each;
        tiles = min(tiles, first + each);
    }

    for (int64_t tile = first; tile < first + Stages - 1; tile++)
    {
        if (tile < tiles)
        {
            begin(tile);
            finish(tile);
        }

        ptx::copy_async_commit();
    }

    float sums[RowFragments][ColumnFragments][4] = {};
    float parts[Scaled ? RowFragments : 1][Scaled ? ColumnFragments : 1][4] = {};
    for (int64_t tile = first; tile < tiles; tile++)
    {
        ptx::copy_async_wait<Stages - 2>();
        __syncthreads(); // the tile has come, and nobody reads the slot that is filled next
        int64_t next = tile + Stages - 1;
        if (next < tiles) begin(next);
        ptx::copy_async_commit();

        const unsigned char* stage = shared + tile % Stages * 2 * TileBytes;
#pragma unroll
        for (int step = 0; step < Steps; step++)
        {
            uint32_t a[RowFragments][4], b[ColumnFragments / 2][4];
#pragma unroll
            for (int i = 0; i < RowFragments; i++) load_a<Tile, TransposedA>(a[i], stage, warpRow + 16 * i, step, lane);
#pragma unroll
            for (int j = 0; j < ColumnFragments / 2; j++) load_b<Tile, TransposedB>(b[j], stage + TileBytes, warpColumn + 16 * j, step, lane);
#pragma unroll
            for (int i = 0; i < RowFragments; i++)
            {
#pragma unroll
                for (int j = 0; j < ColumnFragments; j++)
                    multiply(Staged{}, Scaled ? parts[Scaled ? i : 0][Scaled ? j : 0] : sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
            }
        }

        if constexpr (Scaled)
        {
            if ((tile + 1) * Depth % TileLength == 0 || tile + 1 == tiles)
            {
                const float* scalesA = scales + tile % Stages * Threads + warpRow + lane / 4;
                const float* scalesB = scales + tile % Stages * Threads + Tile + warpColumn + lane % 4 * 2;
#pragma unroll
                for (int i = 0; i < RowFragments; i++)
                {
                    float above = scalesA[16 * i], below = scalesA[16 * i + 8];
#pragma unroll
                    for (int j = 0; j < ColumnFragments; j++)
                    {
#pragma unroll
                        for (int k = 0; k < 4; k++)
                        {
                            sums[i][j][k] = __fmaf_rn(parts[i][j][k] * (k < 2 ? above : below), scalesB[8 * j + k % 2], sums[i][j][k]);
                            parts[i][j][k] = 0;
                        }
                    }
                }
            }
        }

        if (next < tiles) finish(next);
    }

    ptx::copy_async_wait<0>();
    C* c = static_cast<C*>(p.c) + s.group * p.cGroupStride;
#pragma unroll
    for (int i = 0; i < RowFragments; i++)
    {
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            int64_t row = s.rowFirst + warpRow + 16 * i + 8 * half + lane / 4;
            if (row >= s.rowEnd) continue;
            C* line = c + row * p.cStride;
#pragma unroll
            for (int j = 0; j < ColumnFragments; j++)
            {
                int64_t column = s.columnFirst + warpColumn + 8 * j + lane % 4 * 2;
                C* to = line + column;
                float left = sums[i][j][2 * half], right = sums[i][j][2 * half + 1];
                if (shares)
                {
                    float* part = p.partial + (blockIdx.z * p.rows + row) * p.columns + column;
                    if (column < p.columns) part[0] = left;
                    if (column + 1 < p.columns) part[1] = right;
                    continue;
                }

                if (column + 1 < p.columns && reinterpret_cast<uint64_t>(to) % (2 * sizeof(C)) == 0)
                {
                    float both[2] = {left, right};
                    if (p.accumulate)
                    {
                        float old[2];
                        load(old, static_cast<const C*>(to));
                        both[0] += old[0];
                        both[1] += old[1];
                    }

                    store(to, both);
                    continue;
                }

                if (column < p.columns) put(to, left, p.accumulate);
                if (column + 1 < p.columns) put(to + 1, right, p.accumulate);
            }
        }
    }
}
