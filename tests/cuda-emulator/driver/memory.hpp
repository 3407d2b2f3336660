// Device memory is host memory, made hard to misuse: each allocation has pages that cannot be touched on both sides, starts filled with
// 0xff (NaN in every format), and what is left of its last page is a guard zone whose bytes must still be there later.
#pragma once
#include <cstddef>
#include <string>

namespace emulated {

// FATHOM_EMULATOR_MEMORY in bytes (a suffix M or G counts in 2^20 or 2^30), 8 GiB by default.
size_t total_memory();
size_t free_memory();

// Null if less than `bytes` are free.
void* allocate(size_t bytes);
// False if no allocation starts there.
bool release(void* pointer);
// False if the bytes reach out of an allocation into which the pointer points; memory of the host is not known here and is fine.
bool inside(const void* pointer, size_t bytes);
// Empty, or which allocation's guard zone was overwritten (and repairs it).
std::string damaged();
// For messages: ", 16 bytes past the end of the allocation of 4096 bytes at 0x...", or nothing.
std::string describe_address(const void* pointer);

}
