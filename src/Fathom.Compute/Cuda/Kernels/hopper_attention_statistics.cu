// What attention's gradients on Hopper need of each query beside itself: its log2-sum-exp, and delta, the row sum of the output's gradient times
// the output (FlashAttention-2, 2307.08691, section 3.2). One pass over both, whose result lies by tiles as the copy engine takes it.
#include "formats.cuh"
#include "hopper_attention.cuh"

constexpr int StatisticThreads = 256, RowLanes = Value / 8;
static_assert(Value == TileLength, "a row of codes has one scale");

// log2-sum-exp and delta = the row sums of doutput * output, by tiles; 16 lanes for each query of a head, heads next to each other.
// The output is values, or codes, which count as the values that they would be written out as. Clears the counts for the kernel that follows.
template <bool Codes>
__global__ void __launch_bounds__(StatisticThreads) hopper_statistics(const __grid_constant__ HopperCausal p)
{
    const Causal& c = p.call;
    int64_t tiles = query_tiles(c), at = (static_cast<int64_t>(blockIdx.x) * StatisticThreads + threadIdx.x) / RowLanes;
    int h = at % c.heads, column = threadIdx.x % RowLanes * 8;
    int64_t token = at / c.heads;
    int i = token % (tiles * Side);
    int64_t b = token / (tiles * Side);
    bool exists = b < c.batch && i < c.queries;
    float delta = 0;

    // Every block of keys is yet to be taken, and every sum to be begun.
    if (int64_t number = static_cast<int64_t>(blockIdx.x) * StatisticThreads + threadIdx.x; number < p.countWords) p.counts[number] = 0;
    if (exists)
    {
        float o[8], d[8];
        int64_t row = c.query_row(b, h, i);
        load<bf16, 8>(d, c.doutput.row<const bf16>(row) + column);
        if constexpr (Codes)
        {
            const e5m6x2* codes = c.output.row<const e5m6x2>(row) + column / 2;
            load_values<e5m6x2, 8>(o, reinterpret_cast<const uint8_t*>(codes), to_float(*p.outputScales.row<const e8m0>(row)));
        }
        else load<bf16, 8>(o, c.output.row<const bf16>(row) + column);
#pragma unroll
        for (int e = 0; e < 8; e++) delta = __fmaf_rn(o[e], d[e], delta);
    }

#pragma unroll
    for (int distance = RowLanes / 2; distance > 0; distance /= 2) delta += __shfl_xor_sync(AllLanes, delta, distance);
    if (column != 0 || b >= c.batch) return;
    TileStatistics& to = reinterpret_cast<TileStatistics*>(p.tileStatistics)[(b * c.heads + h) * tiles + i / Side];
    to.logSumExp[i % Side] = exists ? c.logSumExp[c.statistic(b, h, i)] * Log2E : Infinity;
    to.delta[i % Side] = delta;
}
