using System.Text.Json;

namespace Fathom.Cli.Tests;

/// <summary>Reads metrics.jsonl of a run.</summary>
internal static class Metrics
{
    // What differs between two runs that compute the same.
    private static readonly string[] Timings = ["seconds", "tokens_per_second", "peak_share", "memory_bytes"];

    /// <summary>The lines of training steps.</summary>
    public static JsonElement[] Read(string run) =>
        [.. Lines(run).Where(line => line.TryGetProperty("loss", out _))];

    /// <summary>Whole lines in the file of a run that may still be going on.</summary>
    public static int Count(string run)
    {
        string path = Path.Combine(run, "metrics.jsonl");
        if (!File.Exists(path)) return 0;
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using var reader = new StreamReader(file);
        return reader.ReadToEnd().Count(c => c == '\n');
    }

    /// <summary>All lines without what is measured in time or memory: the digits of two runs that compute the same are equal.</summary>
    public static string[] Computed(string run) => [.. Lines(run).Select(line =>
        string.Join(' ', line.EnumerateObject().Where(p => !Timings.Contains(p.Name)).Select(p => $"{p.Name}={p.Value.GetRawText()}")))];

    private static IEnumerable<JsonElement> Lines(string run) =>
        File.ReadLines(Path.Combine(run, "metrics.jsonl")).Select(line => JsonDocument.Parse(line).RootElement.Clone());
}
