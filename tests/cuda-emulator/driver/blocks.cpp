#include "blocks.hpp"
#include "memory.hpp"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <numeric>
#include <sys/mman.h>

// void fiber_switch(void** save, void* to): keeps the registers that a called function must preserve on the stack that it leaves, and
// takes those of the stack that it enters. fiber_restore is its second half, for a fault handler.
asm(R"(
    .text
    .type fiber_switch, @function
fiber_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    .globl fiber_restore
    .hidden fiber_restore
fiber_restore:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
extern "C" void fiber_switch(void** save, void* to);

namespace emulated {

namespace {

// One more page before each stack catches an overflow.
constexpr size_t PageBytes = 4096, StackBytes = 128 * 1024, StackStride = StackBytes + PageBytes;
constexpr size_t SharedRegion = (Worker::MostDynamicShared + PageBytes - 1) / PageBytes * PageBytes, SharedStride = SharedRegion + PageBytes;
constexpr int Poison = 0xff;
constexpr int MostIdleRounds = 100'000;

thread_local Worker* onThisThread;

std::string format(const char* text, ...)
{
    char buffer[1000];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(buffer, sizeof(buffer), text, arguments);
    va_end(arguments);
    return buffer;
}

uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

std::string text_of(Index3 index) { return format("(%u,%u,%u)", index.x, index.y, index.z); }

}

void Launch::fail(int code, std::string text)
{
    std::lock_guard guard(lock);
    if (failure != 0) return;
    message = std::move(text);
    failure = code;
}

Order Order::from_environment()
{
    const char* text = std::getenv("FATHOM_EMULATOR_ORDER");
    if (text == nullptr || *text == 0 || std::strcmp(text, "forward") == 0) return {};
    if (std::strcmp(text, "reverse") == 0) return {Reverse, 0};
    if (std::strncmp(text, "random:", 7) == 0) return {Random, std::strtoull(text + 7, nullptr, 10)};
    std::fprintf(stderr, "CUDA emulator: FATHOM_EMULATOR_ORDER is '%s'; it can be forward, reverse or random:SEED\n", text);
    std::abort();
}

Worker::Worker() : order(Order::from_environment()), fibers(MostFibers)
{
    auto reserve = [](size_t bytes) { return static_cast<unsigned char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)); };
    stacks = reserve(MostFibers * StackStride);
    shared = reserve(MostBlocks * SharedStride);
    if (stacks == MAP_FAILED || shared == MAP_FAILED) { std::perror("CUDA emulator: stacks of a cluster"); std::abort(); }
    for (unsigned i = 0; i < MostBlocks; i++) mprotect(shared + i * SharedStride + SharedRegion, PageBytes, PROT_NONE);
}

Worker::~Worker()
{
    munmap(stacks, MostFibers * StackStride);
    munmap(shared, MostBlocks * SharedStride);
}

Worker* Worker::running() { return onThisThread; }

void Worker::run(Launch& work)
{
    launch = &work;
    slot = launch->module->description->current();
    while (launch->failure == 0)
    {
        uint64_t position = launch->next++;
        if (position >= launch->clusters()) break;
        run_cluster(cluster_at(position));
    }
    *slot = nullptr;
}

// In random order, a step that has no factor in common with the number of clusters visits each of them once.
uint64_t Worker::cluster_at(uint64_t position) const
{
    uint64_t count = launch->clusters();
    if (order.kind == Order::Forward) return position;
    if (order.kind == Order::Reverse) return count - 1 - position;
    uint64_t step = mix(order.seed) % count | 1;
    while (std::gcd(step, count) != 1) step += 2;
    return (static_cast<unsigned __int128>(step) * position + mix(order.seed + 1)) % count;
}

void Worker::order_threads(uint64_t index)
{
    sequence.clear();
    unsigned ofBlock = threads / launch->cluster, stride = fibers_of(launch->block);
    for (unsigned rank = 0; rank < launch->cluster; rank++)
        for (unsigned i = 0; i < ofBlock; i++) sequence.push_back(rank * stride + i);
    if (order.kind == Order::Reverse) std::reverse(sequence.begin(), sequence.end());
    if (order.kind == Order::Random)
        for (unsigned i = threads - 1; i > 0; i--) std::swap(sequence[i], sequence[mix(order.seed ^ index << 20 ^ i) % (i + 1)]);
}

