// The driver's device, contexts, memory and errors, over memory.hpp: one device, "Fathom CUDA emulator", of compute capability 9.0.
// Names and numbers are those of the CUDA driver API (cuda.h); a call returns a CUresult.
#include "driver.hpp"
#include "blocks.hpp"
#include "memory.hpp"
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace emulated;

std::recursive_mutex emulated::lock;

namespace {

std::string lastMessage;
int lastCode;
thread_local void* currentContext;
int primaryContext; // its address is the handle of the one context there is

Result copy(void* to, const void* from, size_t bytes, const char* call)
{
    if (!inside(to, bytes)) return fail(InvalidValue, std::string(call) + ": the destination ends before " + std::to_string(bytes) + " bytes");
    if (!inside(from, bytes)) return fail(InvalidValue, std::string(call) + ": the source ends before " + std::to_string(bytes) + " bytes");
    std::memmove(to, from, bytes);
    return Success;
}

// Copies on the default stream wait for all others, which a capture cannot.
Result copy_now(void* to, const void* from, size_t bytes, const char* call)
{
    Lock guard(lock);
    if (captures(true)) return fail(CaptureUnsupported, std::string(call) + " while a stream is captured");
    return copy(to, from, bytes, call);
}

int copy_async(void* to, const void* from, size_t bytes, Stream* stream, const char* call)
{
    Lock guard(lock);
    return submit(stream, [=] { return copy(to, from, bytes, call); });
}

int fill(unsigned char* to, size_t pitch, const void* value, size_t valueBytes, size_t width, size_t height, Stream* stream)
{
    Lock guard(lock);
    unsigned char pattern[4];
    std::memcpy(pattern, value, valueBytes);
    return submit(stream, [=]() -> int
    {
        if (height > 0 && !inside(to, (height - 1) * pitch + width * valueBytes)) return fail(InvalidValue, "cuMemset: the memory ends before");
        for (size_t row = 0; row < height; row++)
            for (size_t i = 0; i < width; i++) std::memcpy(to + row * pitch + i * valueBytes, pattern, valueBytes);
        return Success;
    });
}

}

Result emulated::fail(Result code, const std::string& text)
{
    Lock guard(lock);
    lastCode = code;
    lastMessage = text;
    // Running out of memory is a thing that callers handle.
    if (code != OutOfMemory) std::fprintf(stderr, "CUDA emulator: %s\n", text.c_str());
    return code;
}

// ---- Device and context ----

