// The weights as a stream of bytes. Reading into a buffer rather than through the mapping keeps the process as small as its
// buffers however large the model is, and a file that is cut off meanwhile is an error instead of a crash.
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Fathom.Numerics;
using Microsoft.Win32.SafeHandles;

namespace Fathom.Model;

/// <summary>Reads bytes of a checkpoint's tensors. Safe on any thread.</summary>
internal sealed partial class SourceFiles(Checkpoint checkpoint) : IDisposable
{
    private const int WillNeed = 3; // POSIX_FADV_WILLNEED
    private readonly ConcurrentDictionary<string, Lazy<SafeFileHandle>> handles = new(StringComparer.Ordinal);

    /// <summary>Reads bytes of a tensor.</summary>
    /// <exception cref="FathomException">The file cannot be read or has become shorter.</exception>
    public void Read(string name, long start, Span<byte> destination)
    {
        string path = checkpoint.FileOf(name);
        long offset = checkpoint.Entry(name).Offset + start;
        try
        {
            SafeFileHandle handle = Handle(path);
            while (destination.Length > 0)
            {
                int count = RandomAccess.Read(handle, destination, offset);
                if (count == 0) throw new FathomException($"{path}: the file became shorter while it was read");
                destination = destination[count..];
                offset += count;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Asks the system to fetch bytes that will soon be read.</summary>
    public void Expect(string name, long start, long length)
    {
        if (OperatingSystem.IsLinux())
            _ = Advise(Handle(checkpoint.FileOf(name)), checkpoint.Entry(name).Offset + start, length, WillNeed);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Lazy<SafeFileHandle> handle in handles.Values)
        {
            if (handle.IsValueCreated) handle.Value.Dispose();
        }
    }

    private SafeFileHandle Handle(string path) => handles.GetOrAdd(
        path,
        static file => new Lazy<SafeFileHandle>(
            () => File.OpenHandle(file, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, FileOptions.SequentialScan))).Value;

    [LibraryImport("libc", EntryPoint = "posix_fadvise")]
    private static partial int Advise(SafeHandle file, long offset, long length, int advice);
}
