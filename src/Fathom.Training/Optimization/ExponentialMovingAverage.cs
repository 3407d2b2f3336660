// The exponential moving average of the weights ([P] §3.2.3): what the model will be like when the learning rate has decayed, known
// early. It lies in host memory, and a thread of its own updates it beside the next step's forward and backward pass. The trap is
// that the optimizer must not move weights that are still being read: the trainer waits before it, so the average is a function
// of the weights after each step alone, to the last bit, however the threads are timed.
using System.Runtime.ExceptionServices;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>
/// Σ d^(n-k) W_k / Σ d^(n-k) over the weights W_0 it started from and those after each of n updates: the bias-corrected average, in
/// which old weights fade and the start counts no more than any later sample. Every parameter is averaged, routing biases too.
/// </summary>
public sealed class ExponentialMovingAverage : IDisposable
{
    private readonly Device device;
    private readonly EmaConfig config;
    private readonly Entry[] entries;
    private readonly object gate = new();
    private Thread? thread;
    private ExceptionDispatchInfo? failure;
    private bool pending, stopping;
    private long updates;

    /// <summary>Allocates the average in host memory and starts it from the weights as they are.</summary>
    public ExponentialMovingAverage(Device device, IReadOnlyList<Parameter> parameters, EmaConfig config)
    {
        (this.device, this.config) = (device, config);
        entries = [.. parameters.Select(p => new Entry(p, device.AllocateHost(p.Value.Shape, DType.F32, MemoryKind.Ema)))];
        Restart();
    }

    /// <summary>Every parameter with its average, F32 in host memory. Complete after <see cref="Wait"/>.</summary>
    public IEnumerable<(Parameter Parameter, Tensor Average)> Averages => entries.Select(e => (e.Parameter, e.Average));

    /// <summary>Updates since the start.</summary>
    public long Updates => updates;

    /// <summary>Called on the average's thread before an update reads the weights; tests delay it, look at it and make it fail.</summary>
    internal Action? Updating { get; set; }

    /// <summary>Starts anew from the weights as they are: they were loaded, or the run had no average until now.</summary>
    public void Restart()
    {
        Wait();
        foreach (Entry entry in entries) device.Download(entry.Parameter.Value, entry.Average);
        updates = 0;
    }

    /// <summary>Goes on from a saved average that has been copied into <see cref="Averages"/>.</summary>
    public void Resume(long savedUpdates)
    {
        Wait();
        updates = savedUpdates;
    }

    /// <summary>Begins the update after a step, if one is due; the weights must stay as they are until <see cref="Wait"/>.</summary>
    /// <param name="step">Number of the finished step, from 1.</param>
    public void Begin(long step)
    {
        if (step % config.Every != 0) return;
        lock (gate)
        {
            if (pending) throw new InvalidOperationException("the moving average of the weights is still being updated; wait for it first");
            updates++;
            pending = true;
            if (thread is null)
            {
                thread = new Thread(Run) { IsBackground = true, Name = "fathom moving average" };
                thread.Start();
            }

            Monitor.PulseAll(gate);
        }
    }

    /// <summary>Waits until no weights are being read. What went wrong on the average's thread is thrown here, now and ever after.</summary>
    public void Wait()
    {
        lock (gate)
        {
            while (pending) Monitor.Wait(gate);
        }

        failure?.Throw();
    }

    /// <summary>Finishes the update in progress and ends the thread.</summary>
    public void Dispose()
    {
        lock (gate)
        {
            stopping = true;
            Monitor.PulseAll(gate);
        }

        thread?.Join();
    }

    private void Run()
    {
        while (NextUpdate())
        {
            try
            {
                Update();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }

            lock (gate)
            {
                pending = false;
                Monitor.PulseAll(gate);
            }
        }
    }

    private bool NextUpdate()
    {
        lock (gate)
        {
            while (!pending && !stopping) Monitor.Wait(gate);
            return pending;
        }
    }

    private void Update()
    {
        Updating?.Invoke();

        // The share that makes n + 1 samples, weighted by d^n … d^0, add up to one.
        float rate = (float)((1 - config.Decay) / (1 - Math.Pow(config.Decay, updates + 1)));
        foreach (Entry entry in entries) device.Optimizer.Average(entry.Average, entry.Parameter.Value, rate);
    }

    private sealed record Entry(Parameter Parameter, Tensor Average);
}
