// The arithmetic of SwiGLU, which kernels over values and over codes share to the last bit.
#pragma once
#include "common.cuh"

// The quick reciprocal: within one last bit, and 0 for a denominator above 2^126. The rounded one would cost more than the memory.
__device__ __forceinline__ float sigmoid(float x) { return ptx::reciprocal_approximately(1 + expf(-x)); }

// silu(gate) * up * scale.
__device__ __forceinline__ float swiglu_of(float gate, float up, float scale) { return gate * sigmoid(gate) * up * scale; }

// d becomes the gradient of gate, up that of up; adds d * silu(gate) * up to the sum that is the scale's gradient.
__device__ __forceinline__ void swiglu_gradients(float& d, float gate, float& up, float scale, float& sum)
{
    float s = sigmoid(gate), silu = gate * s, scaled = d * scale;
    sum += d * silu * up;
    d = scaled * up * (s * (1 + gate * (1 - s)));
    up = scaled * silu;
}
