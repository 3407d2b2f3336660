// Loads of all experts at some steps. Only where they lie in the file is kept; a line is read when somebody looks at it, and of a layer
// over time only that layer's row of each line.
using System.Text.Json;

namespace Fathom.Server.Runs;

/// <summary>Loads of all expert layers at a step.</summary>
/// <param name="Step">The step.</param>
/// <param name="Layers">Numbers of the expert layers in the checkpoint.</param>
/// <param name="Load">Tokens that chose each expert, [layers][E].</param>
/// <param name="Bias">Lowest and highest routing bias of each layer, where the line says.</param>
internal sealed record ExpertSnapshot(long Step, int[] Layers, long[][] Load, double[][]? Bias);

/// <summary>Where the lines with loads lie in a file.</summary>
internal sealed class ExpertLoads
{
    /// <summary>Most places that are kept; beyond that every second one is forgotten.</summary>
    private const int Most = 4096;

    private const double LargestBias = 1e30;

    private readonly List<(long Step, long Offset)> places = [];
    private long every = 1, passed;

    /// <summary>How many there are.</summary>
    public int Count => places.Count;

    /// <summary>Steps with loads, at most so many of them, the first and the last always.</summary>
    public IReadOnlyList<long> Steps(int most) => [.. Chosen(most).Select(p => p.Step)];

    /// <summary>Remembers a line.</summary>
    public void Add(long step, long offset)
    {
        // The newest is always there; it goes when the next comes, unless it is one of every so many.
        if (passed > 0 && (passed - 1) % every != 0) places.RemoveAt(places.Count - 1);
        places.Add((step, offset));
        passed++;
        if (places.Count < Most || (passed - 1) % every != 0) return;
        (long, long) newest = places[^1];
        for (int i = 1; i < Most / 2; i++) places[i] = places[2 * i];
        places.RemoveRange(Most / 2, places.Count - Most / 2);
        places.Add(newest);
        every *= 2;
    }

    /// <summary>The loads at a step, or at the last one before it with loads; null where there are none.</summary>
    /// <param name="file">The file.</param>
    /// <param name="step">The step; null for the newest.</param>
    public ExpertSnapshot? Read(FileStream file, long? step)
    {
        int index = step is { } wanted ? places.FindLastIndex(p => p.Step <= wanted) : places.Count - 1;
        if (index < 0 && places.Count > 0) index = 0;
        return index < 0 ? null : Read(file, places[index].Offset, null);
    }

    /// <summary>The loads of one layer over time; lines that are damaged or do not have the layer are left out.</summary>
    /// <param name="file">The file.</param>
    /// <param name="layer">Number of the layer in the checkpoint.</param>
    /// <param name="most">Most steps.</param>
    public IReadOnlyList<(long Step, long[] Load)> ReadLayer(FileStream file, int layer, int most)
    {
        List<(long Step, long[] Load)> found = [];
        foreach ((long step, long offset) in Chosen(most))
        {
            if (Read(file, offset, layer) is not { } snapshot) continue;
            int row = Array.IndexOf(snapshot.Layers, layer);
            if (row < 0 || row >= snapshot.Load.Length || snapshot.Load[row].Length == 0) continue;
            if (found.Count > 0 && found[0].Load.Length != snapshot.Load[row].Length) continue;
            found.Add((step, snapshot.Load[row]));
        }

        return found;
    }

    private IEnumerable<(long Step, long Offset)> Chosen(int most)
    {
        int count = Math.Min(most, places.Count);
        for (int i = 0; i < count; i++) yield return places[count == 1 ? places.Count - 1 : (int)((long)i * (places.Count - 1) / (count - 1))];
    }

    /// <summary>Reads a line; of one layer alone, the others' rows are empty.</summary>
    private static ExpertSnapshot? Read(FileStream file, long offset, int? layer)
    {
        ExpertSnapshot? snapshot = null;
        JsonLines.Read(file, offset, 1, (line, _) =>
        {
            snapshot = Parse(line, layer);
            return false;
        });
        return snapshot;
    }

    private static ExpertSnapshot? Parse(ReadOnlySpan<byte> line, int? layer)
    {
        long step = -1;
        int[]? layers = null;
        long[][]? load = null;
        double[][]? bias = null;
        try
        {
            var reader = new Utf8JsonReader(line);
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) return null;
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                if (reader.ValueTextEquals("step"u8))
                {
                    reader.Read();
                    step = reader.GetInt64();
                }
                else if (reader.ValueTextEquals("expert_layers"u8)) layers = [.. Row(ref reader, static (ref r) => r.GetInt32())];
                else if (reader.ValueTextEquals("expert_load"u8)) load = Rows(ref reader, layer is { } one && layers is not null ? Array.IndexOf(layers, one) : null, static (ref r) => r.GetInt64());
                else if (reader.ValueTextEquals("routing_bias"u8)) bias = Rows(ref reader, null, static (ref r) => Math.Clamp(r.GetDouble(), -LargestBias, LargestBias));
                else reader.Skip();
            }
        }
        catch (Exception error) when (error is JsonException or FormatException or InvalidOperationException)
        {
            return null;
        }

        // Of one layer the other rows are empty; else all layers have the same experts.
        if (step < 0 || load is not [{ } first, ..] || layer is null && (first.Length == 0 || load.Any(row => row.Length != first.Length))) return null;
        layers ??= [.. Enumerable.Range(0, load.Length)];
        return layers.Length == load.Length ? new ExpertSnapshot(step, layers, load, bias?.Length == load.Length && bias.All(row => row.Length == 2) ? bias : null) : null;
    }

    private delegate T Getter<T>(ref Utf8JsonReader reader);

    private static T[][] Rows<T>(ref Utf8JsonReader reader, int? only, Getter<T> get)
    {
        List<T[]> rows = [];
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartArray) throw new FormatException();
        while (true)
        {
            if (only is { } one && rows.Count != one)
            {
                reader.Read();
                if (reader.TokenType == JsonTokenType.EndArray) return [.. rows];
                reader.Skip();
                rows.Add([]);
                continue;
            }

            Utf8JsonReader ahead = reader;
            ahead.Read();
            if (ahead.TokenType == JsonTokenType.EndArray)
            {
                reader = ahead;
                return [.. rows];
            }

            rows.Add([.. Row(ref reader, get)]);
        }
    }

    private static List<T> Row<T>(ref Utf8JsonReader reader, Getter<T> get)
    {
        List<T> row = [];
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartArray) throw new FormatException();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray) row.Add(get(ref reader));
        return row;
    }
}
