// cuBLASLt: descriptors, the heuristic that says what the library can do on Hopper, and products over product.hpp. Only what is
// documented works: for FP8, A transposed and B not, types in the pairs that exist, dimensions and addresses of 16 bytes. Attribute
// numbers, sizes and scale layouts are those of cublasLt.h and the library's documentation (3.1.4, "Narrow precisions usage").
#include "product.hpp"
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace emulated;

// Of the emulated driver: does the work now, or records it if the stream is captured.
extern "C" int emulated_submit(void* stream, int (*work)(void*), void (*destroy)(void*), void* state);

namespace {

enum Status { Success = 0, InvalidValue = 7, ExecutionFailed = 13, NotSupported = 15 };

struct Description
{
    int computeType, scaleType, pointerMode = 0, transposeA = 0, transposeB = 0, epilogue = 1;
    int scaleModeA = 0, scaleModeB = 0;
    const float* scalesA = nullptr;
    const float* scalesB = nullptr;
    int8_t fastAccumulation = 0;
};

struct Preference
{
    uint64_t workspaceBytes = 0;
    uint32_t alignment[4] = {256, 256, 256, 256}; // A, B, C, D
};

// What the heuristic decided, in the caller's 64 bytes: the alignments it may count on, and its workspace.
struct Algorithm { uint64_t known; uint64_t workspaceBytes; uint32_t alignment[4]; uint64_t unused[4]; };
constexpr uint64_t KnownAlgorithm = 0x6661'7468'6f6d'0001;
static_assert(sizeof(Algorithm) == 64);
struct HeuristicResult { Algorithm algorithm; size_t workspaceBytes; int state; float waves; int reserved[4]; };

// An algorithm that was promised a workspace uses this much of it, so that a missing one shows.
constexpr uint64_t WorkspaceBytes = 1 << 20;

int complain(Status status, const char* what)
{
    std::fprintf(stderr, "CUDA emulator: cublasLt: %s\n", what);
    return status;
}

template <typename T> int set(T& field, const void* value, size_t bytes)
{
    if (bytes != sizeof(T)) return complain(InvalidValue, "an attribute's value has another size");
    std::memcpy(&field, value, bytes);
    return Success;
}

bool fp8(int type) { return type == E4M3 || type == E5M2; }

// Why the library has no such product, or null.
const char* unsupported(const Description& d, const Layout& a, const Layout& b, const Layout& c, const Layout& out, const uint32_t* alignment)
{
    const Layout* layouts[] = {&a, &b, &c, &out};
    uint64_t m = d.transposeA ? a.columns : a.rows, k = d.transposeA ? a.rows : a.columns;
    uint64_t n = d.transposeB ? b.rows : b.columns, otherK = d.transposeB ? b.columns : b.rows;
    if (m == 0 || n == 0 || k == 0) return "a dimension is 0";
    if (k != otherK || out.rows != m || out.columns != n || c.rows != m || c.columns != n) return "the dimensions do not fit together";
    if (d.computeType != 68 && !(d.computeType == 77 && a.type == F32)) return "compute type other than 32F";
    if (d.scaleType != F32 || d.pointerMode != 0) return "alpha and beta other than floats of the host";
    if (d.epilogue != 1) return "an epilogue";
    for (const Layout* layout : layouts)
    {
        if (layout->order > 1) return "an order other than by columns or by rows";
        if (layout->batches != a.batches) return "different numbers of batches";
        if (layout->stride < static_cast<int64_t>(layout->order == 0 ? layout->rows : layout->columns)) return "a leading dimension below the rows";
    }
    if (c.type != out.type) return "C and D of different types";
    bool plain = !fp8(a.type) && a.type == b.type && (out.type == a.type || (a.type == BF16 && out.type == F32));
    bool small = fp8(a.type) && fp8(b.type) && !(a.type == E5M2 && b.type == E5M2) && (out.type == F32 || out.type == BF16);
    if (!plain && !small) return "this combination of types";
    if (plain && (d.scaleModeA != 0 || d.scaleModeB != 0 || d.scalesA != nullptr || d.scalesB != nullptr)) return "scales without FP8";
    if (!small) return nullptr;
    for (const Layout* layout : layouts) if (layout->order != 0) return "FP8 in another order than by columns";
    if (!d.transposeA || d.transposeB) return "FP8 other than A transposed and B not";
    for (int i = 0; i < 4; i++)
    {
        if (alignment[i] < 16) return "FP8 with matrices not aligned to 16 bytes";
        if (layouts[i]->stride * layouts[i]->element_bytes() % 16 != 0) return "FP8 with a leading dimension of other than multiples of 16 bytes";
    }
    if (k % 16 != 0 || m * static_cast<uint64_t>(out.element_bytes()) % 16 != 0) return "FP8 with dimensions of other than multiples of 16 bytes";
    bool blocks = d.scaleModeA >= Vector128 || d.scaleModeB >= Vector128;
    if (blocks)
    {
        if (d.scaleModeA < Vector128 || d.scaleModeB < Vector128) return "block scales of one operand alone";
        if (d.scaleModeA == Block128 && d.scaleModeB == Block128) return "128x128 blocks of both operands";
        if (m % 4 != 0 || n % 4 != 0) return "block scales with M or N not a multiple of 4";
        if (a.batches != 1) return "block scales in batches";
        if (d.fastAccumulation) return "block scales with fast accumulation";
    }
    return nullptr;
}

}