EXPORT int cuInit(unsigned) { return Success; }
EXPORT int cuDriverGetVersion(int* version) { *version = 13000; return Success; }
EXPORT int cuDeviceGetCount(int* count) { *count = 1; return Success; }
EXPORT int cuDeviceGet(int* device, int ordinal) { *device = 0; return ordinal == 0 ? Success : fail(InvalidDevice, "cuDeviceGet: the emulator has one device"); }
EXPORT int cuDeviceGetName(char* name, int bytes, int) { std::snprintf(name, static_cast<size_t>(bytes), "Fathom CUDA emulator"); return Success; }
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = total_memory(); return Success; }
EXPORT int cuDeviceGetUuid_v2(void* uuid, int) { std::memcpy(uuid, "fathom-emulator0", 16); return Success; }
EXPORT int cuDeviceGetUuid(void* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
EXPORT int cuDeviceGetPCIBusId(char* text, int bytes, int) { std::snprintf(text, static_cast<size_t>(bytes), "0000:00:00.0"); return Success; }

EXPORT int cuDeviceGetAttribute(int* value, int attribute, int)
{
    switch (attribute)
    {
        case 1: case 2: case 3: *value = attribute == 3 ? 64 : 1024; break; // MAX_THREADS_PER_BLOCK, MAX_BLOCK_DIM_X, Y, Z
        case 5: *value = 0x7fffffff; break; // MAX_GRID_DIM_X
        case 6: case 7: *value = 65535; break;
        case 8: *value = 48 * 1024; break; // MAX_SHARED_MEMORY_PER_BLOCK
        case 10: *value = 32; break; // WARP_SIZE
        case 12: case 82: *value = 65536; break; // registers of a block, of a multiprocessor
        case 13: *value = 1'000'000; break; // CLOCK_RATE, kHz
        case 16: *value = 4; break; // MULTIPROCESSOR_COUNT
        case 31: case 41: case 78: case 115: case 120: *value = 1; break; // concurrent kernels, unified addresses, stream priorities, memory pools, clusters
        case 36: *value = 1'000'000; break; // MEMORY_CLOCK_RATE, kHz
        case 37: *value = 64; break; // GLOBAL_MEMORY_BUS_WIDTH
        case 38: *value = 32 << 20; break; // L2_CACHE_SIZE
        case 39: *value = 2048; break; // MAX_THREADS_PER_MULTIPROCESSOR
        case 40: *value = 1; break; // ASYNC_ENGINE_COUNT
        case 75: *value = 9; break; // COMPUTE_CAPABILITY_MAJOR
        case 76: *value = 0; break;
        case 81: *value = 233472; break; // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        case 97: *value = static_cast<int>(Worker::MostDynamicShared); break; // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        case 106: *value = 32; break; // MAX_BLOCKS_PER_MULTIPROCESSOR
        case 111: *value = 1024; break; // RESERVED_SHARED_MEMORY_PER_BLOCK
        default: *value = 0; break; // what the emulator does not have
    }
    return Success;
}

EXPORT int cuDevicePrimaryCtxRetain(void** context, int) { *context = &primaryContext; return Success; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int) { return Success; }
EXPORT int cuCtxCreate_v2(void** context, unsigned, int) { *context = currentContext = &primaryContext; return Success; }
EXPORT int cuCtxCreate_v4(void** context, void*, unsigned, int) { *context = currentContext = &primaryContext; return Success; }
EXPORT int cuCtxDestroy_v2(void*) { return Success; }
EXPORT int cuCtxSetCurrent(void* context) { currentContext = context; return Success; }
EXPORT int cuCtxGetCurrent(void** context) { *context = currentContext; return Success; }
EXPORT int cuCtxPushCurrent_v2(void* context) { return cuCtxSetCurrent(context); }
EXPORT int cuCtxPopCurrent_v2(void** context) { return cuCtxGetCurrent(context); }
EXPORT int cuCtxGetDevice(int* device) { *device = 0; return Success; }

EXPORT int cuCtxSynchronize()
{
    Lock guard(lock);
    if (captures(true)) return fail(CaptureUnsupported, "cuCtxSynchronize while a stream is captured");
    if (std::string damage = damaged(); !damage.empty()) return fail(IllegalAddress, "cuCtxSynchronize: " + damage);
    return Success;
}

EXPORT int cuProfilerStart() { return Success; }
EXPORT int cuProfilerStop() { return Success; }

// ---- Errors ----

EXPORT int cuGetErrorName(int code, const char** name)
{
    switch (code)
    {
        case Success: *name = "CUDA_SUCCESS"; break;
        case InvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; break;
        case OutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case InvalidDevice: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
        case InvalidImage: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
        case InvalidContext: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
        case InvalidHandle: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
        case NotFound: *name = "CUDA_ERROR_NOT_FOUND"; break;
        case IllegalAddress: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
        case Assert: *name = "CUDA_ERROR_ASSERT"; break;
        case MisalignedAddress: *name = "CUDA_ERROR_MISALIGNED_ADDRESS"; break;
        case LaunchFailed: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
        case NotSupported: *name = "CUDA_ERROR_NOT_SUPPORTED"; break;
        case CaptureUnsupported: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
        case CaptureInvalidated: *name = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; break;
        case CaptureUnmatched: *name = "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"; break;
        case CapturedEvent: *name = "CUDA_ERROR_CAPTURED_EVENT"; break;
        default: *name = nullptr; return InvalidValue;
    }
    return Success;
}

EXPORT int cuGetErrorString(int code, const char** text)
{
    Lock guard(lock);
    // Kept for ever: the caller may read it at any time.
    if (code == lastCode && code != Success) *text = strdup(lastMessage.c_str());
    else return cuGetErrorName(code, text);
    return Success;
}

// ---- Memory ----

EXPORT int cuMemAlloc_v2(void** pointer, size_t bytes)
{
    Lock guard(lock);
    *pointer = nullptr;
    if (bytes == 0) return fail(InvalidValue, "cuMemAlloc of 0 bytes");
    if (captures(false)) return fail(CaptureUnsupported, "cuMemAlloc while a stream is captured");
    *pointer = allocate(bytes);
    return *pointer != nullptr ? Success : fail(OutOfMemory, "cuMemAlloc of " + std::to_string(bytes) + " bytes with " + std::to_string(free_memory()) + " bytes free");
}

EXPORT int cuMemFree_v2(void* pointer)
{
    Lock guard(lock);
    if (pointer == nullptr) return Success;
    if (std::string damage = damaged(); !damage.empty()) return fail(IllegalAddress, "cuMemFree: " + damage);
    return release(pointer) ? Success : fail(InvalidValue, "cuMemFree: no allocation starts there");
}

EXPORT int cuMemGetInfo_v2(size_t* free, size_t* total)
{
    Lock guard(lock);
    *free = free_memory();
    *total = total_memory();
    return Success;
}

EXPORT int cuMemHostAlloc(void** pointer, size_t bytes, unsigned)
{
    *pointer = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *pointer != nullptr ? Success : fail(OutOfMemory, "cuMemHostAlloc");
}

EXPORT int cuMemAllocHost_v2(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
EXPORT int cuMemFreeHost(void* pointer) { std::free(pointer); return Success; }
EXPORT int cuMemHostRegister_v2(void*, size_t, unsigned) { return Success; }
EXPORT int cuMemHostUnregister(void*) { return Success; }

EXPORT int cuMemcpy(void* to, const void* from, size_t bytes) { return copy_now(to, from, bytes, "cuMemcpy"); }
EXPORT int cuMemcpyHtoD_v2(void* to, const void* from, size_t bytes) { return copy_now(to, from, bytes, "cuMemcpyHtoD"); }
EXPORT int cuMemcpyDtoH_v2(void* to, const void* from, size_t bytes) { return copy_now(to, from, bytes, "cuMemcpyDtoH"); }
EXPORT int cuMemcpyDtoD_v2(void* to, const void* from, size_t bytes) { return copy_now(to, from, bytes, "cuMemcpyDtoD"); }
EXPORT int cuMemcpyAsync(void* to, const void* from, size_t bytes, Stream* stream) { return copy_async(to, from, bytes, stream, "cuMemcpyAsync"); }
EXPORT int cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t bytes, Stream* stream) { return copy_async(to, from, bytes, stream, "cuMemcpyHtoDAsync"); }
EXPORT int cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t bytes, Stream* stream) { return copy_async(to, from, bytes, stream, "cuMemcpyDtoHAsync"); }
EXPORT int cuMemcpyDtoDAsync_v2(void* to, const void* from, size_t bytes, Stream* stream) { return copy_async(to, from, bytes, stream, "cuMemcpyDtoDAsync"); }

