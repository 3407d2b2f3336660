// Modules, functions and launches. A "cubin" is a shared object made by the emulated NVRTC; it is opened from a temporary file.
#include "driver.hpp"
#include "memory.hpp"
#include "workers.hpp"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <memory>
#include <unistd.h>

using namespace emulated;

namespace {

constexpr unsigned SharedWithoutAsking = 48 * 1024;

struct LoadedFunction;

struct ModuleHandle : LoadedModule
{
    std::vector<std::unique_ptr<LoadedFunction>> functions;
};

struct LoadedFunction
{
    ModuleHandle* module;
    const Kernel* kernel;
    unsigned mostDynamicShared = SharedWithoutAsking;
};

// An image does not say how long it is; its section headers are the last thing in it.
size_t image_bytes(const void* image)
{
    auto header = static_cast<const Elf64_Ehdr*>(image);
    if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_machine != EM_X86_64) return 0;
    return header->e_shoff + static_cast<size_t>(header->e_shnum) * header->e_shentsize;
}

size_t thread_local_bytes(const void* image)
{
    auto header = static_cast<const Elf64_Ehdr*>(image);
    auto segments = reinterpret_cast<const Elf64_Phdr*>(static_cast<const char*>(image) + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_TLS) return segments[i].p_memsz;
    return 0;
}

Result load(ModuleHandle** module, const void* image)
{
    if (captures(false)) return fail(CaptureUnsupported, "cuModuleLoadData while a stream is captured");
    size_t bytes = image_bytes(image);
    if (bytes == 0) return fail(InvalidImage, "cuModuleLoadData: not an image of the emulated compiler");
    const char* folder = std::getenv("TMPDIR");
    std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/fathom-emulator-XXXXXX";
    int file = mkstemp(path.data());
    bool written = file >= 0 && write(file, image, bytes) == static_cast<ssize_t>(bytes);
    if (file >= 0) close(file);
    void* handle = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path.c_str());
    if (handle == nullptr) return fail(InvalidImage, "cuModuleLoadData: " + (written ? std::string(dlerror()) : "cannot write " + path));
    auto description = static_cast<const emulated::Module*>(dlsym(handle, "emulated_module"));
    if (description == nullptr || std::strcmp(description->build, EMULATOR_BUILD) != 0)
    {
        dlclose(handle);
        return fail(InvalidImage, "cuModuleLoadData: the image was compiled by another build of the emulator");
    }
    description->attach(&Worker::services);
    *module = new ModuleHandle{{description, handle, thread_local_bytes(image)}, {}};
    return Success;
}

Result launch(LoadedFunction* function, Index3 grid, Index3 block, Index3 cluster, unsigned sharedBytes, Stream* stream, void** parameters)
{
    auto text = [](Index3 i) { return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")"; };
    bool clusters = cluster.x != 1 || cluster.y != 1 || cluster.z != 1;
    std::string shape = std::string(function->kernel->name) + " <<<" + text(grid) + ", " + text(block) + ", " + std::to_string(sharedBytes) + " bytes"
        + (clusters ? ", clusters of " + text(cluster) : "") + ">>>: ";
    uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0) return fail(InvalidValue, shape + "no blocks or no threads");
    if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return fail(InvalidValue, shape + "the grid is too large");
    if (threads > Worker::MostThreads || block.z > 64) return fail(InvalidValue, shape + "the block is too large");
    if (clusters)
    {
        if (cluster.x == 0 || cluster.y == 0 || cluster.z == 0) return fail(InvalidValue, shape + "no blocks in a cluster");
        if (cluster.y != 1 || cluster.z != 1) return fail(NotSupported, shape + "the emulator has clusters along x only");
        if (cluster.x > Worker::MostBlocks) return fail(InvalidValue, shape + "a cluster has " + std::to_string(Worker::MostBlocks) + " blocks at most");
        if (grid.x % cluster.x != 0) return fail(InvalidValue, shape + "the grid is no multiple of the cluster");
        if (cluster.x * Worker::fibers_of(block) > Worker::MostFibers) return fail(InvalidValue, shape + "the emulator has " + std::to_string(Worker::MostFibers) + " threads for a cluster");
        // One thread of the system runs all blocks of a cluster.
        if (function->module->shares_variables()) return fail(NotSupported, shape + "the module has __shared__ variables, which the emulator cannot keep apart for the blocks of a cluster; dynamic shared memory it can");
    }
    if (sharedBytes > function->mostDynamicShared) return fail(InvalidValue, shape + "more dynamic shared memory than the " + std::to_string(function->mostDynamicShared) + " bytes asked for with cuFuncSetAttribute");
    if (parameters == nullptr && function->kernel->parameters > 0) return fail(InvalidValue, shape + "no parameters");

    // The parameters are the caller's only until this call ends. 64 bytes is the largest alignment, that of a tensor map.
    struct alignas(64) Chunk { unsigned char bytes[64]; };
    auto values = std::make_shared<std::vector<Chunk>>();
    std::vector<size_t> offsets;
    for (unsigned i = 0; i < function->kernel->parameters; i++)
    {
        offsets.push_back(values->size());
        values->resize(values->size() + (function->kernel->sizes[i] + 63) / 64);
        std::memcpy(static_cast<void*>(&(*values)[offsets[i]]), parameters[i], function->kernel->sizes[i]);
    }
    return static_cast<Result>(submit(stream, [=]
    {
        Launch work{};
        std::vector<void*> pointers;
        for (size_t offset : offsets) pointers.push_back(&(*values)[offset]);
        work.kernel = function->kernel;
        work.module = function->module;
        work.grid = grid;
        work.block = block;
        work.dynamicSharedBytes = sharedBytes;
        work.cluster = cluster.x;
        work.parameters = pointers.data();
        run_on_workers(work);
        if (work.failure != 0) return static_cast<int>(fail(static_cast<Result>(work.failure.load()), work.message));
        if (std::string damage = damaged(); !damage.empty()) return static_cast<int>(fail(IllegalAddress, shape + damage));
        return 0;
    }));
}

}