EXPORT size_t cublasLtGetVersion() { return 130000; }
EXPORT size_t cublasLtGetCudartVersion() { return 13000; }

EXPORT const char* cublasLtGetStatusName(int status)
{
    switch (status)
    {
        case Success: return "CUBLAS_STATUS_SUCCESS";
        case InvalidValue: return "CUBLAS_STATUS_INVALID_VALUE";
        case ExecutionFailed: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case NotSupported: return "CUBLAS_STATUS_NOT_SUPPORTED";
        default: return "CUBLAS_STATUS unknown";
    }
}

EXPORT const char* cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }
EXPORT int cublasLtCreate(void** handle) { *handle = std::malloc(1); return Success; }
EXPORT int cublasLtDestroy(void* handle) { std::free(handle); return Success; }

EXPORT int cublasLtMatmulDescCreate(Description** made, int computeType, int scaleType) { *made = new Description{computeType, scaleType}; return Success; }
EXPORT int cublasLtMatmulDescDestroy(Description* description) { delete description; return Success; }

EXPORT int cublasLtMatmulDescSetAttribute(Description* d, int attribute, const void* value, size_t bytes)
{
    switch (attribute)
    {
        case 0: return set(d->computeType, value, bytes);
        case 1: return set(d->scaleType, value, bytes);
        case 2: return set(d->pointerMode, value, bytes);
        case 3: return set(d->transposeA, value, bytes);
        case 4: return set(d->transposeB, value, bytes);
        case 7: return set(d->epilogue, value, bytes);
        case 15: return Success; // SM_COUNT_TARGET
        case 17: return set(d->scalesA, value, bytes);
        case 18: return set(d->scalesB, value, bytes);
        case 25: return set(d->fastAccumulation, value, bytes);
        case 31: return set(d->scaleModeA, value, bytes);
        case 32: return set(d->scaleModeB, value, bytes);
        default: return complain(InvalidValue, "an attribute of a product that the emulator does not know");
    }
}

EXPORT int cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t columns, int64_t stride)
{
    *made = new Layout{type, rows, columns, stride};
    return Success;
}

EXPORT int cublasLtMatrixLayoutDestroy(Layout* layout) { delete layout; return Success; }

