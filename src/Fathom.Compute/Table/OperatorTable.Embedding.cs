using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (int Tokens, int Vocabulary, int Columns, int Pad, bool Small)[] EmbeddingShapes =
    [
        (0, 5, 8, 0, true), (1, 1, 1, 0, true), (30, 7, 17, 5, true), (200, 50, 130, 3, true), (100, 300, 384, 0, true), (700, 1, 264, 0, true),
        (4096, 8192, 384, 0, false), (4096, 129280, 1024, 0, false),
    ];

    /// <summary>Rows of <see cref="Operators.IEmbeddingOperators"/>. Copies and sums in order are exact.</summary>
    public static IEnumerable<OperatorCase> Embeddings()
    {
        foreach ((int tokens, int vocabulary, int columns, int pad, bool small) in EmbeddingShapes)
        {
            string label = $"M={tokens} V={vocabulary} D={columns} pad={pad}";
            var ids = new Operand("ids", new Shape(tokens), Fill.Custom, DType.I32, Initialize: Integers(0, vocabulary));
            foreach (DType type in (DType[])[DType.F32, DType.BF16])
            {
                yield return new OperatorCase
                {
                    Name = "embedding.forward",
                    Label = $"{label} table={type}",
                    Operands =
                    [
                        ids,
                        new("table", new Shape(vocabulary, columns), Fill.Normal, type),
                        new("y", new Shape(tokens, columns), Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                    ],
                    Run = static (device, t) => device.Embedding.Forward(t[0], t[1], t[2]),
                    Bytes = (4.0 + type.SizeInBytes()) * tokens * columns,
                    Tolerance = 0,
                    Small = small,
                };
            }

            foreach (bool activations in (bool[])[false, true])
            {
                yield return new OperatorCase
                {
                    Name = "embedding.weight_gradient",
                    Label = activations ? $"{label} into activations" : label,
                    Operands =
                    [
                        ids,
                        new("dy", new Shape(tokens, columns), Fill.Normal, PadColumns: pad, Activation: true),
                        new("dtable", new Shape(vocabulary, columns), Fill.Normal, Compare: true, Activation: activations),
                    ],
                    Run = static (device, t) => device.Embedding.WeightGradient(t[0], t[1], t[2]),
                    Bytes = 12.0 * tokens * columns,
                    Tolerance = 0,
                    Small = small,
                };
            }
        }
    }
}
