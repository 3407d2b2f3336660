// CUDA C++ as plain C++: the part of the language and of its built-in functions that Fathom's kernels use. A thread of a block is a
// fiber of the emulated driver (abi.hpp); a __shared__ variable is a thread-local one, because a thread of the system runs one block
// at a time (or one cluster, whose blocks would share it: refused). Warp functions are collectives: each lane leaves a record, the last one to arrive fills in every lane's result.
#pragma once
#include "abi.hpp"
#include <bit>
#include <cmath>
#include <sched.h>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>
#include <x86intrin.h>

namespace emulated {

inline const Services* services;
inline thread_local Thread* current;

template <typename... P, size_t... I>
void invoke(void (*kernel)(P...), void** parameters, std::index_sequence<I...>)
{
    kernel(*static_cast<std::remove_cvref_t<P>*>(parameters[I])...);
}

template <typename> struct Signature;
template <typename... P> struct Signature<void (*)(P...)>
{
    static constexpr unsigned count = sizeof...(P);
    static constexpr unsigned sizes[] = {sizeof(P)..., 0};
    static constexpr unsigned alignments[] = {alignof(P)..., 0};
    using Indices = std::index_sequence_for<P...>;
};

template <auto kernel>
constexpr Kernel describe(const char* name)
{
    using S = Signature<decltype(kernel)>;
    return {name, [](void** parameters) { invoke(kernel, parameters, typename S::Indices()); }, S::count, S::sizes, S::alignments};
}

template <typename Record, typename F>
inline void collective(uint32_t mask, Record& record, F, const char* what, Site site)
{
    // The function object is empty, so that the combining function needs nothing but its type.
    static_assert(std::is_empty_v<F>);
    services->collective(mask, [](void* const* records, uint32_t lanes) { F()(reinterpret_cast<Record* const*>(records), lanes); },
        &record, what, site);
}

// Reports of the compiler's checks (-fsanitize=alignment,bounds,...): the layouts are those of GCC's run-time library.
struct CheckedPlace { const char* file; uint32_t line, column; };
struct CheckedType { uint16_t kind, info; char name[1]; };
struct MismatchData { CheckedPlace place; CheckedType* type; uint8_t logAlignment, kind; };
struct OutOfBoundsData { CheckedPlace place; CheckedType *array, *index; };

[[noreturn]] inline void fail(Failure failure, const CheckedPlace& place, const char* format, auto... arguments)
{
    char text[400], message[600];
    std::snprintf(text, sizeof(text), format, arguments...);
    std::snprintf(message, sizeof(message), "%s:%u: %s", place.file, place.line, text);
    services->fail(failure, message);
}

}

extern "C" {
[[gnu::visibility("hidden"), gnu::used]] inline void __ubsan_handle_type_mismatch_v1_abort(emulated::MismatchData* data, uintptr_t pointer)
{
    if (pointer == 0) emulated::fail(emulated::Failure::IllegalAddress, data->place, "access through a null pointer");
    emulated::fail(emulated::Failure::MisalignedAddress, data->place, "address %p of %s is not aligned to %u bytes",
        reinterpret_cast<void*>(pointer), data->type->name, 1u << data->logAlignment);
}
[[gnu::visibility("hidden"), gnu::used]] inline void __ubsan_handle_out_of_bounds_abort(emulated::OutOfBoundsData* data, uintptr_t index)
{
    emulated::fail(emulated::Failure::IllegalAddress, data->place, "index %lld is outside %s", static_cast<long long>(index), data->array->name);
}
[[gnu::visibility("hidden"), gnu::used]] inline void __ubsan_handle_shift_out_of_bounds_abort(emulated::CheckedPlace* place, uintptr_t, uintptr_t by)
{
    emulated::fail(emulated::Failure::LaunchFailed, *place, "shift by %lld bits", static_cast<long long>(by));
}
[[gnu::visibility("hidden"), gnu::used]] inline void __ubsan_handle_divrem_overflow_abort(emulated::CheckedPlace* place, uintptr_t, uintptr_t)
{
    emulated::fail(emulated::Failure::LaunchFailed, *place, "division by zero");
}
}

// ---- The language ----

#define __CUDACC_RTC__
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local

#define threadIdx (emulated::current->index)
#define blockIdx (emulated::current->block->index)
#define blockDim (emulated::current->block->size)
#define gridDim (emulated::current->block->grid)
constexpr int warpSize = 32;

