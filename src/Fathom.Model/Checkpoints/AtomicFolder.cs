// A folder that appears whole or not at all: filled under a hidden name beside its place, flushed, renamed. A process that is
// killed leaves the hidden folder, which the next attempt empties and uses; a lock in it keeps two attempts apart and ends with
// the process that holds it.
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>One new folder in the making. Dispose without <see cref="Commit"/> leaves no trace.</summary>
public sealed class AtomicFolder : IDisposable
{
    private readonly string parent;
    private readonly FileStream held;
    private bool done;

    /// <summary>Starts a folder.</summary>
    /// <param name="path">Where it will be; there is nothing yet, or an empty folder.</param>
    /// <exception cref="FathomException">Something is in the way, another process is at it, or the place is not writable.</exception>
    public AtomicFolder(string path)
    {
        Path = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));
        parent = System.IO.Path.GetDirectoryName(Path) ?? throw new FathomException($"writing {path}: this is no new folder");
        if (File.Exists(Path)) throw new FathomException($"writing {Path}: a file of that name is in the way; give another folder");
        Temporary = System.IO.Path.Combine(parent, $".{System.IO.Path.GetFileName(Path)}.tmp");
        try
        {
            if (Directory.Exists(Path) && Directory.EnumerateFileSystemEntries(Path).Any())
                throw new FathomException($"writing {Path}: the folder is not empty; give another one, or remove it first");
            Directory.CreateDirectory(Temporary);
            held = new FileStream(System.IO.Path.Combine(Temporary, ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"writing {Path}: {e.Message} Nothing was changed; is another process writing there?", e);
        }

        Empty();
    }

    /// <summary>Where the folder will be, as a full path.</summary>
    public string Path { get; }

    /// <summary>Where its files are written until <see cref="Commit"/>.</summary>
    public string Temporary { get; }

    /// <summary>Makes the folder appear, durably. Its files must have been flushed.</summary>
    /// <exception cref="FathomException">The disk failed, or something came in the way meanwhile.</exception>
    public void Commit()
    {
        try
        {
            File.Delete(held.Name);
            AtomicFile.FlushFolder(Temporary);
            if (Directory.Exists(Path)) Directory.Delete(Path); // an empty one only
            Directory.Move(Temporary, Path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"writing {Path}: {e.Message} Nothing is there now; make room or give another folder", e);
        }

        done = true;
        held.Dispose();
        AtomicFile.FlushFolder(parent);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (done) return;
        done = true;
        try
        {
            Directory.Delete(Temporary, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The failure that led here is the one to report; the left-over folder is hidden and the next attempt empties it.
        }

        held.Dispose();
    }

    private void Empty()
    {
        try
        {
            foreach (string file in Directory.EnumerateFiles(Temporary).Where(f => f != held.Name)) File.Delete(file);
            foreach (string folder in Directory.EnumerateDirectories(Temporary)) Directory.Delete(folder, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            held.Dispose();
            throw new FathomException($"writing {Path}: what an earlier attempt left in {Temporary} cannot be removed: {e.Message}", e);
        }
    }
}
