// Stands in for src/Fathom.Compute/Cuda/Kernels/hopper.cuh: the same functions, each doing in C++ what its instruction does. What is
// asynchronous on the chip happens here as late as the program allows, or (every third copy) at once: tiles arrive when somebody polls
// their barrier, products are computed when they are waited for. A wait that is missing, or a stage given back too early, so shows in
// the sums. Addresses are swizzled as the chip does it: bits 4 to 6 of a place in shared memory change with its bits 7 to 9.
#pragma once
#include "ptx.cuh"
#include "tensormap.hpp"
#include <atomic>
#include <vector>

namespace hopper {

struct __align__(64) TensorMap { uint8_t opaque[128]; };

namespace detail {

inline unsigned char* swizzle(unsigned char* place)
{
    uint32_t address = ptx::shared_address(place);
    return place - address + (address ^ (address >> 7 & 7) << 4);
}

}

// Where an operand of a product lies in shared memory.
struct Operand
{
    unsigned char* start;
    int blockBytes; // across the sum: from 64 rows to the next; along it: 0

    Operand plus(int bytes) const { return {start + bytes, blockBytes}; }

    // Where element (row, step) lies, row of A or column of B.
    const unsigned char* at(int row, int step, int elementBytes) const
    {
        return detail::swizzle(blockBytes == 0
            ? start + row / 8 * 1024 + row % 8 * 128 + step * elementBytes
            : start + row / 64 * blockBytes + row % 64 * elementBytes + step / 8 * 1024 + step % 8 * 128);
    }
};

// ---- Barriers in shared memory ----

struct Barrier { uint64_t state; };

namespace detail {

// The state of a barrier: what the current phase still waits for. Threads of a block run in turns, so nothing is atomic.
struct Phase
{
    uint32_t parity : 1, arrivals : 15, pending : 16;
    int32_t bytes;
};
static_assert(sizeof(Phase) == sizeof(Barrier));

struct TileCopy
{
    unsigned char* to;
    emulated::TensorMap map;
    Phase* barrier;
    int64_t at[3];
};

struct WarpgroupProduct
{
    float* d;
    Operand a, b;
    int columns, depth, elementBytes, batch;
    bool add;