// CUDA_MEMCPY2D: memory types are 1 host, 2 device, 4 unified; arrays do not exist here.
struct Side { size_t x, y; int type; char* host; char* device; void* array; size_t pitch; };
struct Copy2D { Side from, to; size_t width, height; };

EXPORT int cuMemcpy2DAsync_v2(const Copy2D* description, Stream* stream)
{
    Lock guard(lock);
    return submit(stream, [copies = *description]() -> int
    {
        auto start = [](const Side& side) { return (side.type == 1 ? side.host : side.device) + side.y * side.pitch + side.x; };
        for (size_t row = 0; row < copies.height; row++)
            if (Result result = copy(start(copies.to) + row * copies.to.pitch, start(copies.from) + row * copies.from.pitch, copies.width, "cuMemcpy2DAsync"); result != Success) return result;
        return Success;
    });
}

EXPORT int cuMemcpy2D_v2(const Copy2D* description) { return cuMemcpy2DAsync_v2(description, nullptr); }

EXPORT int cuMemsetD8_v2(unsigned char* to, unsigned char value, size_t count) { return fill(to, 0, &value, 1, count, 1, nullptr); }
EXPORT int cuMemsetD16_v2(unsigned char* to, unsigned short value, size_t count) { return fill(to, 0, &value, 2, count, 1, nullptr); }
EXPORT int cuMemsetD32_v2(unsigned char* to, unsigned value, size_t count) { return fill(to, 0, &value, 4, count, 1, nullptr); }
EXPORT int cuMemsetD8Async(unsigned char* to, unsigned char value, size_t count, Stream* stream) { return fill(to, 0, &value, 1, count, 1, stream); }
EXPORT int cuMemsetD16Async(unsigned char* to, unsigned short value, size_t count, Stream* stream) { return fill(to, 0, &value, 2, count, 1, stream); }
EXPORT int cuMemsetD32Async(unsigned char* to, unsigned value, size_t count, Stream* stream) { return fill(to, 0, &value, 4, count, 1, stream); }
EXPORT int cuMemsetD2D8Async(unsigned char* to, size_t pitch, unsigned char value, size_t width, size_t height, Stream* stream) { return fill(to, pitch, &value, 1, width, height, stream); }
EXPORT int cuMemsetD2D32Async(unsigned char* to, size_t pitch, unsigned value, size_t width, size_t height, Stream* stream) { return fill(to, pitch, &value, 4, width, height, stream); }

