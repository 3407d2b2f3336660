// A model's weights as the Hugging Face layout has them: one model.safetensors, or shards with model.safetensors.index.json.
// Shards are opened when a tensor of theirs is first asked for. As in transformers, the single file wins where both exist.
using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>An open set of weights. Safe on any thread; tensors stay valid after <see cref="Dispose"/>.</summary>
public sealed class Checkpoint : IDisposable
{
    /// <summary>The file of averaged weights beside a training checkpoint's own, under the same names.</summary>
    public const string EmaFile = "ema.safetensors";

    internal const string SingleFile = "model.safetensors";
    internal const string IndexFile = "model.safetensors.index.json";
    private const long LargestIndex = 256 << 20;
    private readonly ConcurrentDictionary<string, Lazy<SafetensorsFile>> shards = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> shardOf = new(StringComparer.Ordinal);
    private readonly string folder;
    private bool disposed;

    private Checkpoint(string path, string folder)
    {
        Path = path;
        this.folder = folder;
    }

    /// <summary>The single file or the index.</summary>
    public string Path { get; }

    /// <summary>All names, by shard and in ordinal order where there are several.</summary>
    public IReadOnlyCollection<string> Names => shardOf.Keys;

    /// <summary>Opens a model folder, a single .safetensors file, or an index.</summary>
    /// <exception cref="FathomException">Nothing to open, or a damaged file; a shard that the index names is missing.</exception>
    public static Checkpoint Open(string path)
    {
        if (File.Exists(path)) return path.EndsWith(".index.json", StringComparison.Ordinal) ? OpenIndex(path) : OpenSingle(path);
        if (!Directory.Exists(path)) throw new FathomException($"{path}: there is no such model folder or file");
        string single = System.IO.Path.Combine(path, SingleFile), index = System.IO.Path.Combine(path, IndexFile);
        if (File.Exists(single)) return OpenSingle(single);
        if (File.Exists(index)) return OpenIndex(index);
        throw new FathomException($"{path}: the folder has neither {SingleFile} nor {IndexFile}");
    }

    /// <summary>Whether there is a tensor of that name. Opens no shard.</summary>
    public bool Contains(string name) => shardOf.ContainsKey(name);

    /// <summary>Where a tensor lies in its shard, if there is one of that name.</summary>
    /// <exception cref="FathomException">Its shard is damaged or does not hold it.</exception>
    public bool TryGet(string name, [NotNullWhen(true)] out SafetensorsEntry? entry)
    {
        entry = null;
        if (!shardOf.TryGetValue(name, out string? shard)) return false;
        entry = EntryIn(Shard(shard), name);
        return true;
    }

    /// <summary>A tensor's entry.</summary>
    /// <exception cref="FathomException">There is none of that name, or its shard is damaged or does not hold it.</exception>
    public SafetensorsEntry Entry(string name) =>
        TryGet(name, out SafetensorsEntry? entry) ? entry : throw new FathomException($"{Path}: there is no tensor '{name}'");

    /// <summary>A read-only view of a tensor; nothing is copied.</summary>
    /// <exception cref="FathomException">There is none of that name, or its shard is damaged or does not hold it.</exception>
    public Tensor Get(string name)
    {
        Entry(name);
        return Shard(shardOf[name]).Get(name);
    }

    /// <summary>The file that holds a tensor.</summary>
    /// <exception cref="FathomException">There is none of that name.</exception>
    internal string FileOf(string name) => shardOf.TryGetValue(name, out string? shard)
        ? System.IO.Path.Combine(folder, shard)
        : throw new FathomException($"{Path}: there is no tensor '{name}'");

    /// <summary>Copies bytes of a tensor.</summary>
    /// <exception cref="FathomException">There is none of that name, or the range is not inside it.</exception>
    public void CopyBytes(string name, long start, Span<byte> destination)
    {
        Entry(name);
        Shard(shardOf[name]).CopyBytes(name, start, destination);
    }

    /// <summary>Gives up all files. Tensors that were taken from them stay valid.</summary>
    public void Dispose()
    {
        disposed = true;
        foreach (Lazy<SafetensorsFile> shard in shards.Values)
        {
            if (shard.IsValueCreated) shard.Value.Dispose();
        }
    }

    private static Checkpoint OpenSingle(string path)
    {
        string full = System.IO.Path.GetFullPath(path);
        var result = new Checkpoint(path, System.IO.Path.GetDirectoryName(full)!);
        string shard = System.IO.Path.GetFileName(full);
        foreach (string name in result.Shard(shard).Names) result.shardOf.Add(name, shard);
        return result;
    }

    private static Checkpoint OpenIndex(string path)
    {
        var result = new Checkpoint(path, System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!);
        JsonFields map = JsonFields.Parse(ReadIndex(path), path).Object("weight_map")
            ?? throw new FathomException($"{path}: weight_map is missing; it should name each tensor's file");
        foreach (string name in map.Remaining.Keys.ToArray())
        {
            string shard = map.Text(name) ?? throw map.Error(name, "is null, expected a file name");
            if (shard.Length == 0 || shard.AsSpan().ContainsAny("/\\\0") || shard is "." or "..")
                throw map.Error(name, "is no plain file name; shards lie beside the index");
            result.shardOf.Add(name, shard);
        }

        if (result.shardOf.Count == 0) throw new FathomException($"{path}: weight_map is empty");
        foreach (string shard in result.shardOf.Values.Distinct())
        {
            if (!File.Exists(System.IO.Path.Combine(result.folder, shard)))
                throw new FathomException($"{path}: shard {shard} is named but not there; fetch it into {result.folder}");
        }

        return result;
    }

    private static byte[] ReadIndex(string path)
    {
        try
        {
            if (new FileInfo(path).Length > LargestIndex) throw new FathomException($"{path}: too large for an index");
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    private SafetensorsFile Shard(string shard)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        return shards.GetOrAdd(
            shard,
            static (name, folder) => new Lazy<SafetensorsFile>(() => SafetensorsFile.Open(System.IO.Path.Combine(folder, name))),
            folder).Value;
    }

    private SafetensorsEntry EntryIn(SafetensorsFile shard, string name) => shard.TryGet(name, out SafetensorsEntry? entry)
        ? entry
        : throw new FathomException($"{Path}: tensor '{name}' should be in {System.IO.Path.GetFileName(shard.Path)}, which does not hold it; fetch that shard again");
}
