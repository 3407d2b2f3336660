using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Interop;

/// <summary>Functions of NCCL; names of nccl.h.</summary>
internal static partial class Nccl
{
    /// <summary>Version: 22703 for 2.27.3. Returns 0 for success.</summary>
    [LibraryImport(NativeLibraries.Nccl, EntryPoint = "ncclGetVersion")]
    public static partial int GetVersion(out int version);
}
