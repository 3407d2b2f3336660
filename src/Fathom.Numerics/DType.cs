// The element types that tensors and checkpoints use, with the names safetensors gives them.

namespace Fathom.Numerics;

/// <summary>Element type of a tensor. Names follow the safetensors specification.</summary>
public enum DType : byte
{
    /// <summary>IEEE 754 single precision.</summary>
    F32,

    /// <summary>bfloat16: the upper half of a single.</summary>
    BF16,

    /// <summary>IEEE 754 half precision.</summary>
    F16,

    /// <summary>IEEE 754 double precision.</summary>
    F64,

    /// <summary>8-bit float, 4 exponent and 3 mantissa bits, finite only (E4M3FN).</summary>
    F8E4M3,

    /// <summary>8-bit float, 5 exponent and 2 mantissa bits.</summary>
    F8E5M2,

    /// <summary>8-bit unsigned exponent: a power-of-two scale.</summary>
    F8E8M0,

    /// <summary>Signed 64-bit integer.</summary>
    I64,

    /// <summary>Signed 32-bit integer.</summary>
    I32,

    /// <summary>Signed 16-bit integer.</summary>
    I16,

    /// <summary>Signed 8-bit integer.</summary>
    I8,

    /// <summary>Unsigned 64-bit integer.</summary>
    U64,

    /// <summary>Unsigned 32-bit integer.</summary>
    U32,

    /// <summary>Unsigned 16-bit integer.</summary>
    U16,

    /// <summary>Unsigned 8-bit integer.</summary>
    U8,

    /// <summary>One byte, zero or one.</summary>
    Bool,

    /// <summary>Two singles: real and imaginary part.</summary>
    C64,

    /// <summary>8-bit float of tapered precision (Ascend HiFloat8). Safetensors has no name for it; "HIF8" is ours, so only Fathom reads such files.</summary>
    HiF8,

    /// <summary>
    /// A pair of 12-bit floats (5 exponent and 6 mantissa bits) in three bytes, the first in the lower bits: a matrix of M columns
    /// has M / 2 pairs. Never in a checkpoint.
    /// </summary>
    E5M6Pair,
}

/// <summary>Sizes and safetensors names of <see cref="DType"/> values.</summary>
public static class DTypes
{
    private static readonly (DType Type, string Name, int Size)[] Table =
    [
        (DType.F32, "F32", 4), (DType.BF16, "BF16", 2), (DType.F16, "F16", 2), (DType.F64, "F64", 8),
        (DType.F8E4M3, "F8_E4M3", 1), (DType.F8E5M2, "F8_E5M2", 1), (DType.F8E8M0, "F8_E8M0", 1),
        (DType.I64, "I64", 8), (DType.I32, "I32", 4), (DType.I16, "I16", 2), (DType.I8, "I8", 1),
        (DType.U64, "U64", 8), (DType.U32, "U32", 4), (DType.U16, "U16", 2), (DType.U8, "U8", 1),
        (DType.Bool, "BOOL", 1), (DType.C64, "C64", 8), (DType.HiF8, "HIF8", 1), (DType.E5M6Pair, "E5M6X2", 3),
    ];

    /// <summary>Bytes of one element.</summary>
    public static int SizeInBytes(this DType type) => Table[(int)type].Size;

    /// <summary>The type's name in a safetensors header.</summary>
    public static string SafetensorsName(this DType type) => Table[(int)type].Name;

    /// <summary>Finds a type by its safetensors name.</summary>
    public static bool TryParse(string name, out DType type)
    {
        foreach (var row in Table)
        {
            if (row.Name != name || row.Type == DType.E5M6Pair) continue;
            type = row.Type;
            return true;
        }

        type = default;
        return false;
    }
}
