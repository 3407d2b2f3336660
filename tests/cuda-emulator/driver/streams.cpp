// Streams, events and graphs. Work is done when it is submitted, so a stream is in order and always idle; a captured stream keeps its
// work in a graph instead.
#include "driver.hpp"
#include <algorithm>
#include <chrono>
#include <memory>
#include <set>

using namespace emulated;

namespace {

struct Event
{
    std::chrono::steady_clock::time_point time;
    bool recorded = false;
    Graph* capture = nullptr;
};

std::set<Stream*> streams;

}

int emulated::submit(Stream* stream, std::function<int()> work)
{
    // Handles 1 and 2 are the default streams, legacy and per thread.
    bool standard = reinterpret_cast<uintptr_t>(stream) <= 2;
    if (standard || stream->capture == nullptr) return work();
    stream->capture->work.push_back(std::move(work));
    return Success;
}

// For the libraries above the driver, which are built apart.
EXPORT int emulated_submit(Stream* stream, int (*work)(void*), void (*destroy)(void*), void* state)
{
    Lock guard(lock);
    return submit(stream, [work, held = std::shared_ptr<void>(state, destroy)] { return work(held.get()); });
}

bool emulated::captures(bool relaxedToo)
{
    bool any = false;
    for (Stream* stream : streams)
    {
        if (stream->capture == nullptr || (stream->relaxed && !relaxedToo)) continue;
        stream->capture->valid = false;
        any = true;
    }
    return any;
}

EXPORT int cuStreamCreate(Stream** stream, unsigned)
{
    Lock guard(lock);
    *stream = new Stream;
    streams.insert(*stream);
    return Success;
}

EXPORT int cuStreamCreateWithPriority(Stream** stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

EXPORT int cuStreamDestroy_v2(Stream* stream)
{
    Lock guard(lock);
    if (streams.erase(stream) == 0) return fail(InvalidHandle, "cuStreamDestroy: no such stream");
    delete stream;
    return Success;
}

EXPORT int cuStreamSynchronize(Stream* stream)
{
    Lock guard(lock);
    if (reinterpret_cast<uintptr_t>(stream) <= 2 || stream->capture == nullptr) return Success;
    stream->capture->valid = false;
    return fail(CaptureUnsupported, "cuStreamSynchronize of a captured stream");
}

EXPORT int cuStreamQuery(Stream* stream) { return cuStreamSynchronize(stream); }

EXPORT int cuStreamWaitEvent(Stream* stream, Event* event, unsigned)
{
    Lock guard(lock);
    if (event->capture != nullptr && reinterpret_cast<uintptr_t>(stream) > 2) stream->capture = event->capture;
    return Success;
}

EXPORT int cuEventCreate(Event** event, unsigned) { *event = new Event; return Success; }
EXPORT int cuEventDestroy_v2(Event* event) { delete event; return Success; }

EXPORT int cuEventRecord(Event* event, Stream* stream)
{
    Lock guard(lock);
    event->capture = reinterpret_cast<uintptr_t>(stream) > 2 ? stream->capture : nullptr;
    return submit(stream, [event]
    {
        event->time = std::chrono::steady_clock::now();
        event->recorded = true;
        return 0;
    });
}

EXPORT int cuEventSynchronize(Event* event) { return event->capture != nullptr ? fail(CapturedEvent, "cuEventSynchronize of an event of a captured stream") : Success; }
EXPORT int cuEventQuery(Event* event) { return cuEventSynchronize(event); }

EXPORT int cuEventElapsedTime(float* milliseconds, Event* start, Event* end)
{
    Lock guard(lock);
    if (!start->recorded || !end->recorded) return fail(InvalidHandle, "cuEventElapsedTime: an event was not recorded");
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return Success;
}

EXPORT int cuEventElapsedTime_v2(float* milliseconds, Event* start, Event* end) { return cuEventElapsedTime(milliseconds, start, end); }

EXPORT int cuStreamBeginCapture_v2(Stream* stream, int mode)
{
    Lock guard(lock);
    if (reinterpret_cast<uintptr_t>(stream) <= 2 || stream->capture != nullptr) return fail(CaptureUnsupported, "cuStreamBeginCapture: the default stream, or one that is already captured");
    *stream = {new Graph, true, mode == 2};
    return Success;
}

EXPORT int cuStreamEndCapture(Stream* stream, Graph** graph)
{
    Lock guard(lock);
    *graph = nullptr;
    if (stream->capture == nullptr || !stream->origin) return fail(CaptureUnmatched, "cuStreamEndCapture: the capture did not begin in this stream");
    Graph* made = stream->capture;
    for (Stream* other : streams) if (other->capture == made) *other = {};
    if (!made->valid)
    {
        delete made;
        return fail(CaptureInvalidated, "cuStreamEndCapture: a call during the capture was not allowed");
    }
    *graph = made;
    return Success;
}

EXPORT int cuStreamIsCapturing(Stream* stream, int* status)
{
    *status = reinterpret_cast<uintptr_t>(stream) > 2 && stream->capture != nullptr ? stream->capture->valid ? 1 : 2 : 0;
    return Success;
}

EXPORT int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) { *executable = new Graph(*graph); return Success; }
EXPORT int cuGraphInstantiate(Graph** executable, Graph* graph, unsigned long long flags) { return cuGraphInstantiateWithFlags(executable, graph, flags); }
EXPORT int cuGraphDestroy(Graph* graph) { delete graph; return Success; }
EXPORT int cuGraphExecDestroy(Graph* graph) { delete graph; return Success; }
EXPORT int cuGraphUpload(Graph*, Stream*) { return Success; }

EXPORT int cuGraphGetNodes(Graph* graph, void** nodes, size_t* count)
{
    if (nodes != nullptr) return fail(NotSupported, "cuGraphGetNodes counts, and gives no nodes");
    *count = graph->work.size();
    return Success;
}

EXPORT int cuGraphLaunch(Graph* graph, Stream* stream)
{
    Lock guard(lock);
    return submit(stream, [graph]
    {
        for (auto& work : graph->work) if (int result = work(); result != Success) return result;
        return 0;
    });
}
