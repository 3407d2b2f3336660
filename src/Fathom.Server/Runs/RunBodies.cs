// The answers of the routes of runs. Numbers are written as 32-bit floats where they are drawn: nobody sees more digits, and they are half as long.
using System.Text.Json;

namespace Fathom.Server.Runs;

/// <summary>Writes answers about runs.</summary>
internal static class RunBodies
{
    /// <summary>One run of the list.</summary>
    public static void WriteRun(Utf8JsonWriter json, RunCatalog.Run run, RunState? state)
    {
        RunSettings? settings = run.Settings;
        json.WriteStartObject();
        json.WriteString("id", run.Id);
        json.WriteString("name", run.Name);
        json.WriteString("state", state is null ? "unreadable" : run.Activity(state, settings));
        if (state is not null)
        {
            if (state is { End: "diverged", Reason: { } reason }) json.WriteString("reason", reason); // of a failed one it may name files
            json.WriteNumber("step", state.Step);
            json.WriteNumber("tokens", state.Tokens);
            json.WriteNumber("seconds", Math.Round(state.Seconds, 3));
            WriteNumber(json, "progress", settings?.Progress(state));
            json.WriteNumber("read", Math.Round(state.Read, 4));
            if (state.Written is { } written) json.WriteNumber("written", written.ToUnixTimeSeconds());
            json.WriteNumber("damaged_lines", state.DamagedLines);
            json.WriteNumber("expert_steps", state.ExpertSteps);
            WriteNumber(json, "last_expert_step", state.LastExpertStep);
            json.WriteStartObject("last");
            foreach ((string name, double value) in state.Last) json.WriteNumber(name, (float)value);
            json.WriteEndObject();
        }

        if (settings is not null)
        {
            json.WriteStartObject("settings");
            json.WriteString("model", settings.Model);
            json.WriteString("recipe", settings.Recipe);
            WriteNumber(json, "sequence_length", settings.SequenceLength);
            if (settings.Seed is { } seed) json.WriteString("seed", seed.ToString(System.Globalization.CultureInfo.InvariantCulture)); // may be beyond what a page counts exactly
            WriteNumber(json, "steps", settings.Steps);
            WriteNumber(json, "tokens", settings.Tokens);
            WriteNumber(json, "seconds", settings.Seconds);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    /// <summary>The series of a range.</summary>
    public static void WriteMetrics(Utf8JsonWriter json, string id, in RunRange range)
    {
        RunSeries series = range.Series;
        json.WriteStartObject();
        json.WriteString("id", id);
        json.WriteBoolean("whole", range.IsWhole);
        json.WriteString("cursor", range.Cursor);
        json.WriteNumber("bucket", 1L << series.Shift);
        json.WriteNumber("start", range.First < range.End ? series[range.First].First : 0);
        json.WriteStartArray("steps");
        for (int b = range.First; b < range.End; b++) json.WriteNumberValue(series[b].Last);
        json.WriteEndArray();
        json.WriteStartArray("tokens");
        for (int b = range.First; b < range.End; b++) json.WriteNumberValue(series[b].Tokens);
        json.WriteEndArray();
        json.WriteStartArray("seconds");
        for (int b = range.First; b < range.End; b++) json.WriteNumberValue((float)series[b].Seconds);
        json.WriteEndArray();
        json.WriteStartObject("series");
        for (int c = 0; c < Math.Min(series.Columns, range.Names.Count); c++)
        {
            json.WriteStartObject(range.Names[c]);
            WriteColumn(json, "mean", c, range, static value => (float)value.Mean);
            if (IsSpread(c, range))
            {
                WriteColumn(json, "least", c, range, static value => value.Least);
                WriteColumn(json, "largest", c, range, static value => value.Largest);
            }

            json.WriteEndObject();
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Loads of all experts at a step.</summary>
    public static void WriteExperts(Utf8JsonWriter json, string id, ExpertSnapshot? snapshot, IReadOnlyList<long> steps)
    {
        json.WriteStartObject();
        json.WriteString("id", id);
        WriteNumber(json, "step", snapshot?.Step);
        WriteArray(json, "steps", steps);
        json.WriteStartArray("layers");
        foreach (int layer in snapshot?.Layers ?? []) json.WriteNumberValue(layer);
        json.WriteEndArray();
        json.WriteStartArray("load");
        foreach (long[] row in snapshot?.Load ?? []) WriteArray(json, null, row);
        json.WriteEndArray();
        if (snapshot?.Bias is { } bias)
        {
            json.WriteStartArray("bias");
            foreach (double[] row in bias)
            {
                json.WriteStartArray();
                foreach (double value in row) json.WriteNumberValue((float)value);
                json.WriteEndArray();
            }

            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    /// <summary>Loads of one layer over time.</summary>
    public static void WriteLayer(Utf8JsonWriter json, string id, int layer, IReadOnlyList<(long Step, long[] Load)> loads)
    {
        json.WriteStartObject();
        json.WriteString("id", id);
        json.WriteNumber("layer", layer);
        WriteArray(json, "steps", [.. loads.Select(l => l.Step)]);
        json.WriteStartArray("load");
        foreach ((_, long[] row) in loads) WriteArray(json, null, row);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static bool IsSpread(int column, in RunRange range)
    {
        for (int b = range.First; b < range.End; b++)
        {
            if (range.Series.At(column, b) is { } value && value.Least != value.Largest) return true;
        }

        return false;
    }

    private static void WriteColumn(Utf8JsonWriter json, string name, int column, in RunRange range, Func<RunSeries.Value, float> get)
    {
        json.WriteStartArray(name);
        for (int b = range.First; b < range.End; b++)
        {
            if (range.Series.At(column, b) is { } value && float.IsFinite(get(value))) json.WriteNumberValue(get(value));
            else json.WriteNullValue();
        }

        json.WriteEndArray();
    }

    private static void WriteArray(Utf8JsonWriter json, string? name, IReadOnlyList<long> values)
    {
        if (name is null) json.WriteStartArray();
        else json.WriteStartArray(name);
        foreach (long value in values) json.WriteNumberValue(value);
        json.WriteEndArray();
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } number) json.WriteNumber(name, number);
        else json.WriteNull(name);
    }
}
