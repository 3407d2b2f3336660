// Runs the blocks of one launch on one thread of the system. The threads of a block are fibers: each runs until it meets a barrier or
// a collective that others have not reached, so a kernel without them never switches. A run is deterministic; FATHOM_EMULATOR_ORDER
// changes the order in which threads and blocks run (forward, reverse, random:SEED), which is how a missing barrier shows.
#pragma once
#include "../device/abi.hpp"
#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

namespace emulated {

struct LoadedModule
{
    const Module* description;
    void* handle;
    size_t sharedBytes; // its __shared__ variables of one thread of the system: what lies in its thread-local storage
};

struct Launch
{
    const Kernel* kernel;
    const LoadedModule* module;
    Index3 grid, block;
    unsigned dynamicSharedBytes;
    void** parameters;

    std::atomic<uint64_t> next{0}; // block
    std::mutex lock;
    std::atomic<int> failure{0};
    std::string message;

    uint64_t blocks() const { return static_cast<uint64_t>(grid.x) * grid.y * grid.z; }
    void fail(int code, std::string text);
};

struct Order
{
    enum Kind { Forward, Reverse, Random } kind = Forward;
    uint64_t seed = 0;
    static Order from_environment();
};

// Work beside the threads, of a group of a thread's queue or under a key.
struct Deferred
{
    void (*work)(const void*);
    union { unsigned group; const void* key; };
    alignas(16) unsigned char data[MostDeferredBytes];
};

struct Fiber : Thread
{
    enum State { New, Ready, AtBarrier, InCollective, Yielding, Finished } state;
    void* stackPointer;
    int barrier;
    uint32_t mask;
    Combine combine;
    void* record;
    const char* what;
    Site site;
    std::array<std::vector<Deferred>, 2> queues; // by Queue
    std::array<unsigned, 2> groups;
};

class Worker
{
public:
    static constexpr unsigned MostThreads = 1024;
    static constexpr unsigned MostDynamicShared = 232448;

    Worker();
    ~Worker();
    // Takes blocks of the launch until none is left or one has failed.
    void run(Launch& launch);
    // The worker whose fiber runs on this thread of the system, or null.
    static Worker* running();
    // Called for a fault of the processor in a running fiber: notes the failure and returns the stack pointer from which
    // `fiber_restore` goes back to the worker.
    void* fault(Failure failure, const char* message);
    // For messages, what lies at an address that cannot be touched.
    std::string describe(const void* address) const;
    static const Services services;

private:
    struct Warp { uint32_t waiting, exited; };
    struct Barrier { std::vector<Fiber*> waiting; unsigned arrived; Site site; unsigned thread; };

    void run_block(uint64_t index);
    void run_fibers();
    static void fiber_main();
    void switch_to_worker();
    void start_thread(Fiber& fiber);
    void finish(Fiber& fiber);
    void wake(Fiber& fiber);
    void barrier(int id, unsigned threads, bool wait, Site site);
    void release_if_complete(Barrier& barrier, unsigned threads);
    void collective(uint32_t mask, Combine combine, void* record, const char* what, Site site);
    bool complete(unsigned warp, Fiber& leader);
    void defer(std::vector<Deferred>& queue, const Deferred& deferred, const void* data, unsigned bytes);
    template <typename Due> static bool flush(std::vector<Deferred>& queue, Due due);
    [[noreturn]] void fail(Failure failure, const std::string& message);
    std::string place(const Fiber* fiber) const;
    std::string waiting_threads() const;
    void order_threads(uint64_t block);
    uint64_t block_at(uint64_t position) const;

    Launch* launch = nullptr;
    Order order;
    Block block{};
    unsigned threads = 0, live = 0, started = 0;
    int idle = 0; // rounds in which threads only waited in loops
    Fiber* current = nullptr;
    Thread** slot = nullptr;
    std::vector<Fiber> fibers;
    std::vector<unsigned> sequence; // in which threads start and are woken
    std::vector<Fiber*> ready, yielded;
    std::vector<Deferred> keyed;
    size_t readyHead = 0;
    std::array<Warp, MostThreads / 32> warps;
    std::array<Barrier, 16> barriers;
    void* ownStackPointer = nullptr;
    unsigned char* stacks = nullptr;
    std::vector<unsigned> freeStacks;
    unsigned stackOfCurrent = 0;
    unsigned char* shared = nullptr; // the end of dynamic shared memory; the page behind it cannot be touched
};

}
