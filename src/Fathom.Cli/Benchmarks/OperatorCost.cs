// What an operator call must do at least: the multiplications of its contract, and every byte of its operands moved once. A result that
// is added to is read as well. Nothing is counted for operands that are written out on the way: that is what a kernel can save.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>The least work of a call.</summary>
/// <param name="Label">Shape and types.</param>
/// <param name="Flops">Floating-point operations of products.</param>
/// <param name="IsFp8">Whether both factors are 8-bit.</param>
/// <param name="Bytes">Bytes read and written.</param>
/// <param name="IsBFloat16">Whether a processor may multiply BF16 numbers: the weights are.</param>
internal readonly record struct OperatorCost(string Label, double Flops, bool IsFp8, double Bytes, bool IsBFloat16 = false)
{
    /// <summary>Seconds that the card's own measured rates allow.</summary>
    public double Floor(GpuCeilings ceilings)
    {
        double rate = IsFp8 && ceilings.Fp8Teraflops > 0 ? ceilings.Fp8Teraflops : ceilings.BFloat16Teraflops;
        return Math.Max(Flops / 1e12 / rate, Bytes / 1e12 / ceilings.CopyTerabytes);
    }

    /// <summary>Seconds that the processor's measured rates allow.</summary>
    public double Floor(MachinePeaks peaks)
    {
        double rate = IsBFloat16 && peaks.BFloat16Gigaflops > 0 ? peaks.BFloat16Gigaflops : peaks.TeamGigaflops;
        return Math.Max(Flops / 1e9 / rate, Bytes / 1e9 / peaks.ReadGigabytes);
    }

    /// <summary>The cost of a call.</summary>
    /// <param name="family">"linear", …</param>
    /// <param name="name">The method.</param>
    /// <param name="arguments">In the method's order.</param>
    public static OperatorCost Of(string family, string name, ReadOnlySpan<object?> arguments) => family switch
    {
        "linear" => Product(name, arguments),
        "attention" when name == "LatentDecode" => Decode(arguments),
        "attention" => Attention(name, arguments),
        "rotary" => Rotary(arguments),
        _ => Traffic(arguments),
    };

    private static OperatorCost Product(string name, ReadOnlySpan<object?> arguments)
    {
        var left = (ScaledTensor)arguments[0]!;
        bool grouped = name.StartsWith("Grouped", StringComparison.Ordinal), weights = name.EndsWith("WeightGradient", StringComparison.Ordinal);
        (long outputs, long inputs) = weights ? Last((Tensor)arguments[grouped ? 3 : 2]!)
            : grouped ? (((ExpertWeights)arguments[2]!).Outputs, ((ExpertWeights)arguments[2]!).Inputs)
            : Last(((ScaledTensor)arguments[1]!).Elements);
        DType right = !grouped || weights ? ((ScaledTensor)arguments[1]!).DType : ((ExpertWeights)arguments[2]!).DType;
        long rows = left.Shape.Rows;
        string label = Invariant($"M={rows} N={outputs} K={inputs} {Name(left.DType)}{(right == left.DType ? "" : $" x {Name(right)}")}{(Adds(arguments) ? " +=" : "")}");
        return new OperatorCost(label, 2.0 * rows * outputs * inputs, left.DType.SizeInBytes() == 1 && right.SizeInBytes() == 1, Moved(arguments), name.EndsWith("Forward", StringComparison.Ordinal) && right == DType.BF16);

        static (long, long) Last(Tensor tensor) => (tensor.Shape.Rank == 3 ? tensor.Shape[1] : tensor.Rows, tensor.Columns);
    }

    private static OperatorCost Attention(string name, ReadOnlySpan<object?> arguments)
    {
        Tensor q = (Tensor)arguments[0]!, kv = (Tensor)arguments[1]!, rope = (Tensor)arguments[2]!;
        bool backward = name == "CausalBackward";
        int batch = (int)arguments[backward ? 7 : 4]!;
        long tokens = q.Shape[0] / batch, heads = q.Shape[1], key = q.Shape[2], value = kv.Shape[2] - (key - rope.Columns);
        double pairs = (double)batch * heads * tokens * (tokens + 1) / 2;
        double flops = 2 * pairs * (backward ? 3 * key + 2 * value : key + value);
        string kept = backward && arguments[3] is ScaledTensor { Layout: not ScaleLayout.None } codes ? $", output {Name(codes.DType)}" : "";
        return new OperatorCost(Invariant($"B={batch} T={tokens} H={heads} {key}/{value} {Name(q.DType)}{kept}"), flops, false, Moved(arguments));
    }

    // Queries into the latent space and sums out of it, scores and sums over the tokens that each sequence has in the cache.
    private static OperatorCost Decode(ReadOnlySpan<object?> arguments)
    {
        Tensor q = (Tensor)arguments[0]!, cache = (Tensor)arguments[2]!, lengths = (Tensor)arguments[4]!, output = (Tensor)arguments[6]!;
        var kvB = (ScaledTensor)arguments[1]!;
        long batch = q.Shape[0], heads = q.Shape[1], latent = kvB.Shape.Columns, key = cache.Shape[2], nope = q.Shape[2] - (key - latent), value = output.Shape[2], tokens = 0;
        foreach (int length in lengths.AsSpan<int>()) tokens += length;
        double flops = 2.0 * heads * (batch * latent * (nope + value) + tokens * (key + latent));
        double bytes = kvB.Bytes + q.Bytes + output.Bytes + (double)tokens * key * cache.DType.SizeInBytes();
        return new OperatorCost(Invariant($"B={batch} {tokens} tokens H={heads} {key}/{latent} {Name(cache.DType)}"), flops, false, bytes);
    }

    // In place, and only the part of each head that turns.
    private static OperatorCost Rotary(ReadOnlySpan<object?> arguments)
    {
        Tensor x = (Tensor)arguments[0]!, cos = (Tensor)arguments[2]!;
        return new OperatorCost(Describe(x), 0, false, 2.0 * x.Rows * 2 * cos.Columns * x.DType.SizeInBytes());
    }

    private static OperatorCost Traffic(ReadOnlySpan<object?> arguments)
    {
        Tensor largest = default;
        foreach (object? argument in arguments)
        {
            Tensor one = argument switch { Tensor tensor => tensor, ScaledTensor scaled => scaled.Elements, _ => default };
            if (!one.IsEmpty && (largest.IsEmpty || one.Bytes > largest.Bytes)) largest = one;
        }

        string layouts = "";
        foreach (object? argument in arguments)
        {
            ScaledTensor codes = argument switch { ScaledTensor scaled => scaled, CodesTarget target => target.Codes, _ => default };
            if (!codes.IsEmpty) layouts += $" {Name(codes.DType)} {codes.Layout}";
        }

        return new OperatorCost(Describe(largest) + layouts, 0, false, Moved(arguments));
    }

    private static double Moved(ReadOnlySpan<object?> arguments)
    {
        double bytes = 0, result = 0;
        foreach (object? argument in arguments)
        {
            switch (argument)
            {
                case Tensor { IsEmpty: false } tensor:
                    bytes += result = tensor.Bytes;
                    break;
                case ScaledTensor { IsEmpty: false } scaled:
                    bytes += scaled.Bytes;
                    break;
                case CodesTarget { Codes.IsEmpty: false } target:
                    bytes += target.Codes.Bytes;
                    break;
                case GradientTarget both:
                    bytes += both.OfRows.Codes.Bytes + both.OverRows.Codes.Bytes;
                    break;
                case ExpertWeights experts:
                    bytes += experts.Count * (double)experts[0].Bytes;
                    break;
                default:
                    break;
            }
        }

        return Adds(arguments) ? bytes + result : bytes;
    }

    // The result is the last tensor, and accumulate the last argument, of every operator that may add.
    private static bool Adds(ReadOnlySpan<object?> arguments) => arguments.Length > 0 && arguments[^1] is true;

    private static string Describe(Tensor x) => x.IsEmpty ? "" : Invariant($"{x.Rows} x {x.Columns} {Name(x.DType)}");

    private static string Name(DType type) => type switch { DType.F8E4M3 => "e4m3", DType.BF16 => "bf16", DType.F32 => "f32", DType.E5M6Pair => "e5m6", _ => type.ToString() };
}