EXPORT int cuModuleLoadData(ModuleHandle** module, const void* image) { Lock guard(lock); return load(module, image); }
EXPORT int cuModuleLoadDataEx(ModuleHandle** module, const void* image, unsigned, void*, void**) { Lock guard(lock); return load(module, image); }

EXPORT int cuModuleUnload(ModuleHandle* module)
{
    Lock guard(lock);
    dlclose(module->handle);
    delete module;
    return Success;
}

EXPORT int cuModuleGetFunction(LoadedFunction** function, ModuleHandle* module, const char* name)
{
    Lock guard(lock);
    auto kernel = static_cast<const Kernel*>(dlsym(module->handle, name));
    // A kernel that is extern "C" is described under another name than its own.
    if (auto plain = dlsym(module->handle, ("emulated_" + std::string(name)).c_str())) kernel = static_cast<const Kernel*>(plain);
    if (kernel == nullptr) return fail(NotFound, std::string("cuModuleGetFunction: no kernel ") + name);
    module->functions.push_back(std::make_unique<LoadedFunction>(module, kernel));
    *function = module->functions.back().get();
    return Success;
}

EXPORT int cuFuncSetAttribute(LoadedFunction* function, int attribute, int value)
{
    Lock guard(lock);
    if (attribute != 8) return Success; // MAX_DYNAMIC_SHARED_SIZE_BYTES
    if (value < 0 || static_cast<unsigned>(value) > Worker::MostDynamicShared) return fail(InvalidValue, std::string(function->kernel->name) + ": " + std::to_string(value) + " bytes of dynamic shared memory");
    function->mostDynamicShared = static_cast<unsigned>(value);
    return Success;
}

EXPORT int cuFuncGetAttribute(int* value, int attribute, LoadedFunction* function)
{
    switch (attribute)
    {
        case 0: *value = 1024; break; // MAX_THREADS_PER_BLOCK
        case 4: *value = 64; break; // NUM_REGS
        case 5: case 6: *value = 90; break; // PTX_VERSION, BINARY_VERSION
        case 8: *value = static_cast<int>(function->mostDynamicShared); break;
        default: *value = 0; break; // shared, constant and local bytes are not known here
    }
    return Success;
}

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, LoadedFunction*, int threads, size_t sharedBytes)
{
    *blocks = static_cast<int>(std::min<size_t>(2048 / static_cast<size_t>(std::max(threads, 1)), 233472 / (sharedBytes + 1024)));
    return Success;
}

EXPORT int cuLaunchKernel(LoadedFunction* function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY, unsigned blockZ,
    unsigned sharedBytes, Stream* stream, void** parameters, void**)
{
    Lock guard(lock);
    return launch(function, {gridX, gridY, gridZ}, {blockX, blockY, blockZ}, {}, sharedBytes, stream, parameters);
}

struct LaunchAttribute { int id, padding; union { char bytes[64]; unsigned cluster[3]; int flag; }; };
struct LaunchConfiguration { unsigned grid[3], block[3], sharedBytes; Stream* stream; LaunchAttribute* attributes; unsigned count; };

EXPORT int cuLaunchKernelEx(const LaunchConfiguration* c, LoadedFunction* function, void** parameters, void**)
{
    Lock guard(lock);
    Index3 cluster;
    for (unsigned i = 0; i < c->count; i++)
    {
        const LaunchAttribute& attribute = c->attributes[i];
        if (attribute.id == 4) cluster = {attribute.cluster[0], attribute.cluster[1], attribute.cluster[2]};
        if (attribute.id == 2 && attribute.flag != 0) return fail(NotSupported, "the emulator has no cooperative launches");
    }
    return launch(function, {c->grid[0], c->grid[1], c->grid[2]}, {c->block[0], c->block[1], c->block[2]}, cluster, c->sharedBytes, c->stream, parameters);
}
