// The rules by which a GPU's operators keep and lay out what training holds: pure, from the chip's capability, types and sizes. The
// operators themselves go by them, so that what is predicted from here is what they do.
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="DeviceTraits"/> of GPUs.</summary>
internal sealed class CudaTraits : DeviceTraits
{
    private const int Chunk = 8; // values of BF16 in 16 bytes

    private readonly bool hopper;

    private CudaTraits(bool hopper) => this.hopper = hopper;

    /// <summary>Of GPUs of compute capability 9.0.</summary>
    public static CudaTraits Hopper { get; } = new(true);

    /// <summary>Of other GPUs.</summary>
    public static CudaTraits Other { get; } = new(false);

    /// <summary>Of a GPU.</summary>
    /// <param name="capability">Ten times the major and once the minor number.</param>
    public static CudaTraits Of(int capability) => HopperLinear.IsSupported(capability) ? Hopper : Other;

    public override bool HoldsBFloat16 => true;

    public override ScaleLayout TokenLayout(DType elements, DType scales, long outputs, long inputs) =>
        hopper && elements == DType.F8E4M3 && scales == DType.F32 && outputs % 8 == 0 && inputs % 8 == 0 ? ScaleLayout.TransposedColumnTile : ScaleLayout.ColumnTile;

    // A grouped product takes weights with F32 scales only. One alone may have others: cuBLASLt takes them in the order that it wants.
    public override bool KeepsTransposed(in OperandTraits gradient, in OperandTraits weight, long outputs, long inputs, int experts) =>
        hopper && gradient is { Elements: DType.F8E4M3, Layout: ScaleLayout.RowTile } && weight is { Elements: DType.F8E4M3, Layout: ScaleLayout.Block } &&
        HopperTransposes.Fit(outputs, inputs) && (experts == 0 || weight.Scales == DType.F32 && experts <= HopperTile.MostGroups);

    public override bool FusesSwiGluQuantization(DType type, long columns) => type == DType.BF16 && columns % Chunk == 0;

    public override bool ReadsAttentionCodes(DType type, in OperandTraits output, in CausalSizes sizes, long latent) =>
        hopper && HopperAttentionPlan.ReadsCodes(output) && HopperAttentionPlan.Takes(type, sizes, scale: 1, aligned: latent % Chunk == 0, HopperAttentionPlan.Capability);

    public override bool FusesNormQuantization(DType type, long columns, long stride) => type == DType.BF16 && columns % Chunk == 0 && stride % Chunk == 0;
}
