// Stands in for src/Fathom.Compute/Cuda/Kernels/hopper.cuh: barriers that count bytes, the copy engine for tiles, and products of
// warpgroups, in C++. Signatures must stay the same in both files. Sections are those of the PTX ISA.
#pragma once
#include "ptx.cuh"

namespace hopper {

struct __align__(64) TensorMap { uint8_t opaque[128]; };

// ---- Barriers in shared memory (9.7.13.15 mbarrier) ----

struct Barrier { uint64_t state; };

namespace detail {

// A barrier's 64 bits: how many arrive in a phase, how many have yet to, the bytes that have yet to come, and the phase's parity.
struct Phase
{
    uint64_t arrivals : 15, missing : 15, parity : 1, known : 1;
    int64_t bytes : 32;

    static Phase of(const hopper::Barrier* barrier)
    {
        Phase phase = std::bit_cast<Phase>(barrier->state);
        // Memory that nobody wrote is all ones.
        if (~barrier->state == 0 || !phase.known) emulated::services->fail(emulated::Failure::LaunchFailed, "use of a barrier that was not made");
        return phase;
    }

    // The bytes are less than none while copies of other blocks of the cluster come before this one has announced them: it has not
    // arrived either, so the phase goes on.
    void store(hopper::Barrier* barrier)
    {
        if (missing == 0 && bytes < 0) emulated::services->fail(emulated::Failure::LaunchFailed, "more bytes came to a barrier than were announced");
        if (missing == 0 && bytes == 0) { parity ^= 1; missing = arrivals; }
        barrier->state = std::bit_cast<uint64_t>(*this);
    }
};
static_assert(sizeof(Phase) == 8);

inline void arrive(Barrier* barrier, uint32_t bytes)
{
    Phase phase = Phase::of(barrier);
    if (phase.missing == 0) emulated::services->fail(emulated::Failure::LaunchFailed, "more threads arrive at a barrier than it was made for");
    phase.missing--;
    phase.bytes += static_cast<int64_t>(bytes);
    phase.store(barrier);
}

}

inline void barrier_make(Barrier* barrier, uint32_t arrivals)
{
    ptx::detail::require_aligned(barrier, 8, "barrier_make", 0);
    barrier->state = std::bit_cast<uint64_t>(detail::Phase{arrivals, arrivals, 0, 1, 0});
}

inline void barriers_made() { }
inline void barrier_arrive(Barrier* barrier) { detail::arrive(barrier, 0); }
inline void barrier_arrive_expecting(Barrier* barrier, uint32_t bytes) { detail::arrive(barrier, bytes); }

inline bool barrier_poll(Barrier* barrier, uint32_t parity, EMULATED_SITE)
{
    // Tiles come when somebody waits for them.
    if (detail::Phase::of(barrier).parity == parity) emulated::services->waitUntil(barrier);
    bool ended = detail::Phase::of(barrier).parity != parity;
    if (!ended) emulated::services->yield({file, line});
    return ended;
}

inline void barrier_wait(Barrier* barrier, uint32_t parity, EMULATED_SITE)
{
    while (!barrier_poll(barrier, parity, file, line)) { }
}

// A clock so slow that no kernel gives up because it is emulated.
inline uint64_t nanoseconds() { return __rdtsc() / 4096; }

// ---- Tiles between global and shared memory (9.7.9.27 cp.async.bulk.tensor) ----

inline void prefetch(const TensorMap*) { }

namespace detail {

struct Tile
{
    emulated::TensorMap map;
    unsigned char* shared;
    Barrier* barrier; // of a load
    int at[5];
};
static_assert(sizeof(Tile) <= emulated::MostDeferredBytes);

// Where the byte at this address of a swizzled tile lies: bits 7 to 9 of the address permute 16-byte pieces.
inline unsigned char* swizzled(const unsigned char* p, unsigned swizzle)
{
    uintptr_t address = reinterpret_cast<uintptr_t>(p);
    return reinterpret_cast<unsigned char*>(address ^ (address >> 7 & swizzle) << 4);
}

// Visits each element of the tile: where it lies in shared and in global memory, and whether it is inside the matrix. Returns the bytes of
// all.
template <typename Visit> inline int64_t each_element(const Tile& tile, Visit visit)
{
    const emulated::TensorMap& map = tile.map;
    unsigned rows = 1, pieces = map.box[0] * map.elementBytes / 16u;
    for (int i = 1; i < map.rank; i++) rows *= map.box[i];
    for (unsigned row = 0; row < rows; row++)
    {
        // The coordinates of the row, and whether they are inside.
        unsigned char* start = map.start;
        bool inside = true;
        unsigned rest = row;
        for (int i = 1; i < map.rank; i++)
        {
            int64_t at = static_cast<int64_t>(tile.at[i]) + rest % map.box[i];
            rest /= map.box[i];
            inside &= at >= 0 && static_cast<uint64_t>(at) < map.sizes[i];
            start += at * static_cast<int64_t>(map.strides[i - 1]);
        }
        for (unsigned piece = 0; piece < pieces; piece++)
        {
            unsigned char* shared = swizzled(tile.shared + row * pieces * 16 + piece * 16, map.swizzle);
            for (unsigned i = 0; i < 16; i += map.elementBytes)
            {
                int64_t at = static_cast<int64_t>(tile.at[0]) + (piece * 16 + i) / map.elementBytes;
                visit(shared + i, start + at * map.elementBytes, inside && at >= 0 && static_cast<uint64_t>(at) < map.sizes[0]);
            }
        }
    }
    return static_cast<int64_t>(rows) * pieces * 16;
}

inline void load(const void* data)
{
    auto& tile = *static_cast<const Tile*>(data);
    const unsigned bytes = tile.map.elementBytes;
    int64_t all = each_element(tile, [bytes](unsigned char* shared, const unsigned char* global, bool inside)
    {
        if (inside) std::memcpy(shared, global, bytes);
        else std::memset(shared, 0, bytes);
    });
    Phase phase = Phase::of(tile.barrier);
    phase.bytes -= all;
    phase.store(tile.barrier);
}

inline void store(const void* data)
{
    auto& tile = *static_cast<const Tile*>(data);
    const unsigned bytes = tile.map.elementBytes;
    each_element(tile, [bytes](const unsigned char* shared, unsigned char* global, bool inside) { if (inside) std::memcpy(global, shared, bytes); });
}

// Other blocks may add to the same element at the same time.
inline void add(const void* data)
{
    each_element(*static_cast<const Tile*>(data), [](const unsigned char* shared, unsigned char* global, bool inside)
    {
        if (!inside) return;
        float x = *reinterpret_cast<const float*>(shared);
        emulated_update(reinterpret_cast<uint32_t*>(global), [x](uint32_t old) { return __float_as_uint(__uint_as_float(old) + x); });
    });
}

inline Tile tile_of(const void* shared, const TensorMap* map, Barrier* barrier, int x, int y, int z, int w, int rank, const char* what)
{
    Tile tile{{}, static_cast<unsigned char*>(const_cast<void*>(shared)), barrier, {x, y, z, w, 0}};
    std::memcpy(&tile.map, map, sizeof(tile.map));
    if (tile.map.known != emulated::TensorMap::Known || tile.map.rank != rank)
    {
        char message[100];
        std::snprintf(message, sizeof(message), "%s with no tensor map, or one of another rank", what);
        emulated::services->fail(emulated::Failure::LaunchFailed, message);
    }
    ptx::detail::require_aligned(shared, tile.map.swizzle == 7 ? 1024 : 128, what, 0);
    return tile;
}

inline void start_load(const Tile& tile)
{
    Phase::of(tile.barrier);
    emulated::services->deferUntil(tile.barrier, load, &tile, sizeof(tile));
}

}

inline void load_tile(void* shared, const TensorMap* map, Barrier* barrier, int x, int y) { detail::start_load(detail::tile_of(shared, map, barrier, x, y, 0, 0, 2, "load_tile")); }
inline void load_tile(void* shared, const TensorMap* map, Barrier* barrier, int x, int y, int z) { detail::start_load(detail::tile_of(shared, map, barrier, x, y, z, 0, 3, "load_tile")); }
inline void load_tile(void* shared, const TensorMap* map, Barrier* barrier, int x, int y, int z, int w) { detail::start_load(detail::tile_of(shared, map, barrier, x, y, z, w, 4, "load_tile")); }

inline void store_tile(const TensorMap* map, const void* shared, int x, int y, int z)
{
    detail::Tile tile = detail::tile_of(shared, map, nullptr, x, y, z, 0, 3, "store_tile");
    emulated::services->defer(emulated::Queue::Stores, detail::store, &tile, sizeof(tile));
}

inline void add_tile(const TensorMap* map, const void* shared, int x, int y, int z)
{
    detail::Tile tile = detail::tile_of(shared, map, nullptr, x, y, z, 0, 3, "add_tile");
    if (tile.map.elementBytes != 4) emulated::services->fail(emulated::Failure::LaunchFailed, "add_tile of elements other than F32");
    emulated::services->defer(emulated::Queue::Stores, detail::add, &tile, sizeof(tile));
}

inline void commit_stores() { emulated::services->commit(emulated::Queue::Stores); }
template <int Pending> inline void await_stores_read() { emulated::services->wait(emulated::current, emulated::Queue::Stores, Pending); }

// ---- Clusters (10.9 %cluster_ctarank, 9.7.13.4 barrier.cluster) ----

inline uint32_t cluster_rank() { return emulated::current->block->rank; }
inline void cluster_sync(EMULATED_SITE) { emulated::services->barrier(emulated::ClusterBarrier, 0, true, {file, line}); }

inline void barrier_arrive_at(Barrier* barrier, uint32_t rank)
{
    detail::arrive(static_cast<Barrier*>(emulated::services->inBlock(barrier, rank, "barrier_arrive_at")), 0);
}

// A copy for each block, done when that one waits.
inline void load_tile_for(uint16_t blocks, void* shared, const TensorMap* map, Barrier* barrier, int x, int y)
{
    detail::Tile tile = detail::tile_of(shared, map, barrier, x, y, 0, 0, 2, "load_tile_for");
    for (uint32_t rank = 0; rank < 16; rank++)
    {
        if (!(blocks >> rank & 1)) continue;
        tile.shared = static_cast<unsigned char*>(emulated::services->inBlock(shared, rank, "load_tile_for"));
        tile.barrier = static_cast<Barrier*>(emulated::services->inBlock(barrier, rank, "load_tile_for"));
        detail::start_load(tile);
    }
}

inline void fence_async() { }

// ---- Threads ----

inline void sync_some(int barrier, int threads, EMULATED_SITE) { emulated::services->barrier(barrier, static_cast<unsigned>(threads), true, {file, line}); }

inline void arrive_some(int barrier, int threads, EMULATED_SITE) { emulated::services->barrier(barrier, static_cast<unsigned>(threads), false, {file, line}); }

template <int Registers> inline void take_registers(EMULATED_SITE) { __syncwarp(0xffffffffu, file, line); }
template <int Registers> inline void give_registers(EMULATED_SITE) { __syncwarp(0xffffffffu, file, line); }

// ---- Products of a warpgroup (9.7.15 wgmma) ----

struct Operand
{
    const unsigned char* start;
    int blockBytes; // across the sum: from 64 rows of A (columns of B) to the next

