// What the copy engine can read: rows at multiples of 16 bytes. Matrices of experts may lie anywhere as long as they are equally far apart.
using System.Runtime.CompilerServices;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>Equally spaced matrices [Rows, Columns] of one type.</summary>
/// <param name="Address">First element of the first.</param>
/// <param name="ElementBytes">1 for E4M3, 2 for BF16, 4 for F32.</param>
/// <param name="Rows">Rows of each.</param>
/// <param name="Columns">Columns of each.</param>
/// <param name="RowStride">Elements from row to row.</param>
/// <param name="Count">How many.</param>
/// <param name="MatrixStride">Elements from one to the next.</param>
internal readonly record struct HopperMatrix(nint Address, int ElementBytes, long Rows, long Columns, long RowStride, long Count = 1, long MatrixStride = 0)
{
    private const int Unit = 16;
    private const long MostStrideBytes = 1L << 40;

    /// <summary>A matrix.</summary>
    public static HopperMatrix Of(Tensor matrix) => new(matrix.Address, matrix.DType.SizeInBytes(), matrix.Rows, matrix.Columns, matrix.RowStride);

    /// <summary>Whether the copy engine can read it.</summary>
    public bool CanBeLoaded =>
        Rows is > 0 and <= int.MaxValue && Columns is > 0 and <= int.MaxValue && Count > 0 &&
        Address % Unit == 0 && IsStride(RowStride) && (Count == 1 || (MatrixStride > 0 && IsStride(MatrixStride)));

    private bool IsStride(long elements) => elements * ElementBytes % Unit == 0 && elements * ElementBytes < MostStrideBytes;
}

/// <summary>Where the matrices of a layer's experts lie, and their scales; found out once.</summary>
/// <param name="Elements">The codes or values; Count is 0 where they are not equally spaced.</param>
/// <param name="Scales">First scale of the first expert, and scales from expert to expert, where there are block scales.</param>
internal sealed record HopperExperts(HopperMatrix Elements, (nint Address, long RowStride, long MatrixStride) Scales)
{
    private static readonly ConditionalWeakTable<ExpertWeights, HopperExperts> Known = [];

    /// <summary>Where experts lie.</summary>
    public static HopperExperts Of(ExpertWeights weights) => Known.GetValue(weights, Find);

    private static HopperExperts Find(ExpertWeights weights)
    {
        ScaledTensor first = weights[0];
        int size = first.DType.SizeInBytes();
        bool scaled = first.Layout == ScaleLayout.Block;
        long stride = weights.Count == 1 ? 0 : (weights[1].Elements.Address - first.Elements.Address) / size;
        long scaleStride = weights.Count == 1 || !scaled ? 0 : (weights[1].Scales.Address - first.Scales.Address) / sizeof(float);
        bool even = true;
        for (int e = 0; e < weights.Count; e++)
        {
            ScaledTensor expert = weights[e];
            even &= expert.Elements.Address == first.Elements.Address + (nint)(e * stride * size) && expert.Elements.RowStride == first.Elements.RowStride;
            if (scaled) even &= expert.Scales.Address == first.Scales.Address + (nint)(e * scaleStride * sizeof(float)) && expert.Scales.RowStride == first.Scales.RowStride;
        }

        var elements = new HopperMatrix(first.Elements.Address, size, weights.Outputs, weights.Inputs, first.Elements.RowStride, even ? weights.Count : 0, stride);
        return new HopperExperts(elements, scaled ? (first.Scales.Address, first.Scales.RowStride, scaleStride) : default);
    }
}
