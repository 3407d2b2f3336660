using System.Reflection;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>The device code, embedded in the assembly: files *.cu, and the headers *.cuh that they may include.</summary>
internal static class KernelSource
{
    private static readonly Assembly Assembly = typeof(KernelSource).Assembly;

    /// <summary>Names of all headers, sorted.</summary>
    public static readonly string[] HeaderNames =
        [.. Assembly.GetManifestResourceNames().Where(n => n.EndsWith(".cuh", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    /// <summary>Contents of the headers, in that order.</summary>
    public static readonly string[] Headers = [.. HeaderNames.Select(Read)];

    /// <summary>The text of a file.</summary>
    /// <exception cref="ArgumentException">There is no such file.</exception>
    public static string Read(string file)
    {
        using Stream stream = Assembly.GetManifestResourceStream(file) ?? throw new ArgumentException($"there is no kernel file {file}", nameof(file));
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
