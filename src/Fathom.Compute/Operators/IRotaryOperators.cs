// Rotary position embedding on interleaved pairs (x0, x1), (x2, x3), …: DeepSeek's layout, where each pair is a complex number
// that is turned by position · frequency. The tables come from the model, which knows YaRN; here is only the turning.

namespace Fathom.Compute.Operators;

/// <summary>Rotation of the rotary part of queries and keys, in place.</summary>
public interface IRotaryOperators
{
    /// <summary>
    /// Turns columns <paramref name="offset"/> to offset + 2P - 1 of every head. The backward pass is the inverse turn.
    /// </summary>
    /// <param name="x">[M, H, dh], F32; a row is one token's heads (row stride applies between heads' rows: [M, H·dh] views are given as [M, H, dh]; a strided [M, dh] view counts as one head).</param>
    /// <param name="offset">First rotary column within a head.</param>
    /// <param name="cos">[positions, P], F32, where P is half the rotary dimension.</param>
    /// <param name="sin">[positions, P], F32.</param>
    /// <param name="positions">[M], I32: the row of the tables for each token.</param>
    /// <param name="inverse">Whether to turn backwards.</param>
    void Rotate(Tensor x, int offset, Tensor cos, Tensor sin, Tensor positions, bool inverse = false);
}
