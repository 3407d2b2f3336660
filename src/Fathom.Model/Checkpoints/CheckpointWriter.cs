// Writes a model's weights as one file or as shards with an index. All data reaches the disk under temporary names before the
// first rename, so a full disk leaves the old weights untouched. Renaming several shards is not one step: for a checkpoint
// that must survive a crash at any moment, write into a new folder and rename the folder.
using System.Text.Json;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Writes weights in the Hugging Face layout.</summary>
public static class CheckpointWriter
{
    /// <summary>The usual limit of a shard, in bytes of tensor data.</summary>
    public const long DefaultShardBytes = 5_000_000_000;

    /// <summary>Writes all tensors into a folder, replacing the weights there.</summary>
    /// <param name="folder">The model folder; created where absent.</param>
    /// <param name="tensors">What to write; shards are filled in this order.</param>
    /// <param name="source">Gives each tensor's data in host memory, in the declared type or as singles; asked once for each, and done with before the next.</param>
    /// <param name="shardBytes">Most bytes of data in a shard; a single tensor may exceed it.</param>
    /// <param name="metadata">Texts for each file's __metadata__.</param>
    /// <exception cref="FathomException">The disk is full or failed, or a tensor is not as declared; old weights are untouched.</exception>
    public static void Write(
        string folder,
        IEnumerable<TensorDeclaration> tensors,
        Func<TensorDeclaration, Tensor> source,
        long shardBytes = DefaultShardBytes,
        IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(shardBytes);
        CreateFolder(folder);
        List<List<TensorDeclaration>> shards = Split(tensors, shardBytes);
        var writers = new List<SafetensorsWriter>();
        AtomicFile? index = null;
        try
        {
            for (int i = 0; i < shards.Count; i++)
            {
                var writer = new SafetensorsWriter(Path.Combine(folder, ShardName(i, shards.Count)), shards[i], metadata);
                writers.Add(writer);
                foreach (TensorDeclaration tensor in shards[i]) writer.Write(tensor.Name, source(tensor));
                writer.Flush();
            }

            if (shards.Count > 1)
            {
                byte[] content = BuildIndex(shards);
                index = new AtomicFile(Path.Combine(folder, Checkpoint.IndexFile), content.Length);
                index.Write(content, 0);
                index.Flush();
            }

            foreach (SafetensorsWriter writer in writers) writer.Finish();
            index?.Commit();
        }
        finally
        {
            foreach (SafetensorsWriter writer in writers) writer.Dispose();
            index?.Dispose();
        }

        RemoveStale(folder, shards.Count);
    }

    private static void CreateFolder(string folder)
    {
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"writing a model into {folder}: the folder cannot be created: {e.Message}", e);
        }
    }

    /// <summary>Fills shards in the order of the declarations.</summary>
    internal static List<List<TensorDeclaration>> Split(IEnumerable<TensorDeclaration> tensors, long shardBytes)
    {
        var shards = new List<List<TensorDeclaration>> { new() };
        var names = new HashSet<string>(StringComparer.Ordinal);
        long filled = 0;
        foreach (TensorDeclaration tensor in tensors)
        {
            if (!names.Add(tensor.Name)) throw new FathomException($"writing a model: tensor '{tensor.Name}' is declared twice");
            long bytes = tensor.Bytes;
            if (shards[^1].Count > 0 && bytes > shardBytes - filled)
            {
                shards.Add([]);
                filled = 0;
            }

            shards[^1].Add(tensor);
            filled += Math.Min(bytes, shardBytes);
        }

        return shards;
    }

    /// <summary>A shard's file name.</summary>
    internal static string ShardName(int index, int count) =>
        count == 1 ? Checkpoint.SingleFile : $"model-{index + 1:D5}-of-{count:D5}.safetensors";

    /// <summary>The content of model.safetensors.index.json.</summary>
    internal static byte[] BuildIndex(List<List<TensorDeclaration>> shards)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("metadata");
            writer.WriteNumber("total_size", shards.Sum(shard => shard.Sum(tensor => tensor.Bytes)));
            writer.WriteEndObject();
            writer.WriteStartObject("weight_map");
            IEnumerable<(string Name, int Shard)> map = shards.SelectMany((shard, i) => shard.Select(tensor => (tensor.Name, i)));
            foreach (var (name, shard) in map.OrderBy(entry => entry.Name, StringComparer.Ordinal))
                writer.WriteString(name, ShardName(shard, shards.Count));
            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        stream.Write("\n"u8);
        return stream.ToArray();
    }

    // What an earlier save left under names that the new one does not use; a reader would prefer or keep it.
    private static void RemoveStale(string folder, int count)
    {
        try
        {
            if (count > 1)
                File.Delete(Path.Combine(folder, Checkpoint.SingleFile));
            else
                File.Delete(Path.Combine(folder, Checkpoint.IndexFile));
            foreach (string file in Directory.EnumerateFiles(folder, "model-*-of-*.safetensors"))
            {
                if (count == 1 || !file.EndsWith($"-of-{count:D5}.safetensors", StringComparison.Ordinal)) File.Delete(file);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"{folder}: the new weights are written, but an older file beside them cannot be removed: {e.Message}", e);
        }
    }
}