#define EMULATED_SITE const char* file = __builtin_FILE(), int line = __builtin_LINE()

using dim3 = emulated::Index3;
using uint3 = emulated::Index3;

#define EMULATED_VECTORS(T, name) \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; }; \
    struct name##3 { T x, y, z; }; \
    struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(double, double)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(short, short)
EMULATED_VECTORS(unsigned short, ushort)
EMULATED_VECTORS(unsigned char, uchar)
EMULATED_VECTORS(long long, longlong)
EMULATED_VECTORS(unsigned long long, ulonglong)
#undef EMULATED_VECTORS
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ---- Arithmetic ----

template <typename A, typename B> requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
constexpr std::common_type_t<A, B> min(A a, B b) { std::common_type_t<A, B> x = a, y = b; return y < x ? y : x; }
template <typename A, typename B> requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
constexpr std::common_type_t<A, B> max(A a, B b) { std::common_type_t<A, B> x = a, y = b; return x < y ? y : x; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }

// Kernels are compiled without contraction, so plain operators round once, as these do on a device.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frcp_rn(float a) { return 1 / a; }
inline float __fdividef(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __expf(float x) { return expf(x); }
inline float __exp2f(float x) { return exp2f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __saturatef(float x) { return x > 0 ? fminf(x, 1) : 0; }
inline float rsqrtf(float x) { return static_cast<float>(1 / std::sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }

inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(rintf(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32); }
inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<int64_t>(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64); }
inline unsigned __brev(unsigned x)
{
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++) reversed |= (x >> i & 1) << (31 - i);
    return reversed;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
    {
        unsigned choice = selector >> (4 * i) & 15, byte = static_cast<unsigned>(bytes >> (8 * (choice & 7))) & 255;
        if (choice & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << (8 * i);
    }
    return result;
}

// ---- Memory ----

template <typename T> inline T __ldg(const T* p) { return *p; }
template <typename T> inline T __ldcs(const T* p) { return *p; }
template <typename T> inline T __ldcg(const T* p) { return *p; }
template <typename T> inline void __stcs(T* p, std::type_identity_t<T> x) { *p = x; }
template <typename T> inline void __stcg(T* p, std::type_identity_t<T> x) { *p = x; }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <typename T> concept AtomicInteger = std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);
template <AtomicInteger T, typename F>
inline T emulated_update(T* p, F change)
{
    T old = __atomic_load_n(p, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(p, &old, change(old), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) { }
    return old;
}
template <AtomicInteger T> inline T atomicAdd(T* p, std::type_identity_t<T> x) { return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST); }
template <AtomicInteger T> inline T atomicSub(T* p, std::type_identity_t<T> x) { return __atomic_fetch_sub(p, x, __ATOMIC_SEQ_CST); }
template <AtomicInteger T> inline T atomicExch(T* p, std::type_identity_t<T> x) { return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST); }
template <AtomicInteger T> inline T atomicOr(T* p, std::type_identity_t<T> x) { return __atomic_fetch_or(p, x, __ATOMIC_SEQ_CST); }
template <AtomicInteger T> inline T atomicAnd(T* p, std::type_identity_t<T> x) { return __atomic_fetch_and(p, x, __ATOMIC_SEQ_CST); }
template <AtomicInteger T> inline T atomicXor(T* p, std::type_identity_t<T> x) { return __atomic_fetch_xor(p, x, __ATOMIC_SEQ_CST); }
template <AtomicInteger T> inline T atomicMax(T* p, std::type_identity_t<T> x) { return emulated_update(p, [x](T old) { return old < x ? x : old; }); }
template <AtomicInteger T> inline T atomicMin(T* p, std::type_identity_t<T> x) { return emulated_update(p, [x](T old) { return x < old ? x : old; }); }
inline unsigned atomicInc(unsigned* p, unsigned last) { return emulated_update(p, [last](unsigned old) { return old >= last ? 0 : old + 1; }); }
template <AtomicInteger T> inline T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> x)
{
    __atomic_compare_exchange_n(p, &expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}

// ---- Barriers and warps ----

inline void __syncthreads(EMULATED_SITE) { emulated::services->barrier(0, 0, true, {file, line}); }

namespace emulated {

// Lane i's result is the value of lane `from`, or its own if that is outside its segment of `width` lanes.
template <typename T> struct Shuffle { T value, result; int from; };

template <typename T>
inline T shuffle(uint32_t mask, T value, int from, const char* what, Site site)
{
    static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "a shuffle moves 4 or 8 bytes");
    Shuffle<T> record{value, value, from};
    collective(mask, record, [](Shuffle<T>* const* lanes, uint32_t present)
    {
        for (int i = 0; i < 32; i++)
        {
            if (!(present >> i & 1)) continue;
            // A lane that has exited or is not in the mask has no defined value.
            if (present >> lanes[i]->from & 1) lanes[i]->result = lanes[lanes[i]->from]->value;
            else std::memset(&lanes[i]->result, 0xff, sizeof(T));
        }
    }, what, site);
    return record.result;
}

struct Vote { bool predicate; uint32_t ballot; };

inline uint32_t ballot(uint32_t mask, bool predicate, const char* what, Site site)
{
    Vote record{predicate, 0};
    collective(mask, record, [](Vote* const* lanes, uint32_t present)
    {
        uint32_t ballot = 0;
        for (int i = 0; i < 32; i++) if (present >> i & 1) ballot |= static_cast<uint32_t>(lanes[i]->predicate) << i;
        for (int i = 0; i < 32; i++) if (present >> i & 1) lanes[i]->ballot = ballot;
    }, what, site);
    return record.ballot;
}

inline uint32_t largest(uint32_t mask, uint32_t value, const char* what, Site site)
{
    uint32_t record = value;
    collective(mask, record, [](uint32_t* const* lanes, uint32_t present)
    {
        uint32_t all = 0;
        for (int i = 0; i < 32; i++) if (present >> i & 1) all = *lanes[i] > all ? *lanes[i] : all;
        for (int i = 0; i < 32; i++) if (present >> i & 1) *lanes[i] = all;
    }, what, site);
    return record;
}

inline int lane() { return static_cast<int>(current->linear % 32); }

}

inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_SITE)
{
    char nothing;
    emulated::collective(mask, nothing, [](char* const*, uint32_t) { }, "__syncwarp", {file, line});
}

template <typename T> inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, EMULATED_SITE)
{
    int lane = emulated::lane();
    return emulated::shuffle(mask, value, (lane & -width) | (from & (width - 1)), "__shfl_sync", {file, line});
}
template <typename T> inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATED_SITE)
{
    int lane = emulated::lane(), from = lane ^ bits;
    return emulated::shuffle(mask, value, from < (lane & -width) + width ? from : lane, "__shfl_xor_sync", {file, line});
}
template <typename T> inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, EMULATED_SITE)
{
    int lane = emulated::lane(), from = lane - static_cast<int>(distance);
    return emulated::shuffle(mask, value, from >= (lane & -width) ? from : lane, "__shfl_up_sync", {file, line});
}
template <typename T> inline T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, EMULATED_SITE)
{
    int lane = emulated::lane(), from = lane + static_cast<int>(distance);
    return emulated::shuffle(mask, value, from < (lane & -width) + width ? from : lane, "__shfl_down_sync", {file, line});
}

inline unsigned __ballot_sync(unsigned mask, bool predicate, EMULATED_SITE) { return emulated::ballot(mask, predicate, "__ballot_sync", {file, line}); }
inline int __any_sync(unsigned mask, bool predicate, EMULATED_SITE) { return emulated::ballot(mask, predicate, "__any_sync", {file, line}) != 0; }
inline int __all_sync(unsigned mask, bool predicate, EMULATED_SITE) { return emulated::ballot(mask, !predicate, "__all_sync", {file, line}) == 0; }
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, EMULATED_SITE) { return emulated::largest(mask, value, "__reduce_max_sync", {file, line}); }
inline unsigned __activemask() { return emulated::services->activeLanes(); }

// ---- The rest ----

inline long long clock64() { return static_cast<long long>(__rdtsc()); }
inline void __nanosleep(unsigned, EMULATED_SITE) { emulated::services->yield({file, line}); }
[[noreturn]] inline void __trap(EMULATED_SITE) { emulated::fail(emulated::Failure::LaunchFailed, {file, static_cast<uint32_t>(line), 0}, "__trap()"); }
#undef assert
#define assert(condition) ((condition) ? void() : emulated::fail(emulated::Failure::Assert, {__FILE__, __LINE__, 0}, "assertion failed: %s", #condition))
