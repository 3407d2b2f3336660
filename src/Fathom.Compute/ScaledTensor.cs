// A matrix in a narrow format with the multipliers that give its values back. What a scale covers is part of the type's value, so
// that one operator takes a plain matrix, FP8 activations in tiles and FP8 weights in blocks alike ([P] §3.3.2).
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>Which elements of a matrix [rows, columns] share a scale.</summary>
public enum ScaleLayout
{
    /// <summary>No scales: the elements are the values.</summary>
    None,

    /// <summary>One scale for all: [1].</summary>
    Tensor,

    /// <summary>1x128 tiles, for operands that are summed over columns: [rows, ⌈columns / 128⌉].</summary>
    RowTile,

    /// <summary>
    /// 128x1 tiles, for operands that are summed over rows: [⌈rows / 128⌉, columns]. Where rows are grouped, tiles begin anew with
    /// every group: group e, whose first row is o, has its scales from row ⌊o / 128⌋ + e on, and there are ⌊rows / 128⌋ + E rows of them.
    /// </summary>
    ColumnTile,

    /// <summary>
    /// The same with the elements transposed, [columns, 128 · rows of scales]: each tile's rows lie in 128 columns of their own, zeros
    /// where it has fewer. What a device takes for sums over rows where <see cref="DeviceTraits.TokenLayout"/> says so.
    /// </summary>
    TransposedColumnTile,

    /// <summary>128x128 blocks, for weights: [⌈rows / 128⌉, ⌈columns / 128⌉].</summary>
    Block,
}

