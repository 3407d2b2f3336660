// Precision is a recipe ([P] §3.3, Table of formats in App. B): for each product of a linear layer how each operand is quantised, for
// each saved activation in which format it waits for the backward pass or whether it is computed again, and how the optimizer's
// moments are stored. Layers ask the recipe; they do not know which one runs.
using System.Text.Json;
using System.Text.Json.Serialization;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>A precision recipe. Every field can be changed on its own, which is what studies do.</summary>
public sealed record Recipe
{
    private const ScaleLayout Row = ScaleLayout.RowTile, Column = ScaleLayout.ColumnTile, Block = ScaleLayout.Block;

    /// <summary>Everything in F32: the reference.</summary>
    public static Recipe Fp32 { get; } = new() { Name = "fp32" };

    /// <summary>Results, residual stream, weights and gradients between layers in BF16; sums, norms, router, loss and main weights in F32.</summary>
    public static Recipe Bf16 { get; } = new()
    {
        Name = "bf16",
        Compute = DType.BF16,
        Activation = OperandFormat.BF16,
        Weight = OperandFormat.BF16,
        ActivationGradient = OperandFormat.BF16,
        WeightGradient = OperandFormat.BF16,
        Dispatch = OperandFormat.BF16,
        DispatchGradient = OperandFormat.BF16,
        SavedLinearInput = OperandFormat.BF16,
        SavedAttentionOutput = OperandFormat.BF16,
        SavedSwiGluInput = OperandFormat.BF16,
    };

    /// <summary>The recipe of DeepSeek-V3: E4M3 with fine-grained scales for all three products of every linear layer ([P] §3.3).</summary>
    public static Recipe Fp8 { get; } = Quantized("fp8", DType.F8E4M3);

    /// <summary>As <see cref="Fp8"/>, with Ascend HiFloat8 in the place of E4M3.</summary>
    public static Recipe HiF8 { get; } = Quantized("hif8", DType.HiF8);

    /// <summary>
    /// Inference over FP8 weights as the published model runs: inputs of linear layers quantised in 1x128 tiles, everything else in F32.
    /// </summary>
    public static Recipe Fp8Activations { get; } = Fp32 with { Activation = new(DType.F8E4M3, Row) };

    /// <summary>
    /// Inference over BF16 weights on a processor that multiplies BF16 numbers (<see cref="Device.LinearInBFloat16"/>): inputs of its products
    /// rounded to BF16, everything else in F32.
    /// </summary>
    public static Recipe Bf16Activations { get; } = Fp32 with { Activation = OperandFormat.BF16 };

    /// <summary>The named recipes.</summary>
    public static IReadOnlyList<Recipe> All { get; } = [Fp32, Bf16, Fp8, HiF8];

    /// <summary>Name of the recipe, or of the one it was made from.</summary>
    public string Name { get; init; } = "fp32";

    /// <summary>F32 or BF16: what results of layers, the residual stream and gradients between layers are rounded to.</summary>
    public DType Compute { get; init; } = DType.F32;

    /// <summary>Inputs of linear layers in the forward product.</summary>
    public OperandFormat Activation { get; init; } = OperandFormat.F32;

    /// <summary>Weights of linear layers in forward and input-gradient products; quantised once a step.</summary>
    public OperandFormat Weight { get; init; } = OperandFormat.F32;

    /// <summary>Output gradients in the input-gradient product.</summary>
    public OperandFormat ActivationGradient { get; init; } = OperandFormat.F32;

    /// <summary>Both operands of the weight-gradient product.</summary>
    public OperandFormat WeightGradient { get; init; } = OperandFormat.F32;

    /// <summary>Experts' inputs as they are dispatched.</summary>
    public OperandFormat Dispatch { get; init; } = OperandFormat.F32;

    /// <summary>Gradients of experts' outputs as they are dispatched in the backward pass.</summary>
    public OperandFormat DispatchGradient { get; init; } = OperandFormat.F32;

    /// <summary>Inputs of linear layers while they wait for the weight gradient.</summary>
    public OperandFormat SavedLinearInput { get; init; } = OperandFormat.F32;

