// How a matrix is stored where it is an operand or a saved activation, in the one-line form that recipes are written in:
// "e4m3 1x128", "e5m6 1x128 pow2", "bf16".
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>A number format with the layout and kind of its scales.</summary>
/// <param name="Elements">F32, BF16, F8E4M3, F8E5M2, HiF8 or E5M6Pair.</param>
/// <param name="Layout">What a scale covers; none for F32 and BF16.</param>
/// <param name="PowerOfTwo">Whether scales are powers of two, kept as F8E8M0; otherwise they are F32.</param>
public readonly record struct OperandFormat(DType Elements, ScaleLayout Layout = ScaleLayout.None, bool PowerOfTwo = false)
{
    private static readonly (string Name, DType Type)[] Formats =
    [
        ("f32", DType.F32), ("bf16", DType.BF16), ("e4m3", DType.F8E4M3), ("e5m2", DType.F8E5M2), ("hif8", DType.HiF8), ("e5m6", DType.E5M6Pair),
    ];

    private static readonly (string Name, ScaleLayout Layout)[] Layouts =
    [
        ("tensor", ScaleLayout.Tensor), ("1x128", ScaleLayout.RowTile), ("128x1", ScaleLayout.ColumnTile), ("128x128", ScaleLayout.Block),
    ];

    /// <summary>Singles.</summary>
    public static OperandFormat F32 => new(DType.F32);

    /// <summary>bfloat16.</summary>
    public static OperandFormat BF16 => new(DType.BF16);

    /// <summary>FP8 in 1x128 tiles with F32 scales: how products take what runs along their sums ([P] §3.3.2).</summary>
    public static OperandFormat E4M3OfRows => new(DType.F8E4M3, ScaleLayout.RowTile);

    /// <summary>Whether the elements are the values.</summary>
    public bool IsPlain => Layout == ScaleLayout.None;

    /// <summary>Type of the scales.</summary>
    public DType Scales => PowerOfTwo ? DType.F8E8M0 : DType.F32;

    /// <summary>The same as devices take it.</summary>
    internal OperandTraits Traits => new(Elements, Layout, Scales);

    /// <summary>Reads "e4m3 1x128 pow2" and the like.</summary>
    /// <exception cref="FathomException">Another text; the message says what is possible.</exception>
    public static OperandFormat Parse(string text)
    {
        string[] words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        DType? type = words.Length is 1 or 2 or 3 ? Find(Formats, words[0]) : null;
        ScaleLayout? layout = words.Length > 1 ? Find(Layouts, words[1]) : ScaleLayout.None;
        bool plain = type is DType.F32 or DType.BF16, knownScales = words.Length < 3 || words[2] is "pow2" or "f32";
        if (type is not { } t || layout is not { } l || !knownScales || plain != (l == ScaleLayout.None))
        {
            throw new FathomException(
                $"'{text}' is no operand format; expected f32 or bf16 alone, or {Names(Formats, 2)} with {Names(Layouts, 0)} and perhaps pow2, as \"e4m3 1x128 pow2\"");
        }

        return new OperandFormat(t, l, words.Length == 3 && words[2] == "pow2");
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        OperandFormat self = this;
        string name = Formats.First(f => f.Type == self.Elements).Name;
        return IsPlain ? name : $"{name} {Layouts.First(l => l.Layout == self.Layout).Name}{(PowerOfTwo ? " pow2" : "")}";
    }

    /// <summary>Memory for a matrix, or several [E, rows, columns], in this format.</summary>
    /// <param name="shape">Of the values.</param>
    /// <param name="take">Hands out memory.</param>
    /// <param name="groups">Groups of rows, for 128x1 tiles over grouped rows; 0 where rows are not grouped.</param>
    internal ScaledTensor Take<TSource>(Shape shape, TSource take, int groups = 0) where TSource : struct, ITensorSource
    {
        Tensor elements = take.Take(ScaledTensor.ElementShape(shape, Elements), Elements);
        if (IsPlain) return elements;
        Shape scales = ScaledTensor.ScaleShape(shape, Layout);
        if (groups > 0 && Layout == ScaleLayout.ColumnTile) scales = new Shape(ScaledTensor.GroupedTileRows(shape.Rows, groups), shape.Columns);
        return new ScaledTensor(elements, take.Take(scales, Scales), Layout);
    }

    /// <summary>Bytes of a matrix in this format, scales included.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    public long Bytes(long rows, long columns)
    {
        Shape shape = new(rows, columns);
        long bytes = ScaledTensor.ElementShape(shape, Elements).Elements * Elements.SizeInBytes();
        return IsPlain ? bytes : bytes + ScaledTensor.ScaleShape(shape, Layout).Elements * Scales.SizeInBytes();
    }

    private static T? Find<T>((string Name, T Value)[] table, string name) where T : struct
    {
        foreach ((string known, T value) in table)
        {
            if (known == name) return value;
        }

        return null;
    }

    private static string Names<T>((string Name, T Value)[] table, int from) => string.Join(", ", table.Skip(from).Select(f => f.Name));
}

/// <summary>Hands out memory: an arena, or a device.</summary>
internal interface ITensorSource
{
    /// <summary>A tensor of this shape and type.</summary>
    Tensor Take(Shape shape, DType dtype);
}

/// <summary>Memory that is given back with its arena's mark.</summary>
internal readonly struct ArenaSource(Arena arena) : ITensorSource
{
    /// <inheritdoc/>
    public Tensor Take(Shape shape, DType dtype) => arena.Take(shape, dtype);
}

/// <summary>Memory that stays.</summary>
internal readonly struct DeviceSource(Device device, MemoryKind kind) : ITensorSource
{
    /// <inheritdoc/>
    public Tensor Take(Shape shape, DType dtype) => device.Allocate(shape, dtype, kind);
}
