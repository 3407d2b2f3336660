// Requests to an engine in this process, and when their tokens came.
using System.Diagnostics;
using Fathom.Inference;

namespace Fathom.Cli.Benchmarks;

/// <summary>Runs requests and notes times.</summary>
internal static class EngineLoad
{
    /// <summary>Runs a request to its end.</summary>
    public static async Task<TimedStream> Generate(InferenceEngine engine, GenerationRequest request)
    {
        long submitted = Stopwatch.GetTimestamp();
        var times = new List<long>();
        await foreach (GenerationPiece piece in engine.Submit(request).ConfigureAwait(false))
        {
            for (int i = 0; i < piece.Tokens.Count; i++) times.Add(Stopwatch.GetTimestamp());
        }

        return new TimedStream(submitted, times);
    }

    /// <summary>From the last first token to the first last one, while all of them run.</summary>
    public static double TokensPerSecond(Task<TimedStream>[] tasks)
    {
        TimedStream[] streams = Task.WhenAll(tasks).Result;
        long start = streams.Max(s => s.Times[0]), end = streams.Min(s => s.Ended);
        return streams.Sum(s => s.Times.Count(time => time > start && time <= end)) / Stopwatch.GetElapsedTime(start, end).TotalSeconds;
    }
}

/// <summary>When the tokens of a stream came.</summary>
/// <param name="Submitted">When it was asked for.</param>
/// <param name="Times">A time for each token.</param>
internal sealed record TimedStream(long Submitted, List<long> Times)
{
    /// <summary>When the last token came.</summary>
    public long Ended => Times[^1];

    /// <summary>Seconds to the first token.</summary>
    public double FirstSeconds => Stopwatch.GetElapsedTime(Submitted, Times[0]).TotalSeconds;

    /// <summary>Seconds between tokens, where the time between them meets a range.</summary>
    public IEnumerable<double> Gaps(long from, long until)
    {
        for (int i = 1; i < Times.Count; i++)
        {
            if (Times[i] >= from && Times[i - 1] <= until) yield return Stopwatch.GetElapsedTime(Times[i - 1], Times[i]).TotalSeconds;
        }
    }
}
