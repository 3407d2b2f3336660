// What of a device decides how much memory a model takes on it. Apart from the device itself, because the question comes before one is
// opened: whether a run fits, and what it would take on a GPU that is not here. The base class is the processor.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>How a kind of device lays out what training holds.</summary>
public class DeviceTraits
{
    /// <summary>The processor's.</summary>
    public static DeviceTraits Processor { get; } = new();

    /// <summary>
    /// Whether results that a recipe rounds to BF16 lie in BF16: every operator then takes and gives what flows between layers in BF16
    /// as well as in F32. Where not, they lie in F32 and are rounded in place: what a processor without BF16 arithmetic is faster with.
    /// </summary>
    public virtual bool HoldsBFloat16 => false;

    /// <summary>How weight gradients take operands in 128x1 tiles: as they lie, or transposed (<see cref="IQuantizationOperators.QuantizeTransposed"/>).</summary>
    /// <param name="elements">Type of the codes.</param>
    /// <param name="scales">Type of the scales.</param>
    /// <param name="outputs">N.</param>
    /// <param name="inputs">K.</param>
    public virtual ScaleLayout TokenLayout(DType elements, DType scales, long outputs, long inputs) => ScaleLayout.ColumnTile;

    /// <summary>
    /// Whether the codes of weights are kept transposed too, from their first input gradient on: N·K bytes a weight, counted as
    /// <see cref="MemoryKind.WeightCopies"/>.
    /// </summary>
    /// <param name="gradient">How output gradients lie.</param>
    /// <param name="weight">How the weights lie.</param>
    /// <param name="outputs">N.</param>
    /// <param name="inputs">K.</param>
    /// <param name="experts">Weights that are multiplied in one grouped product; 0 for one that is alone.</param>
    public virtual bool KeepsTransposed(in OperandTraits gradient, in OperandTraits weight, long outputs, long inputs, int experts) => false;

    /// <summary>
    /// Whether SwiGLU reads and writes F8E4M3 in 1x128 tiles of F32 scales on its way (<see cref="IActivationOperators.SwiGluQuantized"/>
    /// and its backward pass), so that neither its result nor its recalled inputs are written out as values.
    /// </summary>
    /// <param name="type">Of the values.</param>
    /// <param name="columns">I.</param>
    public virtual bool FusesSwiGluQuantization(DType type, long columns) => false;

    /// <summary>
    /// Whether attention's backward pass (<see cref="IAttentionOperators.CausalBackward"/>) reads the forward result in a format with scales
    /// as it was kept, so that its values are never written out: where all other rows begin at multiples of 16 bytes and the softmax scale is
    /// positive.
    /// </summary>
    /// <param name="type">Of all other activations.</param>
    /// <param name="output">How the forward result lies.</param>
    /// <param name="sizes">Of the call.</param>
    /// <param name="latent">R: columns that lie in the rotary key's rows beside it.</param>
    public virtual bool ReadsAttentionCodes(DType type, in OperandTraits output, in CausalSizes sizes, long latent) => false;

    /// <summary>
    /// Whether RMSNorm writes F8E4M3 in 1x128 tiles of F32 scales (<see cref="INormOperators.RmsNormQuantized"/>), so that a result which
    /// only quantised products take is never written out as values.
    /// </summary>
    /// <param name="type">Of what is normalised.</param>
    /// <param name="columns">D.</param>
    /// <param name="stride">Elements from one row of it to the next.</param>
    public virtual bool FusesNormQuantization(DType type, long columns, long stride) => false;
}

/// <summary>How an operand lies, whatever its size.</summary>
/// <param name="Elements">Type of the elements.</param>
/// <param name="Layout">What a scale covers.</param>
/// <param name="Scales">Type of the scales; of no meaning where there are none.</param>
public readonly record struct OperandTraits(DType Elements, ScaleLayout Layout, DType Scales)
{
    /// <summary>A matrix's.</summary>
    public static OperandTraits Of(in ScaledTensor matrix) => new(matrix.DType, matrix.Layout, matrix.Layout == ScaleLayout.None ? DType.F32 : matrix.Scales.DType);
}
