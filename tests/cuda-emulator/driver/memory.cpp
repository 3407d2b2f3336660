#include "memory.hpp"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>
#include <sys/mman.h>

namespace emulated {

namespace {

constexpr size_t PageBytes = 4096;
constexpr unsigned char Guard = 0xff;

// By their last byte, so that the first that is not below a pointer is the one to compare with.
struct Allocation { unsigned char* start; size_t bytes; };
std::map<uintptr_t, Allocation> allocations;
size_t used;

size_t pages(size_t bytes) { return (bytes + PageBytes - 1) / PageBytes * PageBytes; }

const Allocation* containing(const void* pointer)
{
    auto found = allocations.upper_bound(reinterpret_cast<uintptr_t>(pointer));
    if (found == allocations.end() || pointer < found->second.start) return nullptr;
    return &found->second;
}

}

size_t total_memory()
{
    static const size_t total = []
    {
        const char* text = std::getenv("FATHOM_EMULATOR_MEMORY");
        if (text == nullptr) return size_t{8} << 30;
        char* suffix;
        size_t number = std::strtoull(text, &suffix, 10);
        return *suffix == 'G' ? number << 30 : *suffix == 'M' ? number << 20 : number;
    }();
    return total;
}

size_t free_memory() { return total_memory() - used; }

void* allocate(size_t bytes)
{
    if (bytes > free_memory()) return nullptr;
    size_t whole = pages(bytes);
    void* region = mmap(nullptr, whole + 2 * PageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) return nullptr;
    auto start = static_cast<unsigned char*>(region) + PageBytes;
    mprotect(start, whole, PROT_READ | PROT_WRITE);
    std::memset(start, Guard, whole);
    allocations[reinterpret_cast<uintptr_t>(start) + bytes] = {start, bytes};
    used += bytes;
    return start;
}

bool release(void* pointer)
{
    const Allocation* found = containing(pointer);
    if (found == nullptr || found->start != pointer) return false;
    Allocation allocation = *found;
    munmap(allocation.start - PageBytes, pages(allocation.bytes) + 2 * PageBytes);
    used -= allocation.bytes;
    allocations.erase(reinterpret_cast<uintptr_t>(allocation.start) + allocation.bytes);
    return true;
}

bool inside(const void* pointer, size_t bytes)
{
    const Allocation* found = containing(pointer);
    return found == nullptr || bytes <= static_cast<size_t>(found->start + found->bytes - static_cast<const unsigned char*>(pointer));
}

std::string damaged()
{
    static const std::vector<unsigned char> whole(PageBytes, Guard);
    for (auto& [last, allocation] : allocations)
    {
        unsigned char* end = allocation.start + allocation.bytes;
        size_t zone = pages(allocation.bytes) - allocation.bytes;
        if (std::memcmp(end, whole.data(), zone) == 0) continue;
        size_t i = 0;
        while (end[i] == Guard) i++;
        std::memset(end, Guard, zone);
        return "a write past the end" + describe_address(end + i);
    }
    return {};
}

std::string describe_address(const void* pointer)
{
    auto address = static_cast<const unsigned char*>(pointer);
    constexpr ptrdiff_t near = 1 << 20;
    for (auto& [last, allocation] : allocations)
    {
        unsigned char* end = allocation.start + allocation.bytes;
        ptrdiff_t past = address - end, before = allocation.start - address;
        if (past >= near || before > near) continue;
        char text[200];
        if (past >= 0) std::snprintf(text, sizeof(text), ", %td bytes past the end of the allocation of %zu bytes at %p", past, allocation.bytes, static_cast<void*>(allocation.start));
        else if (before > 0) std::snprintf(text, sizeof(text), ", %td bytes before the allocation of %zu bytes at %p", before, allocation.bytes, static_cast<void*>(allocation.start));
        else std::snprintf(text, sizeof(text), ", byte %td of the allocation of %zu bytes at %p", -before, allocation.bytes, static_cast<void*>(allocation.start));
        return text;
    }
    return {};
}

}
