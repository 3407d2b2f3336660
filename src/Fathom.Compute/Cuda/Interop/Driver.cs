// The CUDA driver API, as far as Fathom uses it: names and values of cuda.h. Results are codes; Check turns them into errors.
using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Interop;

/// <summary>Functions of libcuda.</summary>
internal static unsafe partial class Driver
{
    private const string Library = NativeLibraries.Cuda;

    [LibraryImport(Library, EntryPoint = "cuInit")]
    public static partial CudaResult Initialize(uint flags);

    [LibraryImport(Library, EntryPoint = "cuDriverGetVersion")]
    public static partial CudaResult GetVersion(out int version);

    [LibraryImport(Library, EntryPoint = "cuDeviceGetCount")]
    public static partial CudaResult GetDeviceCount(out int count);

    [LibraryImport(Library, EntryPoint = "cuDeviceGet")]
    public static partial CudaResult GetDevice(out int device, int ordinal);

    [LibraryImport(Library, EntryPoint = "cuDeviceGetName")]
    public static partial CudaResult GetDeviceName(byte* name, int length, int device);

    [LibraryImport(Library, EntryPoint = "cuDeviceTotalMem_v2")]
    public static partial CudaResult GetTotalMemory(out nuint bytes, int device);

    [LibraryImport(Library, EntryPoint = "cuDeviceGetAttribute")]
    public static partial CudaResult GetAttribute(out int value, DeviceAttribute attribute, int device);

    [LibraryImport(Library, EntryPoint = "cuDevicePrimaryCtxRetain")]
    public static partial CudaResult RetainPrimaryContext(out nint context, int device);

    [LibraryImport(Library, EntryPoint = "cuDevicePrimaryCtxRelease_v2")]
    public static partial CudaResult ReleasePrimaryContext(int device);

    [LibraryImport(Library, EntryPoint = "cuCtxSetCurrent")]
    public static partial CudaResult SetCurrentContext(nint context);

    [LibraryImport(Library, EntryPoint = "cuMemGetInfo_v2")]
    public static partial CudaResult GetMemoryInfo(out nuint free, out nuint total);

    [LibraryImport(Library, EntryPoint = "cuMemAlloc_v2")]
    public static partial CudaResult Allocate(out nint address, nuint bytes);

    [LibraryImport(Library, EntryPoint = "cuMemFree_v2")]
    public static partial CudaResult Free(nint address);

    [LibraryImport(Library, EntryPoint = "cuMemHostAlloc")]
    public static partial CudaResult AllocateHost(out nint address, nuint bytes, uint flags);

    [LibraryImport(Library, EntryPoint = "cuMemFreeHost")]
    public static partial CudaResult FreeHost(nint address);

