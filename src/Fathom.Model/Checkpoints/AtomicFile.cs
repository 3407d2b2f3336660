// A file that appears whole or not at all: written under a temporary name in the same folder, flushed to the device, renamed
// over the old one, and the folder flushed so that the rename itself survives a power cut. Until the rename, what was there
// stays untouched; on any failure the temporary file goes.
using System.Runtime.InteropServices;
using System.Text;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>One file in the making. Dispose without <see cref="Commit"/> leaves no trace.</summary>
public sealed partial class AtomicFile : IDisposable
{
    private const int InvalidArgument = 22; // EINVAL: this file system cannot flush folders
    private const uint StartWrite = 2; // SYNC_FILE_RANGE_WRITE
    private readonly FileStream stream;
    private readonly string temporary;
    private bool written;
    private bool done;

    /// <summary>Starts a file.</summary>
    /// <param name="path">Where it will be.</param>
    /// <param name="length">Its length in bytes where known: the space is reserved now, so that a full disk shows at once.</param>
    /// <exception cref="FathomException">The folder is absent or not writable, or the disk is full.</exception>
    public AtomicFile(string path, long length = 0)
    {
        Path = System.IO.Path.GetFullPath(path);
        string folder = System.IO.Path.GetDirectoryName(Path) ?? throw new FathomException($"writing {path}: this is no file");
        if (!Directory.Exists(folder)) throw new FathomException($"writing {Path}: the folder does not exist; create it first");
        if (Directory.Exists(Path)) throw new FathomException($"writing {Path}: a folder of that name is in the way");
        temporary = System.IO.Path.Combine(folder, $".{System.IO.Path.GetFileName(Path)}.{Guid.NewGuid():N}.tmp");
        try
        {
            stream = new FileStream(temporary, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                Share = FileShare.Read,
                BufferSize = 0,
                PreallocationSize = length,
            });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Remove(temporary);
            throw Failure(e);
        }
    }

    /// <summary>Where the file will be, as a full path.</summary>
    public string Path { get; }

    /// <summary>Writes a whole small file.</summary>
    /// <exception cref="FathomException">It cannot be written; what was there is untouched.</exception>
    public static void WriteAllBytes(string path, ReadOnlySpan<byte> content)
    {
        using var file = new AtomicFile(path, content.Length);
        file.Write(content, 0);
        file.Commit();
    }

    /// <summary>Writes a whole small file as UTF-8.</summary>
    /// <exception cref="FathomException">It cannot be written; what was there is untouched.</exception>
    public static void WriteAllText(string path, string content) => WriteAllBytes(path, Encoding.UTF8.GetBytes(content));

    /// <summary>Writes bytes at an offset.</summary>
    /// <exception cref="FathomException">The disk is full or failed; the file is given up.</exception>
    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        try
        {
            RandomAccess.Write(stream.SafeFileHandle, bytes, offset);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Dispose();
            throw Failure(e);
        }
    }

    /// <summary>Asks the system to begin writing a range to the device, so that <see cref="Flush"/> has little left to wait for.</summary>
    internal void StartWriteback(long offset, long length)
    {
        // A hint: where it fails or does not exist, the flush does the work.
        if (OperatingSystem.IsLinux() && length > 0) _ = SyncRange(stream.SafeFileHandle, offset, length, StartWrite);
    }

    /// <summary>Brings what was written to the device, still under the temporary name. Optional before <see cref="Commit"/>.</summary>
    /// <exception cref="FathomException">The disk is full or failed; the file is given up.</exception>
    public void Flush()
    {
        if (written) return;
        try
        {
            RandomAccess.FlushToDisk(stream.SafeFileHandle);
            stream.Dispose();
            written = true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Dispose();
            throw Failure(e);
        }
    }

    /// <summary>Makes the file appear, durably, in place of any of that name.</summary>
    /// <exception cref="FathomException">The disk is full or failed; what was there is untouched.</exception>
    public void Commit()
    {
        Flush();
        try
        {
            File.Move(temporary, Path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Dispose();
            throw Failure(e);
        }

        done = true;
        FlushFolder(System.IO.Path.GetDirectoryName(Path)!);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (done) return;
        done = true;
        stream.Dispose();
        Remove(temporary);
    }

    /// <summary>Flushes a folder's entries to the device. On Windows renames are journalled and nothing is done.</summary>
    /// <exception cref="FathomException">The device failed.</exception>
    public static void FlushFolder(string folder)
    {
        if (OperatingSystem.IsWindows()) return;
        int descriptor = Open(folder, 0);
        int error = descriptor < 0 || Sync(descriptor) != 0 ? Marshal.GetLastPInvokeError() : 0;
        if (descriptor >= 0) _ = Close(descriptor);
        if (error is 0 or InvalidArgument) return;
        throw new FathomException($"flushing the folder {folder} to disk: {Marshal.GetPInvokeErrorMessage(error)}");
    }

    private static void Remove(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The failure that led here is the one to report; a left-over temporary file is harmless.
        }
    }

    private FathomException Failure(Exception e) =>
        new($"writing {Path}: {e.Message} Make room or choose another folder; nothing was changed", e);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Sync(int descriptor);

    [LibraryImport("libc", EntryPoint = "sync_file_range")]
    private static partial int SyncRange(SafeHandle file, long offset, long length, uint flags);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