/// <summary>
/// Elements and scales: value[i, j] = element[i, j] · scale of its tile. Leading dimensions of the elements beyond the last two are
/// separate matrices, whose scales lie one after another.
/// </summary>
public readonly struct ScaledTensor
{
    /// <summary>Side of a tile or block.</summary>
    public const int TileSize = 128;

    /// <summary>Elements with their scales.</summary>
    /// <param name="elements">[rows, columns], or [E, rows, columns].</param>
    /// <param name="scales">F32 or F8E8M0 multipliers, of the size that <paramref name="layout"/> says.</param>
    /// <param name="layout">What a scale covers.</param>
    /// <exception cref="ArgumentException">Scales of another number or type.</exception>
    public ScaledTensor(Tensor elements, Tensor scales, ScaleLayout layout)
    {
        if (layout != ScaleLayout.None)
        {
            if (scales.DType is not (DType.F32 or DType.F8E8M0)) throw new ArgumentException($"scales are {scales.DType}, expected F32 or F8E8M0");
            Shape expected = ScaleShape(ValueShape(elements, layout), layout);
            bool enough = layout is ScaleLayout.ColumnTile or ScaleLayout.TransposedColumnTile ? scales.Rows >= expected.Rows && scales.Columns == expected.Columns : scales.Elements == expected.Elements;
            if (!enough) throw new ArgumentException($"scales of {elements} by {layout} are {scales}, expected {expected}");
        }

        (Elements, Scales, Layout) = (elements, scales, layout);
    }

    /// <summary>The elements, [rows, columns] or [E, rows, columns].</summary>
    public Tensor Elements { get; }

    /// <summary>The multipliers; empty without scales.</summary>
    public Tensor Scales { get; }

    /// <summary>What a scale covers.</summary>
    public ScaleLayout Layout { get; }

    /// <summary>Dimensions of the values; where they lie transposed, with the zeros that fill up tiles of rows.</summary>
    public Shape Shape => ValueShape(Elements, Layout);

    /// <summary>Type of the elements.</summary>
    public DType DType => Elements.DType;

    /// <summary>Whether there is no memory at all.</summary>
    public bool IsEmpty => Elements.IsEmpty;

    /// <summary>Bytes of elements and scales.</summary>
    public long Bytes => Elements.Bytes + (Layout == ScaleLayout.None ? 0 : Scales.Bytes);

    /// <summary>A matrix whose elements are its values.</summary>
    public static implicit operator ScaledTensor(Tensor tensor) => new(tensor, default, ScaleLayout.None);

    /// <summary>Dimensions of the scales of a matrix, or of several, [E, rows, columns].</summary>
    public static Shape ScaleShape(Shape shape, ScaleLayout layout)
    {
        long columns = shape.Columns, rows = shape.Rank == 3 ? shape[1] : shape.Rows, count = shape.Rank == 3 ? shape[0] : 1;
        Shape one = layout switch
        {
            ScaleLayout.RowTile => new Shape(rows, Tiles(columns)),
            ScaleLayout.ColumnTile or ScaleLayout.TransposedColumnTile => new Shape(Tiles(rows), columns),
            ScaleLayout.Block => new Shape(Tiles(rows), Tiles(columns)),
            _ => new Shape(1),
        };
        return shape.Rank < 3 ? one : layout == ScaleLayout.Tensor ? new Shape(count) : new Shape(count, one[0], one[1]);
    }

    /// <summary>Dimensions of the elements that hold values of these dimensions.</summary>
    /// <exception cref="ArgumentException">Pairs of elements and an odd number of columns.</exception>
    public static Shape ElementShape(Shape shape, DType dtype)
    {
        if (dtype != DType.E5M6Pair) return shape;
        if (shape.Columns % 2 != 0) throw new ArgumentException($"E5M6 pairs of {shape}, expected an even number of columns");
        return shape.Rank == 3 ? new Shape(shape[0], shape[1], shape.Columns / 2) : new Shape(shape.Rows, shape.Columns / 2);
    }

    /// <summary>Rows of scales of 128x1 tiles over grouped rows.</summary>
    public static long GroupedTileRows(long rows, int groups) => rows / TileSize + groups;

    /// <summary>Tiles that cover a number of elements.</summary>
    public static long Tiles(long elements) => (elements + TileSize - 1) / TileSize;

    /// <summary>One matrix of several.</summary>
    public ScaledTensor At(long index) => new(Elements.At(index), Layout switch
    {
        ScaleLayout.None => default,
        ScaleLayout.Tensor => Scales.Slice(index, 1),
        _ => Scales.At(index),
    }, Layout);

    /// <summary>Several matrices [E, N, K] as one [E N, K] over the same memory.</summary>
    /// <param name="stacked">The view.</param>
    /// <returns>False where a scale covers rows of two matrices, or where there is no such view.</returns>
    public bool TryStack(out ScaledTensor stacked)
    {
        stacked = default;
        bool apart = Layout is ScaleLayout.None or ScaleLayout.RowTile || (Layout == ScaleLayout.Block && Shape.Rank == 3 && Shape[1] % TileSize == 0);
        if (Shape.Rank != 3 || !apart || !Elements.IsContiguous || (Layout != ScaleLayout.None && !Scales.IsContiguous)) return false;
        Tensor elements = Elements.Reshape(new Shape(Elements.Rows, Elements.Columns));
        stacked = new ScaledTensor(elements, Layout == ScaleLayout.None ? default : Scales.Reshape(new Shape(Scales.Rows, Scales.Columns)), Layout);
        return true;
    }

    /// <summary>Rows <paramref name="start"/> to start + count - 1 of a matrix without scales, in row tiles or with one scale.</summary>
    /// <exception cref="ArgumentException">Scales that cover several rows.</exception>
    public ScaledTensor Slice(long start, long count) => Layout switch
    {
        ScaleLayout.None or ScaleLayout.Tensor => new ScaledTensor(Elements.Slice(start, count), Scales, Layout),
        ScaleLayout.RowTile => new ScaledTensor(Elements.Slice(start, count), Scales.Slice(start, count), Layout),
        _ => throw new ArgumentException($"rows of a matrix in {Layout} scales cannot be cut"),
    };

    private static Shape ValueShape(in Tensor elements, ScaleLayout layout)
    {
        Shape shape = elements.Shape;
        if (layout == ScaleLayout.TransposedColumnTile) return new Shape(shape.Columns, shape.Rows);
        if (elements.DType != DType.E5M6Pair) return shape;
        return shape.Rank == 3 ? new Shape(shape[0], shape[1], 2 * shape.Columns) : new Shape(shape.Rows, 2 * shape.Columns);
    }

    /// <inheritdoc/>
    public override string ToString() => Layout == ScaleLayout.None ? Elements.ToString() : $"{Elements} with {Scales.DType} scales by {Layout}";
}