    /// <summary>Output of the attention core, the input of o_proj, which the attention's backward pass needs too.</summary>
    public OperandFormat SavedAttentionOutput { get; init; } = OperandFormat.F32;

    /// <summary>Gate and up projections' results, the inputs of SwiGLU.</summary>
    public OperandFormat SavedSwiGluInput { get; init; } = OperandFormat.F32;

    /// <summary>Whether outputs of RMSNorm are computed again where the backward pass needs them unquantised ([P] §3.2.3).</summary>
    public bool RecomputeNorms { get; init; }

    /// <summary>Whether queries, keys and values are computed again from their latents ([P] §3.2.3).</summary>
    public bool RecomputeUpProjections { get; init; }

    /// <summary>Whether SwiGLU's output is computed again from its inputs ([P] §3.3.3).</summary>
    public bool RecomputeSwiGlu { get; init; }

    /// <summary>F32 or BF16: AdamW's moments.</summary>
    public DType OptimizerMoments { get; init; } = DType.F32;

    /// <summary>Where products of two quantised operands are summed: in FP32, or in an emulation of Hopper's accumulator ([P] §3.3.2).</summary>
    public Accumulation Promotion { get; init; }

    /// <summary>Plain format of what a recipe does not quantise: residual stream, latents before their norms, embedding, head.</summary>
    [JsonIgnore]
    public OperandFormat Plain => new(Compute);

    /// <summary>What inference computes in on a device where nothing else is asked for: BF16 where it is held, products of BF16 where it has them, else F32.</summary>
    public static Recipe ForInference(Device device) => device.HoldsBFloat16 ? Bf16 : device.LinearInBFloat16 is not null ? Bf16Activations : Fp32;

    /// <summary>
    /// The recipe as a device runs it. Where results lie in BF16, what was to stay unquantised in F32 stays in BF16: it has no more
    /// digits than that.
    /// </summary>
    /// <param name="holdsBFloat16">As <see cref="Device.HoldsBFloat16"/> says.</param>
    internal Recipe On(bool holdsBFloat16)
    {
        if (!holdsBFloat16 || Compute != DType.BF16) return this;
        return this with
        {
            Activation = Held(Activation),
            ActivationGradient = Held(ActivationGradient),
            WeightGradient = Held(WeightGradient),
            Dispatch = Held(Dispatch),
            DispatchGradient = Held(DispatchGradient),
            SavedLinearInput = Held(SavedLinearInput),
            SavedAttentionOutput = Held(SavedAttentionOutput),
            SavedSwiGluInput = Held(SavedSwiGluInput),
        };

        static OperandFormat Held(OperandFormat format) => format.IsPlain ? OperandFormat.BF16 : format;
    }

    /// <summary>In which format products take a parameter.</summary>
    public OperandFormat WeightFormat(ParameterRole role) => role switch
    {
        ParameterRole.Linear => Weight,
        ParameterRole.Matrix => Plain,
        _ => OperandFormat.F32,
    };

    /// <summary>A named recipe.</summary>
    /// <exception cref="FathomException">No such name; the message lists them.</exception>
    public static Recipe Named(string name) => All.FirstOrDefault(r => r.Name == name)
        ?? throw new FathomException($"unknown recipe '{name}'; there are {string.Join(", ", All.Select(r => r.Name))}");

    /// <summary>The smallest JSON that gives this recipe: its name, or the fields that differ from the recipe of that name.</summary>
    public void Write(Utf8JsonWriter writer)
    {
        Recipe origin = Named(Name);
        if (this == origin)
        {
            writer.WriteStringValue(Name);
            return;
        }

        writer.WriteStartObject();
        writer.WriteString("base", Name);
        foreach (RecipeField field in RecipeField.All)
        {
            if (field.Get(this) != field.Get(origin)) writer.WriteString(field.Name, field.Get(this));
        }

        writer.WriteEndObject();
    }

