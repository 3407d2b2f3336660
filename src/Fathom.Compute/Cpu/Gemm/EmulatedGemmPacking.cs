// Operands of the emulated product, laid out for its kernel: panels of a few lines (rows or columns of the result), depth by depth,
// each with the element's value, its exponent, and a scale for every promotion. A scale can be kept out of the narrow sum only
// where no tile ends between two promotions; otherwise elements are multiplied by their scales here.
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>One side of a product: lines × depth, seen in a matrix of scaled elements.</summary>
internal readonly unsafe struct EmulatedOperand
{
    private readonly ScaledTensor matrix;
    private readonly bool depthAlongColumns;
    private readonly long firstRow, firstScaleRow;

    /// <summary>A whole matrix as a side of a product.</summary>
    /// <param name="matrix">The elements with their scales.</param>
    /// <param name="depthAlongColumns">Whether the sum runs over columns; otherwise over rows.</param>
    public EmulatedOperand(in ScaledTensor matrix, bool depthAlongColumns)
        : this(matrix, depthAlongColumns, 0, matrix.Elements.Rows, 0)
    {
    }

    private EmulatedOperand(in ScaledTensor matrix, bool depthAlongColumns, long firstRow, long rows, long firstScaleRow)
    {
        (this.matrix, this.depthAlongColumns, this.firstRow, this.firstScaleRow) = (matrix, depthAlongColumns, firstRow, firstScaleRow);
        (Lines, Depth) = depthAlongColumns ? (rows, matrix.Elements.Columns) : (matrix.Elements.Columns, rows);
    }

    /// <summary>Some rows as lines; the sum runs over columns.</summary>
    public static EmulatedOperand OfRows(in ScaledTensor matrix, long firstRow, long rows) => new(matrix, true, firstRow, rows, 0);

    /// <summary>The rows of one group as the depth; in column tiles a group's scales begin where the layout puts them.</summary>
    public static EmulatedOperand OfGroup(in ScaledTensor matrix, long firstRow, long rows, int group) =>
        new(matrix, false, firstRow, rows, firstRow / ScaledTensor.TileSize + group);

    /// <summary>Rows or columns of the result.</summary>
    public long Lines { get; }

    /// <summary>Length of the sum.</summary>
    public long Depth { get; }

    /// <summary>Elements of the depth that share a scale, from its start on.</summary>
    public long ScaleRun => matrix.Layout switch
    {
        ScaleLayout.None or ScaleLayout.Tensor => long.MaxValue,
        ScaleLayout.Block => ScaledTensor.TileSize,
        ScaleLayout.RowTile => depthAlongColumns ? ScaledTensor.TileSize : 1,
        _ => depthAlongColumns ? 1 : ScaledTensor.TileSize,
    };

    /// <summary>Exponent of the format's subnormal values: what the hardware aligns them by.</summary>
    public int SmallestExponent => matrix.DType switch
    {
        DType.F8E4M3 => -6,
        DType.F8E5M2 => -14,
        _ => short.MinValue,
    };

    /// <summary>Lays out one panel.</summary>
    /// <param name="panel">Lines <paramref name="panel"/> · width onwards.</param>
    /// <param name="width">Lines of a panel; those past the last are zero.</param>
    /// <param name="run">Depth between promotions, or 0: elements are multiplied by their scales.</param>
    /// <param name="target">Where to.</param>
    public void Pack(long panel, int width, long run, in EmulatedPanels target)
    {
        float* values = target.Values + panel * Depth * width, scales = target.Scales + panel * target.Runs * width;
        short* exponents = target.Exponents + panel * Depth * width;
        int smallest = run == 0 ? short.MinValue : SmallestExponent;
        for (int l = 0; l < width; l++)
        {
            long line = panel * width + l;
            for (long r = 0; r < target.Runs; r++) scales[r * width + l] = run == 0 || line >= Lines ? 1 : Scale(line, r * run);
        }

        for (long d = 0; d < Depth; d++)
        {
            for (int l = 0; l < width; l++)
            {
                long line = panel * width + l;
                float value = line < Lines ? Element(line, d) : 0;
                if (run == 0 && line < Lines) value *= Scale(line, d);
                values[d * width + l] = value;
                exponents[d * width + l] = Exponent(value, smallest);
            }
        }
    }

    private static short Exponent(float value, int smallest)
    {
        if (value == 0) return EmulatedGemmKernel.ExponentOfZero;
        int exponent = (int)(BitConverter.SingleToUInt32Bits(value) >> 23 & 0xFF) - 127;
        return (short)Math.Max(exponent, smallest);
    }

    private float Element(long line, long depth)
    {
        (long row, long column) = depthAlongColumns ? (firstRow + line, depth) : (firstRow + depth, line);
        long index = row * matrix.Elements.RowStride + column;
        return matrix.DType switch
        {
            DType.F32 => matrix.Elements.Pointer<float>()[index],
            DType.BF16 => BitConverter.UInt32BitsToSingle((uint)matrix.Elements.Pointer<ushort>()[index] << 16),
            _ => ByteFormats.Values(matrix.DType)[matrix.Elements.Pointer<byte>()[index]],
        };
    }

    private float Scale(long line, long depth)
    {
        if (matrix.Layout == ScaleLayout.None) return 1;
        (long row, long column) = depthAlongColumns ? (firstRow + line, depth) : (firstRow + depth, line);
        (long scaleRow, long scaleColumn) = matrix.Layout switch
        {
            ScaleLayout.RowTile => (row, column / ScaledTensor.TileSize),
            ScaleLayout.ColumnTile => (firstScaleRow + (row - firstRow) / ScaledTensor.TileSize, column),
            ScaleLayout.Block => (row / ScaledTensor.TileSize, column / ScaledTensor.TileSize),
            _ => (0, 0),
        };
        long index = scaleRow * matrix.Scales.RowStride + scaleColumn;
        return matrix.Scales.DType == DType.F32 ? matrix.Scales.Pointer<float>()[index] : ByteFormats.Values(DType.F8E8M0)[matrix.Scales.Pointer<byte>()[index]];
    }
}

