using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Where a tensor of the layout is stored: as a tensor of its own, or as rows of stacked experts.</summary>
/// <param name="Name">The stored tensor.</param>
/// <param name="FirstRow">First row in it, counted through the stack.</param>
/// <param name="MatrixRow">First row, counted within its matrix of the stack.</param>
/// <param name="DType">Element type.</param>
/// <param name="Rows">Rows; 1 for a vector.</param>
/// <param name="Columns">Elements of a row.</param>
/// <param name="IsScaled">Whether the elements are codes that are multiplied with a scale.</param>
internal sealed record StoredTensor(string Name, long FirstRow, long MatrixRow, DType DType, long Rows, long Columns, bool IsScaled);
