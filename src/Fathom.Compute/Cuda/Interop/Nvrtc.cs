using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Interop;

/// <summary>Functions of NVRTC; names and values of nvrtc.h.</summary>
internal static unsafe partial class Nvrtc
{
    private const string Library = NativeLibraries.Nvrtc;

    /// <summary>NVRTC_SUCCESS.</summary>
    public const int Success = 0;

    /// <summary>NVRTC_ERROR_COMPILATION: the log says what is wrong with the source.</summary>
    public const int CompilationError = 6;

    [LibraryImport(Library, EntryPoint = "nvrtcVersion")]
    public static partial int GetVersion(out int major, out int minor);

    [LibraryImport(Library, EntryPoint = "nvrtcGetErrorString")]
    public static partial nint GetErrorString(int result);

    [LibraryImport(Library, EntryPoint = "nvrtcCreateProgram", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int CreateProgram(out nint program, string source, string name, int headerCount, string[] headers, string[] includeNames);

    [LibraryImport(Library, EntryPoint = "nvrtcDestroyProgram")]
    public static partial int DestroyProgram(ref nint program);

    [LibraryImport(Library, EntryPoint = "nvrtcAddNameExpression", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int AddNameExpression(nint program, string expression);

    [LibraryImport(Library, EntryPoint = "nvrtcCompileProgram", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Compile(nint program, int optionCount, string[] options);

    [LibraryImport(Library, EntryPoint = "nvrtcGetProgramLogSize")]
    public static partial int GetLogSize(nint program, out nuint bytes);

    [LibraryImport(Library, EntryPoint = "nvrtcGetProgramLog")]
    public static partial int GetLog(nint program, byte* log);

    [LibraryImport(Library, EntryPoint = "nvrtcGetLoweredName", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int GetLoweredName(nint program, string expression, out nint name);

    [LibraryImport(Library, EntryPoint = "nvrtcGetCUBINSize")]
    public static partial int GetImageSize(nint program, out nuint bytes);

    [LibraryImport(Library, EntryPoint = "nvrtcGetCUBIN")]
    public static partial int GetImage(nint program, byte* image);
}
