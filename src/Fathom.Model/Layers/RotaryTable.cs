// Cosines and sines of the rotary embedding, with YaRN's frequency interpolation ([P] §4.3; Peng et al. 2023): frequencies that turn
// often within the original length are kept, those that do not are divided by the factor, with a linear ramp between.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Rotary tables of a model, grown as longer sequences come.</summary>
public sealed class RotaryTable
{
    private readonly Device device;
    private readonly double[] frequencies;
    private readonly double magnitude;

    /// <summary>Computes the frequencies; the tables themselves come with <see cref="Reserve"/>.</summary>
    public RotaryTable(Device device, ModelConfig config)
    {
        this.device = device;
        frequencies = Frequencies(config);
        magnitude = config.RopeScaling?.CosSinMultiplier ?? 1;
        SoftmaxScale = (float)config.SoftmaxScale;
    }

    /// <summary>[positions, dr / 2], F32.</summary>
    public Tensor Cos { get; private set; }

    /// <summary>[positions, dr / 2], F32.</summary>
    public Tensor Sin { get; private set; }

    /// <summary>Factor of the attention scores: (dn + dr)^-½, times YaRN's squared magnitude.</summary>
    public float SoftmaxScale { get; }

    /// <summary>Makes the tables reach up to this many positions.</summary>
    public void Reserve(long positions)
    {
        if (!Cos.IsEmpty && Cos.Shape[0] >= positions) return;
        long size = (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)Math.Max(positions, 64));
        Mirror cos = new(device, new Shape(size, frequencies.Length), DType.F32), sin = new(device, new Shape(size, frequencies.Length), DType.F32);
        for (long t = 0; t < size; t++)
        {
            Span<float> c = cos.Host.Row<float>(t), s = sin.Host.Row<float>(t);
            for (int i = 0; i < frequencies.Length; i++)
            {
                (double sine, double cosine) = Math.SinCos(t * frequencies[i]);
                c[i] = (float)(cosine * magnitude);
                s[i] = (float)(sine * magnitude);
            }
        }

        cos.Push();
        sin.Push();
        (Cos, Sin) = (cos.Tensor, sin.Tensor);
    }

    /// <summary>The angle a pair turns by from one position to the next, for each of the dr / 2 pairs.</summary>
    public static double[] Frequencies(ModelConfig config)
    {
        int dim = config.QkRopeHeadDim;
        var frequencies = new double[dim / 2];
        for (int i = 0; i < frequencies.Length; i++) frequencies[i] = Math.Pow(config.RopeTheta, -2.0 * i / dim);
        if (config.RopeScaling is not { } yarn) return frequencies;

        double low = Math.Max(Math.Floor(PairThatTurns(yarn.BetaFast)), 0);
        double high = Math.Min(Math.Ceiling(PairThatTurns(yarn.BetaSlow)), dim - 1);
        if (low == high) high += 0.001;
        for (int i = 0; i < frequencies.Length; i++)
        {
            double interpolated = Math.Clamp((i - low) / (high - low), 0, 1);
            frequencies[i] *= interpolated / yarn.Factor + (1 - interpolated);
        }

        return frequencies;

        // The pair (as a real number) that makes so many full turns within the original length.
        double PairThatTurns(double turns) =>
            dim * Math.Log(yarn.OriginalMaxPositionEmbeddings / (turns * 2 * Math.PI)) / (2 * Math.Log(config.RopeTheta));
    }
}
