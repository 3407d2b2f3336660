namespace Fathom.Compute.Operators;

/// <summary>Where an operator that quantises its result writes to.</summary>
/// <param name="Codes">Codes and scales.</param>
/// <param name="Fault">[1], I64, -1 before: set to the first tile with a value that is not finite. Empty: not asked for.</param>
public readonly record struct CodesTarget(ScaledTensor Codes, Tensor Fault = default);
