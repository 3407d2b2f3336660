using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    // Slots are all of the cache's in mixed order, or the first of them.
    private static readonly (int Tokens, int Slots, int Rank, int Rope, int Pad, bool Small)[] CacheShapes =
    [
        (0, 4, 8, 4, 0, true), (3, 3, 1, 1, 0, true), (5, 16, 24, 6, 3, true), (16, 16, 20, 12, 5, true), (64, 64, 512, 64, 512, true),
        (32_768, 32_768, 512, 64, 512, false),
    ];

    /// <summary>Rows of <see cref="Operators.ICacheOperators"/>; all exact but for the rounding of the cache's type.</summary>
    public static IEnumerable<OperatorCase> Caches()
    {
        foreach ((int tokens, int slots, int rank, int rope, int pad, bool small) in CacheShapes)
        {
            foreach (DType type in (DType[])[DType.F32, DType.BF16])
            {
                string label = $"M={tokens} slots={slots} R={rank} dr={rope} pad={pad} cache={type}";
                var places = new Operand("slots", new Shape(tokens), Fill.Custom, DType.I32, Initialize: (tensor, _) => Shuffled(slots).AsSpan(0, tokens).CopyTo(tensor.AsSpan<int>()));
                var shape = new Shape(slots, 1, rank + rope);
                double bytes = (4.0 + type.SizeInBytes()) * tokens * (rank + rope);
                yield return new OperatorCase
                {
                    Name = "cache.store",
                    Label = label,
                    Operands =
                    [
                        new("latent", new Shape(tokens, rank), Fill.Normal, Activation: true),
                        new("rope", new Shape(tokens, rope), Fill.Normal, PadColumns: pad, Activation: true),
                        places,
                        new("cache", shape, Fill.Normal, type, Compare: true),
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
                        new("cache", shape, Fill.Normal, type),
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
}
