// The next token of each row of logits (Operators/ISamplingOperators.cs says which). A block has a row and goes over it several times; a
// row lies in the second-level cache. Top-k and top-p are the same search: in the ranking by weight the elements are kept whose
// predecessors measure less than a limit, where an element measures one or its weight. The last kept weight is found digit by digit,
// ten bits of its float at a time. The traps: weights must be computed as the processor does, to the bit, and everything summed is an
// integer, so that the order of additions does not matter.
#include "faults.cuh"

constexpr int Threads = 1024;
constexpr int DigitBits = 10, Digits = 3, Bins = 1 << DigitBits; // a weight is at most 1: its float has 30 bits that count
static_assert(Bins == Threads, "a thread has a bin");

// As SamplingRule is declared.
struct Rule
{
    float temperature, topP, minP;
    int32_t topK;
    double draw;
};

static_assert(sizeof(Rule) == 24, "as the host declares it");

// As AdjustedRow and LogitChange are declared.
struct AdjustedRow { int32_t row, first, count, mask; };
struct LogitChange { int32_t token; float bias, repetition, penalty; };

typedef unsigned long long Measure;

// SamplingWeights.Of.
__device__ __forceinline__ float weight_of(float logit, float largest, float temperature)
{
    if (logit == largest) return 1;
    float x = __fmul_rn(__fdiv_rn(__fadd_rn(logit, -largest), temperature), 1.44269504f);
    if (!(x >= -40.0f)) return 0;
    float whole = rintf(x), part = __fadd_rn(x, -whole);
    float p = 1.5403530e-4f;
    p = __fmaf_rn(p, part, 1.3333558e-3f);
    p = __fmaf_rn(p, part, 9.6181291e-3f);
    p = __fmaf_rn(p, part, 5.5504109e-2f);
    p = __fmaf_rn(p, part, 2.4022651e-1f);
    p = __fmaf_rn(p, part, 6.9314718e-1f);
    p = __fmaf_rn(p, part, 1.0f);
    return fminf(1.0f, __fmul_rn(p, __uint_as_float(static_cast<uint32_t>(static_cast<int>(whole) + 127) << 23)));
}

__device__ __forceinline__ Measure fixed_of(float weight) { return static_cast<Measure>(weight * 1099511627776.0f); }

__device__ __forceinline__ Measure fixed_of(uint32_t key) { return fixed_of(__uint_as_float(key)); }

// The row, and which of its tokens are kept: those whose weight's bits are above the key, and the first few by id of those that have it.
struct Kept
{
    const float* row;
    int columns;
    float largest, temperature;
    uint32_t key;
    Measure ties;

    __device__ __forceinline__ uint32_t key_of(int column) const { return __float_as_uint(weight_of(row[column], largest, temperature)); }
};

constexpr Measure AllTies = ~0ull;

// Sums over the threads before and up to each one, in the block's shared memory; all threads call.
__device__ __forceinline__ Measure scan(Measure* shared, Measure own)
{
    shared[threadIdx.x] = own;
    __syncthreads();
    for (int distance = 1; distance < Threads; distance *= 2)
    {
        Measure before = threadIdx.x >= distance ? shared[threadIdx.x - distance] : 0;
        __syncthreads();
        shared[threadIdx.x] += before;
        __syncthreads();
    }

    return shared[threadIdx.x];
}

// What is kept when the ranking ends where the elements before measure the limit; limit > 0.
template <bool Counts>
__device__ void cut(Kept& kept, Measure limit, Measure* bins)
{
    __shared__ uint32_t digitFound;
    __shared__ Measure before;
    uint32_t prefix = 0;
    for (int digit = Digits - 1; digit >= 0; digit--)
    {
        int shift = digit * DigitBits;
        bins[threadIdx.x] = 0;
        if (threadIdx.x == 0)
        {
            digitFound = Bins;
            before = 0;
        }

        __syncthreads();
        for (int column = threadIdx.x; column < kept.columns; column += Threads)
        {
            uint32_t key = kept.key_of(column);
            if (key == 0 || key < kept.key || (digit < Digits - 1 && key >> (shift + DigitBits) != prefix)) continue;
            atomicAdd(&bins[key >> shift & (Bins - 1)], Counts ? 1ull : fixed_of(key));
        }

        __syncthreads();
        // Thread t has the bin that is t-th from the top.
        Measure own = bins[Bins - 1 - threadIdx.x];
        __syncthreads();
        Measure upTo = scan(bins, own);
        if (upTo >= limit && upTo - own < limit)
        {
            digitFound = Bins - 1 - threadIdx.x;
            before = upTo - own;
        }

        __syncthreads();
        uint32_t found = digitFound;
        limit -= before;
        __syncthreads();
        if (found == Bins) return; // everything together measures less
        prefix = prefix << DigitBits | found;
    }

    Measure each = Counts ? 1ull : fixed_of(prefix), ties = (limit + each - 1) / each;
    kept.ties = kept.key == prefix && kept.ties < ties ? kept.ties : ties;
    kept.key = prefix;
}

// What is kept weighs.
__device__ __forceinline__ Measure total_of(const Kept& kept)
{
    Measure sum = 0, ties = 0;
    for (int column = threadIdx.x; column < kept.columns; column += Threads)
    {
        uint32_t key = kept.key_of(column);
        if (key > kept.key) sum += fixed_of(key);
        else if (key == kept.key && key > 0) ties++;
    }

    sum = block_reduce<Sum>(sum);
    ties = block_reduce<Sum>(ties);
    return sum + (ties < kept.ties ? ties : kept.ties) * fixed_of(kept.key);
}