void Worker::run_cluster(uint64_t index)
{
    variables = nullptr;
    if (launch->module->sharedBytes > 0) dlinfo(launch->module->handle, RTLD_DI_TLS_DATA, &variables);
    if (variables != nullptr) std::memset(variables, Poison, launch->module->sharedBytes);

    threads = live = launch->cluster * launch->block.x * launch->block.y * launch->block.z;
    started = 0;
    ready.clear();
    yielded.clear();
    keyed.clear();
    readyHead = 0;
    freeStacks.clear();
    for (unsigned i = threads; i-- > 0;) freeStacks.push_back(i);
    for (; guardedStacks < threads; guardedStacks++) mprotect(stacks + guardedStacks * StackStride, PageBytes, PROT_NONE);
    together.waiting.clear();
    together.arrived = 0;
    for (unsigned rank = 0; rank < launch->cluster; rank++) begin_block(rank, index * launch->cluster + rank);
    order_threads(index);
    run_fibers();
}

void Worker::begin_block(unsigned rank, uint64_t index)
{
    const Index3 &grid = launch->grid, &size = launch->block;
    RunningBlock& block = blocks[rank];
    // The end of dynamic shared memory is as near to the untouchable page as an alignment to 128 bytes allows.
    unsigned sharedBytes = (launch->dynamicSharedBytes + 127) / 128 * 128;
    static_cast<Block&>(block) = {{static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y), static_cast<unsigned>(index / grid.x / grid.y)},
        size, grid, shared + rank * SharedStride + SharedRegion - sharedBytes, launch->dynamicSharedBytes, rank,
        static_cast<unsigned char*>(variables), variables == nullptr ? 0 : launch->module->sharedBytes};
    std::memset(block.dynamicShared, Poison, sharedBytes);
    for (Barrier& barrier : block.barriers) { barrier.waiting.clear(); barrier.arrived = 0; }
    block.live = size.x * size.y * size.z;
    unsigned first = rank * fibers_of(size);
    for (unsigned i = 0; i < block.live; i += 32)
    {
        // Lanes that the block does not have count as exited.
        unsigned lanes = std::min(32u, block.live - i);
        warps[(first + i) / 32] = {0, lanes == 32 ? 0 : ~0u << lanes};
    }
    for (unsigned i = 0; i < block.live; i++)
    {
        Fiber& fiber = fibers[first + i];
        static_cast<Thread&>(fiber) = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, i, &block};
        fiber.state = Fiber::New;
        fiber.warp = (first + i) / 32;
        for (auto& queue : fiber.queues) queue.clear();
        fiber.groups = {};
    }
}

void Worker::run_fibers()
{
    onThisThread = this;
    idle = 0;
    while (launch->failure == 0)
    {
        if (readyHead < ready.size())
        {
            current = ready[readyHead++];
            if (readyHead == ready.size()) { ready.clear(); readyHead = 0; }
            *slot = current;
            current->state = Fiber::Ready;
            fiber_switch(&ownStackPointer, current->stackPointer);
        }
        else if (started < threads)
        {
            stackOfCurrent = freeStacks.back();
            freeStacks.pop_back();
            auto top = reinterpret_cast<void**>(stacks + (stackOfCurrent + 1) * StackStride);
            // What fiber_switch takes from a stack: six registers and the address to return to; above it, where a caller would be.
            *--top = nullptr;
            *--top = reinterpret_cast<void*>(&Worker::fiber_main);
            for (int i = 0; i < 6; i++) *--top = nullptr;
            fiber_switch(&ownStackPointer, top);
        }
        else if (!yielded.empty())
        {
            // Threads that wait in a loop and nobody else: after many rounds nothing will come.
            if (++idle > MostIdleRounds)
            {
                current = nullptr;
                launch->fail(static_cast<int>(Failure::LaunchFailed), place(nullptr) + "threads wait in a loop for what never comes: " + waiting_threads());
                break;
            }
            std::swap(ready, yielded);
            readyHead = 0;
            continue;
        }
        else
        {
            if (live > 0)
            {
                current = nullptr;
                launch->fail(static_cast<int>(Failure::LaunchFailed), place(nullptr) + "deadlock: " + waiting_threads());
            }
            else if (!keyed.empty()) launch->fail(static_cast<int>(Failure::LaunchFailed), place(nullptr) + "copies are under way that nobody waited for");
            break;
        }
    }
    onThisThread = nullptr;
}

