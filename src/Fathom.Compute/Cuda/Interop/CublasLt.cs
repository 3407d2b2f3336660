using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Interop;

/// <summary>cublasLtMatmulDescAttributes_t, the attributes used here.</summary>
internal enum MatmulAttribute
{
    TransposeA = 3,
    TransposeB = 4,
    ScalesOfA = 17,
    ScalesOfB = 18,
    ScaleModeOfA = 31,
    ScaleModeOfB = 32,
}

/// <summary>cublasLtMatmulMatrixScale_t, the modes used here.</summary>
internal enum MatmulScaleMode
{
    /// <summary>One F32 scale, or none.</summary>
    Scalar = 0,

    /// <summary>An F32 scale for 128 elements along the depth.</summary>
    Vector128 = 4,

    /// <summary>An F32 scale for a block of 128 x 128.</summary>
    Block128 = 5,
}

/// <summary>cublasLtMatmulPreferenceAttributes_t, the attributes used here.</summary>
internal enum MatmulPreference
{
    WorkspaceBytes = 1,
    AlignmentOfA = 5,
    AlignmentOfB = 6,
    AlignmentOfC = 7,
    AlignmentOfD = 8,
}

/// <summary>cudaDataType_t, the types used here.</summary>
internal enum CudaDataType
{
    F32 = 0,
    BF16 = 14,
    E4M3 = 28,
}

/// <summary>cublasLtMatmulAlgo_t: a way to multiply, opaque.</summary>
[InlineArray(8)]
internal struct MatmulAlgorithm
{
    private ulong first;
}

/// <summary>cublasLtMatmulHeuristicResult_t.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct MatmulHeuristic
{
    public MatmulAlgorithm Algorithm;
    public nuint WorkspaceBytes;
    public int State;
    public float Waves;
    public fixed int Reserved[4];
}

/// <summary>Functions of cuBLASLt; names and values of cublasLt.h. Each returns a cublasStatus_t unless said otherwise.</summary>
internal static unsafe partial class CublasLt
{
    private const string Library = NativeLibraries.CublasLt;

    /// <summary>CUBLAS_STATUS_SUCCESS.</summary>
    public const int Success = 0;

    /// <summary>CUBLAS_COMPUTE_32F: sums in F32, and F32 operands as they are.</summary>
    public const int Compute32F = 68;

    /// <summary>CUBLAS_OP_T.</summary>
    public const int Transposed = 1;

    /// <summary>Version of the library: 120900 for 12.9.0, 130000 for 13.0.0.</summary>
    [LibraryImport(Library, EntryPoint = "cublasLtGetVersion")]
    public static partial nuint GetVersion();

    [LibraryImport(Library, EntryPoint = "cublasLtGetStatusName")]
    public static partial nint GetStatusName(int status);

    [LibraryImport(Library, EntryPoint = "cublasLtCreate")]
    public static partial int Create(out nint handle);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulDescCreate")]
    public static partial int CreateDescription(out nint description, int computeType, CudaDataType scaleType);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulDescDestroy")]
    public static partial int DestroyDescription(nint description);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulDescSetAttribute")]
    public static partial int SetAttribute(nint description, MatmulAttribute attribute, void* value, nuint bytes);

    [LibraryImport(Library, EntryPoint = "cublasLtMatrixLayoutCreate")]
    public static partial int CreateLayout(out nint layout, CudaDataType type, ulong rows, ulong columns, long leadingDimension);

    [LibraryImport(Library, EntryPoint = "cublasLtMatrixLayoutDestroy")]
    public static partial int DestroyLayout(nint layout);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulPreferenceCreate")]
    public static partial int CreatePreference(out nint preference);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulPreferenceDestroy")]
    public static partial int DestroyPreference(nint preference);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulPreferenceSetAttribute")]
    public static partial int SetPreference(nint preference, MatmulPreference attribute, void* value, nuint bytes);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulAlgoGetHeuristic")]
    public static partial int GetHeuristic(
        nint handle, nint description, nint a, nint b, nint c, nint d, nint preference, int wanted, MatmulHeuristic* results, out int found);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmul")]
    public static partial int Multiply(
        nint handle, nint description, float* alpha, nint a, nint layoutA, nint b, nint layoutB, float* beta, nint c, nint layoutC,
        nint d, nint layoutD, MatmulAlgorithm* algorithm, nint workspace, nuint workspaceBytes, nint stream);
}
