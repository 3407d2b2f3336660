// All weight files of a new model, open at once: their space is reserved before the first byte of data, so that a disk that is
// too small shows in the first second. A shard is flushed to the device by whoever completes it, while others go on.
using System.Collections.Frozen;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>The shards of a checkpoint in the making. Safe on any thread.</summary>
internal sealed class ShardSet : IDisposable
{
    private readonly List<List<TensorDeclaration>> declarations;
    private readonly List<Shard> shards = [];
    private readonly FrozenDictionary<string, Shard> shardOf;
    private readonly string folder;

    /// <summary>Reserves the files.</summary>
    /// <exception cref="FathomException">The disk is too small or not writable.</exception>
    public ShardSet(string folder, IEnumerable<TensorDeclaration> tensors, long shardBytes)
    {
        this.folder = folder;
        declarations = CheckpointWriter.Split(tensors, shardBytes);
        var map = new Dictionary<string, Shard>(StringComparer.Ordinal);
        try
        {
            for (int i = 0; i < declarations.Count; i++)
            {
                string path = Path.Combine(folder, CheckpointWriter.ShardName(i, declarations.Count));
                var shard = new Shard(new SafetensorsWriter(path, declarations[i]), declarations[i].Sum(t => t.Bytes));
                shards.Add(shard);
                foreach (TensorDeclaration tensor in declarations[i]) map.Add(tensor.Name, shard);
            }
        }
        catch
        {
            Dispose();
            throw;
        }

        shardOf = map.ToFrozenDictionary(StringComparer.Ordinal);
    }

    /// <summary>Number of files.</summary>
    public int Count => shards.Count;

    /// <summary>Writes bytes of a tensor; every byte exactly once.</summary>
    /// <exception cref="FathomException">The disk is full or failed.</exception>
    public void Write(string name, long start, ReadOnlySpan<byte> bytes)
    {
        Shard shard = shardOf[name];
        shard.Writer.WriteAt(name, start, bytes);
        if (shard.Complete(bytes.Length)) shard.Writer.Flush();
    }

    /// <summary>Gives the files their names and writes the index where there are several.</summary>
    /// <exception cref="FathomException">The disk is full or failed.</exception>
    public void Finish()
    {
        foreach (Shard shard in shards) shard.Writer.Finish();
        if (Count > 1) AtomicFile.WriteAllBytes(Path.Combine(folder, Checkpoint.IndexFile), CheckpointWriter.BuildIndex(declarations));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Shard shard in shards) shard.Writer.Dispose();
    }

    private sealed class Shard(SafetensorsWriter writer, long bytes)
    {
        private long missing = bytes;

        public SafetensorsWriter Writer { get; } = writer;

        public bool Complete(long written) => Interlocked.Add(ref missing, -written) == 0;
    }
}
