namespace Fathom.Compute.Operators;

/// <summary>Where an operator that quantises its result writes to.</summary>
/// <param name="Codes">Codes and scales.</param>
/// <param name="Fault">[1], I64, -1 before: set to the first tile with a value that is not finite. Empty: not asked for.</param>
public readonly record struct CodesTarget(ScaledTensor Codes, Tensor Fault = default);

/// <summary>Where the codes of an output gradient go: as the input gradient takes them, and as the weight gradient does.</summary>
/// <param name="OfRows">[M, N], F8E4M3 in 1x128 tiles with F32 scales.</param>
/// <param name="OverRows">The same in 128x1 tiles, the elements transposed: F8E4M3 [N, 128 T], F32 scales [T, N].</param>
public readonly record struct GradientTarget(CodesTarget OfRows, CodesTarget OverRows);
