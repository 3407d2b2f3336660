using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>The one parameter of Hopper's products: Product of hopper_tiles.cuh, byte for byte; what each field means stands there.</summary>
[StructLayout(LayoutKind.Sequential, Size = Bytes)]
internal struct HopperProduct
{
    /// <summary>Size of the structure on both sides.</summary>
    public const int Bytes = 896;

    public TensorMap A;
    public TensorMap B;
    public TensorMap ScaleA;
    public TensorMap ScaleB;
    public TensorMap Old;
    public TensorMap Stored;
    public nint RowScales;
    public long RowScaleStride;
    public nint BlockScales;
    public long BlockScaleColumn;
    public long BlockScaleDepth;
    public long BlockScaleGroup;
    public nint D;
    public long DStride;
    public long DGroup;
    public nint Offsets;
    public nint Report;
    public int Rows;
    public int Columns;
    public int Depth;
    public int Groups;
}
