// The argument for promotion ([P] §3.3.2), run instead of quoted: products of E4M3 operands summed in FP32, in Hopper's accumulator,
// and in Hopper's accumulator with promotion, each against the same products summed in float64. Quantisation is not part of the
// error: both sides multiply the same quantised operands.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Studies;

/// <summary>The error of one product.</summary>
/// <param name="Operands">What was multiplied.</param>
/// <param name="Accumulation">How it was summed.</param>
/// <param name="Depth">Length of the sums, K.</param>
/// <param name="RootMeanSquare">Root mean square of the error over that of the result.</param>
/// <param name="Largest">Largest error over the root mean square of the result.</param>
/// <param name="Median">Median over the elements of |error| / |element|.</param>
public sealed record AccumulationError(OperandKind Operands, Accumulation Accumulation, int Depth, double RootMeanSquare, double Largest, double Median);

/// <summary>Errors of a product as functions of its depth.</summary>
public static class AccumulationStudy
{
    /// <summary>Rows and columns of the result, unless told otherwise.</summary>
    public const int DefaultSize = 128;

    /// <summary>Depth at which the report gives its number.</summary>
    public const int PaperDepth = 4096;

    /// <summary>32 to 16384 by doublings.</summary>
    public static IReadOnlyList<int> DefaultDepths { get; } = [.. Enumerable.Range(5, 10).Select(power => 1 << power)];

    /// <summary>The ways of summing that are compared.</summary>
    public static IReadOnlyList<Accumulation> Accumulations { get; } =
        [Accumulation.HopperWithoutPromotion, Accumulation.Hopper(512), Accumulation.Hopper(), Accumulation.Hopper(32), Accumulation.Fp32];

    /// <summary>Measures all ways of summing for every kind of operands and depth.</summary>
    /// <param name="device">Where to multiply.</param>
    /// <param name="depths">Lengths of the sums.</param>
    /// <param name="size">Rows and columns of the results; the largest error grows a little with their number.</param>
    /// <param name="seed">Seed of the operands.</param>
    /// <param name="stop">Stops between products.</param>
    /// <exception cref="FathomException">A depth or the size is not positive, or too large.</exception>
    public static IEnumerable<AccumulationError> Run(CpuDevice device, IReadOnlyList<int> depths, int size = DefaultSize, ulong seed = 1, CancellationToken stop = default)
    {
        const int Largest = 1 << 20;
        foreach (int depth in depths)
        {
            if (depth is < 1 or > Largest) throw new FathomException($"accumulation study: --k {depth}; give depths from 1 to {Largest}");
        }

        if (size is < 1 or > 4096) throw new FathomException($"accumulation study: --size {size}; give 1 to 4096");
        return Measure();

        IEnumerable<AccumulationError> Measure()
        {
            foreach (OperandKind kind in Enum.GetValues<OperandKind>())
            {
                foreach (int depth in depths)
                {
                    StudyOperands operands = StudyOperands.Draw(device, kind, size, size, depth, seed);
                    double[] exact = Exact(device, operands);
                    Tensor result = device.Allocate(new Shape(size, size), DType.F32, MemoryKind.Workspace);
                    foreach (Accumulation accumulation in Accumulations)
                    {
                        stop.ThrowIfCancellationRequested();
                        ILinearOperators linear = accumulation.IsHopper ? new EmulatedGemm(device.Team, accumulation) : device.Linear;
                        linear.Forward(operands.Left, operands.Right, result);
                        yield return Compare(kind, accumulation, depth, exact, result.AsSpan<float>());
                    }
                }
            }
        }
    }

    private static AccumulationError Compare(OperandKind kind, Accumulation accumulation, int depth, double[] exact, ReadOnlySpan<float> actual)
    {
        double squares = 0, errorSquares = 0, largest = 0;
        var ratios = new double[exact.Length];
        for (int i = 0; i < exact.Length; i++)
        {
            double error = Math.Abs(actual[i] - exact[i]);
            squares += exact[i] * exact[i];
            errorSquares += error * error;
            largest = Math.Max(largest, error);
            ratios[i] = error == 0 ? 0 : error / Math.Abs(exact[i]);
        }

        Array.Sort(ratios);
        return new AccumulationError(kind, accumulation, depth, Math.Sqrt(errorSquares / squares), largest / Math.Sqrt(squares / exact.Length), ratios[ratios.Length / 2]);
    }

    /// <summary>The product of the operands' values in float64, [M, N].</summary>
    private static double[] Exact(CpuDevice device, StudyOperands operands)
    {
        double[][] left = Values(device, operands.Left), right = Values(device, operands.Right);
        var exact = new double[left.Length * right.Length];
        Parallel.For(0, left.Length, new ParallelOptions { MaxDegreeOfParallelism = device.Team.Size }, m =>
        {
            for (int n = 0; n < right.Length; n++)
            {
                ReadOnlySpan<double> a = left[m], b = right[n];
                double sum = 0;
                for (int k = 0; k < a.Length; k++) sum += a[k] * b[k];
                exact[m * right.Length + n] = sum;
            }
        });
        return exact;
    }

    private static double[][] Values(Device device, in ScaledTensor matrix)
    {
        Tensor values = device.Allocate(matrix.Shape, DType.F32, MemoryKind.Workspace);
        device.Quantization.Dequantize(matrix, values);
        var rows = new double[matrix.Elements.Rows][];
        for (int r = 0; r < rows.Length; r++) rows[r] = [.. values.Row<float>(r).ToArray().Select(value => (double)value)];
        return rows;
    }
}