EXPORT int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, size_t bytes)
{
    switch (attribute)
    {
        case 0: return set(layout->type, value, bytes);
        case 1: return set(layout->order, value, bytes);
        case 2: return set(layout->rows, value, bytes);
        case 3: return set(layout->columns, value, bytes);
        case 4: return set(layout->stride, value, bytes);
        case 5: return set(layout->batches, value, bytes);
        case 6: return set(layout->batchStride, value, bytes);
        default: return complain(InvalidValue, "an attribute of a matrix that the emulator does not know");
    }
}

EXPORT int cublasLtMatmulPreferenceCreate(Preference** made) { *made = new Preference; return Success; }
EXPORT int cublasLtMatmulPreferenceDestroy(Preference* preference) { delete preference; return Success; }

EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes)
{
    if (attribute == 1) return set(preference->workspaceBytes, value, bytes);
    if (attribute >= 5 && attribute <= 8) return set(preference->alignment[attribute - 5], value, bytes);
    return Success;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, const Description* d, const Layout* a, const Layout* b, const Layout* c, const Layout* out,
    const Preference* preference, int wanted, HeuristicResult* results, int* found)
{
    *found = 0;
    if (wanted < 1) return InvalidValue;
    if (unsupported(*d, *a, *b, *c, *out, preference->alignment) != nullptr) return NotSupported;
    results[0] = {};
    results[0].workspaceBytes = preference->workspaceBytes >= WorkspaceBytes ? WorkspaceBytes : 0;
    results[0].algorithm = {KnownAlgorithm, results[0].workspaceBytes, {}, {}};
    std::memcpy(results[0].algorithm.alignment, preference->alignment, sizeof(preference->alignment));
    results[0].waves = 1;
    *found = 1;
    return Success;
}

EXPORT int cublasLtMatmul(void*, const Description* d, const void* alpha, const void* a, const Layout* layoutA, const void* b, const Layout* layoutB,
    const void* beta, const void* c, const Layout* layoutC, void* out, const Layout* layoutD, const Algorithm* algorithm, void* workspace, size_t workspaceBytes, void* stream)
{
    static const uint32_t assumed[] = {16, 16, 16, 16};
    if (algorithm != nullptr && algorithm->known != KnownAlgorithm) return complain(InvalidValue, "an algorithm that the heuristic did not give");
    if (const char* reason = unsupported(*d, *layoutA, *layoutB, *layoutC, *layoutD, algorithm != nullptr ? algorithm->alignment : assumed)) return complain(NotSupported, reason);
    const void* matrices[] = {a, b, c, out};
    for (int i = 0; i < 4; i++)
        if (algorithm != nullptr && reinterpret_cast<uintptr_t>(matrices[i]) % algorithm->alignment[i] != 0)
            return complain(InvalidValue, "a matrix is less aligned than the preference said");
    if (algorithm != nullptr && algorithm->workspaceBytes > (workspace != nullptr ? workspaceBytes : 0)) return complain(InvalidValue, "the workspace is smaller than the heuristic's");
    if (d->scaleModeA >= Vector128 && (d->scalesA == nullptr || d->scalesB == nullptr || (reinterpret_cast<uintptr_t>(d->scalesA) | reinterpret_cast<uintptr_t>(d->scalesB)) % 16 != 0))
        return complain(InvalidValue, "scales are missing, or not aligned to 16 bytes");

    auto product = new Product{
        .a = {a, *layoutA, d->transposeA != 0, d->scalesA, static_cast<ScaleMode>(d->scaleModeA)},
        .b = {b, *layoutB, d->transposeB != 0, d->scalesB, static_cast<ScaleMode>(d->scaleModeB)},
        .c = c, .layoutC = *layoutC, .d = out, .layoutD = *layoutD,
        .alpha = *static_cast<const float*>(alpha), .beta = *static_cast<const float*>(beta),
        .workspace = workspace, .workspaceBytes = algorithm != nullptr ? algorithm->workspaceBytes : 0};
    int result = emulated_submit(stream, [](void* p) { static_cast<Product*>(p)->run(); return 0; }, [](void* p) { delete static_cast<Product*>(p); }, product);
    return result == 0 ? Success : ExecutionFailed;
}
