using System.Runtime.InteropServices;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    // Slots are all of the cache's in mixed order, or the first of them.
    private static readonly (int Tokens, int Slots, int Rank, int Rope, int Pad, bool Small)[] CacheShapes =
    [
        (0, 4, 8, 4, 0, true), (3, 3, 1, 1, 0, true), (5, 16, 24, 6, 3, true), (16, 16, 20, 12, 5, true), (64, 64, 512, 64, 512, true), (7, 9, 300, 10, 1, true), (2, 2, 128, 8, 0, true), (3, 5, 4, 2, 3, true),
        (32_768, 32_768, 512, 64, 512, false),
    ];

    /// <summary>Rows of <see cref="Operators.ICacheOperators"/>; all exact but for the rounding of the cache's type; codes and scales are compared as bytes.</summary>
    public static IEnumerable<OperatorCase> Caches()
    {
        foreach ((int tokens, int slots, int rank, int rope, int pad, bool small) in CacheShapes)
        {
            foreach (DType type in (DType[])[DType.F32, DType.BF16, DType.F8E4M3])
            {
                var row = new LatentRow(type, rank, rope);
                if (!row.IsPossible) continue;
                string label = $"M={tokens} slots={slots} R={rank} dr={rope} pad={pad} cache={type}";
                var places = new Operand("slots", new Shape(tokens), Fill.Custom, DType.I32, Initialize: (tensor, _) => Shuffled(slots).AsSpan(0, tokens).CopyTo(tensor.AsSpan<int>()));
                var shape = new Shape(slots, 1, row.Columns);
                double bytes = 4.0 * tokens * (rank + rope) + tokens * row.Bytes;
                yield return new OperatorCase
                {
                    Name = "cache.store",
                    Label = label,
                    Operands =
                    [
                        new("latent", new Shape(tokens, rank), Fill.Custom, Activation: true, Initialize: Latents(row)),
                        new("rope", new Shape(tokens, rope), Fill.Normal, PadColumns: pad, Activation: true),
                        places,
                        CacheOperand(row, shape, compare: true),
                    ],
                    Run = static (device, t) => device.Cache.Store(t[0], t[1], t[2], t[3]),
                    Bytes = bytes,
                    Tolerance = 0,
                    RoundedTolerance = 0,
                    Small = small,
                };
                yield return new OperatorCase
                {
                    Name = "cache.load",
                    Label = label,
                    Operands =
                    [
                        CacheOperand(row, shape),
                        places,
                        new("latent", new Shape(tokens, rank), Fill.Poison, Compare: true, Activation: true),
                        new("rope", new Shape(tokens, rope), Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                    ],
                    Run = static (device, t) => device.Cache.Load(t[0], t[1], t[2], t[3]),
                    Bytes = bytes,
                    Tolerance = 0,
                    RoundedTolerance = 0,
                    Small = small,
                };
            }
        }
    }

    /// <summary>A cache whose rows are random: of codes any but not-a-number, scales and rotary keys as they may be.</summary>
    private static Operand CacheOperand(LatentRow row, Shape shape, bool compare = false) =>
        row.IsQuantized ? new("cache", shape, Fill.Custom, row.Type, compare, Initialize: Rows(row)) : new("cache", shape, Fill.Normal, row.Type, compare);

    private static Action<Tensor, Random> Rows(LatentRow row) => (tensor, random) =>
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            Span<byte> bytes = tensor.Row<byte>(r);
            for (int i = 0; i < row.Latent; i++) bytes[i] = (byte)(random.Next(2) << 7 | random.Next(0x7f));
            foreach (ref float scale in MemoryMarshal.Cast<byte, float>(bytes[row.Latent..row.RopeOffset])) scale = (0.5f + random.NextSingle()) / 128;
            foreach (ref ushort key in MemoryMarshal.Cast<byte, ushort>(bytes[row.RopeOffset..])) key = ((BFloat16)OperatorCase.Normal(random)).Bits;
        }
    };

    // Tokens of all sizes, zeros among them; of codes also one that is not finite.
    private static Action<Tensor, Random> Latents(LatentRow row) => (tensor, random) =>
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            float size = r % 4 == 3 ? 0 : MathF.ScaleB(1, random.Next(-20, 20));
            foreach (ref float value in tensor.Row<float>(r)) value = size * OperatorCase.Normal(random);
        }

        if (row.IsQuantized && tensor.Rows > 1) tensor.Row<float>(1)[^1] = float.PositiveInfinity;
    };
}