// One stack runs threads that have not started, one after another, until one of them has to wait.
void Worker::fiber_main()
{
    Worker& worker = *onThisThread;
    unsigned stack = worker.stackOfCurrent;
    do
    {
        Fiber& fiber = worker.fibers[worker.sequence[worker.started++]];
        worker.current = &fiber;
        *worker.slot = &fiber;
        fiber.state = Fiber::Ready;
        worker.launch->kernel->run(worker.launch->parameters);
        worker.finish(fiber);
    }
    while (worker.launch->failure == 0 && worker.readyHead == worker.ready.size() && worker.started < worker.threads);
    worker.freeStacks.push_back(stack);
    void* left;
    fiber_switch(&left, worker.ownStackPointer);
}

void Worker::switch_to_worker() { fiber_switch(&current->stackPointer, ownStackPointer); }

void Worker::wake(Fiber& fiber)
{
    fiber.state = Fiber::Ready;
    idle = 0;
    ready.push_back(&fiber);
}

void Worker::finish(Fiber& fiber)
{
    // A block must not exit before they have read its shared memory, and nobody but the thread itself can wait for them.
    if (!fiber.queues[static_cast<size_t>(Queue::Stores)].empty()) fail(Failure::LaunchFailed, "the thread exits while stores are under way that nobody waited for");
    for (auto& queue : fiber.queues) flush(queue, [](const Deferred&) { return true; });
    idle = 0;
    fiber.state = Fiber::Finished;
    RunningBlock& block = block_of(fiber);
    live--;
    block.live--;
    unsigned warp = fiber.warp;
    warps[warp].exited |= 1u << fiber.linear % 32;
    // Others may have waited for nothing but this thread.
    if (!block.barriers[0].waiting.empty()) release_if_complete(block.barriers[0], block.live);
    if (!together.waiting.empty()) release_if_complete(together, live);
    if (uint32_t waiting = warps[warp].waiting)
        for (unsigned lane = 0; lane < 32; lane++)
            if (waiting >> lane & warps[warp].waiting >> lane & 1) complete(warp, fibers[warp * 32 + lane]);
}

void Worker::barrier(int id, unsigned count, bool wait, Site site)
{
    Fiber& fiber = *current;
    RunningBlock& block = block_of(fiber);
    Barrier& barrier = id == ClusterBarrier ? together : block.barriers[static_cast<size_t>(id)];
    if (barrier.arrived == 0) { barrier.site = site; barrier.thread = fiber.linear; }
    else if (id == 0 && !same(barrier.site, site))
        fail(Failure::LaunchFailed, format("__syncthreads() of %s:%d meets that of %s:%d, where thread %u waits: not all threads of the block take the same way",
            site.file, site.line, barrier.site.file, barrier.site.line, barrier.thread));
    barrier.arrived++;
    if (wait)
    {
        fiber.state = Fiber::AtBarrier;
        fiber.barrier = id;
        fiber.site = site;
        barrier.waiting.push_back(&fiber);
    }
    release_if_complete(barrier, count != 0 ? count : id == ClusterBarrier ? live : block.live);
    // Released with the others: those before it in the order run first.
    if (wait) switch_to_worker();
}

void Worker::release_if_complete(Barrier& barrier, unsigned count)
{
    if (barrier.arrived < count) return;
    barrier.arrived = 0;
    if (barrier.waiting.size() == threads)
        for (unsigned i : sequence) wake(fibers[i]);
    else
    {
        if (order.kind != Order::Forward) std::reverse(barrier.waiting.begin(), barrier.waiting.end());
        for (Fiber* fiber : barrier.waiting) wake(*fiber);
    }
    barrier.waiting.clear();
}

void* Worker::in_block(void* address, unsigned rank, const char* what)
{
    const RunningBlock& own = block_of(*current);
    if (rank == own.rank) return address;
    if (rank >= launch->cluster) fail(Failure::LaunchFailed, format("%s names block %u of a cluster of %u", what, rank, launch->cluster));
    ptrdiff_t offset = static_cast<unsigned char*>(address) - own.dynamicShared;
    if (offset < 0 || offset >= static_cast<ptrdiff_t>(own.dynamicSharedBytes)) fail(Failure::IllegalAddress, format("%s: %p is not in dynamic shared memory", what, address));
    const RunningBlock& other = blocks[rank];
    if (other.live == 0) fail(Failure::LaunchFailed, format("%s reaches into block %s of its cluster, whose threads have all exited", what, text_of(other.index).c_str()));
    return other.dynamicShared + offset;
}

