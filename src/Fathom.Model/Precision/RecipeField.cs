// The fields of a recipe by name, for configuration files and for studies that change one.
using System.Globalization;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>One field: its name in JSON, and how it is read from a recipe and set as text.</summary>
internal sealed record RecipeField(string Name, Func<Recipe, string> Get, Func<Recipe, string, Recipe> Set)
{
    /// <summary>All fields, in the order in which they are written.</summary>
    public static IReadOnlyList<RecipeField> All { get; } =
    [
        Type("compute", r => r.Compute, (r, v) => r with { Compute = v }),
        Format("activation", r => r.Activation, (r, v) => r with { Activation = v }),
        Format("weight", r => r.Weight, (r, v) => r with { Weight = v }),
        Format("activation_gradient", r => r.ActivationGradient, (r, v) => r with { ActivationGradient = v }),
        Format("weight_gradient", r => r.WeightGradient, (r, v) => r with { WeightGradient = v }),
        Format("dispatch", r => r.Dispatch, (r, v) => r with { Dispatch = v }),
        Format("dispatch_gradient", r => r.DispatchGradient, (r, v) => r with { DispatchGradient = v }),
        Format("saved_linear_input", r => r.SavedLinearInput, (r, v) => r with { SavedLinearInput = v }),
        Format("saved_attention_output", r => r.SavedAttentionOutput, (r, v) => r with { SavedAttentionOutput = v }),
        Format("saved_swiglu_input", r => r.SavedSwiGluInput, (r, v) => r with { SavedSwiGluInput = v }),
        Switch("recompute_norms", r => r.RecomputeNorms, (r, v) => r with { RecomputeNorms = v }),
        Switch("recompute_up_projections", r => r.RecomputeUpProjections, (r, v) => r with { RecomputeUpProjections = v }),
        Switch("recompute_swiglu", r => r.RecomputeSwiGlu, (r, v) => r with { RecomputeSwiGlu = v }),
        Type("optimizer_moments", r => r.OptimizerMoments, (r, v) => r with { OptimizerMoments = v }),
        new("promotion", r => PromotionText(r.Promotion), (r, text) => r with { Promotion = ParsePromotion(text) }),
    ];

    private static RecipeField Format(string name, Func<Recipe, OperandFormat> get, Func<Recipe, OperandFormat, Recipe> set) => new(
        name, r => get(r).ToString(), (r, text) =>
        {
            try
            {
                return set(r, OperandFormat.Parse(text));
            }
            catch (FathomException e)
            {
                throw new FathomException($"recipe: {name}: {e.Message}");
            }
        });

    private static RecipeField Type(string name, Func<Recipe, DType> get, Func<Recipe, DType, Recipe> set) => new(
        name, r => new OperandFormat(get(r)).ToString(), (r, text) => text switch
        {
            "f32" => set(r, DType.F32),
            "bf16" => set(r, DType.BF16),
            _ => throw new FathomException($"recipe: {name} is '{text}', expected f32 or bf16"),
        });

    private static string PromotionText(Accumulation accumulation) => !accumulation.IsHopper
        ? "fp32"
        : accumulation.PromotionInterval?.ToString(CultureInfo.InvariantCulture) ?? "none";

    private static Accumulation ParsePromotion(string text) => text switch
    {
        "fp32" => Accumulation.Fp32,
        "none" => Accumulation.HopperWithoutPromotion,
        _ when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int interval) && interval > 0 && interval % 32 == 0 => Accumulation.Hopper(interval),
        _ => throw new FathomException($"recipe: promotion is '{text}', expected fp32 (sums in FP32), none (Hopper's accumulator, never promoted) or a multiple of 32 (promoted at that distance)"),
    };

    private static RecipeField Switch(string name, Func<Recipe, bool> get, Func<Recipe, bool, Recipe> set) => new(
        name, r => get(r) ? "true" : "false", (r, text) => text switch
        {
            "true" => set(r, true),
            "false" => set(r, false),
            _ => throw new FathomException($"recipe: {name} is '{text}', expected true or false"),
        });
}
