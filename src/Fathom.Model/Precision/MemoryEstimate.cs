// The memory of a training step from shapes and recipe alone; nothing is allocated, so a model that fits no machine at hand is
// estimated like any other. Written from the model's definition: the layers' own counters are what it is checked against.
// The trap is memory that a result keeps as it flows although only a narrower copy of it is read later; it is counted where it occurs.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>
/// Bytes that training holds at once: state that lies between steps, what one micro-batch keeps for its backward pass, and the
/// most that its scratch memory reaches.
/// </summary>
public sealed partial class MemoryEstimate
{
    private readonly long[] savedBytes;

    private MemoryEstimate(long[] savedBytes) => this.savedBytes = savedBytes;

    /// <summary>Parameters in F32.</summary>
    public long Weights { get; private init; }

    /// <summary>Copies of the matrices that products take in another format, scales included, and codes that a device keeps transposed.</summary>
    public long WeightCopies { get; private init; }

    /// <summary>Gradients in F32; routing biases have none.</summary>
    public long Gradients { get; private init; }

    /// <summary>Both moments of the optimizer.</summary>
    public long Moments { get; private init; }

    /// <summary>What is kept for the backward pass, by element type (the index is a <see cref="DType"/>); scales count as their own type.</summary>
    public ReadOnlySpan<long> SavedBytes => savedBytes;

    /// <summary>All that is kept for the backward pass.</summary>
    public long Saved => savedBytes.Sum();

    /// <summary>The most bytes that scratch memory has in use at one time, alignment and unused ends of its chunks included.</summary>
    public long Workspace { get; private init; }

    /// <summary>What lies between steps: weights, copies, gradients, moments.</summary>
    public long State => Weights + WeightCopies + Gradients + Moments;

    /// <summary>State, saved activations and workspace.</summary>
    public long Total => State + Saved + Workspace;