void Worker::collective(uint32_t mask, Combine combine, void* record, const char* what, Site site)
{
    Fiber& fiber = *current;
    unsigned warp = fiber.warp, lane = fiber.linear % 32;
    if (!(mask >> lane & 1)) fail(Failure::LaunchFailed, format("%s of %s:%d: mask 0x%08x has no bit for lane %u, which calls", what, site.file, site.line, mask, lane));
    fiber.mask = mask;
    fiber.combine = combine;
    fiber.record = record;
    fiber.what = what;
    fiber.site = site;
    fiber.state = Fiber::InCollective;
    warps[warp].waiting |= 1u << lane;
    if (complete(warp, fiber))
    {
        fiber.state = Fiber::Ready;
        return;
    }
    switch_to_worker();
}

// If all lanes that `leader` waits for have arrived, makes their results and wakes all but the running one.
bool Worker::complete(unsigned warp, Fiber& leader)
{
    Warp& state = warps[warp];
    uint32_t lanes = leader.mask & ~state.exited;
    if ((state.waiting & lanes) != lanes) return false;
    void* records[32] = {};
    for (unsigned lane = 0; lane < 32; lane++)
    {
        if (!(lanes >> lane & 1)) continue;
        const Fiber& other = fibers[warp * 32 + lane];
        if (other.mask != leader.mask || other.combine != leader.combine)
            fail(Failure::LaunchFailed, format("lane %u is in %s (mask 0x%08x, %s:%d) while lane %u is in %s (mask 0x%08x, %s:%d)", leader.linear % 32, leader.what,
                leader.mask, leader.site.file, leader.site.line, lane, other.what, other.mask, other.site.file, other.site.line));
        records[lane] = other.record;
    }
    leader.combine(records, lanes);
    state.waiting &= ~lanes;
    for (unsigned i = 0; i < 32; i++)
    {
        unsigned lane = order.kind == Order::Forward ? i : 31 - i;
        if (lanes >> lane & 1 && &fibers[warp * 32 + lane] != current) wake(fibers[warp * 32 + lane]);
    }
    return true;
}

// False if it was done at once.
bool Worker::defer(std::vector<Deferred>& queue, const Deferred& deferred, const void* data, unsigned bytes)
{
    if (order.kind == Order::Reverse) { deferred.work(data); return false; }
    queue.push_back(deferred);
    std::memcpy(queue.back().data, data, bytes);
    return true;
}

// Does what is due, in order; false if nothing was.
template <typename Due> bool Worker::flush(std::vector<Deferred>& queue, Due due)
{
    size_t kept = 0;
    for (size_t i = 0; i < queue.size(); i++)
    {
        if (due(queue[i])) queue[i].work(queue[i].data);
        else if (kept++ != i) queue[kept - 1] = queue[i];
    }
    bool any = kept < queue.size();
    queue.resize(kept);
    return any;
}

std::string Worker::place(const Fiber* fiber) const
{
    std::string text = "kernel " + std::string(launch->kernel->name) + " <<<" + text_of(launch->grid) + ", " + text_of(launch->block) + format(", %u bytes", launch->dynamicSharedBytes);
    if (launch->cluster > 1) text += format(", clusters of %u", launch->cluster);
    if (fiber != nullptr) return text + ">>> block " + text_of(fiber->block->index) + " thread " + text_of(fiber->index) + ": ";
    text += (launch->cluster > 1 ? ">>> blocks " : ">>> block ") + text_of(blocks[0].index);
    if (launch->cluster > 1) text += " to " + text_of(blocks[launch->cluster - 1].index);
    return text + ": ";
}

