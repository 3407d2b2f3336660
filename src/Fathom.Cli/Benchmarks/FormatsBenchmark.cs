// Conversions between number formats and quantisation of tiles, on one core and within the second-level cache. Beside each stands
// the memory traffic that it amounts to as a share of copying in the same cache: what moves at that speed is bound by its loads and
// stores, what does not by its instructions.
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>Speeds of the number formats.</summary>
internal static class FormatsBenchmark
{
    private const int Rows = 128, Columns = 512, Values = Rows * Columns;
    private const int Passes = 64;

    private static readonly Goal Widening = AtLeast(5), Quantising = AtLeast(2);

    /// <summary>Rows for widening, narrowing, tiles and their requantisation.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        MachinePeaks peaks = sampling.MeasurePeaks();
        double copy = peaks.CacheCopyGigabytes / peaks.Threads;
        float[] x = new float[Values], restored = new float[Values], scales = new float[Values / TileQuantizer.TileLength], columnScales = new float[Columns];
        ushort[] words = new ushort[Values];
        byte[] codes = new byte[2 * Values], packed = new byte[2 * Values], other = new byte[2 * Values];
        new Philox(1, "formats").FillNormal(x, 0, 1);
        NumberFormats.ConvertSingleToE4M3(x, codes.AsSpan(0, Values), saturate: true);
        NumberFormats.ConvertSingleToPackedE5M6(x, packed.AsSpan(0, QuantizedFormat.E5M6.Bytes(Values)), saturate: true);

        yield return Row("E4M3 to BF16", 3, Widening, () => NumberFormats.ConvertE4M3ToBFloat16(codes.AsSpan(0, Values), words));
        yield return Row("E4M3 to FP32", 5, Widening, () => NumberFormats.ConvertE4M3ToSingle(codes.AsSpan(0, Values), restored));
        yield return Row("HiF8 to FP32", 5, Widening, () => NumberFormats.ConvertHiF8ToSingle(codes.AsSpan(0, Values), restored));
        yield return Row("E5M6 to FP32", 5.5, Widening, () => NumberFormats.ConvertPackedE5M6ToSingle(packed.AsSpan(0, QuantizedFormat.E5M6.Bytes(Values)), restored));
        yield return Row("FP32 to BF16", 6, null, () => NumberFormats.ConvertSingleToBFloat16(x, words));
        yield return Row("FP32 to E4M3", 5, null, () => NumberFormats.ConvertSingleToE4M3(x, codes.AsSpan(0, Values), saturate: true));
        foreach (ScaleKind kind in Enum.GetValues<ScaleKind>())
        {
            string text = kind == ScaleKind.Single ? "FP32 scale" : "2^n scale";
            foreach (QuantizedFormat format in Enum.GetValues<QuantizedFormat>())
            {
                yield return Row(
                    $"1x128 tiles to {format}, {text}", 4 + BytesOf(format), Quantising,
                    () => TileQuantizer.QuantizeRow(x, packed, scales, format, kind));
            }
        }

        const QuantizedFormat E4M3 = QuantizedFormat.E4M3;
        yield return Row("128x128 blocks to E4M3, FP32 scale", 5, null, () =>
        {
            for (int column = 0; column < Columns; column += TileQuantizer.TileLength)
            {
                TileQuantizer.QuantizeBlock(
                    x.AsSpan(column), Columns, Rows, TileQuantizer.TileLength, codes.AsSpan(column), Columns, out _, E4M3, ScaleKind.Single);
            }
        });
        TileQuantizer.QuantizeRow(x, codes, scales, E4M3, ScaleKind.PowerOfTwo);
        yield return Row("1x128 tiles of E4M3 to FP32", 5, Widening, () => TileQuantizer.DequantizeRow(codes, scales, restored, E4M3));
        foreach (CodeOrder order in Enum.GetValues<CodeOrder>())
        {
            int stride = order == CodeOrder.RowMajor ? Columns : Rows;
            string text = order == CodeOrder.RowMajor ? "in place" : "transposed";
            yield return Row(
                $"128x1 tiles to E4M3, {text}", 5, null,
                () => TileQuantizer.QuantizeColumns(x, Columns, Rows, Columns, other, stride, columnScales, order, E4M3, ScaleKind.Single));
            yield return Row(
                $"1x128 to 128x1 tiles of E4M3, {text}", 2, null,
                () => TileQuantizer.Requantize(
                    codes, Columns, scales, Columns / TileQuantizer.TileLength, Rows, Columns, E4M3,
                    other, stride, columnScales, order, E4M3, ScaleKind.Single));
        }

        BenchmarkRow Row(string name, double bytes, Goal? goal, Action work)
        {
            work();
            double seconds = sampling.BestSeconds(() =>
            {
                for (int i = 0; i < Passes; i++) work();
            });
            double rate = Values * (double)Passes / seconds / 1e9;
            return new BenchmarkRow(name, rate, "values/ns", goal)
            {
                Note = Invariant($"{rate * bytes:F0} GB/s, {Percent(rate * bytes / copy)} of copying in cache"),
            };
        }
    }

    private static double BytesOf(QuantizedFormat format) => format == QuantizedFormat.E5M6 ? 1.5 : 1;

    private static Goal AtLeast(double rate) => new(rate, true, Invariant($"≥ {rate:F0}"));
}