    /// <summary>Estimates training with one micro-batch in flight.</summary>
    /// <param name="config">The model, MTP modules as it says.</param>
    /// <param name="recipe">How numbers are stored and multiplied.</param>
    /// <param name="batch">B: sequences of a micro-batch.</param>
    /// <param name="tokens">T: tokens of a sequence.</param>
    /// <param name="moments">Type of the optimizer's moments, F32 or BF16.</param>
    /// <param name="device">How the device lays things out; null for the processor.</param>
    /// <exception cref="FathomException">No sequence, one that is too short for the MTP modules, or a width that the recipe's formats cannot hold.</exception>
    public static MemoryEstimate For(ModelConfig config, Recipe recipe, int batch, int tokens, DType moments, DeviceTraits? device = null)
    {
        if (batch < 1) throw new FathomException($"memory: the batch is {batch}, expected at least one sequence");
        if (tokens <= config.NumNextnPredictLayers)
            throw new FathomException($"memory: sequences of {tokens} tokens are too short for {config.NumNextnPredictLayers} MTP modules");
        long values = (long)config.NumAttentionHeads * config.VHeadDim;
        if (recipe.SavedAttentionOutput.Elements == DType.E5M6Pair && values % 2 != 0)
            throw new FathomException($"memory: recipe: saved_attention_output is '{recipe.SavedAttentionOutput}', which holds pairs, and num_attention_heads x v_head_dim is odd, {values}; choose another format");

        device ??= DeviceTraits.Processor;
        var kept = new KeptFormats(recipe.On(device.HoldsBFloat16), device);
        long parameters = 0, trained = 0, copies = 0;
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config).Where(t => t.CopyOf is null))
        {
            long elements = tensor.Shape.Aggregate(1L, (product, size) => product * size);
            parameters += elements;
            if (tensor.Part != ModelPart.RoutingBias) trained += elements;
            OperandFormat format = OperandFormatOf(tensor, recipe);
            if (format != OperandFormat.F32) copies += format.Bytes(tensor.Shape[0], tensor.Shape[1]);
            int experts = tensor.Part == ModelPart.RoutedExperts ? config.NRoutedExperts : 0;
            if (tensor.Precision == TensorPrecision.Linear &&
                device.KeepsTransposed(kept.Recipe.ActivationGradient.Traits, format.Traits, tensor.Shape[0], tensor.Shape[1], experts))
                copies += elements * format.Elements.SizeInBytes();
        }

        return new MemoryEstimate(new SavedActivations(config, kept, batch, tokens).Bytes)
        {
            Weights = parameters * DType.F32.SizeInBytes(),
            WeightCopies = copies,
            Gradients = trained * DType.F32.SizeInBytes(),
            Moments = 2 * trained * moments.SizeInBytes(),
            Workspace = new WorkspaceTrace(config, kept, batch, tokens).Peak,
        };
    }

    /// <summary>The format in which products take a tensor; F32 is the parameter itself.</summary>
    private static OperandFormat OperandFormatOf(LayoutTensor tensor, Recipe recipe) => tensor.Precision == TensorPrecision.Linear
        ? recipe.WeightFormat(ParameterRole.Linear)
        : tensor.Part is ModelPart.Head or ModelPart.MtpProjection ? recipe.WeightFormat(ParameterRole.Matrix) : OperandFormat.F32;

    /// <summary>In which format a recipe keeps the inputs of linear layers; null where the backward pass computes one again.</summary>
    /// <param name="recipe">The recipe, as the device runs it.</param>
    /// <param name="device">How the device lays things out.</param>
    private sealed class KeptFormats(Recipe recipe, DeviceTraits device)
    {
        /// <summary>The recipe, as the device runs it.</summary>
        public Recipe Recipe => recipe;

        /// <summary>How the device lays things out.</summary>
        public DeviceTraits Device => device;

        /// <summary>What flows between layers.</summary>
        public OperandFormat Flow { get; } = device.HoldsBFloat16 ? recipe.Plain : OperandFormat.F32;

        /// <summary>Whether results as they flow are what the backward pass reads.</summary>
        public bool KeepsResults => Flow == recipe.Plain;

        /// <summary>Whether the forward products of quantised layers take a copy of their input.</summary>
        public bool Quantizes { get; } = !recipe.Activation.IsPlain;

        /// <summary>Output of a norm, or a latent, in the type that the recipe computes in.</summary>
        public OperandFormat? Normed { get; } = recipe.RecomputeNorms ? null : recipe.Plain;

        /// <summary>The same where only linear layers read it.</summary>
        public OperandFormat? LinearInput => Quantizes ? Copy(null) : Normed;

        /// <summary>Input of a dense layer's down projection.</summary>
        public OperandFormat? Hidden => recipe.RecomputeSwiGlu ? null : Quantizes ? Copy(null) : recipe.Plain;

        /// <summary>Input of the experts' down projections.</summary>
        public OperandFormat? ExpertHidden { get; } = recipe.RecomputeSwiGlu ? null : recipe.SavedLinearInput;

        /// <summary>What shared experts keep: the operand or a copy of their own, or what the router keeps.</summary>
        public OperandFormat? SharedInput => Copy(Normed) ?? Normed;

        /// <summary>
        /// The copy that quantised layers keep of their input: the operand itself where both formats have the same elements; none
        /// where products take it plainly, or where it is kept plainly already and the recipe asks for no less.
        /// </summary>
        /// <param name="plain">How the input is kept for others.</param>
        public OperandFormat? Copy(OperandFormat? plain)
        {
            if (!Quantizes) return null;
            if (KeepsOperand) return recipe.Activation;
            return recipe.SavedLinearInput.IsPlain && plain is not null ? null : recipe.SavedLinearInput;
        }

        /// <summary>Whether the operand of the forward product is what is kept.</summary>
        public bool KeepsOperand => recipe.SavedLinearInput.Elements == recipe.Activation.Elements;

        /// <summary>Whether a norm whose result only linear layers read writes codes alone.</summary>
        /// <param name="columns">Of what is normalised.</param>
        /// <param name="stride">Elements from one row of it to the next.</param>
        public bool FusesNorm(long columns, long stride) => FusedNorm.Fits(recipe, device, Flow.Elements, columns, stride);
    }
}
