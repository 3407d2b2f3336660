// Compiled kernels on disk, so that only the first start on a machine compiles. The key covers everything that decides the machine
// code: source, headers, options with the architecture, instantiations, version of the compiler. A file carries a hash of its
// contents; one that does not match (a disk error, a stopped copy) counts as absent and is written anew. The cache never fails a
// run: where the folder cannot be written, every start compiles.
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>A folder of compiled kernels.</summary>
/// <param name="folder">The folder; made when something is written.</param>
internal sealed class CubinCache(string folder)
{
    /// <summary>Names the folder; without it, fathom/kernels in the user's cache folder.</summary>
    public const string FolderVariable = "FATHOM_KERNEL_CACHE";

    private const string Magic = "FATHOMK1";
    private const int HashBytes = 32;

    /// <summary>The folder that the environment names, or the usual one.</summary>
    public static string DefaultFolder
    {
        get
        {
            if (Environment.GetEnvironmentVariable(FolderVariable) is { Length: > 0 } named) return named;
            string? root = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
            if (string.IsNullOrEmpty(root))
            {
                string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
                root = OperatingSystem.IsWindows()
                    ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
                    : Path.Combine(home.Length > 0 ? home : Path.GetTempPath(), ".cache");
            }

            return Path.Combine(root, "fathom", "kernels");
        }
    }

    /// <summary>The folder.</summary>
    public string Folder => folder;

    /// <summary>A name for everything that decides the machine code.</summary>
    public static string Key(
        string file, string source, string[] headerNames, string[] headers, string[] options, string[] instances, string compiler)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[4];
        foreach (string part in (string[])[file, source, .. headerNames, .. headers, .. options, .. instances, compiler])
        {
            byte[] bytes = Encoding.UTF8.GetBytes(part);
            BinaryPrimitives.WriteInt32LittleEndian(length, bytes.Length);
            hash.AppendData(length);
            hash.AppendData(bytes);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset().AsSpan(0, 16));
    }

    /// <summary>What was written under a key, or null where nothing whole is there.</summary>
    public CompiledKernels? Read(string file, string key)
    {
        try
        {
            byte[] bytes = File.ReadAllBytes(FilePath(file, key));
            ReadOnlySpan<byte> content = bytes.AsSpan(Math.Min(bytes.Length, HashBytes));
            if (bytes.Length < HashBytes || !SHA256.HashData(content).AsSpan().SequenceEqual(bytes.AsSpan(0, HashBytes))) return null;
            using var reader = new BinaryReader(new MemoryStream(bytes, HashBytes, bytes.Length - HashBytes));
            if (reader.ReadString() != Magic) return null;
            string compiler = reader.ReadString();
            var names = new Dictionary<string, string>();
            for (int left = reader.ReadInt32(); left > 0; left--)
            {
                string instance = reader.ReadString();
                names[instance] = reader.ReadString();
            }

            return new CompiledKernels(reader.ReadBytes(reader.ReadInt32()), names, compiler);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Keeps what was compiled. Appears whole or not at all, also beside other processes that write the same.</summary>
    public void Write(string file, string key, CompiledKernels kernels)
    {
        var stream = new MemoryStream();
        using (var writer = new BinaryWriter(stream, Encoding.UTF8, leaveOpen: true))
        {
            writer.Write(Magic);
            writer.Write(kernels.Compiler);
            writer.Write(kernels.Names.Count);
            foreach ((string instance, string name) in kernels.Names)
            {
                writer.Write(instance);
                writer.Write(name);
            }

            writer.Write(kernels.Image.Length);
            writer.Write(kernels.Image);
        }

        byte[] content = stream.ToArray();
        string temporary = FilePath(file, key) + $".{Environment.ProcessId}.{Environment.CurrentManagedThreadId}";
        try
        {
            Directory.CreateDirectory(folder);
            File.WriteAllBytes(temporary, [.. SHA256.HashData(content), .. content]);
            File.Move(temporary, FilePath(file, key), overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            TryDelete(temporary);
        }
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The folder went away or is full: nothing is lost, the next start compiles.
        }
    }

    private string FilePath(string file, string key) => Path.Combine(folder, $"{Path.GetFileNameWithoutExtension(file)}-{key}.cubin");
}
