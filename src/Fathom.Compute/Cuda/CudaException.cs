using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>A call into the driver or a CUDA library failed; the message names the call and what it was called for.</summary>
/// <param name="message">What was being done, and the library's own name for the failure.</param>
public sealed class CudaException(string message) : FathomException(message)
{
    /// <summary>Throws where a driver call failed.</summary>
    /// <param name="result">What the call returned.</param>
    /// <param name="call">The call and what it was for.</param>
    internal static void Check(CudaResult result, string call)
    {
        if (result != CudaResult.Success) Throw(result, call);
    }

    /// <summary>The driver's name and words for a result.</summary>
    internal static string Describe(CudaResult result)
    {
        string Text(nint address) => Marshal.PtrToStringUTF8(address) ?? "?";
        return Driver.GetErrorName(result, out nint name) == CudaResult.Success && Driver.GetErrorString(result, out nint text) == CudaResult.Success
            ? $"{Text(name)} ({Text(text)})"
            : $"error {(int)result}";
    }

    private static void Throw(CudaResult result, string call) => throw new CudaException($"{call} failed: {Describe(result)}");
}
