// The router of a mixture-of-experts layer ([P] §2.1.2, eq. 12 to 20): scores, choice, gates, their gradient, the balance loss and the
// bias. A warp has a token. Scores are computed in F64 and rounded once, as on every backend, so that all choose the same experts
// unless their logits differ; the choice compares F32.
#include "common.cuh"

struct Router
{
    int32_t experts;
    int32_t topK;
    int32_t groups;       // 0: the choice knows no groups
    int32_t topKGroups;
    int32_t softmax;      // else sigmoid
    int32_t pairs;        // groups count by their two highest experts, else by the highest
    int32_t normalize;
    float scalingFactor;
};

// ---- The highest of a list ----

// A choice orders keys: the bits of a number, made so that unsigned order is the numbers' order, with -0 as 0. A NaN is not greater
// than anything and nothing is greater than it, so it is taken only where it is the first that is left.
constexpr uint32_t TakenKey = 0, NaNKey = 1, LeastKey = 0x007fffffu;  // the last: -infinity

__device__ __forceinline__ uint32_t key_of(float x)
{
    if (x != x) return NaNKey;
    uint32_t bits = __float_as_uint(x + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float value_of(uint32_t key)
{
    return __uint_as_float(key == NaNKey ? 0x7fc00000u : key >> 31 ? key & 0x7fffffffu : ~key);
}

// The k highest keys of a list, best first, ties to the lower index: take(k, key, index) in every lane; keys that were taken become
// TakenKey. A segment of `width` lanes (a power of two) has a list; whole warps call, all with the same count and k, and the lanes of
// a segment without a list have keys == nullptr. Lanes begin at different places so that segments meet different banks.
template <typename Take>
__device__ __forceinline__ void take_highest(uint32_t* keys, int count, int k, int width, Take take)
{
    int lane = threadIdx.x % width, segment = threadIdx.x % WarpSize / width, own = (count + width - 1) / width, turn = segment % own;
    auto best_of_lane = [&] {
        uint64_t best = 0;
        for (int i = 0; i < own && keys != nullptr; i++)
        {
            int place = i + turn, index = lane + (place < own ? place : place - own) * width;
            if (index >= count) continue;
            uint64_t candidate = static_cast<uint64_t>(keys[index]) << 32 | ~static_cast<uint32_t>(index);
            best = candidate > best ? candidate : best;
        }

        return best;
    };

    uint64_t mine = best_of_lane();
    int first = 0;
    for (int i = 0; i < k; i++)
    {
        uint64_t best = mine;
        for (int distance = width / 2; distance > 0; distance /= 2)
        {
            uint64_t other = __shfl_xor_sync(AllLanes, best, distance);
            best = other > best ? other : best;
        }

        uint32_t key = static_cast<uint32_t>(best >> 32);
        int index = static_cast<int>(~static_cast<uint32_t>(best));
        if (keys != nullptr)
        {
            while (keys[first] == TakenKey) first++;
            if (keys[first] == NaNKey)
            {
                key = NaNKey;
                index = first;
            }

            take(i, key, index);
        }

        __syncwarp();
        if (keys != nullptr && index % width == lane)
        {
            keys[index] = TakenKey;
            mine = best_of_lane();
        }

        __syncwarp();
    }
}

// ---- Choice ----

struct ChoiceArguments
{
    const float* logits;
    int64_t logitsStride;
    const float* bias;  // [E] or null
    float* scores;
    int64_t scoresStride;
    int32_t* experts;
    int64_t expertsStride;
    float* gates;
    int64_t gatesStride;
    uint64_t* load;     // [E]
    int64_t tokens;
    Router router;
};

// Makes all keys -infinity but those of the best groups. groupKeys: [groups].
__device__ __forceinline__ void mask_groups(const Router& r, uint32_t* keys, uint32_t* groupKeys)
{
    int lane = threadIdx.x % WarpSize, size = r.experts / r.groups, counted = r.pairs && size > 1 ? 2 : 1;
    int width = WarpSize;
    while (width > 1 && WarpSize / width < r.groups) width /= 2;
    for (int start = 0; start < r.groups; start += WarpSize / width)
    {
        int group = start + lane / width;
        uint32_t* ofGroup = group < r.groups ? keys + group * size : nullptr;
        uint32_t best = 0, second = 0;
        int bestIndex = 0, secondIndex = 0;
        take_highest(ofGroup, size, counted, width, [&](int k, uint32_t key, int index) {
            if (k == 0)
            {
                best = key;
                bestIndex = index;
            }
            else
            {
                second = key;
                secondIndex = index;
            }
        });
        if (ofGroup != nullptr && lane % width == 0)
        {
            ofGroup[bestIndex] = best;
            if (counted == 2) ofGroup[secondIndex] = second;
            groupKeys[group] = key_of(counted == 2 ? value_of(best) + value_of(second) : value_of(best));
        }
    }

    __syncwarp();
    take_highest(groupKeys, r.groups, r.topKGroups, WarpSize, [](int, uint32_t, int) { });
    for (int e = lane; e < r.experts; e += WarpSize)
    {
        if (groupKeys[e / size] != TakenKey) keys[e] = LeastKey;
    }

    __syncwarp();
}

// Shared memory of a warp: keys [E], group keys [groups], chosen experts [K].
__global__ void __launch_bounds__(256) choose_experts(const __grid_constant__ ChoiceArguments p)
{
    DYNAMIC_SHARED(shared);
    const Router& r = p.router;
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize;
    int64_t token = static_cast<int64_t>(blockIdx.x) * (blockDim.x / WarpSize) + warp;
    if (token >= p.tokens) return;
    uint32_t* keys = reinterpret_cast<uint32_t*>(shared) + warp * (r.experts + r.groups + r.topK);
    uint32_t* groupKeys = keys + r.experts;
    int32_t* chosen = reinterpret_cast<int32_t*>(groupKeys + r.groups);
    const float* logits = p.logits + token * p.logitsStride;
    float* scores = p.scores + token * p.scoresStride;

    double largest = 0, sum = 1;
    if (r.softmax)
    {
        float top = -__uint_as_float(0x7f800000u);
        for (int e = lane; e < r.experts; e += WarpSize) top = fmaxf(top, logits[e]);
        largest = warp_reduce<Max>(top);
        sum = 0;
        for (int e = lane; e < r.experts; e += WarpSize) sum += exp(logits[e] - largest);
        sum = warp_reduce<Sum>(sum);
    }

    for (int e = lane; e < r.experts; e += WarpSize)
    {
        double x = logits[e];
        float score = static_cast<float>(r.softmax ? exp(x - largest) / sum : 1 / (1 + exp(-x)));
        scores[e] = score;
        keys[e] = key_of(score + (p.bias != nullptr ? p.bias[e] : 0.0f));
    }

    __syncwarp();
    if (r.groups > 0) mask_groups(r, keys, groupKeys);
    double total = 0;
    take_highest(keys, r.experts, r.topK, WarpSize, [&](int k, uint32_t, int index) {
        if (lane == 0) chosen[k] = index;
        total += scores[index];
    });
    double scale = r.normalize ? r.scalingFactor / (total + 1e-20) : static_cast<double>(r.scalingFactor);
    for (int k = lane; k < r.topK; k += WarpSize)
    {
        int e = chosen[k];
        p.experts[token * p.expertsStride + k] = e;
        p.gates[token * p.gatesStride + k] = static_cast<float>(scores[e] * scale);
        atomicAdd(reinterpret_cast<unsigned long long*>(p.load) + e, 1ull);
    }
}

// ---- Gradient of the choice ----

struct ChoiceGradientArguments
{
    const float* dgates;
    int64_t dgatesStride;
    const float* scores;
    int64_t scoresStride;
    const int32_t* experts;
    int64_t expertsStride;
    const float* frequencies;  // [B, E], or null: no balance loss
    int64_t frequenciesStride;
    float* dlogits;
    int64_t dlogitsStride;
    int64_t tokens;
    int64_t tokensOfSequence;
    float balanceScale;
    Router router;
};

// Shared memory of a warp: dscores [E], F64.
__global__ void __launch_bounds__(256) choose_experts_gradient(const __grid_constant__ ChoiceGradientArguments p)
{
    DYNAMIC_SHARED(shared);
    const Router& r = p.router;
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize;
    int64_t token = static_cast<int64_t>(blockIdx.x) * (blockDim.x / WarpSize) + warp;
    if (token >= p.tokens) return;
    double* dscores = reinterpret_cast<double*>(shared) + warp * r.experts;
    const float* scores = p.scores + token * p.scoresStride;
    const int32_t* experts = p.experts + token * p.expertsStride;
    const float* dgates = p.dgates + token * p.dgatesStride;

    // P_i = mean over tokens of s_i / Σ_j s_j, so d(Σ f P) / ds_j = (f_j - Σ_i f_i s_i / S) / (S T).
    const float* frequencies = nullptr;
    double balanceMean = 0, balanceScale = 0;
    if (p.frequencies != nullptr)
    {
        frequencies = p.frequencies + token / p.tokensOfSequence * p.frequenciesStride;
        double total = 0, weighted = 0;
        for (int e = lane; e < r.experts; e += WarpSize)
        {
            total += scores[e];
            weighted += static_cast<double>(frequencies[e]) * scores[e];
        }

        total = warp_reduce<Sum>(total);
        weighted = warp_reduce<Sum>(weighted);
        balanceMean = weighted / total;
        balanceScale = p.balanceScale / (total * p.tokensOfSequence);
    }

    for (int e = lane; e < r.experts; e += WarpSize) dscores[e] = frequencies != nullptr ? balanceScale * (frequencies[e] - balanceMean) : 0;
    __syncwarp();
    if (lane == 0)
    {
        double sum = 1e-20, weighted = 0;
        for (int k = 0; k < r.topK; k++)
        {
            double score = scores[experts[k]];
            sum += score;
            weighted += dgates[k] * score;
        }

        double scale = r.normalize ? r.scalingFactor / sum : static_cast<double>(r.scalingFactor), mean = r.normalize ? weighted / sum : 0;
        for (int k = 0; k < r.topK; k++) dscores[experts[k]] += scale * (dgates[k] - mean);
    }

    __syncwarp();
    double projection = 0;
    if (r.softmax)
    {
        for (int e = lane; e < r.experts; e += WarpSize) projection += dscores[e] * scores[e];
        projection = warp_reduce<Sum>(projection);
    }

    for (int e = lane; e < r.experts; e += WarpSize)
    {
        double s = scores[e], d = dscores[e];
        p.dlogits[token * p.dlogitsStride + e] = static_cast<float>(r.softmax ? s * (d - projection) : d * s * (1 - s));
    }
}

// ---- Balance loss ----

// Sums of one piece of a sequence: probabilities [E] and how often an expert was among the K highest [E]. Grid: pieces by sequences.
// Shared memory of a warp: sums [E] F64, then of all warps counts [E] and keys [E].
__global__ void __launch_bounds__(256) balance_pieces(
    const float* scores, int64_t scoresStride, int32_t experts, int32_t topK, int64_t tokensOfSequence, int32_t tokensOfPiece, double* sums, int32_t* counts)
{
    DYNAMIC_SHARED(shared);
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize, warps = blockDim.x / WarpSize;
    double* allSums = reinterpret_cast<double*>(shared);
    int32_t* allCounts = reinterpret_cast<int32_t*>(allSums + warps * experts);
    double* sum = allSums + warp * experts;
    int32_t* count = allCounts + warp * experts;
    uint32_t* keys = reinterpret_cast<uint32_t*>(allCounts + warps * experts) + warp * experts;
    for (int e = lane; e < experts; e += WarpSize)
    {
        sum[e] = 0;
        count[e] = 0;
    }

    int64_t first = static_cast<int64_t>(blockIdx.x) * tokensOfPiece, end = min(tokensOfSequence, first + tokensOfPiece);
    for (int64_t t = first + warp; t < end; t += warps)
    {
        const float* row = scores + (blockIdx.y * tokensOfSequence + t) * scoresStride;
        double total = 0;
        for (int e = lane; e < experts; e += WarpSize)
        {
            float score = row[e];
            keys[e] = key_of(score);
            total += score;
        }

        double share = 1 / warp_reduce<Sum>(total);
        for (int e = lane; e < experts; e += WarpSize) sum[e] += row[e] * share;
        __syncwarp();
        take_highest(keys, experts, topK, WarpSize, [&](int, uint32_t, int index) { if (lane == index % WarpSize) count[index]++; });
    }

    __syncthreads();
    int64_t piece = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    for (int e = threadIdx.x; e < experts; e += blockDim.x)
    {
        double probability = 0;
        int32_t chosen = 0;
        for (int w = 0; w < warps; w++)
        {
            probability += allSums[w * experts + e];
            chosen += allCounts[w * experts + e];
        }

        sums[piece * experts + e] = probability;
        counts[piece * experts + e] = chosen;
    }
}

// A block has a sequence.
__global__ void __launch_bounds__(256) balance_loss(
    const double* sums, const int32_t* counts, int32_t experts, int32_t topK, int64_t tokensOfSequence, int32_t pieces,
    float* frequencies, int64_t frequenciesStride, float* losses)
{
    double loss = 0;
    for (int e = threadIdx.x; e < experts; e += blockDim.x)
    {
        double probability = 0;
        int64_t chosen = 0;
        for (int i = 0; i < pieces; i++)
        {
            int64_t piece = static_cast<int64_t>(blockIdx.x) * pieces + i;
            probability += sums[piece * experts + e];
            chosen += counts[piece * experts + e];
        }

        double frequency = static_cast<double>(chosen) * experts / (static_cast<double>(topK) * tokensOfSequence);
        frequencies[blockIdx.x * frequenciesStride + e] = static_cast<float>(frequency);
        loss += frequency * (probability / tokensOfSequence);
    }

    loss = block_reduce<Sum>(loss);
    if (threadIdx.x == 0) losses[blockIdx.x] = static_cast<float>(loss);
}

// ---- Bias ----

// bias[e] += gamma · sign(mean load - load[e]), in one block; mean - load has the sign of total - load·E.
__global__ void __launch_bounds__(256) update_bias(float* bias, const int64_t* load, int32_t experts, float gamma)
{
    int64_t total = 0;
    for (int e = threadIdx.x; e < experts; e += blockDim.x) total += load[e];
    total = block_reduce<Sum>(total);
    for (int e = threadIdx.x; e < experts; e += blockDim.x)
    {
        int64_t below = total - load[e] * experts;
        bias[e] = __fadd_rn(bias[e], below > 0 ? gamma : below < 0 ? -gamma : 0.0f);
    }
}
