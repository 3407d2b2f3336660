using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>One argument of a kernel: eight bytes, of which the driver reads as many as the parameter has.</summary>
[StructLayout(LayoutKind.Explicit, Size = 8)]
internal readonly struct Argument
{
    [FieldOffset(0)]
    private readonly long bits;

    [FieldOffset(0)]
    private readonly float single;

    private Argument(long bits) => this.bits = bits;

    private Argument(float value) => single = value;

    /// <summary>The address of the first element; null for an empty tensor.</summary>
    public static implicit operator Argument(Tensor tensor) => new((long)tensor.Address);

    /// <summary>An address.</summary>
    public static implicit operator Argument(nint address) => new((long)address);

    /// <summary>int64_t.</summary>
    public static implicit operator Argument(long value) => new(value);

    /// <summary>uint64_t.</summary>
    public static implicit operator Argument(ulong value) => new((long)value);

    /// <summary>int32_t.</summary>
    public static implicit operator Argument(int value) => new((long)value);

    /// <summary>uint32_t.</summary>
    public static implicit operator Argument(uint value) => new((long)value);

    /// <summary>int32_t, 0 or 1.</summary>
    public static implicit operator Argument(bool value) => new(value ? 1L : 0L);

    /// <summary>float.</summary>
    public static implicit operator Argument(float value) => new(value);
}
