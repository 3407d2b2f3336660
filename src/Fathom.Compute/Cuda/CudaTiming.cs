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
    /// <param name="flushes">How often the cache is overwritten: enough that all of the work has been put into the stream when the GPU comes to it.</param>
    public double Seconds(Action work, int samples = 20, bool cold = true, int flushes = 1) => Seconds([work], samples, cold, flushes)[0];

    /// <summary>Median seconds of calls to be compared: they take turns, so that a clock which falls as the card grows warm falls for all.</summary>
    /// <param name="works">Put their work into the device's stream; called a few times before they are timed.</param>
    /// <param name="samples">How often each is timed.</param>
    /// <param name="cold">Whether the cache is overwritten before each sample.</param>
    /// <param name="flushes">How often the cache is overwritten: enough that all of the work has been put into the stream when the GPU comes to it.</param>
    /// <returns>One for each.</returns>
    public double[] Seconds(ReadOnlySpan<Action> works, int samples = 20, bool cold = true, int flushes = 1)
    {
        foreach (Action work in works)
        {
            for (int i = 0; i < 2; i++) work();
        }

        device.Synchronize();
        double[] medians = new double[works.Length];
        double[][] seconds = [.. medians.Select(_ => new double[samples])];
        for (int i = 0; i < samples; i++)
        {
            for (int w = 0; w < works.Length; w++)
            {
                for (int f = 0; cold && f < flushes; f++) device.Reduction.Zero(flush);
                start.Record(device.Context.Stream);
                works[w]();
                end.Record(device.Context.Stream);
                end.Synchronize();
                seconds[w][i] = end.SecondsSince(start);
            }
        }

        for (int w = 0; w < works.Length; w++)
        {
            Array.Sort(seconds[w]);
            medians[w] = samples % 2 == 1 ? seconds[w][samples / 2] : (seconds[w][samples / 2 - 1] + seconds[w][samples / 2]) / 2;
        }

        return medians;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        start.Dispose();
        end.Dispose();
    }
}
