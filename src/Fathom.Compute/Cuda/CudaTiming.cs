// Times of work on a GPU, by events in its stream. The second-level cache is overwritten before every sample, so that an operator's
// inputs come from memory as they do in a training step; the median of the samples counts.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>Measures work on one GPU.</summary>
/// <param name="device">The GPU.</param>
public sealed class CudaTiming(CudaDevice device) : IDisposable
{
    private readonly CudaEvent start = new(device.Context);
    private readonly CudaEvent end = new(device.Context);
    private readonly Tensor flush = device.Allocate(new Shape(4L * Math.Max(device.Context.L2Bytes, 1 << 20)), DType.U8, MemoryKind.Workspace);

    /// <summary>Median seconds of a call.</summary>
    /// <param name="work">Puts the work into the device's stream; called a few times before it is timed.</param>
    /// <param name="samples">How often it is timed.</param>
    /// <param name="cold">Whether the cache is overwritten before each sample.</param>
    public double Seconds(Action work, int samples = 20, bool cold = true)
    {
        for (int i = 0; i < 2; i++) work();
        device.Synchronize();
        double[] seconds = new double[samples];
        for (int i = 0; i < samples; i++)
        {
            if (cold) device.Reduction.Zero(flush);
            start.Record(device.Context.Stream);
            work();
            end.Record(device.Context.Stream);
            end.Synchronize();
            seconds[i] = end.SecondsSince(start);
        }

        Array.Sort(seconds);
        return samples % 2 == 1 ? seconds[samples / 2] : (seconds[samples / 2 - 1] + seconds[samples / 2]) / 2;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        start.Dispose();
        end.Dispose();
    }
}
