// Products in F32 without tensor cores: every element becomes its value, scale included, on its way into shared memory. This is the
// exact way for F32 operands (no TF32), and the one way that takes everything: any types, any scales, any alignment.
// 256 threads compute Tile x Tile results, (Tile / 16)² each, in groups of four rows and four columns, so that shared memory is
// read in 16 bytes without bank conflicts.
#include "gemm.cuh"

constexpr int SimtThreads = 256;
constexpr int SimtDepth = 16;
constexpr int SimtRun = 512; // of the depth that is summed by itself, so that the error of long sums grows slowly (small tiles)

// Loads SimtDepth of the depth for Rows rows (or columns) into registers, then as [depth][row] into shared memory.
template <typename Element, int Rows, bool Transposed, bool Scaled, bool Vector>
struct ValueLoader
{
    static constexpr int Count = Rows * SimtDepth / SimtThreads; // elements a thread: neighbours in memory
    static constexpr int Pitch = Rows + 4;

    const Element* origin;
    int64_t stride;
    int64_t row;       // this thread's first
    int64_t rowEnd;
    int line;          // its place in the tile
    int offset;
    float held[Count];

    __device__ __forceinline__ ValueLoader(const void* elements, int64_t stride, int64_t rowFirst, int64_t rowEnd, int64_t depthFirst)
        : stride(stride), rowEnd(rowEnd)
    {
        int thread = static_cast<int>(threadIdx.x);
        line = Transposed ? thread / (Rows / Count) : thread % Rows;
        offset = (Transposed ? thread % (Rows / Count) : thread / Rows) * Count;
        row = rowFirst + (Transposed ? offset : line);
        origin = static_cast<const Element*>(elements) + (Transposed ? (depthFirst + line) * stride + row : row * stride + depthFirst + offset);
    }

    __device__ __forceinline__ void begin(int64_t d, const GemmScales& scales, const GemmSlice& s)
    {
        const Element* from = origin + (Transposed ? d * stride : d);
#pragma unroll
        for (int i = 0; i < Count; i += 4)
        {
            float (&four)[4] = *reinterpret_cast<float (*)[4]>(held + i);
            if constexpr (Vector)
            {
                if (inside(d, i, s))
                {
                    Pack<Element, 4> pack = *reinterpret_cast<const Pack<Element, 4>*>(from + i);
#pragma unroll
                    for (int j = 0; j < 4; j++) four[j] = to_float(pack.values[j]);
                }
                else
                {
#pragma unroll
                    for (int j = 0; j < 4; j++) four[j] = 0;
                }
            }
            else
            {
#pragma unroll
                for (int j = 0; j < 4; j++) four[j] = inside(d, i + j, s) ? to_float(from[i + j]) : 0;
            }

            if constexpr (Scaled)
            {
#pragma unroll
                for (int j = 0; j < 4; j++)
                {
                    if (inside(d, i + j, s)) four[j] *= scale_at(scales, s, row + (Transposed ? i + j : 0), d + (Transposed ? line : offset + i + j));
                }
            }
        }
    }

    __device__ __forceinline__ void finish(float* tile) const
    {
#pragma unroll
        for (int i = 0; i < Count; i++)
        {
            if constexpr (Transposed) tile[line * Pitch + offset + i] = held[i];
            else tile[(offset + i) * Pitch + line] = held[i];
        }
    }

private:
    __device__ __forceinline__ bool inside(int64_t d, int i, const GemmSlice& s) const
    {
        return Transposed ? d + line < s.depth && row + i < rowEnd : row < rowEnd && d + offset + i < s.depth;
    }
};

template <typename A, typename B, typename C, bool TransposedA, bool TransposedB, bool ScaledA, bool ScaledB, bool Vector, int Tile>
__global__ void __launch_bounds__(SimtThreads, 2) gemm_simt(const __grid_constant__ GemmProduct p)
{
    constexpr int Fours = Tile / 64; // groups of four rows, and of four columns, of a thread
    constexpr bool Deep = Tile == 64; // the registers suffice for sums in two levels
    using LoaderA = ValueLoader<A, Tile, TransposedA, ScaledA, Vector>;
    using LoaderB = ValueLoader<B, Tile, TransposedB, ScaledB, Vector>;
    __shared__ __align__(16) float tileA[2][SimtDepth * LoaderA::Pitch];
    __shared__ __align__(16) float tileB[2][SimtDepth * LoaderB::Pitch];

    GemmSlice s;
    if (!find_slice<Tile, Tile, TransposedB>(p, s)) return;
    LoaderA loaderA(p.a.elements, p.a.stride, s.rowFirst, s.rowEnd, s.depthFirst);
    LoaderB loaderB(s.b, s.bStride, s.columnFirst, p.columns, s.depthFirst);
    int across = threadIdx.x % 16 * 4, down = threadIdx.x / 16 * 4;
    float sums[4 * Fours][4 * Fours] = {};
    float earlier[Deep ? 4 * Fours : 1][Deep ? 4 * Fours : 1] = {};
    if (s.depth > 0)
    {
        loaderA.begin(0, p.a.scales, s);
        loaderB.begin(0, s.bScales, s);
        loaderA.finish(tileA[0]);
        loaderB.finish(tileB[0]);
        __syncthreads();
    }

    int slot = 0;
    for (int64_t d = 0; d < s.depth; d += SimtDepth, slot ^= 1)
    {
        bool more = d + SimtDepth < s.depth;
        if (more)
        {
            loaderA.begin(d + SimtDepth, p.a.scales, s);
            loaderB.begin(d + SimtDepth, s.bScales, s);
        }

#pragma unroll
        for (int k = 0; k < SimtDepth; k++)
        {
            float a[4 * Fours], b[4 * Fours];
#pragma unroll
            for (int i = 0; i < Fours; i++)
            {
                load(*reinterpret_cast<float (*)[4]>(a + 4 * i), static_cast<const float*>(tileA[slot] + k * LoaderA::Pitch + 64 * i + down));
                load(*reinterpret_cast<float (*)[4]>(b + 4 * i), static_cast<const float*>(tileB[slot] + k * LoaderB::Pitch + 64 * i + across));
            }

#pragma unroll
            for (int i = 0; i < 4 * Fours; i++)
            {
#pragma unroll
                for (int j = 0; j < 4 * Fours; j++) sums[i][j] = __fmaf_rn(a[i], b[j], sums[i][j]);
            }
        }

        if constexpr (Deep)
        {
            if ((d + SimtDepth) % SimtRun == 0)
            {
#pragma unroll
                for (int i = 0; i < 4 * Fours; i++)
                {
#pragma unroll
                    for (int j = 0; j < 4 * Fours; j++)
                    {
                        earlier[i][j] += sums[i][j];
                        sums[i][j] = 0;
                    }
                }
            }
        }

        if (more)
        {
            loaderA.finish(tileA[slot ^ 1]);
            loaderB.finish(tileB[slot ^ 1]);
        }

        __syncthreads();
    }

    C* c = static_cast<C*>(p.c) + s.group * p.cGroupStride;
#pragma unroll
    for (int i = 0; i < 4 * Fours; i++)
    {
        int64_t row = s.rowFirst + i / 4 * 64 + down + i % 4;
        if (row >= s.rowEnd) continue;
#pragma unroll
        for (int j = 0; j < 4 * Fours; j++)
        {
            int64_t column = s.columnFirst + j / 4 * 64 + across + j % 4;
            float sum = Deep ? earlier[Deep ? i : 0][Deep ? j : 0] + sums[i][j] : sums[i][j];
            if (column < p.columns) put(c + row * p.cStride + column, sum, p.accumulate);
        }
    }
}
