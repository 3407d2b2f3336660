// SwiGLU, with the gate of a routed expert multiplied in before the down projection: (g·h) W = g·(h W), so the expert's output
// need not be kept to get the gate's gradient.

namespace Fathom.Compute.Operators;

/// <summary>y = silu(gate) · up [· rowScale], where silu(a) = a / (1 + exp(-a)). M rows of I columns, F32.</summary>
public interface IActivationOperators
{
    /// <summary>The forward pass.</summary>
    /// <param name="gate">[M, I].</param>
    /// <param name="up">[M, I].</param>
    /// <param name="rowScale">[M], or empty for one.</param>
    /// <param name="y">[M, I]; may be gate or up itself.</param>
    void SwiGlu(Tensor gate, Tensor up, Tensor rowScale, Tensor y);

    /// <summary>The backward pass.</summary>
    /// <param name="dy">[M, I].</param>
    /// <param name="gate">[M, I].</param>
    /// <param name="up">[M, I].</param>
    /// <param name="rowScale">[M], or empty.</param>
    /// <param name="dgate">[M, I]; may be dy or gate itself.</param>
    /// <param name="dup">[M, I]; may be up itself.</param>
    /// <param name="drowScale">[M]: Σ dy · silu(gate) · up; empty where rowScale is.</param>
    void SwiGluGradient(Tensor dy, Tensor gate, Tensor up, Tensor rowScale, Tensor dgate, Tensor dup, Tensor drowScale);
}