EXPORT int cuTensorMapEncodeTiled(emulated::TensorMap* map, int type, unsigned rank, void* start, const uint64_t* sizes, const uint64_t* strides, const unsigned* box,
    const unsigned* elementStrides, int interleave, int swizzle, int, int fill)
{
    Lock guard(lock);
    static const uint8_t bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4}; // by CUtensorMapDataType
    auto refuse = [](const char* why) { return fail(InvalidValue, std::string("cuTensorMapEncodeTiled: ") + why); };
    if (type < 0 || type > 12 || interleave != 0 || fill != 0 || swizzle < 0 || swizzle > 3) return fail(NotSupported, "cuTensorMapEncodeTiled: a type, interleaving, filling or swizzle that the emulator does not have");
    if (rank < 1 || rank > 5) return refuse("rank");
    if (reinterpret_cast<uintptr_t>(map) % 64 != 0 || reinterpret_cast<uintptr_t>(start) % 16 != 0) return refuse("the map must be aligned to 64 bytes, the matrix to 16");
    emulated::TensorMap made{emulated::TensorMap::Known, static_cast<unsigned char*>(start), {}, {}, {}, static_cast<uint8_t>(rank), bytes[type], static_cast<uint8_t>((1 << swizzle) - 1)};
    uint64_t extent = sizes[0] * bytes[type];
    for (unsigned i = 0; i < rank; i++)
    {
        if (sizes[i] == 0 || sizes[i] > 1ull << 32) return refuse("a size of 0 or above 2^32");
        if (box[i] == 0 || box[i] > 256) return refuse("a box of 0 or above 256 elements");
        if (elementStrides[i] != 1) return fail(NotSupported, "cuTensorMapEncodeTiled: element strides");
        made.sizes[i] = sizes[i];
        made.box[i] = static_cast<uint16_t>(box[i]);
        if (i == 0) continue;
        if (strides[i - 1] % 16 != 0 || strides[i - 1] >= 1ull << 40) return refuse("a stride of other than multiples of 16 bytes, or too large");
        made.strides[i - 1] = strides[i - 1];
        extent += (sizes[i] - 1) * strides[i - 1];
    }
    unsigned inner = box[0] * bytes[type];
    if (inner % 16 != 0) return refuse("a box whose rows are no multiple of 16 bytes");
    if (swizzle != 0 && inner > 16u << swizzle) return refuse("a box whose rows are longer than the swizzle");
    if (swizzle != 0 && inner < 16u << swizzle) return fail(NotSupported, "cuTensorMapEncodeTiled: a box whose rows are shorter than the swizzle");
    if (!inside(start, extent)) return refuse("the matrix ends before");
    *map = made;
    return Success;
}
