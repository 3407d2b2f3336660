using Fathom.Compute.Cuda;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

/// <summary>One GPU for a class of tests; a test that asks for it is skipped where there is none.</summary>
public sealed class CudaFixture : IDisposable
{
    private CudaDevice? device;

    public CudaDevice Device()
    {
        if (CudaSystem.Probe(out _) is { } reason) Assert.Skip(reason);
        return device ??= new CudaDevice();
    }

    public void Dispose() => device?.Dispose();
}
