// What the exported functions share: result codes, the lock that every call holds, and how a piece of work reaches a stream.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emulated {

enum Result : int
{
    Success = 0, InvalidValue = 1, OutOfMemory = 2, InvalidDevice = 101, InvalidImage = 200, InvalidContext = 201,
    InvalidHandle = 400, NotFound = 500, IllegalAddress = 700, Assert = 710, MisalignedAddress = 716, LaunchFailed = 719,
    NotSupported = 801, CaptureUnsupported = 900, CaptureInvalidated = 901, CaptureUnmatched = 903, CapturedEvent = 907,
};

// Calls run one at a time. Recursive, because a graph's launch makes the calls it has recorded.
using Lock = std::lock_guard<std::recursive_mutex>;
extern std::recursive_mutex lock;

// Also printed; the same text is what cuGetErrorString gives for this code until the next failure.
Result fail(Result code, const std::string& text);

struct Graph
{
    std::vector<std::function<int()>> work;
    bool valid = true;
};

struct Stream
{
    Graph* capture = nullptr;
    bool origin = false; // of the capture; other streams join it by waiting for an event
    bool relaxed = false;
};

// Does the work now, or records it if the stream is captured. A null stream is the default one.
int submit(Stream* stream, std::function<int()> work);
// While a stream is captured, calls that would wait for or allocate what the graph cannot hold are errors, and end the capture.
bool captures(bool relaxedToo);

}
