// One line of a study: a training configuration under a name. Between the variants of a study only the recipe differs, or whatever
// else is being studied; seed, data and steps are the same, so that step n of all of them sees the same tokens.
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Training;

namespace Fathom.Studies;

/// <summary>A run of a study.</summary>
/// <param name="Name">Its name, in tables and as the name of its run directory.</param>
/// <param name="Config">What is trained.</param>
public sealed record StudyVariant(string Name, TrainingConfig Config)
{
    /// <summary>The configuration under a named recipe.</summary>
    /// <exception cref="FathomException">No recipe has this name.</exception>
    public static StudyVariant Named(string recipe, TrainingConfig config) => new(recipe, config with { Recipe = Recipe.Named(recipe) });

    /// <summary>
    /// <c>bf16</c> with every batch in twice as many micro-batches: the same sums in another order. How far it drifts from <c>bf16</c>
    /// is what rounding alone does to a run of this length; a smaller difference of another variant says nothing.
    /// </summary>
    /// <exception cref="FathomException">A micro-batch is a single sequence.</exception>
    public static StudyVariant Reordered(TrainingConfig config) => config.MicroBatch % 2 == 0
        ? new("bf16-reordered", config with { Recipe = Recipe.Named("bf16"), MicroBatch = config.MicroBatch / 2 })
        : throw new FathomException($"study: a noise floor needs micro-batches of an even number of sequences to cut in half, and they have {config.MicroBatch}");

    /// <summary>
    /// The configuration under <c>fp8</c> with one thing changed: activation-gradient=block128, scales=pow2, optimizer-moments=f32,
    /// o-proj-cache=e4m3, promotion=none (or a number of elements), format=hif8, or any field of a recipe with a value of its own.
    /// </summary>
    /// <param name="change">NAME=VALUE.</param>
    /// <param name="config">Everything but the recipe.</param>
    /// <exception cref="FathomException">Not NAME=VALUE, or nothing that a recipe has.</exception>
    public static StudyVariant Changed(string change, TrainingConfig config)
    {
        string[] parts = change.Split('=', 2, StringSplitOptions.TrimEntries);
        if (parts.Length != 2 || parts[0].Length == 0 || parts[1].Length == 0)
            throw new FathomException($"--vary {change}: expected NAME=VALUE, such as activation-gradient=block128, scales=pow2, optimizer-moments=f32, o-proj-cache=e4m3, promotion=none or format=hif8");
        Recipe recipe = (parts[0], parts[1]) switch
        {
            ("activation-gradient", "block128") => Recipe.Fp8.With("activation_gradient", "e4m3 128x128"),
            ("scales", "pow2") => WithPowerOfTwoScales(Recipe.Fp8),
            ("o-proj-cache", "e4m3") => Recipe.Fp8.With("saved_attention_output", "e4m3 1x128"),
            ("format", "hif8") => Recipe.HiF8,
            (var field, var value) => Recipe.Fp8.With(field.Replace('-', '_'), value),
        };
        return new StudyVariant($"fp8-{FileName(parts[0])}-{FileName(parts[1])}", config with { Recipe = recipe });
    }

    private static Recipe WithPowerOfTwoScales(Recipe recipe) => recipe with
    {
        Activation = recipe.Activation with { PowerOfTwo = true },
        Weight = recipe.Weight with { PowerOfTwo = true },
        ActivationGradient = recipe.ActivationGradient with { PowerOfTwo = true },
        WeightGradient = recipe.WeightGradient with { PowerOfTwo = true },
        SavedLinearInput = recipe.SavedLinearInput with { PowerOfTwo = true },
        SavedSwiGluInput = recipe.SavedSwiGluInput with { PowerOfTwo = true },
    };

    private static string FileName(string text) => string.Concat(text.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '-'));
}