    Operand plus(int bytes) const { return {start + bytes, blockBytes}; }
};

inline Operand along_sum(const void* shared) { return {static_cast<const unsigned char*>(shared), 0}; }
inline Operand across_sum(const void* shared, int blockBytes) { return {static_cast<const unsigned char*>(shared), blockBytes}; }

namespace detail {

constexpr int RowBytes = 128;

// The values of row i of A (column i of B) of one step: 32 bytes of a row along the sum, or one element of each of 16 rows across it.
template <int Depth, bool Across> inline void read(float (&values)[Depth], Operand operand, int i)
{
    for (int k = 0; k < Depth; k++)
    {
        const unsigned char* p = Across ? operand.start + i / 64 * operand.blockBytes + k * RowBytes + i % 64 * 2 : operand.start + i * RowBytes + k * (32 / Depth);
        p = swizzled(p, 7);
        if constexpr (Depth == 32) values[k] = ptx::detail::e4m3_value(*p);
        else values[k] = ptx::detail::bf16_value(*reinterpret_cast<const uint16_t*>(p));
    }
}

// A thread's part of a product: thread t of the warpgroup has rows 16 (t / 32) + (t % 32) / 4 + 8 h and columns 8 j + 2 (t % 4) + c in
// d[4 j + 2 h + c].
struct Product { float* d; Operand a, b; bool add; int thread; };

template <int Count, int Depth, bool AcrossA, bool AcrossB> inline void multiply(const void* data)
{
    auto& product = *static_cast<const Product*>(data);
    float a[2][Depth], b[Depth];
    for (int h = 0; h < 2; h++) read<Depth, AcrossA>(a[h], product.a, 16 * (product.thread / 32) + product.thread % 32 / 4 + 8 * h);
    for (int j = 0; j < Count / 4; j++)
    {
        for (int c = 0; c < 2; c++)
        {
            read<Depth, AcrossB>(b, product.b, 8 * j + 2 * (product.thread % 4) + c);
            for (int h = 0; h < 2; h++)
            {
                float sum = 0;
                for (int k = 0; k < Depth; k++) sum += a[h][k] * b[k];
                float& d = product.d[4 * j + 2 * h + c];
                d = product.add ? d + sum : sum;
            }
        }
    }
}

// The same with A in registers, whose values the four lanes of a row pair have exchanged when the product began.
struct RegisterProduct { float* d; Operand b; bool add; uint8_t thread; uint16_t a[2][16]; };
static_assert(sizeof(RegisterProduct) <= emulated::MostDeferredBytes);

template <int Count, bool AcrossB> inline void multiply_registers(const void* data)
{
    auto& product = *static_cast<const RegisterProduct*>(data);
    float b[16];
    for (int j = 0; j < Count / 4; j++)
    {
        for (int c = 0; c < 2; c++)
        {
            read<16, AcrossB>(b, product.b, 8 * j + 2 * (product.thread % 4) + c);
            for (int h = 0; h < 2; h++)
            {
                float sum = 0;
                for (int k = 0; k < 16; k++) sum += ptx::detail::bf16_value(product.a[h][k]) * b[k];
                float& d = product.d[4 * j + 2 * h + c];
                d = product.add ? d + sum : sum;
            }
        }
    }
}

struct RowExchange { const uint32_t* own; uint16_t (*a)[16]; };

template <int Count, int Depth, bool AcrossA, bool AcrossB> inline void defer(float (&d)[Count], Operand a, Operand b, bool add)
{
    static_assert(Count == 16 || Count == 32 || Count == 48 || Count == 64 || Count == 80 || Count == 96 || Count == 128, "no product of so many sums is declared");
    Product product{d, a, b, add, static_cast<int>(emulated::current->linear % 128)};
    emulated::services->defer(emulated::Queue::Products, multiply<Count, Depth, AcrossA, AcrossB>, &product, sizeof(product));
}

}

template <bool AcrossB, int Count> inline void multiply_bf16(float (&d)[Count], const uint32_t (&a)[4], Operand b, bool add, EMULATED_SITE)
{
    static_assert(Count == 32 || Count == 64 || Count == 96, "no product of so many sums with A in registers is declared");
    detail::RegisterProduct product{d, b, add, static_cast<uint8_t>(emulated::current->linear % 128), {}};
    detail::RowExchange record{a, product.a};
    emulated::collective(0xffffffffu, record, [](detail::RowExchange* const* lanes, uint32_t present)
    {
        ptx::detail::require_all(present, "multiply_bf16");
        for (int lane = 0; lane < 32; lane++)
            for (int h = 0; h < 2; h++)
                for (int k = 0; k < 16; k++) lanes[lane]->a[h][k] = static_cast<uint16_t>(lanes[lane / 4 * 4 + k % 8 / 2]->own[k / 8 * 2 + h] >> (k % 2 * 16));
    }, "multiply_bf16", {file, line});
    emulated::services->defer(emulated::Queue::Products, detail::multiply_registers<Count, AcrossB>, &product, sizeof(product));
}

inline void begin_products(EMULATED_SITE) { __syncwarp(0xffffffffu, file, line); }
inline void commit_products() { emulated::services->commit(emulated::Queue::Products); }

// All lanes' products are made when the warp waits: after that its shared memory may be written again.
template <int Pending> inline void wait_products(EMULATED_SITE)
{
    emulated::collective(0xffffffffu, *emulated::current, [](emulated::Thread* const* lanes, uint32_t present)
    {
        ptx::detail::require_all(present, "wait_products");
        for (int i = 0; i < 32; i++) emulated::services->wait(lanes[i], emulated::Queue::Products, Pending);
    }, "wait_products", {file, line});
}

template <int Count> inline void finish_products(float (&)[Count], EMULATED_SITE) { wait_products<0>(file, line); }
inline void compute_first(float) { }
template <int Pending, int Count> inline void await_sums(float (&)[Count], EMULATED_SITE) { wait_products<Pending>(file, line); }

template <int Count> inline void multiply_e4m3(float (&d)[Count], Operand a, Operand b, bool add) { detail::defer<Count, 32, false, false>(d, a, b, add); }
template <bool AcrossA, bool AcrossB, int Count> inline void multiply_bf16(float (&d)[Count], Operand a, Operand b, bool add) { detail::defer<Count, 16, AcrossA, AcrossB>(d, a, b, add); }

// ---- Caches ----

inline void prefetch_line(const void*) { }

inline void prefetch_tile(const TensorMap*, int, int) { }

}