/// <summary>Where an operand's panels lie: values and exponents [panels, depth, width], scales [panels, runs, width].</summary>
internal readonly unsafe struct EmulatedPanels
{
    /// <summary>Values of elements, or of elements times scales.</summary>
    public required float* Values { get; init; }

    /// <summary>Their exponents.</summary>
    public required short* Exponents { get; init; }

    /// <summary>A scale for each promotion.</summary>
    public required float* Scales { get; init; }

    /// <summary>Promotions over the depth.</summary>
    public required long Runs { get; init; }

    /// <summary>Bytes that so many lines take.</summary>
    public static long Bytes(long lines, long depth, long runs, int width)
    {
        long padded = (lines + width - 1) / width * width;
        return Aligned(padded * depth * sizeof(float)) + Aligned(padded * depth * sizeof(short)) + Aligned(padded * runs * sizeof(float));
    }

    /// <summary>Cuts memory into the three parts.</summary>
    public static EmulatedPanels In(byte* memory, long lines, long depth, long runs, int width)
    {
        long padded = (lines + width - 1) / width * width;
        byte* exponents = memory + Aligned(padded * depth * sizeof(float));
        return new EmulatedPanels
        {
            Values = (float*)memory,
            Exponents = (short*)exponents,
            Scales = (float*)(exponents + Aligned(padded * depth * sizeof(short))),
            Runs = runs,
        };
    }

    private static long Aligned(long bytes) => (bytes + 63) / 64 * 64;
}

/// <summary>The values of all codes of the one-byte formats.</summary>
internal static class ByteFormats
{
    private static readonly float[]?[] Tables = new float[Enum.GetValues<DType>().Length][];

    /// <summary>256 values.</summary>
    /// <exception cref="ArgumentException">Not a float format of one byte.</exception>
    public static float[] Values(DType type) => Tables[(int)type] ?? Fill(type);

    private static float[] Fill(DType type)
    {
        var codes = new byte[256];
        for (int code = 0; code < codes.Length; code++) codes[code] = (byte)code;
        var values = new float[256];
        NumberFormats.ConvertToSingle(type, codes, values);
        return Tables[(int)type] = values;
    }
}
