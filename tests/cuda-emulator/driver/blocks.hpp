// Runs the blocks of one launch on one thread of the system, a cluster at a time; without clusters each block is one of its own. The
// threads of a cluster are fibers: each runs until it meets a barrier or a collective that others have not reached, so a kernel without
// them never switches. A run is deterministic; FATHOM_EMULATOR_ORDER changes the order in which threads and clusters run (forward,
// reverse, random:SEED), which is how a missing barrier shows.
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
    size_t sharedBytes; // its thread-local storage: the __shared__ variables of one thread of the system, and the running thread

    bool shares_variables() const { return sharedBytes > sizeof(Thread*); }
};

struct Launch
{
    const Kernel* kernel;
    const LoadedModule* module;
    Index3 grid, block;
    unsigned dynamicSharedBytes, cluster; // cluster: blocks of one, along x
    void** parameters;

    std::atomic<uint64_t> next{0}; // cluster
    std::mutex lock;
    std::atomic<int> failure{0};
    std::string message;

    uint64_t clusters() const { return static_cast<uint64_t>(grid.x / cluster) * grid.y * grid.z; }
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
    unsigned warp; // of the cluster
    int barrier;
    uint32_t mask;
    Combine combine;
    void* record;
    const char* what;
    Site site;
    std::array<std::vector<Deferred>, Queues> queues; // by Queue
    std::array<unsigned, Queues> groups;
};

class Worker
{
public:
    static constexpr unsigned MostThreads = 1024; // of a block
    static constexpr unsigned MostBlocks = 8; // of a cluster
    static constexpr unsigned MostFibers = 2048; // of a cluster, each block having whole warps of them
    static constexpr unsigned MostDynamicShared = 232448;

    Worker();
    ~Worker();
    // The fibers that a block takes: a warp is never of two blocks.
    static unsigned fibers_of(Index3 block) { return (block.x * block.y * block.z + 31) / 32 * 32; }
    // Takes clusters of the launch until none is left or one has failed.
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
    struct RunningBlock : Block { std::array<Barrier, 16> barriers; unsigned live; };

    void run_cluster(uint64_t index);
    void begin_block(unsigned rank, uint64_t index);
    void run_fibers();
    static void fiber_main();
    void switch_to_worker();
    void start_thread(Fiber& fiber);
    void finish(Fiber& fiber);
    void wake(Fiber& fiber);
    void barrier(int id, unsigned threads, bool wait, Site site);
    void release_if_complete(Barrier& barrier, unsigned threads);
    void* in_block(void* address, unsigned rank, const char* what);
    void collective(uint32_t mask, Combine combine, void* record, const char* what, Site site);
    bool complete(unsigned warp, Fiber& leader);
    bool defer(std::vector<Deferred>& queue, const Deferred& deferred, const void* data, unsigned bytes);
    template <typename Due> static bool flush(std::vector<Deferred>& queue, Due due);
    [[noreturn]] void fail(Failure failure, const std::string& message);
    std::string place(const Fiber* fiber) const;
    std::string waiting_threads() const;
    void order_threads(uint64_t cluster);
    uint64_t cluster_at(uint64_t position) const;
    static RunningBlock& block_of(const Fiber& fiber) { return static_cast<RunningBlock&>(*fiber.block); }

    Launch* launch = nullptr;
    Order order;
    std::array<RunningBlock, MostBlocks> blocks{}; // those of the cluster come first
    unsigned threads = 0, live = 0, started = 0; // of the cluster
    int idle = 0; // rounds in which threads only waited in loops
    Fiber* current = nullptr;
    Thread** slot = nullptr;
    void* variables = nullptr; // the __shared__ variables of the module on this thread
    std::vector<Fiber> fibers;
    std::vector<unsigned> sequence; // in which threads start and are woken
    std::vector<Fiber*> ready, yielded;
    std::vector<Deferred> keyed;
    size_t readyHead = 0;
    std::array<Warp, MostFibers / 32> warps;
    Barrier together{}; // of the cluster
    void* ownStackPointer = nullptr;
    unsigned char* stacks = nullptr;
    std::vector<unsigned> freeStacks;
    unsigned stackOfCurrent = 0, guardedStacks = 0;
    unsigned char* shared = nullptr; // the regions of the blocks' dynamic shared memory; the page behind each cannot be touched
};

}
