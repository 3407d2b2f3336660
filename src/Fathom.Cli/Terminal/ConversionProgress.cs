// One line that counts bytes, on the error stream and only where a person looks at it.
using System.Diagnostics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Terminal;

/// <summary>Shows how far a conversion is. Reports may come from any thread.</summary>
internal sealed class ConversionProgress : IDisposable
{
    private const double Interval = 0.25; // seconds
    private readonly bool visible = !Console.IsErrorRedirected;
    private readonly Lock writing = new();
    private readonly long start = Stopwatch.GetTimestamp();
    private double last;
    private int shown;

    /// <summary>Takes a count.</summary>
    public void Report(long bytes, long total)
    {
        if (!visible) return;
        double now = Stopwatch.GetElapsedTime(start).TotalSeconds;
        lock (writing)
        {
            if (now - last < Interval) return;
            last = now;
            string line = Invariant($"{bytes / 1e9:F2} of {total / 1e9:F2} GB read, {bytes / 1e9 / now:F2} GB/s, {Duration((total - bytes) / (bytes / now))} left");
            Console.Error.Write("\r" + line.PadRight(shown));
            shown = line.Length;
        }
    }

    /// <summary>Clears the line.</summary>
    public void Dispose()
    {
        lock (writing)
        {
            if (shown > 0) Console.Error.Write("\r" + new string(' ', shown) + "\r");
            shown = 0;
        }
    }
}