// The token in which so much of what is kept, counted by id, has passed. A thread has neighbouring tokens.
__device__ void pick(const Kept& kept, Measure passed, Measure* shared, int32_t* token)
{
    int each = (kept.columns + Threads - 1) / Threads, first = threadIdx.x * each, last = first + each < kept.columns ? first + each : kept.columns;
    Measure above = 0, ties = 0;
    for (int column = first; column < last; column++)
    {
        uint32_t key = kept.key_of(column);
        if (key > kept.key) above += fixed_of(key);
        else if (key == kept.key && key > 0) ties++;
    }

    Measure tiesBefore = scan(shared, ties) - ties;
    __syncthreads();
    Measure mine = tiesBefore >= kept.ties ? 0 : ties < kept.ties - tiesBefore ? ties : kept.ties - tiesBefore;
    Measure own = above + mine * fixed_of(kept.key), upTo = scan(shared, own);
    if (passed >= upTo || passed < upTo - own) return;
    passed -= upTo - own;
    for (int column = first; column < last; column++)
    {
        uint32_t key = kept.key_of(column);
        bool tie = key == kept.key && key > 0;
        if (key < kept.key || key == 0 || (tie && mine == 0)) continue;
        if (tie) mine--;
        Measure share = fixed_of(key);
        if (passed < share)
        {
            *token = column;
            return;
        }

        passed -= share;
    }
}

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// Logits as a request has them changed. Grid: adjusted rows. A change may meet what the mask has written, so the block waits between.
__global__ void __launch_bounds__(Threads, 1) adjust(
    float* logits, int64_t stride, int64_t rowCount, int32_t columns, const AdjustedRow* rows, const LogitChange* changes, int64_t changeCount,
    const uint32_t* masks, int64_t maskCount, int64_t maskWords, Fault* fault)
{
    const AdjustedRow adjusted = rows[blockIdx.x];
    if (!in_range(adjusted.row, rowCount, blockIdx.x, SamplingRowFault, fault)) return;
    float* row = logits + adjusted.row * stride;
    if (adjusted.mask >= 0 && in_range(adjusted.mask, maskCount, blockIdx.x, SamplingMaskFault, fault))
    {
        const uint32_t* mask = masks + adjusted.mask * maskWords;
        for (int column = threadIdx.x; column < columns; column += Threads)
        {
            if ((mask[column / 32] >> column % 32 & 1) == 0) row[column] = minus_infinity();
        }
    }

    __syncthreads();
    for (int i = threadIdx.x; i < adjusted.count; i += Threads)
    {
        int64_t place = static_cast<int64_t>(adjusted.first) + i;
        if (!in_range(place < changeCount ? 0 : -1, 1, blockIdx.x, SamplingChangeFault, fault)) return;
        const LogitChange change = changes[place];
        if (!in_range(change.token, columns, place, SamplingTokenFault, fault)) return;
        float x = __fadd_rn(row[change.token], change.bias);
        if (change.repetition != 1) x = x > 0 ? __fdiv_rn(x, change.repetition) : __fmul_rn(x, change.repetition);
        row[change.token] = __fadd_rn(x, -change.penalty);
    }
}

// Grid: rules. Without rows the n-th rule is the n-th row's.
__global__ void __launch_bounds__(Threads, 1) sample(
    const float* logits, int64_t stride, int64_t rowCount, int32_t columns, const int32_t* rows, const Rule* rules, int32_t* tokens, Fault* fault)
{
    __shared__ Measure shared[Threads];
    const Rule rule = rules[blockIdx.x];
    int32_t* token = tokens + blockIdx.x;
    int64_t index = rows == nullptr ? blockIdx.x : rows[blockIdx.x];
    if (index < 0 || index >= rowCount)
    {
        in_range(static_cast<int32_t>(index), rowCount, blockIdx.x, SamplingRowFault, fault);
        if (threadIdx.x == 0) *token = -1;
        return;
    }

    const float* row = logits + index * stride;

    // The largest logit in the upper half, its first place in the lower: floats as integers of the same order.
    Measure best = 0;
    for (int column = threadIdx.x; column < columns; column += Threads)
    {
        float logit = row[column] + 0.0f;
        if (!(logit > minus_infinity())) continue;
        uint32_t bits = __float_as_uint(logit);
        Measure candidate = static_cast<Measure>(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | static_cast<uint32_t>(~column);
        best = candidate > best ? candidate : best;
    }

    best = block_reduce<Max>(best);
    int32_t place = static_cast<int32_t>(~static_cast<uint32_t>(best));
    bool none = best == 0 || row[place] == -minus_infinity();
    if (none || rule.temperature == 0)
    {
        if (threadIdx.x == 0) *token = none ? -1 : place;
        return;
    }

    Kept kept = {row, columns, row[place], rule.temperature, 0, AllTies};
    if (rule.topK > 0) cut<true>(kept, rule.topK, shared);
    if (rule.topP < 1)
    {
        Measure limit = static_cast<Measure>(rule.topP * static_cast<double>(total_of(kept)));
        cut<false>(kept, limit > 0 ? limit : 1, shared);
    }

    uint32_t least = rule.minP > 0 ? __float_as_uint(rule.minP) : 0;
    if (least > kept.key)
    {
        kept.key = least;
        kept.ties = AllTies;
    }

    Measure total = total_of(kept), drawn = static_cast<Measure>(rule.draw * static_cast<double>(total));
    pick(kept, drawn < total ? drawn : total - 1, shared, token); // the product may round up to the total
}
