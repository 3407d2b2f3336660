// What a compiled kernel and the emulated driver know of each other. A kernel is a shared object that the emulated driver opens; it
// finds the services below through a table, so neither links against the other.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulated {

struct Index3 { unsigned x = 1, y = 1, z = 1; };

// Where in the .cu file an intrinsic stands; named in reports of deadlocks and divergence.
struct Site { const char* file; int line; };

struct Block
{
    Index3 index, size, grid;
    unsigned char* dynamicShared;
    unsigned dynamicSharedBytes;
    unsigned rank; // in its cluster
    unsigned char* variables; // the module's __shared__ variables
    size_t variableBytes;
};

struct Thread
{
    Index3 index;
    unsigned linear; // of the block's threads, x fastest: the lane is linear % 32
    Block* block;
};

// What the last lane to arrive at a collective does for all of them: records[i] is lane i's, for each set bit i of lanes.
using Combine = void (*)(void* const* records, uint32_t lanes);

// Codes of CUresult that a kernel can end in.
enum class Failure { IllegalAddress = 700, Assert = 710, MisalignedAddress = 716, LaunchFailed = 719 };

enum class Queue { Copies, Products, Stores };
constexpr unsigned Queues = 3, MostDeferredBytes = 192;

// In place of a barrier's number: all threads of all blocks of the cluster that have not exited.
constexpr int ClusterBarrier = -1;

// What cuTensorMapEncodeTiled writes into a CUtensorMap.
struct TensorMap
{
    static constexpr uint64_t Known = 0x6661'7468'6f6d'0002;
    uint64_t known;
    unsigned char* start;
    uint64_t sizes[5], strides[4]; // elements; bytes, from dimension 1 on
    uint16_t box[5];
    uint8_t rank, elementBytes, swizzle; // 16-byte pieces that are permuted, less one: 0, 1, 3, 7
};
static_assert(sizeof(TensorMap) <= 128);

// Calls of a running thread; barriers and collectives return when all that were waited for have arrived.
struct Services
{
    // Barrier `id` of `threads` threads (0: all that have not exited).
    void (*barrier)(int id, unsigned threads, bool wait, Site site);
    // All lanes of `mask` that have not exited; `what` names the intrinsic, and must be the same in all of them.
    void (*collective)(uint32_t mask, Combine combine, void* record, const char* what, Site site);
    uint32_t (*activeLanes)();
    // Lets the other threads run: for loops that wait for them.
    void (*yield)(Site site);
    // What lies in block `rank` of the cluster where `address` lies in the dynamic shared memory of the running block. `what` names the
    // function that asks; a block that has exited is an error.
    void* (*inBlock)(void* address, uint32_t rank, const char* what);
    // What the hardware does beside the threads: copies, products and stores. It is done as late as the program allows, when somebody waits, so
    // that a missing wait shows; in reverse order of threads at once, so that work that was begun too early shows. `work` is called with a
    // copy of `bytes` bytes at `data`, at most MostDeferredBytes.
    // In a queue of the running thread, as the current group of it (a thread must not exit before it has waited for its stores),
    void (*defer)(Queue queue, void (*work)(const void*), const void* data, unsigned bytes);
    // which ends here;
    void (*commit)(Queue queue);
    // done but for the last `pending` groups of a thread's queue.
    void (*wait)(Thread* thread, Queue queue, unsigned pending);
    // Under a key, which somebody of the cluster waits for.
    void (*deferUntil)(const void* key, void (*work)(const void*), const void* data, unsigned bytes);
    // Whether there was something to do under the key.
    bool (*waitUntil)(const void* key);
    [[noreturn]] void (*fail)(Failure failure, const char* message);
};

// One kernel, under its lowered name in the shared object.
struct Kernel
{
    const char* name;
    void (*run)(void** parameters);
    unsigned parameters;
    const unsigned* sizes;
    const unsigned* alignments;
};

// The shared object itself, under the name `emulated_module`.
struct Module
{
    const char* build; // of the emulator that compiled it; another one refuses it, as a driver refuses a foreign cubin
    void (*attach)(const Services* services);
    Thread** (*current)(); // where the shared object looks for the running thread; one per thread of the system
};

}
