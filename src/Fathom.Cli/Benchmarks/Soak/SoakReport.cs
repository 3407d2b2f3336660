// What a soak came to: what was asked and what was wrong, what the server counted, and its memory and files over the time of the load.
using System.Text;
using System.Text.Json.Nodes;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks.Soak;

/// <summary>The server at one moment of the load.</summary>
/// <param name="Requests">Requests that were over.</param>
/// <param name="Seconds">Since the load began.</param>
/// <param name="ResidentBytes">Memory; 0 where it is not known.</param>
/// <param name="OpenFiles">Files and sockets; -1 where they are not known.</param>
internal sealed record SoakMoment(int Requests, double Seconds, long ResidentBytes, int OpenFiles)
{
    /// <summary>Heads the lines of <see cref="ToString"/>.</summary>
    public static string Header => $"{"requests",10}{"seconds",10}{"RSS, MB",10}{"files",8}";

    /// <inheritdoc/>
    public override string ToString() => Invariant($"{Requests,10:N0}{Seconds,10:F1}{ResidentBytes / 1e6,10:F1}{OpenFiles,8}");
}

/// <summary>The numbers of a soak.</summary>
internal sealed class SoakReport
{
    /// <summary>Requests from which on memory is judged: before, a server still fills its caches and compiles its code.</summary>
    public const int EnoughForMemory = 2000;

    /// <summary>Most files that may be open beyond those before the load: libraries that are loaded when first needed, connections of the database.</summary>
    public const int MostFiles = 8;

    private const double MostGrowth = 0.05, MostGrowthBytes = 16e6;
    private const int MostShown = 10;
    private readonly SortedDictionary<SoakKind, (int Sent, int Wrong)> kinds = [];
    private readonly List<string> problems = [];
    private readonly Lock gate = new();

    /// <summary>The server during the load, oldest first.</summary>
    public List<SoakMoment> Series { get; } = [];

    /// <summary>Files when the load began and when its clients had gone; -1 where they are not known.</summary>
    public (int Before, int After) Files { get; set; } = (-1, -1);

    /// <summary>What the server counted, by name without prefix, over the load.</summary>
    public IReadOnlyDictionary<string, double> Counted { get; set; } = new Dictionary<string, double>();

    /// <summary>Whether nothing was wrong.</summary>
    public bool Passed => problems.Count == 0;

    /// <summary>Counts a request.</summary>
    /// <param name="kind">What it was.</param>
    /// <param name="problem">What was wrong, or null.</param>
    public void Add(SoakKind kind, string? problem)
    {
        lock (gate)
        {
            (int sent, int wrong) = kinds.GetValueOrDefault(kind);
            kinds[kind] = (sent + 1, wrong + (problem is null ? 0 : 1));
            if (problem is not null) problems.Add($"{kind}: {problem}");
        }
    }

    /// <summary>Notes something wrong that is not one request's.</summary>
    public void Add(string problem)
    {
        lock (gate) problems.Add(problem);
    }

    /// <summary>Judges memory and files.</summary>
    public void Judge()
    {
        if (Growth is { } growth && Series[^1].Requests >= EnoughForMemory && growth.After - growth.Before > Math.Max(MostGrowth * growth.Before, MostGrowthBytes))
            Add(Invariant($"memory grew from {growth.Before / 1e6:F1} MB to {growth.After / 1e6:F1} MB"));
        if (Files.After - Files.Before > MostFiles) Add($"{Files.Before} files were open before the load, {Files.After} after it");
    }

    /// <summary>For people; the series is printed as it comes.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        foreach ((SoakKind kind, (int sent, int wrong)) in kinds) text.AppendLine(Invariant($"{kind,-14}{sent,8:N0} requests{(wrong > 0 ? $", {wrong:N0} wrong" : "")}"));
        text.AppendLine();
        text.AppendLine(Invariant($"the server: {Number("prompt_tokens"):N0} prompt tokens computed and {Number("prefix_cache_hits"):N0} found in the cache, {Number("generation_tokens"):N0} generated in {Number("engine_steps"):N0} steps; {Number("num_preemptions"):N0} preemptions, {Number("engine_faults"):N0} faults"));
        text.AppendLine(Invariant($"left behind: {Number("num_requests_running"):N0} running, {Number("num_requests_waiting"):N0} waiting, {100 * Number("kv_cache_usage_perc"):F2} % of the cache in use"));
        if (Growth is { } growth) text.AppendLine(Invariant($"memory: {growth.Before / 1e6:F1} MB in the second quarter, {growth.After / 1e6:F1} MB in the last tenth ({100 * (growth.After / growth.Before - 1):+0.0;-0.0} %)"));
        if (Files.Before >= 0) text.AppendLine(Invariant($"files: {Files.Before} before the load, {Files.After} after it"));
        text.AppendLine();
        foreach (string problem in problems.Take(MostShown)) text.AppendLine(problem.Length <= 1000 ? problem : problem[..1000] + "…");
        if (problems.Count > MostShown) text.AppendLine($"and {problems.Count - MostShown} more");
        text.Append(Passed ? "Nothing was lost, crossed or left behind." : $"{problems.Count} things were wrong.");
        return text.ToString();
    }

    /// <summary>For programs.</summary>
    public JsonObject ToJson() => new()
    {
        ["passed"] = Passed,
        ["requests"] = new JsonObject(kinds.Select(k => KeyValuePair.Create(k.Key.ToString(), (JsonNode?)new JsonObject { ["sent"] = k.Value.Sent, ["wrong"] = k.Value.Wrong }))),
        ["counted"] = new JsonObject(Counted.Select(c => KeyValuePair.Create(c.Key, (JsonNode?)c.Value))),
        ["series"] = new JsonArray([.. Series.Select(m => (JsonNode)new JsonObject { ["requests"] = m.Requests, ["seconds"] = m.Seconds, ["resident_bytes"] = m.ResidentBytes, ["open_files"] = m.OpenFiles })]),
        ["files_before"] = Files.Before,
        ["files_after"] = Files.After,
        ["problems"] = new JsonArray([.. problems.Select(p => (JsonNode)p)]),
    };

    /// <summary>Mean memory in the second quarter and the last tenth; null where it is not known.</summary>
    private (double Before, double After)? Growth
    {
        get
        {
            if (Series.Count < 10 || Series[0].ResidentBytes == 0) return null;
            int total = Series[^1].Requests;
            return (Mean(0.25, 0.5), Mean(0.9, 1));

            double Mean(double from, double to) => Series.Where(m => m.Requests >= from * total && m.Requests <= to * total).Average(m => m.ResidentBytes);
        }
    }

    private double Number(string name) => Counted.GetValueOrDefault(name);
}
