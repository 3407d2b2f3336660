// Devices by name, for theories over several.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda;
using Fathom.Compute.Reference;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Testing;

/// <summary>Opens devices, and reads their memory.</summary>
public static class TestDevices
{
    /// <summary>The processor, the slow reference, the processor over memory of its own (perhaps with results in BF16, and norms that quantise theirs), or a GPU.</summary>
    /// <param name="name">"cpu", "reference", "separate", "separate bf16", "separate fused" or "cuda"; the test is skipped with the reason where there is no GPU.</param>
    /// <param name="threads">Threads of those that compute on the processor.</param>
    public static Device Open(string name, int threads = 2)
    {
        if (name == "cuda") Assert.SkipWhen(CudaSystem.Probe(out _) is not null, $"no GPU can be used: {CudaSystem.Probe(out _)}");
        return name switch
        {
            "cpu" => new CpuDevice(threads),
            "reference" => new ReferenceDevice(),
            "separate" => new SeparateDevice(threads),
            "separate bf16" => new SeparateDevice(threads, holdsBFloat16: true),
            "separate fused" => new SeparateDevice(threads, holdsBFloat16: true, fusesNorms: true),
            "cuda" => new CudaDevice(),
            _ => throw new ArgumentException($"no device is called {name}", nameof(name)),
        };
    }

    /// <summary>A contiguous tensor's elements in host memory.</summary>
    public static T[] Read<T>(this Device device, Tensor tensor) where T : unmanaged => [.. new Staging(device).Download(tensor).AsSpan<T>()];

    /// <summary>A tensor of singles on a device.</summary>
    public static Tensor Write(this Device device, Tensor tensor, ReadOnlySpan<float> values)
    {
        if (tensor.DType != DType.F32) throw new ArgumentException($"{tensor} holds no singles", nameof(tensor));
        var staging = new Staging(device);
        values.CopyTo(staging.Open(tensor).AsSpan<float>());
        staging.Upload(tensor);
        return tensor;
    }
}
