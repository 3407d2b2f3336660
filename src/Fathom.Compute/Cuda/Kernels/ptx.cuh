// Every instruction that C++ has no word for, as a function. Kernels hold no assembly of their own, so what a chip must offer
// can be read in one place, and another implementation of this file runs the kernels elsewhere. PTX ISA sections are named.
#pragma once

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long;
using uint64_t = unsigned long;

// Dynamic shared memory of a block under a name, 128-byte aligned.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

namespace ptx {

// ---- Conversions (9.7.9.22 cvt) ----

// To nearest even; NaN stays NaN.
__device__ __forceinline__ uint16_t bf16_from_float(float x)
{
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// Two at once: low in the lower half.
__device__ __forceinline__ uint32_t bf16x2_from_floats(float low, float high)
{
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// To nearest even, saturating at 448; NaN becomes 0x7f. Low in the lower byte. sm_89 and later.
__device__ __forceinline__ uint16_t e4m3x2_from_floats(float low, float high)
{
    uint16_t bits;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(high), "f"(low));
    return bits;
}

// To nearest even, saturating at 57344. sm_89 and later.
__device__ __forceinline__ uint16_t e5m2x2_from_floats(float low, float high)
{
    uint16_t bits;
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(high), "f"(low));
    return bits;
}

__device__ __forceinline__ float float_from_half(uint16_t bits)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

// Exact: two E4M3 codes as two halves, low in the lower half. sm_89 and later.
__device__ __forceinline__ uint32_t halfx2_from_e4m3x2(uint16_t codes)
{
    uint32_t halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(codes));
    return halves;
}

// Exact: two E5M2 codes as two halves. sm_89 and later.
__device__ __forceinline__ uint32_t halfx2_from_e5m2x2(uint16_t codes)
{
    uint32_t halves;
    asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"(codes));
    return halves;
}

// ---- Magnitudes (9.7.3.12 max, 9.7.4.9 max) ----

// The larger of a, which is not negative, and |b|; NaN where either is.
__device__ __forceinline__ float larger_magnitude(float a, float b)
{
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(fabsf(b)));
    return larger;
}

// The same of two BF16 values each.
__device__ __forceinline__ uint32_t larger_magnitudes_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t magnitudes, larger;
    asm("abs.bf16x2 %0, %1;" : "=r"(magnitudes) : "r"(b));
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(magnitudes));
    return larger;
}

// ---- Threads (10.1 %tid) ----

// threadIdx.x, read again here: what follows from it is computed again too, and takes no registers before.
__device__ __forceinline__ int thread_again()
{
    int x;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
    return x;
}

// ---- Functions ----

// 2^x with a relative error of 2^-22; results below 2^-126 are zero (9.7.3.20 ex2).
__device__ __forceinline__ float exp2_approximately(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x within one last bit for 2^-126 <= x <= 2^126, 0 above (9.7.3.13 rcp).
__device__ __forceinline__ float reciprocal_approximately(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- Stores to global memory (9.7.9.12 st) ----

// 1, 2 or 4 words at once, aligned to their bytes. Of a structure's members the compiler now and then makes stores of their own.
template <int Words>
__device__ __forceinline__ void store_words(void* to, const uint32_t (&words)[Words])
{
    static_assert(Words == 1 || Words == 2 || Words == 4);
    uint64_t address = static_cast<uint64_t>(__cvta_generic_to_global(to));
    if constexpr (Words == 1) asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(words[0]) : "memory");
    else if constexpr (Words == 2) asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(words[0]), "r"(words[1]) : "memory");
    else asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]) : "memory");
}

// ---- Between blocks (8 memory consistency model; 9.7.9.8 ld, 9.7.9.12 st, 9.7.13.7 red) ----

// What another block wrote before it released this value is seen after it was acquired.
__device__ __forceinline__ uint32_t load_acquired(const uint32_t* p)
{
    uint32_t x;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(__cvta_generic_to_global(p)) : "memory");
    return x;
}

__device__ __forceinline__ void store_released(uint32_t* p, uint32_t x)
{
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(x) : "memory");
}

// Adds to what lies Offset bytes behind p, in the second-level cache. Who adds in which order is the caller's to see to. 16-byte aligned; sm_90
// and later.
template <int Offset>
__device__ __forceinline__ void add_four(float* p, float x0, float x1, float x2, float x3)
{
    asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0 + %1], {%2, %3, %4, %5};" ::"l"(__cvta_generic_to_global(p)), "n"(Offset), "f"(x0), "f"(x1), "f"(x2), "f"(x3) : "memory");
}

// Four values that other blocks have written during this kernel, past the first-level cache. 16-byte aligned.
__device__ __forceinline__ void load_four(const float* p, float (&x)[4])
{
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]) : "l"(__cvta_generic_to_global(p)) : "memory");
}

// ---- Asynchronous copies to shared memory (9.7.9.25 cp.async) ----

__device__ __forceinline__ uint32_t shared_address(const void* p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// 16 bytes past the first-level cache; where valid is false, zeros are written and the source is not read. Both 16-byte aligned.
__device__ __forceinline__ void copy_async16(void* shared, const void* global, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}

__device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most Pending of the committed groups are under way.
template <int Pending>
__device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// Exact: four E4M3 codes as BF16, the first two in low, where all are numbers; the code of NaN becomes 480. In a half's place, sign apart,
// a code is its value times 2^-120, subnormals included (9.7.4.4 fma).
__device__ __forceinline__ void bf16x4_from_numbers(uint32_t codes, uint32_t& low, uint32_t& high)
{
    constexpr uint32_t Power = 0x7b807b80u, MinusZeros = 0x80008000u, Signs = 0x80008000u, Magnitudes = 0x07f007f0u;
    uint32_t first = __byte_perm(codes, 0, 0x1404), second = __byte_perm(codes, 0, 0x3424);
    first = (first >> 4 & Magnitudes) | (first & Signs);
    second = (second >> 4 & Magnitudes) | (second & Signs);
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(low) : "r"(first), "r"(Power), "r"(MinusZeros));
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(high) : "r"(second), "r"(Power), "r"(MinusZeros));
}

// ---- Matrix fragments and products of a warp (9.7.14 mma, ldmatrix) ----

// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrices(uint32_t (&fragment)[4], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
        : "r"(shared_address(row)) : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&fragment)[4], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
        : "r"(shared_address(row)) : "memory");
}

// d[16x8] += a[16x16] b[16x8], BF16 in, F32 sums. a row-major, b column-major fragments.
__device__ __forceinline__ void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// d[16x8] += a[16x32] b[32x8], E4M3 in, F32 sums. sm_89 and later.
__device__ __forceinline__ void multiply_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}
