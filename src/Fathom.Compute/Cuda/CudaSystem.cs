using System.Text;
using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>What of CUDA a machine has, without opening a GPU.</summary>
public static unsafe class CudaSystem
{
    /// <summary>Number of GPUs that the driver offers, or why there is none.</summary>
    /// <param name="count">The number; 0 where there is a reason.</param>
    /// <returns>Why no GPU can be used, or null where one can.</returns>
    public static string? Probe(out int count)
    {
        count = 0;
        NativeLibraryPlace driver = NativeLibraries.Find(NativeLibraries.Cuda);
        if (!driver.IsFound)
            return $"the NVIDIA driver ({NativeLibraries.FileNames(NativeLibraries.Cuda)[0]}) was {driver.Absence}; install the driver, or name its folder in {NativeLibraries.PathVariable}";
        CudaResult result = Driver.Initialize(0);
        if (result == CudaResult.NoDevice) return "the NVIDIA driver sees no GPU; nvidia-smi says more, and CUDA_VISIBLE_DEVICES may hide them";
        if (result != CudaResult.Success) return $"the NVIDIA driver does not start: {CudaException.Describe(result)}";
        if ((result = Driver.GetDeviceCount(out count)) != CudaResult.Success) return $"the NVIDIA driver counts no GPUs: {CudaException.Describe(result)}";
        return count == 0 ? "the NVIDIA driver sees no GPU; nvidia-smi says more, and CUDA_VISIBLE_DEVICES may hide them" : null;
    }

    /// <summary>Number of GPUs, at least one.</summary>
    /// <exception cref="FathomException">There is none; the message says why and what to do.</exception>
    internal static int RequireDevices() => Probe(out int count) is { } reason ? throw new FathomException($"no GPU can be used: {reason}") : count;

    /// <summary>What its maker calls a GPU.</summary>
    internal static string DeviceName(int device)
    {
        const int Length = 128;
        byte* name = stackalloc byte[Length];
        CudaException.Check(Driver.GetDeviceName(name, Length, device), "cuDeviceGetName");
        return Encoding.UTF8.GetString(new ReadOnlySpan<byte>(name, Length)).TrimEnd('\0').Split('\0')[0];
    }
}