// Groups of threads that stand at the same place, each with its first few members.
std::string Worker::waiting_threads() const
{
    std::string text;
    unsigned ofBlock = threads / launch->cluster;
    for (unsigned rank = 0; rank < launch->cluster; rank++)
    {
        const Fiber* members = &fibers[rank * fibers_of(launch->block)];
        if (rank > 0) text += "; ";
        if (launch->cluster > 1) text += "block " + text_of(blocks[rank].index) + ": ";
        std::vector<bool> named(ofBlock);
        for (unsigned i = 0; i < ofBlock; i++)
        {
            const Fiber& first = members[i];
            if (named[i]) continue;
            std::string some;
            unsigned count = 0;
            for (unsigned j = i; j < ofBlock; j++)
            {
                const Fiber& other = members[j];
                bool together = other.state == first.state && (first.state == Fiber::Finished
                    || (same(other.site, first.site) && (first.state != Fiber::InCollective || (other.mask == first.mask && j / 32 == i / 32))));
                if (!together) continue;
                named[j] = true;
                if (++count <= 4) some += format(count == 1 ? "%u" : ",%u", j);
            }
            if (count > 4) some += ",...";
            if (i > 0) text += "; ";
            text += format("%u thread%s (%s) ", count, count == 1 ? "" : "s", some.c_str());
            if (first.state == Fiber::Finished) text += "exited";
            else if (first.state == Fiber::AtBarrier && first.barrier == ClusterBarrier) text += format("at the barrier of the cluster of %s:%d", first.site.file, first.site.line);
            else if (first.state == Fiber::AtBarrier) text += format("at barrier %d of %s:%d", first.barrier, first.site.file, first.site.line);
            else if (first.state == Fiber::InCollective) text += format("in %s of %s:%d with mask 0x%08x", first.what, first.site.file, first.site.line, first.mask);
            else text += format("in a loop of %s:%d", first.site.file, first.site.line);
        }
    }
    return text;
}

void Worker::fail(Failure failure, const std::string& message)
{
    launch->fail(static_cast<int>(failure), place(current) + message);
    void* left;
    fiber_switch(&left, ownStackPointer); // The block is given up: nobody comes back.
    std::abort();
}

std::string Worker::describe(const void* address) const
{
    auto p = static_cast<const unsigned char*>(address);
    if (p >= shared && p < shared + MostBlocks * SharedStride && static_cast<size_t>(p - shared) % SharedStride >= SharedRegion)
        return format(", past the %u bytes of dynamic shared memory", launch->dynamicSharedBytes);
    if (p >= stacks && p < stacks + MostFibers * StackStride) return ", a stack overflow (a thread of the emulator has 128 KiB)";
    return describe_address(address);
}

void* Worker::fault(Failure failure, const char* message)
{
    launch->fail(static_cast<int>(failure), place(current) + message);
    return ownStackPointer;
}

const Services Worker::services = {
    [](int id, unsigned count, bool wait, Site site) { onThisThread->barrier(id, count, wait, site); },
    [](uint32_t mask, Combine combine, void* record, const char* what, Site site) { onThisThread->collective(mask, combine, record, what, site); },
    [] { return ~onThisThread->warps[onThisThread->current->warp].exited; },
    [](Site site)
    {
        Fiber& fiber = *onThisThread->current;
        fiber.state = Fiber::Yielding;
        fiber.site = site;
        onThisThread->yielded.push_back(&fiber);
        onThisThread->switch_to_worker();
    },
    [](void* address, uint32_t rank, const char* what) { return onThisThread->in_block(address, rank, what); },
    [](Queue queue, void (*work)(const void*), const void* data, unsigned bytes)
    {
        Fiber& fiber = *onThisThread->current;
        auto index = static_cast<size_t>(queue);
        bool later = onThisThread->defer(fiber.queues[index], {work, {.group = fiber.groups[index]}, {}}, data, bytes);
        // Stores that were done at once must be waited for all the same.
        if (!later && queue == Queue::Stores) fiber.queues[index].push_back({[](const void*) { }, {.group = fiber.groups[index]}, {}});
    },
    [](Queue queue) { onThisThread->current->groups[static_cast<size_t>(queue)]++; },
    [](Thread* thread, Queue queue, unsigned pending)
    {
        auto& fiber = static_cast<Fiber&>(*thread);
        auto index = static_cast<size_t>(queue);
        flush(fiber.queues[index], [last = fiber.groups[index], pending](const Deferred& d) { return d.group + pending < last; });
    },
    [](const void* key, void (*work)(const void*), const void* data, unsigned bytes) { onThisThread->defer(onThisThread->keyed, {work, {.key = key}, {}}, data, bytes); },
    [](const void* key) { return flush(onThisThread->keyed, [key](const Deferred& d) { return d.key == key; }); },
    [](Failure failure, const char* message) { onThisThread->fail(failure, message); },
};

}
