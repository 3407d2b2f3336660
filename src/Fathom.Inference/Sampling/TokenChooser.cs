// The one way from logits to tokens: for the engine's steps, for drafts, for tests. Logits stay where the model computed them; what goes there
// is a rule a row, with the random number of its place, and what requests change; what comes back is ids. The device's operator gives the
// same token for the same logits everywhere, so a text depends neither on where it is chosen nor on what is chosen beside it.
using System.Numerics;
using System.Runtime.InteropServices;
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>Collects rows of logits and what each asks for, and chooses their tokens at once. Not thread-safe: it keeps its working memory.</summary>
/// <param name="device">Where the logits lie.</param>
public sealed class TokenChooser(Device device)
{
    private const string Stream = "sampling";
    private const int LeastTable = 1 << 10, WordsOfRule = SamplingRule.Bytes / sizeof(int), WordsOfAdjustment = AdjustedRow.Bytes / sizeof(int), WordsOfChange = LogitChange.Bytes / sizeof(int);
    private readonly List<SamplingRule> rules = [];
    private readonly List<int> rows = [];
    private readonly List<AdjustedRow> adjusted = [];
    private readonly List<LogitChange> changes = [];
    private readonly List<ulong> masks = [];
    private Mirror tables = new(device, new Shape(LeastTable), DType.I32);
    private Mirror tokens = new(device, new Shape(LeastTable), DType.I32);
    private int[] chosen = [];
    private int wordsOfMask;

    /// <summary>Forgets all rows.</summary>
    public void Clear()
    {
        rules.Clear();
        rows.Clear();
        adjusted.Clear();
        changes.Clear();
        masks.Clear();
    }

    /// <summary>Adds a row whose logits are taken as they are. A row may be added any number of times.</summary>
    /// <param name="row">Of the logits.</param>
    /// <param name="options">Filters and seed.</param>
    /// <param name="index">Number of the generated token, from 0: with the seed it decides the random number.</param>
    public void Add(int row, SamplingOptions options, long index)
    {
        ArgumentNullException.ThrowIfNull(options);
        rows.Add(row);
        rules.Add(new SamplingRule(options.Temperature, options.TopP, options.MinP, options.TopK, new Philox(options.Seed, Stream).UniformDouble((ulong)index)));
    }

    /// <summary>Adds a row whose logits are changed before; it must not be added again.</summary>
    /// <param name="row">Of the logits.</param>
    /// <param name="options">Filters and seed.</param>
    /// <param name="index">Number of the generated token, from 0.</param>
    /// <param name="changes">Of different tokens.</param>
    /// <param name="mask">[ceil(V / 64)]: bits of the tokens that may come; empty where all may.</param>
    public void Add(int row, SamplingOptions options, long index, ReadOnlySpan<LogitChange> changes, ReadOnlySpan<ulong> mask)
    {
        Add(row, options, index);
        if (changes.IsEmpty && mask.IsEmpty) return;
        if (!mask.IsEmpty) wordsOfMask = mask.Length;
        adjusted.Add(new AdjustedRow(row, this.changes.Count, changes.Length, mask.IsEmpty ? -1 : masks.Count / wordsOfMask));
        this.changes.AddRange(changes);
        masks.AddRange(mask);
    }

    /// <summary>Chooses the tokens of all rows that were added.</summary>
    /// <param name="logits">[M, V] F32 on the device; rows that are changed are changed there.</param>
    /// <returns>A token for each row in the order they were added, or -1 where none can be chosen: all are forbidden, or the logits are no numbers. Valid until the next call.</returns>
    public ReadOnlySpan<int> Choose(Tensor logits)
    {
        if (rows.Count == 0) return [];
        int words = WordsOfRule * rules.Count + WordsOfAdjustment * adjusted.Count + WordsOfChange * changes.Count + 2 * masks.Count + rows.Count;
        if (words > tables.Tensor.Elements) tables = Larger(words);
        if (rows.Count > tokens.Tensor.Elements) tokens = Larger(rows.Count);
        int at = 0;
        Tensor ruleTable = Place(rules, WordsOfRule, ref at), adjustedTable = Place(adjusted, WordsOfAdjustment, ref at);
        Tensor changeTable = Place(changes, WordsOfChange, ref at), maskTable = Place(masks, 2, ref at), rowTable = Place(rows, 1, ref at);
        tables.Push(at);
        if (adjusted.Count > 0)
        {
            if (masks.Count > 0) maskTable = maskTable.Reshape(new Shape(masks.Count / wordsOfMask, 2 * wordsOfMask));
            device.Sampling.Adjust(logits, Bytes(adjustedTable, AdjustedRow.Bytes), Bytes(changeTable, LogitChange.Bytes), masks.Count > 0 ? maskTable : default);
        }

        device.Sampling.Choose(logits, rowTable, Bytes(ruleTable, SamplingRule.Bytes), tokens.Tensor.Slice(0, rows.Count));
        tokens.Pull(rows.Count);
        if (chosen.Length < rows.Count) chosen = new int[BitOperations.RoundUpToPowerOf2((uint)rows.Count)];
        tokens.Host.AsSpan<int>()[..rows.Count].CopyTo(chosen);
        return chosen.AsSpan(0, rows.Count);
    }

    /// <summary>Copies a list to the table.</summary>
    /// <returns>Its place, as words.</returns>
    private Tensor Place<T>(List<T> values, int words, ref int at) where T : unmanaged
    {
        MemoryMarshal.Cast<T, int>(CollectionsMarshal.AsSpan(values)).CopyTo(tables.Host.AsSpan<int>()[at..]);
        Tensor placed = tables.Tensor.Slice(at, (long)words * values.Count);
        at += words * values.Count;
        return placed;
    }

    private static Tensor Bytes(Tensor words, int each) =>
        new(words.Address, DType.U8, new Shape(words.Elements * sizeof(int) / each, each), words.Owner);

    private Mirror Larger(int words) => new(device, new Shape(BitOperations.RoundUpToPowerOf2((uint)words)), DType.I32);
}
