namespace Fathom.Testing;

/// <summary>A fresh folder that is deleted with everything in it at the end of a test.</summary>
public sealed class TemporaryFolder : IDisposable
{
    /// <summary>The folder's full path.</summary>
    public string Path { get; } = Directory.CreateTempSubdirectory("fathom-test-").FullName;

    /// <summary>The full path of a file or folder in it.</summary>
    public string File(params string[] parts) => System.IO.Path.Combine([Path, .. parts]);

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(Path, recursive: true);
}