    [LibraryImport(Library, EntryPoint = "cuMemcpyHtoDAsync_v2")]
    public static partial CudaResult CopyToDevice(nint device, nint host, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemcpyDtoHAsync_v2")]
    public static partial CudaResult CopyToHost(nint host, nint device, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemcpyDtoDAsync_v2")]
    public static partial CudaResult CopyOnDevice(nint destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemcpy2DAsync_v2")]
    public static partial CudaResult CopyRows(in RowCopy copy, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemsetD8Async")]
    public static partial CudaResult Fill(nint address, byte value, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemsetD2D8Async")]
    public static partial CudaResult FillRows(nint address, nuint pitch, byte value, nuint width, nuint rows, nint stream);

    [LibraryImport(Library, EntryPoint = "cuStreamCreate")]
    public static partial CudaResult CreateStream(out nint stream, uint flags);

    [LibraryImport(Library, EntryPoint = "cuStreamDestroy_v2")]
    public static partial CudaResult DestroyStream(nint stream);

    [LibraryImport(Library, EntryPoint = "cuStreamSynchronize")]
    public static partial CudaResult SynchronizeStream(nint stream);

    [LibraryImport(Library, EntryPoint = "cuStreamWaitEvent")]
    public static partial CudaResult WaitForEvent(nint stream, nint @event, uint flags);

    [LibraryImport(Library, EntryPoint = "cuStreamBeginCapture_v2")]
    public static partial CudaResult BeginCapture(nint stream, int mode);

    [LibraryImport(Library, EntryPoint = "cuStreamEndCapture")]
    public static partial CudaResult EndCapture(nint stream, out nint graph);

    [LibraryImport(Library, EntryPoint = "cuGraphInstantiateWithFlags")]
    public static partial CudaResult InstantiateGraph(out nint executable, nint graph, ulong flags);

    [LibraryImport(Library, EntryPoint = "cuGraphLaunch")]
    public static partial CudaResult LaunchGraph(nint executable, nint stream);

    [LibraryImport(Library, EntryPoint = "cuGraphExecDestroy")]
    public static partial CudaResult DestroyGraphExecutable(nint executable);

    [LibraryImport(Library, EntryPoint = "cuGraphDestroy")]
    public static partial CudaResult DestroyGraph(nint graph);

    [LibraryImport(Library, EntryPoint = "cuEventCreate")]
    public static partial CudaResult CreateEvent(out nint @event, uint flags);

    [LibraryImport(Library, EntryPoint = "cuEventRecord")]
    public static partial CudaResult RecordEvent(nint @event, nint stream);

    [LibraryImport(Library, EntryPoint = "cuEventSynchronize")]
    public static partial CudaResult SynchronizeEvent(nint @event);

    [LibraryImport(Library, EntryPoint = "cuEventElapsedTime")]
    public static partial CudaResult GetElapsedTime(out float milliseconds, nint start, nint end);

    [LibraryImport(Library, EntryPoint = "cuEventDestroy_v2")]
    public static partial CudaResult DestroyEvent(nint @event);

    [LibraryImport(Library, EntryPoint = "cuModuleLoadData")]
    public static partial CudaResult LoadModule(out nint module, byte* image);

    [LibraryImport(Library, EntryPoint = "cuModuleUnload")]
    public static partial CudaResult UnloadModule(nint module);

    [LibraryImport(Library, EntryPoint = "cuModuleGetFunction", StringMarshalling = StringMarshalling.Utf8)]
    public static partial CudaResult GetFunction(out nint function, nint module, string name);

    [LibraryImport(Library, EntryPoint = "cuFuncSetAttribute")]
    public static partial CudaResult SetFunctionAttribute(nint function, FunctionAttribute attribute, int value);

    [LibraryImport(Library, EntryPoint = "cuFuncGetAttribute")]
    public static partial CudaResult GetFunctionAttribute(out int value, FunctionAttribute attribute, nint function);

    [LibraryImport(Library, EntryPoint = "cuOccupancyMaxActiveBlocksPerMultiprocessor")]
    public static partial CudaResult GetOccupancy(out int blocks, nint function, int threads, nuint sharedBytes);

    [LibraryImport(Library, EntryPoint = "cuLaunchKernel")]
    public static partial CudaResult Launch(
        nint function, uint gridX, uint gridY, uint gridZ, uint blockX, uint blockY, uint blockZ,
        uint sharedBytes, nint stream, void** parameters, void** extra);

    [LibraryImport(Library, EntryPoint = "cuGetErrorName")]
    public static partial CudaResult GetErrorName(CudaResult error, out nint text);

    [LibraryImport(Library, EntryPoint = "cuGetErrorString")]
    public static partial CudaResult GetErrorString(CudaResult error, out nint text);
}

/// <summary>CUresult.</summary>
internal enum CudaResult
{
    Success = 0,
    OutOfMemory = 2,
    NoDevice = 100,
    InvalidImage = 200,
    NoBinaryForGpu = 209,
    UnsupportedPtxVersion = 222,
}

/// <summary>CUdevice_attribute.</summary>
internal enum DeviceAttribute
{
    Multiprocessors = 16,
    L2CacheBytes = 38,
    MemoryClockKilohertz = 36,
    MemoryBusBits = 37,
    ClockKilohertz = 13,
    ComputeCapabilityMajor = 75,
    ComputeCapabilityMinor = 76,
    SharedMemoryPerBlock = 97,
}

/// <summary>CUfunction_attribute.</summary>
internal enum FunctionAttribute
{
    StaticSharedBytes = 1,
    LocalBytes = 3,
    Registers = 4,
    MostDynamicSharedBytes = 8,
}

/// <summary>CUDA_MEMCPY2D.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct RowCopy
{
    public const int Host = 1;
    public const int Device = 2;

    public nuint SourceX;
    public nuint SourceY;
    public int SourceKind;
    public nint SourceHost;
    public nint SourceDevice;
    public nint SourceArray;
    public nuint SourcePitch;
    public nuint DestinationX;
    public nuint DestinationY;
    public int DestinationKind;
    public nint DestinationHost;
    public nint DestinationDevice;
    public nint DestinationArray;
    public nuint DestinationPitch;
    public nuint WidthBytes;
    public nuint Height;
}
