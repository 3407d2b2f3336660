using Fathom.Compute;

namespace Fathom.Model;

/// <summary>The input of linear layers in a forward pass.</summary>
/// <param name="Operand">[M, in], as the products take it.</param>
/// <param name="Kept">[M, in], as it waits for the weight gradients; empty where the backward pass computes it again.</param>
public readonly record struct LinearInput(ScaledTensor Operand, ScaledTensor Kept);
