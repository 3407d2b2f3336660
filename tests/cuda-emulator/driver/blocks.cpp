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

constexpr size_t PageBytes = 4096, StackBytes = 128 * 1024;
constexpr size_t SharedRegion = (Worker::MostDynamicShared + PageBytes - 1) / PageBytes * PageBytes;
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

Worker::Worker() : order(Order::from_environment()), fibers(MostThreads)
{
    // One more page before each stack catches an overflow.
    size_t each = StackBytes + PageBytes;
    stacks = static_cast<unsigned char*>(mmap(nullptr, MostThreads * each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    auto region = static_cast<unsigned char*>(mmap(nullptr, SharedRegion + PageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (stacks == MAP_FAILED || region == MAP_FAILED) { std::perror("CUDA emulator: stacks of a block"); std::abort(); }
    for (unsigned i = 0; i < MostThreads; i++) mprotect(stacks + i * each, PageBytes, PROT_NONE);
    shared = region + SharedRegion;
    mprotect(shared, PageBytes, PROT_NONE);
}

Worker::~Worker()
{
    munmap(stacks, MostThreads * (StackBytes + PageBytes));
    munmap(shared - SharedRegion, SharedRegion + PageBytes);
}

Worker* Worker::running() { return onThisThread; }

void Worker::run(Launch& work)
{
    launch = &work;
    slot = launch->module->description->current();
    while (launch->failure == 0)
    {
        uint64_t position = launch->next++;
        if (position >= launch->blocks()) break;
        run_block(block_at(position));
    }
    *slot = nullptr;
}

// In random order, a step that has no factor in common with the number of blocks visits each of them once.
uint64_t Worker::block_at(uint64_t position) const
{
    uint64_t count = launch->blocks();
    if (order.kind == Order::Forward) return position;
    if (order.kind == Order::Reverse) return count - 1 - position;
    uint64_t step = mix(order.seed) % count | 1;
    while (std::gcd(step, count) != 1) step += 2;
    return (static_cast<unsigned __int128>(step) * position + mix(order.seed + 1)) % count;
}

void Worker::order_threads(uint64_t index)
{
    sequence.resize(threads);
    for (unsigned i = 0; i < threads; i++) sequence[i] = order.kind == Order::Reverse ? threads - 1 - i : i;
    if (order.kind == Order::Random)
        for (unsigned i = threads - 1; i > 0; i--) std::swap(sequence[i], sequence[mix(order.seed ^ index << 20 ^ i) % (i + 1)]);
}

void Worker::run_block(uint64_t index)
{
    const Index3 &grid = launch->grid, &size = launch->block;
    // The end of dynamic shared memory is as near to the untouchable page as an alignment to 128 bytes allows.
    unsigned sharedBytes = (launch->dynamicSharedBytes + 127) / 128 * 128;
    block = {{static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y), static_cast<unsigned>(index / grid.x / grid.y)},
        size, grid, shared - sharedBytes, launch->dynamicSharedBytes};
    std::memset(block.dynamicShared, Poison, sharedBytes);
    if (launch->module->sharedBytes > 0)
    {
        void* variables = nullptr;
        dlinfo(launch->module->handle, RTLD_DI_TLS_DATA, &variables);
        if (variables != nullptr) std::memset(variables, Poison, launch->module->sharedBytes);
    }

    threads = live = size.x * size.y * size.z;
    started = 0;
    ready.clear();
    yielded.clear();
    keyed.clear();
    readyHead = 0;
    freeStacks.clear();
    for (unsigned i = MostThreads; i-- > 0;) freeStacks.push_back(i);
    for (Barrier& barrier : barriers) { barrier.waiting.clear(); barrier.arrived = 0; }
    for (unsigned i = 0; i < warps.size(); i++)
    {
        // Lanes that the block does not have count as exited.
        unsigned lanes = i * 32 >= threads ? 0 : std::min(32u, threads - i * 32);
        warps[i] = {0, lanes == 32 ? 0 : ~0u << lanes};
    }
    for (unsigned i = 0; i < threads; i++)
    {
        Fiber& fiber = fibers[i];
        static_cast<Thread&>(fiber) = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, i, &block};
        fiber.state = Fiber::New;
        for (auto& queue : fiber.queues) queue.clear();
        fiber.groups = {};
    }
    order_threads(index);
    run_fibers();
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
            auto top = reinterpret_cast<void**>(stacks + (stackOfCurrent + 1) * (StackBytes + PageBytes));
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
    for (auto& queue : fiber.queues) flush(queue, [](const Deferred&) { return true; });
    idle = 0;
    fiber.state = Fiber::Finished;
    live--;
    unsigned warp = fiber.linear / 32;
    warps[warp].exited |= 1u << fiber.linear % 32;
    // Others may have waited for nothing but this thread.
    if (!barriers[0].waiting.empty()) release_if_complete(barriers[0], 0);
    if (uint32_t waiting = warps[warp].waiting)
        for (unsigned lane = 0; lane < 32; lane++)
            if (waiting >> lane & warps[warp].waiting >> lane & 1) complete(warp, fibers[warp * 32 + lane]);
}

void Worker::barrier(int id, unsigned count, bool wait, Site site)
{
    Fiber& fiber = *current;
    Barrier& barrier = barriers[static_cast<size_t>(id)];
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
    release_if_complete(barrier, count);
    // Released with the others: those before it in the order run first.
    if (wait) switch_to_worker();
}

void Worker::release_if_complete(Barrier& barrier, unsigned count)
{
    if (barrier.arrived < (count == 0 ? live : count)) return;
    barrier.arrived = 0;
    if (&barrier == &barriers[0] && barrier.waiting.size() == threads)
        for (unsigned i : sequence) wake(fibers[i]);
    else
    {
        if (order.kind != Order::Forward) std::reverse(barrier.waiting.begin(), barrier.waiting.end());
        for (Fiber* fiber : barrier.waiting) wake(*fiber);
    }
    barrier.waiting.clear();
}

void Worker::collective(uint32_t mask, Combine combine, void* record, const char* what, Site site)
{
    Fiber& fiber = *current;
    unsigned warp = fiber.linear / 32, lane = fiber.linear % 32;
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

void Worker::defer(std::vector<Deferred>& queue, const Deferred& deferred, const void* data, unsigned bytes)
{
    if (order.kind == Order::Reverse) return deferred.work(data);
    queue.push_back(deferred);
    std::memcpy(queue.back().data, data, bytes);
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
    std::string text = format("kernel %s <<<(%u,%u,%u), (%u,%u,%u), %u bytes>>> block (%u,%u,%u)", launch->kernel->name, block.grid.x, block.grid.y, block.grid.z,
        block.size.x, block.size.y, block.size.z, block.dynamicSharedBytes, block.index.x, block.index.y, block.index.z);
    if (fiber != nullptr) text += format(" thread (%u,%u,%u)", fiber->index.x, fiber->index.y, fiber->index.z);
    return text + ": ";
}

// Groups of threads that stand at the same place, each with its first few members.
std::string Worker::waiting_threads() const
{
    std::string text;
    std::vector<bool> named(threads);
    for (unsigned i = 0; i < threads; i++)
    {
        const Fiber& first = fibers[i];
        if (named[i]) continue;
        std::string members;
        unsigned count = 0;
        for (unsigned j = i; j < threads; j++)
        {
            const Fiber& other = fibers[j];
            bool together = other.state == first.state && (first.state == Fiber::Finished
                || (same(other.site, first.site) && (first.state != Fiber::InCollective || (other.mask == first.mask && j / 32 == i / 32))));
            if (!together) continue;
            named[j] = true;
            if (++count <= 4) members += format(count == 1 ? "%u" : ",%u", j);
        }
        if (count > 4) members += ",...";
        if (!text.empty()) text += "; ";
        text += format("%u thread%s (%s) ", count, count == 1 ? "" : "s", members.c_str());
        if (first.state == Fiber::Finished) text += "exited";
        else if (first.state == Fiber::AtBarrier) text += format("at barrier %d of %s:%d", first.barrier, first.site.file, first.site.line);
        else if (first.state == Fiber::InCollective) text += format("in %s of %s:%d with mask 0x%08x", first.what, first.site.file, first.site.line, first.mask);
        else text += format("in a loop of %s:%d", first.site.file, first.site.line);
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
    if (p >= shared && p < shared + PageBytes) return format(", past the %u bytes of dynamic shared memory", block.dynamicSharedBytes);
    if (p >= stacks && p < stacks + MostThreads * (StackBytes + PageBytes)) return ", a stack overflow (a thread of the emulator has 128 KiB)";
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
    [] { return ~onThisThread->warps[onThisThread->current->linear / 32].exited; },
    [](Site site)
    {
        Fiber& fiber = *onThisThread->current;
        fiber.state = Fiber::Yielding;
        fiber.site = site;
        onThisThread->yielded.push_back(&fiber);
        onThisThread->switch_to_worker();
    },
    [](Queue queue, void (*work)(const void*), const void* data, unsigned bytes)
    {
        Fiber& fiber = *onThisThread->current;
        auto index = static_cast<size_t>(queue);
        onThisThread->defer(fiber.queues[index], {work, {.group = fiber.groups[index]}, {}}, data, bytes);
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
