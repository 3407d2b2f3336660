// One line of metrics.jsonl (docs/run-directory.md). Every number in it is a series under its own name, so that what a later trainer adds
// is shown without a change here. A line of expert loads is only recognised: its thousands of numbers are read when somebody looks at them.
using System.Text;
using System.Text.Json;

namespace Fathom.Server.Runs;

/// <summary>The series of a run by name; an array's elements are series of their own ("mtp_loss.1").</summary>
internal sealed class SeriesNames
{
    /// <summary>Most series of a run; further ones are left out.</summary>
    public const int Most = 32;

    private const int LongestName = 40;
    private readonly List<(byte[] Key, int Element, string Name)> all = [];

    /// <summary>How many there are.</summary>
    public int Count => all.Count;

    /// <summary>The name of a series.</summary>
    public string this[int index] => all[index].Name;

    /// <summary>The number of a series, which is made where it is new; -1 where there is no room for it.</summary>
    /// <param name="reader">At the property's name.</param>
    /// <param name="element">0 for a number, k for the k-th of an array.</param>
    /// <param name="likely">Where it was in the line before, or near that.</param>
    public int Find(ref Utf8JsonReader reader, int element, int likely)
    {
        for (int i = 0; i < all.Count; i++)
        {
            int index = (likely + i) % all.Count;
            if (all[index].Element == element && reader.ValueTextEquals(all[index].Key)) return index;
        }

        string name = reader.GetString()!;
        if (all.Count == Most || name.Length is 0 or > LongestName) return -1;
        all.Add((Encoding.UTF8.GetBytes(name), element, element == 0 ? name : $"{name}.{element}"));
        return all.Count - 1;
    }
}

/// <summary>What a line says; read into again and again.</summary>
internal sealed class MetricsLine
{
    private const int MostElements = 4; // of an array, as series of their own
    private const double LongestStep = 1e9;
    private const int LongestReason = 500;
    private static readonly string[] Ends = ["finished", "stopped", "diverged", "failed"];
    private int count;
    private readonly int[] series = new int[SeriesNames.Most * 2];
    private readonly double[] values = new double[SeriesNames.Most * 2];

    /// <summary>The step.</summary>
    public long Step { get; private set; }

    /// <summary>Tokens trained so far; -1 where the line does not say.</summary>
    public long Tokens { get; private set; }

    /// <summary>Seconds of the step; 0 where the line does not say.</summary>
    public double Seconds { get; private set; }

    /// <summary>Whether the line holds the loads of experts.</summary>
    public bool HasExpertLoad { get; private set; }

    /// <summary>How training ended, where the line says that: finished, stopped, diverged or failed.</summary>
    public string? End { get; private set; }

    /// <summary>Why it ended so; null where the line does not say.</summary>
    public string? Reason { get; private set; }

    /// <summary>Numbers of the series in the line.</summary>
    public ReadOnlySpan<int> Series => series.AsSpan(0, count);

    /// <summary>Their values.</summary>
    public ReadOnlySpan<double> Values => values.AsSpan(0, count);

    /// <summary>Reads a line.</summary>
    /// <returns>False for what is not a line of metrics: damaged, or without a step.</returns>
    public bool TryRead(ReadOnlySpan<byte> line, SeriesNames names)
    {
        (Step, Tokens, Seconds, HasExpertLoad, count) = (-1, -1, 0, false, 0);
        End = Reason = null;
        try
        {
            var reader = new Utf8JsonReader(line);
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) return false;
            int likely = 0;
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                if (reader.ValueTextEquals("step"u8)) Step = Integer(ref reader);
                else if (reader.ValueTextEquals("tokens"u8)) Tokens = Integer(ref reader);
                else if (reader.ValueTextEquals("seconds"u8)) Seconds = Number(ref reader) is > 0 and < LongestStep and var s ? s : 0;
                else if (reader.ValueTextEquals("val_tokens"u8)) reader.Skip();
                else if (reader.ValueTextEquals("end"u8)) End = Ends.FirstOrDefault(Text(ref reader).Equals);
                else if (reader.ValueTextEquals("reason"u8)) Reason = Text(ref reader) is { Length: > 0 } reason ? reason[..Math.Min(reason.Length, LongestReason)] : null;
                else if (reader.ValueTextEquals("expert_load"u8) || reader.ValueTextEquals("expert_layers"u8))
                {
                    HasExpertLoad = true;
                    return Step >= 0 && line[^1] == '}';
                }
                else ReadSeries(ref reader, names, ref likely);
            }

            // What stands behind the object makes the line something else.
            return reader.TokenType == JsonTokenType.EndObject && !reader.Read() && Step >= 0;
        }
        catch (Exception error) when (error is JsonException or FormatException or InvalidOperationException)
        {
            return false;
        }
    }

    private void ReadSeries(ref Utf8JsonReader reader, SeriesNames names, ref int likely)
    {
        Utf8JsonReader name = reader;
        reader.Read();
        if (reader.TokenType == JsonTokenType.Number)
        {
            Add(ref name, names, 0, reader.GetDouble(), ref likely);
            return;
        }

        if (reader.TokenType != JsonTokenType.StartArray)
        {
            reader.Skip();
            return;
        }

        // How uneven the loads are is a number a layer; the worst one is what people watch.
        bool isImbalance = name.ValueTextEquals("load_imbalance"u8);
        double largest = double.NegativeInfinity;
        int element = 0;
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number)
            {
                reader.Skip();
                continue;
            }

            double value = reader.GetDouble();
            if (isImbalance) largest = Math.Max(largest, value);
            else if (++element <= MostElements) Add(ref name, names, element, value, ref likely);
        }

        if (double.IsFinite(largest)) Add(ref name, names, 0, largest, ref likely);
    }

    private void Add(ref Utf8JsonReader name, SeriesNames names, int element, double value, ref int likely)
    {
        if (!float.IsFinite((float)value) || count == series.Length) return;
        int index = names.Find(ref name, element, likely);
        if (index < 0) return;
        (series[count], values[count]) = (index, value);
        count++;
        likely = index + 1;
    }

    private static long Integer(ref Utf8JsonReader reader)
    {
        reader.Read();
        return reader.TokenType == JsonTokenType.Number && reader.TryGetInt64(out long number) && number >= 0 ? number : -1;
    }

    private static string Text(ref Utf8JsonReader reader)
    {
        reader.Read();
        if (reader.TokenType == JsonTokenType.String) return reader.GetString()!;
        reader.Skip();
        return "";
    }

    private static double Number(ref Utf8JsonReader reader)
    {
        reader.Read();
        return reader.TokenType == JsonTokenType.Number ? reader.GetDouble() : 0;
    }
}
