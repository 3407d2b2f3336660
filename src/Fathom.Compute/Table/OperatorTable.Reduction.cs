namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    /// <summary>Rows of <see cref="Operators.IReductionOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Reductions()
    {
        foreach ((int rows, int columns, int pad) in ((int, int, int)[])[(3, 17, 0), (5, 64, 3), (1, 1, 0)])
        {
            yield return new OperatorCase
            {
                Name = "reduction.add",
                Label = $"M={rows} D={columns} pad={pad}",
                Operands =
                [
                    new("a", new Shape(rows, columns), Fill.Normal, PadColumns: pad),
                    new("b", new Shape(rows, columns), Fill.Normal),
                    new("y", new Shape(rows, columns), Fill.Poison, Compare: true, PadColumns: pad),
                ],
                Run = static (device, t) => device.Reduction.Add(t[0], t[1], t[2]),
                Flops = (double)rows * columns,
                Bytes = 12.0 * rows * columns,
            };
        }
    }
}