    /// <summary>Reads a name, or an object with "base" and the fields that differ.</summary>
    /// <exception cref="FathomException">An unknown recipe or field, or a value that a field cannot have.</exception>
    public static Recipe Read(JsonElement json)
    {
        if (json.ValueKind == JsonValueKind.String) return Named(json.GetString()!);
        if (json.ValueKind != JsonValueKind.Object) throw new FathomException("recipe: expected a name, or an object with \"base\" and fields");
        Recipe recipe = Named(json.TryGetProperty("base", out JsonElement origin) && origin.ValueKind == JsonValueKind.String ? origin.GetString()! : "fp32");
        foreach (JsonProperty property in json.EnumerateObject())
        {
            if (property.Name != "base") recipe = Field(property.Name).Set(recipe, property.Value.ValueKind == JsonValueKind.String ? property.Value.GetString()! : property.Value.GetRawText());
        }

        recipe.Validate();
        return recipe;
    }

    /// <summary>This recipe with one field changed.</summary>
    /// <param name="field">As in JSON: "activation_gradient".</param>
    /// <param name="value">A format as in "e4m3 128x128", a type, or true or false.</param>
    /// <exception cref="FathomException">An unknown field, or a value that it cannot have.</exception>
    public Recipe With(string field, string value)
    {
        Recipe changed = Field(field).Set(this, value);
        changed.Validate();
        return changed;
    }

    /// <summary>"fp8", or "fp8 with weight bf16": the name, and the fields that differ from the recipe of that name.</summary>
    public override string ToString()
    {
        Recipe origin = Named(Name);
        string changes = string.Join(", ", RecipeField.All.Where(f => f.Get(this) != f.Get(origin)).Select(f => $"{f.Name} {f.Get(this)}"));
        return changes.Length == 0 ? Name : $"{Name} with {changes}";
    }

    /// <summary>Checks that the fields fit each other and the operators.</summary>
    /// <exception cref="FathomException">Names the field, what it is and what it may be.</exception>
    public void Validate()
    {
        Operand("activation", Activation, Row, ScaleLayout.Tensor);
        Operand("weight", Weight, Block, ScaleLayout.Tensor);
        Operand("activation_gradient", ActivationGradient, Row, Block, ScaleLayout.Tensor);
        Operand("weight_gradient", WeightGradient, Column);
        Operand("dispatch", Dispatch, Row);
        Operand("dispatch_gradient", DispatchGradient, Row);
        Operand("saved_linear_input", SavedLinearInput, Row);
        Operand("saved_attention_output", SavedAttentionOutput, Row);
        Operand("saved_swiglu_input", SavedSwiGluInput, Row);

        void Operand(string field, OperandFormat format, params ReadOnlySpan<ScaleLayout> layouts)
        {
            bool paired = format.Elements == DType.E5M6Pair && field != "saved_attention_output";
            if (paired || !format.IsPlain && !layouts.Contains(format.Layout))
                throw new FathomException($"recipe: {field} cannot be '{format}'{(paired ? "; only saved_attention_output can be e5m6" : "")}");
            if (format.IsPlain && format.Elements == DType.BF16 && Compute == DType.F32 && field != "weight")
                throw new FathomException($"recipe: {field} is bf16, which needs compute to be bf16");
        }
    }

    private static RecipeField Field(string name) => RecipeField.All.FirstOrDefault(f => f.Name == name)
        ?? throw new FathomException($"recipe: unknown field '{name}'; the fields are {string.Join(", ", RecipeField.All.Select(f => f.Name))}");

    private static Recipe Quantized(string name, DType format) => Bf16 with
    {
        Name = name,
        Activation = new(format, Row),
        Weight = new(format, Block),
        ActivationGradient = new(format, Row),
        WeightGradient = new(format, Column),
        Dispatch = new(format, Row, PowerOfTwo: true),
        DispatchGradient = new(format, Row, PowerOfTwo: true),
        SavedLinearInput = new(format, Row),
        SavedAttentionOutput = new(DType.E5M6Pair, Row, PowerOfTwo: true),
        SavedSwiGluInput = new(format, Row),
        RecomputeNorms = true,
        RecomputeUpProjections = true,
        RecomputeSwiGlu = true,
        OptimizerMoments = DType.BF16,
    };
}
