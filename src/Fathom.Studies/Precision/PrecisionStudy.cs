// `fathom study fp8`: what is trained, and how large. The size is chosen so that two runs and everything around them take less than
// half an hour on two cores; a learning rate that is not pushed to its limit keeps runs together that differ by rounding alone.
using System.Globalization;
using System.Text.Json.Nodes;
using Fathom.Numerics;
using Fathom.Text;
using Fathom.Training;

namespace Fathom.Studies;

/// <summary>The study of FP8 against BF16.</summary>
public static class PrecisionStudy
{
    /// <summary>Model, unless told otherwise.</summary>
    public const string DefaultPreset = "quickstart";

    /// <summary>Steps, unless told otherwise.</summary>
    public const long DefaultSteps = 600;

    /// <summary>Coefficient of the exponential average that curves are compared under ([P] figure 10).</summary>
    public const double PaperSmoothing = 0.9;

    /// <summary>Everything but the recipe.</summary>
    /// <param name="data">Text; null for the .NET API documentation of the SDK.</param>
    /// <param name="preset">Name of the model.</param>
    /// <param name="steps">Steps to train.</param>
    /// <param name="seed">Seed of weights and data order.</param>
    /// <exception cref="FathomException">No steps, or no text is given and the SDK's is not there.</exception>
    public static TrainingConfig Configure(string? data, string preset, long steps, ulong seed)
    {
        if (steps < 1) throw new FathomException(string.Create(CultureInfo.InvariantCulture, $"study: --steps is {steps}; give at least 1"));
        if (data is null && ReferencePackCorpus.Find() is null)
            throw new FathomException("study: the SDK's reference packs were not found; give text with --data PATH");
        return new TrainingConfig
        {
            Seed = seed,
            Model = JsonValue.Create(preset),
            Data = data is null ? new DataConfig { Type = DataType.ReferencePacks } : new DataConfig { Path = Path.GetFullPath(data), HeldOut = 0.02 },
            Tokenizer = new TokenizerConfig { VocabSize = 4096 },
            SequenceLength = 256,
            MicroBatch = 8,
            BatchSize = Schedule.Constant(8),
            Steps = steps,
            LearningRate = Schedule.WarmUpConstantCosine(1e-3, 1e-4, Math.Min(100, steps / 4), 0.6),
            ValidateEvery = Math.Max(1, steps / 6),
            ValidationSequences = 128,
            SaveEvery = Math.Max(1, steps / 12),
            KeepCheckpoints = 1,
        };
    }

    /// <summary><c>bf16</c>, <c>fp8</c>, <c>fp8</c> with each of the changes, and the noise floor where it is asked for.</summary>
    /// <param name="config">Everything but the recipe.</param>
    /// <param name="changes">NAME=VALUE, as <see cref="StudyVariant.Changed"/> takes them.</param>
    /// <param name="noiseFloor">Adds <see cref="StudyVariant.Reordered"/>.</param>
    public static IReadOnlyList<StudyVariant> Variants(TrainingConfig config, IEnumerable<string> changes, bool noiseFloor = false) =>
    [
        StudyVariant.Named("bf16", config),
        StudyVariant.Named("fp8", config),
        .. changes.Distinct().Select(change => StudyVariant.Changed(change, config)),
        .. noiseFloor ? [StudyVariant.Reordered(config)] : Array.Empty<StudyVariant>(),
    ];
}
