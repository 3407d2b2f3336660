using Fathom.Compute.Cuda.Runtime;

namespace Fathom.Compute.Cuda;

/// <summary>Marks between the operators that a GPU runs, and the time from one to the other.</summary>
/// <param name="device">The GPU.</param>
public sealed class CudaMarks(CudaDevice device) : IDisposable
{
    private readonly List<CudaEvent> events = [];
    private int used;

    /// <summary>Sets a mark behind everything asked for so far.</summary>
    /// <returns>Its number.</returns>
    public int Set()
    {
        if (used == events.Count) events.Add(new CudaEvent(device.Context));
        events[used].Record(device.Context.Stream);
        return used++;
    }

    /// <summary>Seconds from one mark to another, when both are passed (<see cref="Device.Synchronize"/>).</summary>
    public double Seconds(int from, int to) => events[to].SecondsSince(events[from]);

    /// <summary>Forgets all marks; their numbers begin anew.</summary>
    public void Clear() => used = 0;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (CudaEvent one in events) one.Dispose();
        events.Clear();
    }
}
