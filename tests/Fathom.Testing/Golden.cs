// Finds the reference data that independent programs computed, and skips (saying so) where it is absent.
using Xunit;

namespace Fathom.Testing;

/// <summary>Locations of reference data: <c>../shared/…</c> beside the repository, and <c>tests/fixtures</c> in it.</summary>
public static class Golden
{
    /// <summary>The repository's root folder: the nearest parent of the test binary that holds Fathom.slnx.</summary>
    public static string RepositoryRoot { get; } = FindRoot();

    /// <summary>A path below <c>../shared</c>; the running test is skipped with a message when it does not exist.</summary>
    public static string Shared(params string[] parts)
    {
        string path = Path.GetFullPath(Path.Combine([RepositoryRoot, "..", "shared", .. parts]));
        Assert.SkipUnless(Path.Exists(path), $"reference data is not here: {path}");
        return path;
    }

    /// <summary>A path below <c>tests/fixtures</c>, which every clone has.</summary>
    public static string Fixture(params string[] parts) => Path.Combine([RepositoryRoot, "tests", "fixtures", .. parts]);

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Fathom.slnx"))) return folder.FullName;
        }

        throw new DirectoryNotFoundException("Fathom.slnx was not found above " + AppContext.BaseDirectory);
    }
}
