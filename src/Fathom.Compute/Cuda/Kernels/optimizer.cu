// AdamW in one pass. Every operation is written as the one instruction with the one rounding that the reference has, so that the
// compiler joins none of them: moments in BF16 turn a last bit into a whole step.
#include "elementwise.cuh"

template <typename M, int N>
__global__ void adamw(
    float* weights, const float* gradients, M* firstMoment, M* secondMoment, int64_t count, float gradientScale, float beta1,
    float rest1, float beta2, float rest2, float decay, float size, float unbias2, float epsilon)
{
    Place place = place_of_thread<N>(1, count);
    if (!place.valid) return;
    int64_t at = place.column;
    float w[N], g[N], m[N], v[N];
    read(w, weights + at);
    read(g, gradients + at);
    read(m, firstMoment + at);
    read(v, secondMoment + at);
#pragma unroll
    for (int i = 0; i < N; i++)
    {
        g[i] = __fmul_rn(g[i], gradientScale);
        m[i] = __fmaf_rn(beta1, m[i], __fmul_rn(rest1, g[i]));
        v[i] = __fmaf_rn(beta2, v[i], __fmul_rn(__fmul_rn(rest2, g[i]), g[i]));
        float root = __fadd_rn(__fsqrt_rn(__fmul_rn(v[i], unbias2)), epsilon);
        w[i] = __fadd_rn(__fmaf_rn(decay, w[i], w[i]), __fdiv_rn(__fmul_rn(size, m[i]), root));
    }

    write(weights + at, w);
    write(firstMoment + at, m);
    write(secondMoment + at, v);
}
