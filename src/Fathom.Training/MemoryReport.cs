// What a training step takes, measured and predicted side by side. A real trainer is built and takes one step of one micro-batch on
// random ids: bytes depend on shapes alone, so no text is read and no run directory is made.
using System.Globalization;
using System.Text.Json.Nodes;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Training;

/// <summary>Bytes of one kind.</summary>
/// <param name="Kind">"weights", "saved BF16", …</param>
/// <param name="Measured">In a real step.</param>
/// <param name="Predicted">By <see cref="MemoryEstimate"/>.</param>
public readonly record struct MemoryRow(string Kind, long Measured, long Predicted)
{
    /// <summary>How far the prediction is off, as a share of what was measured; infinite where nothing was.</summary>
    public double Difference => Measured == Predicted ? 0 : Measured == 0 ? double.PositiveInfinity : (double)Predicted / Measured - 1;
}

/// <summary>The memory of a training step under one recipe.</summary>
public sealed class MemoryReport
{
    /// <summary>How far a prediction may be off.</summary>
    public const double Tolerance = 0.02;

    private MemoryReport(Recipe recipe, IReadOnlyList<MemoryRow> rows, MemoryRow saved, long chunks)
    {
        (Recipe, Rows, Saved, ChunkBytes) = (recipe, rows, saved, chunks);
        Total = new MemoryRow("in all", rows.Sum(r => r.Measured), rows.Sum(r => r.Predicted));
    }

    /// <summary>The recipe.</summary>
    public Recipe Recipe { get; }

    /// <summary>Every kind of which there is any: state, saved activations by element type, workspace.</summary>
    public IReadOnlyList<MemoryRow> Rows { get; }

    /// <summary>Saved activations of all element types.</summary>
    public MemoryRow Saved { get; }

    /// <summary>Sum of all kinds.</summary>
    public MemoryRow Total { get; }

    /// <summary>What saved activations and workspace really occupy, in chunks of 16 MiB and more.</summary>
    public long ChunkBytes { get; }

    /// <summary>Whether every prediction is within <see cref="Tolerance"/>.</summary>
    public bool Holds => Rows.Append(Saved).Append(Total).All(r => Math.Abs(r.Difference) <= Tolerance);

    /// <summary>The model of a run and its micro-batch, as far as they are known before the text is read.</summary>
    /// <param name="config">The run. Without a tokenizer to load, its vocabulary is as large as the configuration asks for.</param>
    /// <exception cref="FathomException">The model, tokenizer or batch file is wrong.</exception>
    public static (ModelConfig Model, int Batch, int Tokens) ShapeOf(TrainingConfig config)
    {
        ModelConfig model = TrainingRun.ResolveModel(config);
        if (config.Data.Type == DataType.Batches)
        {
            var batches = new FixedBatches(config.Data.File!, config.Data.Tensor!, model.VocabSize);
            return (model, Math.Min(config.MicroBatch, batches.BatchSize), batches.SequenceLength);
        }

        if (config.InitFrom is null)
        {
            int vocabulary = config.Tokenizer.Path is { } path ? Tokenizer.Load(path).VocabularySize : config.Tokenizer.VocabSize;
            model = model with { VocabSize = vocabulary };
        }

        return (model, config.MicroBatch, config.SequenceLength);
    }

    /// <summary>Builds a trainer, takes one step of one micro-batch and counts.</summary>
    /// <param name="device">Where to train; other work on it meanwhile would be counted too.</param>
    /// <param name="config">The run; its <see cref="TrainingConfig.Recipe"/> is the one that is measured.</param>
    /// <exception cref="FathomException">The configuration is wrong.</exception>
    public static MemoryReport Measure(Device device, TrainingConfig config)
    {
        config.Validate();
        (ModelConfig model, int batch, int tokens) = ShapeOf(config);
        MemoryEstimate estimate = MemoryEstimate.For(model, config.Recipe, batch, tokens, config.MomentType, device.Traits);
        long[] before = Allocated(device);
        TrainingConfig one = config with { MicroBatch = batch, SequenceLength = tokens, BatchSize = Schedule.Constant(batch) };
        using var trainer = new Trainer(device, model, one, new RandomIds(model.VocabSize, tokens));
        trainer.Step();
        long[] taken = [.. Allocated(device).Zip(before, (now, then) => now - then)];

        var rows = new List<MemoryRow>
        {
            new("weights", taken[(int)MemoryKind.Weights], estimate.Weights),
            new("weight copies", taken[(int)MemoryKind.WeightCopies], estimate.WeightCopies),
            new("gradients", taken[(int)MemoryKind.Gradients], estimate.Gradients),
            new($"moments, {config.MomentType}", taken[(int)MemoryKind.OptimizerMoments], estimate.Moments),
            new("moving average", taken[(int)MemoryKind.Ema], config.Ema is null ? 0 : estimate.Weights),
        };
        LayerContext context = trainer.Context;
        var saved = new MemoryRow("saved activations", 0, estimate.Saved);
        foreach (DType type in Enum.GetValues<DType>())
        {
            rows.Add(new MemoryRow($"saved {type}", context.SavedBytes[(int)type], estimate.SavedBytes[(int)type]));
            saved = saved with { Measured = saved.Measured + context.SavedBytes[(int)type] };
        }

        rows.Add(new MemoryRow("workspace", context.Scratch.PeakBytes, estimate.Workspace));
        rows.RemoveAll(r => r.Measured == 0 && r.Predicted == 0);
        return new MemoryReport(config.Recipe, rows, saved, taken[(int)MemoryKind.Activations] + taken[(int)MemoryKind.Workspace]);
    }

    /// <summary>The report as JSON: rows of kind, measured, predicted.</summary>
    public JsonObject ToJson() => new()
    {
        ["recipe"] = Recipe.ToString(),
        ["rows"] = new JsonArray([.. Rows.Append(Saved).Append(Total).Select(r => new JsonObject
        {
            ["kind"] = r.Kind,
            ["measured"] = r.Measured,
            ["predicted"] = r.Predicted,
        })]),
        ["chunk_bytes"] = ChunkBytes,
        ["holds"] = Holds,
    };

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Recipe}: {Total.Measured:N0} bytes, {Total.Predicted:N0} predicted");

    private static long[] Allocated(Device device) => [.. Enum.GetValues<MemoryKind>().Select(device.AllocatedBytes)];

    /// <summary>Ids without meaning.</summary>
    private sealed class RandomIds(int vocabulary, int length) : ITokenBatches
    {
        private readonly Philox random = new(1, "memory report");

        public int SequenceLength => length;

        public long SamplesPerEpoch => long.MaxValue;

        public void Fill(long sampleIndex, Span<int> tokens)
        {
            for (int i = 0; i < tokens.Length; i++) tokens[i] = (int)random.Integer((ulong)(sampleIndex * tokens.Length + i), vocabulary);
        }
    }
}