    float value(const Operand& operand, int row, int step) const
    {
        const unsigned char* place = operand.at(row, step, elementBytes);
        if (elementBytes == 1) return ptx::detail::e4m3_value(*place);
        uint16_t bits;
        std::memcpy(&bits, place, 2);
        return ptx::detail::bf16_value(bits);
    }
};

// What a thread has asked for and not yet waited for.
struct Products
{
    std::vector<WarpgroupProduct> asked;
    int batch = 0;
};

// What is under way in a block. Thread-local variables are the block's shared memory here, so it is found by the block instead, which each
// thread of the system has one of.
struct UnderWay
{
    const emulated::Block* block;
    UnderWay* next;
    std::vector<TileCopy> copies;
    unsigned copyCount;
    Products products[1024];
    float a[16][32], b[256][32]; // operands of the product that is computed
};

inline std::atomic<UnderWay*> allUnderWay;

inline UnderWay& under_way()
{
    const emulated::Block* block = emulated::current->block;
    for (UnderWay* one = allUnderWay; one != nullptr; one = one->next)
        if (one->block == block) return *one;
    auto made = new UnderWay{};
    made->block = block;
    made->next = allUnderWay;
    while (!allUnderWay.compare_exchange_weak(made->next, made)) { }
    return *made;
}

inline Phase* phase(Barrier* barrier) { return reinterpret_cast<Phase*>(barrier); }

inline void settle(Phase* phase)
{
    if (phase->pending != 0 || phase->bytes != 0) return;
    phase->parity ^= 1;
    phase->pending = phase->arrivals;
}

inline void arrive(Phase* phase)
{
    if (phase->pending == 0) emulated::services->fail(emulated::Failure::LaunchFailed, "more threads arrive at a barrier in shared memory than it was made for");
    phase->pending--;
    settle(phase);
}

inline void make(const TileCopy& copy)
{
    const emulated::TensorMap& map = copy.map;
    uint32_t pieceBytes = 16 < map.box[0] * map.elementBytes ? 16 : map.box[0] * map.elementBytes, pieces = map.box[0] * map.elementBytes / pieceBytes;
    for (uint32_t row = 0; row < map.box[1]; row++)
    {
        for (uint32_t piece = 0; piece < pieces; piece++)
        {
            unsigned char* to = copy.to + row * pieces * pieceBytes + piece * pieceBytes;
            if (map.swizzled) to = swizzle(to);
            for (uint32_t i = 0; i < pieceBytes; i += map.elementBytes)
            {
                int64_t x = copy.at[0] + (piece * pieceBytes + i) / map.elementBytes, y = copy.at[1] + row, z = copy.at[2];
                bool inside = x >= 0 && y >= 0 && z >= 0 && x < static_cast<int64_t>(map.sizes[0]) && y < static_cast<int64_t>(map.sizes[1]) && z < static_cast<int64_t>(map.sizes[2]);
                if (inside) std::memcpy(to + i, map.address + z * map.strides[1] + y * map.strides[0] + x * map.elementBytes, map.elementBytes);
                else std::memset(to + i, 0, map.elementBytes);
            }
        }
    }

    copy.barrier->bytes -= static_cast<int32_t>(map.box[0] * map.box[1] * map.elementBytes);
    settle(copy.barrier);
}

inline void load(void* shared, const TensorMap* opaque, Barrier* barrier, uint32_t rank, int x, int y, int z)
{
    TileCopy copy{static_cast<unsigned char*>(shared), {}, phase(barrier), {x, y, z}};
    std::memcpy(&copy.map, opaque, sizeof(copy.map));
    if (copy.map.mark != emulated::TensorMap::Mark) emulated::services->fail(emulated::Failure::IllegalAddress, "load_tile: this is no tensor map");
    if (copy.map.rank != rank) emulated::services->fail(emulated::Failure::IllegalAddress, "load_tile: the map has another number of dimensions");
    if (ptx::shared_address(shared) % (copy.map.swizzled ? 1024 : 128) != 0) emulated::services->fail(emulated::Failure::MisalignedAddress, "load_tile: the tile does not begin at a multiple of 1024 (swizzled) or 128 bytes");
    if (reinterpret_cast<uintptr_t>(opaque) % 64 != 0) emulated::services->fail(emulated::Failure::MisalignedAddress, "load_tile: the map does not lie at a multiple of 64 bytes");
    if (++under_way().copyCount % 3 == 0) make(copy);
    else under_way().copies.push_back(copy);
}

}

inline void barrier_make(Barrier* barrier, uint32_t arrivals)
{
    detail::Phase* phase = detail::phase(barrier);
    *phase = {0, arrivals, arrivals, 0};
    // Copies of a block that failed before.
    std::erase_if(detail::under_way().copies, [phase](const detail::TileCopy& copy) { return copy.barrier == phase; });
}

inline void barriers_made() { }

inline void barrier_arrive(Barrier* barrier) { detail::arrive(detail::phase(barrier)); }

inline void barrier_arrive_expecting(Barrier* barrier, uint32_t bytes)
{
    detail::phase(barrier)->bytes += static_cast<int32_t>(bytes);
    detail::arrive(detail::phase(barrier));
}

inline bool barrier_poll(Barrier* barrier, uint32_t parity, EMULATED_SITE)
{
    detail::Phase* phase = detail::phase(barrier);
    if (phase->parity != parity) return true;
    auto& copies = detail::under_way().copies;
    for (size_t i = 0; i < copies.size();)
    {
        if (copies[i].barrier != phase) { i++; continue; }
        detail::make(copies[i]);
        copies.erase(copies.begin() + static_cast<ptrdiff_t>(i));
    }

    if (phase->parity != parity) return true;
    emulated::services->yield({file, line});
    return phase->parity != parity;
}

inline void barrier_wait(Barrier* barrier, uint32_t parity, EMULATED_SITE)
{
    while (!barrier_poll(barrier, parity, file, line)) { }
}

// Time stands still: the emulator itself notices threads that wait for nothing.
inline uint64_t nanoseconds() { return 0; }

// ---- Tiles between global and shared memory ----

inline void prefetch(const TensorMap*) { }
inline void load_tile(void* shared, const TensorMap* map, Barrier* barrier, int x, int y) { detail::load(shared, map, barrier, 2, x, y, 0); }
inline void load_tile(void* shared, const TensorMap* map, Barrier* barrier, int x, int y, int z) { detail::load(shared, map, barrier, 3, x, y, z); }
inline void fence_async() { }

// ---- Threads ----

inline void sync_some(int barrier, int threads, EMULATED_SITE) { emulated::services->barrier(barrier, static_cast<unsigned>(threads), true, {file, line}); }
template <int Registers> inline void take_registers() { }
template <int Registers> inline void give_registers() { }

// ---- Products of a warpgroup ----

inline Operand along_sum(const void* shared) { return {static_cast<unsigned char*>(const_cast<void*>(shared)), 0}; }
inline Operand across_sum(const void* shared, int blockBytes) { return {static_cast<unsigned char*>(const_cast<void*>(shared)), blockBytes}; }

namespace detail {

inline Products& own() { return under_way().products[emulated::current->linear]; }

// A warp has rows 16 w to 16 w + 15 of the 64, w its place among four.
inline void compute(const WarpgroupProduct* const (&lanes)[32], int warp)
{
    const WarpgroupProduct& first = *lanes[0];
    auto& a = under_way().a;
    auto& b = under_way().b;
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < first.depth; k++) a[row][k] = first.value(first.a, 16 * warp + row, k);
    for (int column = 0; column < first.columns; column++)
        for (int k = 0; k < first.depth; k++) b[column][k] = first.value(first.b, column, k);
    for (int lane = 0; lane < 32; lane++)
    {
        float* d = lanes[lane]->d;
        for (int i = 0; i < first.columns / 2; i++)
        {
            int row = lane / 4 + 8 * (i / 2 % 2), column = i / 4 * 8 + 2 * (lane % 4) + i % 2;
            float sum = first.add ? d[i] : 0;
            for (int k = 0; k < first.depth; k++) sum += a[row][k] * b[column][k];
            d[i] = sum;
        }
    }
}

struct WaitForProducts { Products* products; int pending, warp; };

inline void wait(int pending, const char* file, int line)
{
    WaitForProducts record{&own(), pending, static_cast<int>(emulated::current->linear / 32 % 4)};
    emulated::collective(0xffffffffu, record, [](WaitForProducts* const* lanes, uint32_t present)
    {
        ptx::detail::require_all(present, "wait_products");
        size_t count = lanes[0]->products->asked.size(), done = 0;
        for (int lane = 1; lane < 32; lane++)
            if (lanes[lane]->products->asked.size() != count) emulated::services->fail(emulated::Failure::LaunchFailed, "lanes of a warp asked for different products");
        for (; done < count && lanes[0]->products->asked[done].batch < lanes[0]->products->batch - lanes[0]->pending; done++)
        {
            const WarpgroupProduct* same[32];
            for (int lane = 0; lane < 32; lane++)
            {
                same[lane] = &lanes[lane]->products->asked[done];
                if (same[lane]->a.start != same[0]->a.start || same[lane]->b.start != same[0]->b.start || same[lane]->add != same[0]->add)
                    emulated::services->fail(emulated::Failure::LaunchFailed, "lanes of a warp name different operands");
            }

            compute(same, lanes[0]->warp);
        }

        for (int lane = 0; lane < 32; lane++)
        {
            auto& asked = lanes[lane]->products->asked;
            asked.erase(asked.begin(), asked.begin() + static_cast<ptrdiff_t>(done));
        }
    }, "wait_products", {file, line});
}

}

inline void begin_products() { }
inline void commit_products() { detail::own().batch++; }

template <int Pending> inline void wait_products(EMULATED_SITE) { detail::wait(Pending, file, line); }

template <int Count> inline void finish_products(float (&)[Count], EMULATED_SITE)
{
    detail::wait(0, file, line);
    detail::own().batch = 0;
}

template <int Count> inline void multiply_e4m3(float (&d)[Count], Operand a, Operand b, bool add)
{
    detail::own().asked.push_back({d, a, b, 2 * Count, 32, 1, detail::own().batch, add});
}

template <bool AcrossA, bool AcrossB, int Count> inline void multiply_bf16(float (&d)[Count], Operand a, Operand b, bool add)
{
    if ((a.blockBytes != 0) != AcrossA || (b.blockBytes != 0) != AcrossB)
        emulated::services->fail(emulated::Failure::LaunchFailed, "multiply_bf16: an operand lies the other way");
    detail::own().asked.push_back({d, a, b, 2 * Count, 16, 2, detail::own().batch, add});
}

}
