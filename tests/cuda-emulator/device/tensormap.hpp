// What the emulated driver puts into the 128 bytes of a CUtensorMap, and the emulated copy engine finds there.
#pragma once
#include <cstdint>

namespace emulated {

struct TensorMap
{
    static constexpr uint32_t Mark = 0x70616d74;
    uint32_t mark, elementBytes, rank, swizzled;
    const unsigned char* address;
    uint64_t sizes[3];   // in elements, the contiguous dimension first
    uint64_t strides[2]; // in bytes, of the dimensions behind it
    uint32_t box[3];
};
static_assert(sizeof(TensorMap) <= 128);

}
