// One row of the operator table on two devices: the operands filled alike, the operator run, every result compared element by element.
using System.Globalization;
using Fathom.Numerics;

namespace Fathom.Compute.Table;

/// <summary>How far one result of a device lies from the other's.</summary>
/// <param name="Case">The row, and the operand.</param>
/// <param name="Largest">Largest finite magnitude of the expected result and of the row's addends.</param>
/// <param name="Worst">Largest difference; infinite where one is finite and the other is not.</param>
/// <param name="Excess">Largest difference relative to what is allowed for the element; at most 1.</param>
/// <param name="Where">The place and the values of the largest excess.</param>
public sealed record OperatorDifference(string Case, double Largest, double Worst, double Excess, string Where)
{
    /// <summary>Whether the result is as it should be.</summary>
    public bool Holds => Excess <= 1;

    /// <inheritdoc/>
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Case}: largest difference {Worst:E2} of {Largest:E2}, {Excess:P1} of what is allowed, {Where}");
}

/// <summary>Compares a device with another over the operator table.</summary>
public static unsafe class OperatorCheck
{
    /// <summary>One rounding to BF16 is half of this of the value.</summary>
    private const double BFloat16Step = 1.0 / 256;

    /// <summary>Runs a row on both devices.</summary>
    /// <param name="row">The row.</param>
    /// <param name="device">What is checked.</param>
    /// <param name="reference">What it should agree with.</param>
    /// <param name="seed">Of the operands.</param>
    /// <param name="rounded">Which activations hold BF16 values.</param>
    /// <param name="tolerance">Allowed difference relative to the largest value, where more than the row's own.</param>
    public static IReadOnlyList<OperatorDifference> Run(
        OperatorCase row, Device device, Device reference, int seed, BFloat16Activations rounded = BFloat16Activations.None, double tolerance = 0)
    {
        Tensor[] expected = row.Prepare(reference, seed, rounded), actual = row.Prepare(device, seed, rounded);
        double addend = row.Operands.Zip(expected).Where(o => o.First.Addend).Select(o => Largest(o.Second)).Append(row.LargestTerm?.Invoke(expected) ?? 0).Max();
        row.Run(reference, expected);
        row.Run(device, actual);
        var differences = new List<OperatorDifference>();
        for (int i = 0; i < expected.Length; i++)
        {
            Operand operand = row.Operands[i];
            if (!operand.Compare) continue;
            (Tensor result, bool intact) = OperatorCase.Fetch(device, actual[i], operand.PadColumns);
            bool rounds = OperatorCase.Rounds(operand, rounded);
            bool anyRounded = rounded != BFloat16Activations.None && row.Operands.Any(o => OperatorCase.Rounds(o, rounded));
            double bound = Math.Max(tolerance, anyRounded ? Math.Max(row.Tolerance, row.RoundedTolerance) : row.Tolerance);
            if (!device.IsHost) bound = Math.Max(bound, row.NarrowSumTolerance);
            if (expected[i].DType is not (DType.F32 or DType.BF16)) bound = 0;
            string name = $"{row} {operand.Name}{(rounded == BFloat16Activations.None ? "" : $" ({rounded} in BF16)")}";
            differences.Add(intact
                ? Compare(name, expected[i], addend, result, bound, rounds && device.HoldsBFloat16 ? BFloat16Step : 0)
                : new OperatorDifference(name, 0, double.PositiveInfinity, double.PositiveInfinity, "what lies between the rows was overwritten"));
        }

        return differences;
    }

    /// <summary>An element as a number; codes of 8-bit formats as they are.</summary>
    internal static double Value(Tensor tensor, long row, int column) => tensor.DType switch
    {
        DType.F32 => tensor.Row<float>(row)[column],
        DType.BF16 => BitConverter.UInt32BitsToSingle((uint)tensor.Row<ushort>(row)[column] << 16),
        DType.I32 => tensor.Row<int>(row)[column],
        DType.I64 => tensor.Row<long>(row)[column],
        DType.F8E4M3 or DType.F8E5M2 or DType.F8E8M0 or DType.HiF8 => tensor.Row<byte>(row)[column],
        DType.E5M6Pair => tensor.Row<Triple>(row)[column].Value,
        _ => throw new ArgumentException($"cannot compare {tensor}"),
    };

    // Terms count as much as the result: a sum of two numbers that cancel is no more exact than they are.
    private static OperatorDifference Compare(string name, Tensor expected, double addend, Tensor actual, double relativeToLargest, double relative)
    {
        double largest = Math.Max(Largest(expected), addend);
        double worst = 0, excess = 0;
        string where = "nowhere";
        for (long r = 0; r < expected.Rows; r++)
        {
            for (int c = 0; c < expected.Columns; c++)
            {
                double e = Value(expected, r, c), a = Value(actual, r, c), difference = Difference(e, a);
                if (difference == 0) continue;
                worst = Math.Max(worst, difference);
                double over = difference / (relativeToLargest * largest + relative * Math.Abs(e));
                if (over <= excess) continue;
                excess = over;
                where = string.Create(CultureInfo.InvariantCulture, $"[{r}, {c}]: {a:R} for {e:R}");
            }
        }

        return new OperatorDifference(name, largest, worst, excess, where);
    }

    private static double Largest(Tensor tensor)
    {
        double largest = 0;
        for (long r = 0; r < tensor.Rows; r++)
        {
            for (int c = 0; c < tensor.Columns; c++)
            {
                double value = Value(tensor, r, c);
                if (double.IsFinite(value)) largest = Math.Max(largest, Math.Abs(value));
            }
        }

        return largest;
    }

    // NaN and infinities must be the same in both; they do not widen what is allowed.
    private static double Difference(double expected, double actual) =>
        expected.Equals(actual) ? 0
        : double.IsFinite(expected) && double.IsFinite(actual) ? Math.Abs(expected - actual)
        : double.PositiveInfinity;

    private readonly record struct Triple(byte First, byte Second, byte Third)
    {
        public int Value => First | Second << 8 | Third << 16;
    }
}
