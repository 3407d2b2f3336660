// Files on a disk that is full are a case of its own: the system says so late, and not always to the call that wrote.
using System.ComponentModel;
using System.Diagnostics;
using Xunit;

namespace Fathom.Testing;

/// <summary>A disk in memory that is soon full, taken away at the end of a test.</summary>
public sealed class SmallDisk : IDisposable
{
    private readonly TemporaryFolder folder = new();

    /// <summary>Mounts a disk; the running test is skipped where that is not permitted.</summary>
    /// <param name="kilobytes">Its size.</param>
    public SmallDisk(int kilobytes)
    {
        Path = Directory.CreateDirectory(folder.File("disk")).FullName;
        if (Run("mount", "-t", "tmpfs", "-o", $"size={kilobytes}k", "tmpfs", Path)) return;
        folder.Dispose();
        Assert.Skip("mounting a small disk needs the superuser of a Linux system");
    }

    /// <summary>The disk's full path.</summary>
    public string Path { get; }

    /// <summary>The full path of a file or folder on it.</summary>
    public string File(params string[] parts) => System.IO.Path.Combine([Path, .. parts]);

    /// <inheritdoc/>
    public void Dispose()
    {
        Run("umount", "-l", Path); // mapped files are let go by finalizers
        folder.Dispose();
    }

    private static bool Run(string program, params string[] arguments)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
            process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (Win32Exception)
        {
            return false;
        }
    }
}
