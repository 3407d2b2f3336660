// Ready batches of ids from a file, for reproducing what another program trained: step s takes batch s, in order, and after the
// last the first again.
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Training;

/// <summary>Samples from a safetensors tensor [steps, B, T + 1] of I64 or I32.</summary>
public sealed class FixedBatches : ITokenBatches
{
    private readonly int[] ids;

    /// <summary>Reads the tensor.</summary>
    /// <param name="file">Safetensors file.</param>
    /// <param name="tensor">Name of the tensor.</param>
    /// <param name="vocabulary">Ids must be below this.</param>
    /// <exception cref="FathomException">The tensor is missing, of another rank or type, or holds ids outside the vocabulary.</exception>
    public FixedBatches(string file, string tensor, int vocabulary)
    {
        using SafetensorsFile source = SafetensorsFile.Open(file);
        if (!source.TryGet(tensor, out SafetensorsEntry? entry))
            throw new FathomException($"{file} has no tensor {tensor}; it has {string.Join(", ", source.Names.Take(8))}");
        if (entry.Shape.Length != 3 || entry.Shape[2] < 2)
            throw new FathomException($"{file}: {tensor} is {entry}, expected ids of shape [steps, batch, tokens + 1]");
        Steps = entry.Shape[0];
        BatchSize = checked((int)entry.Shape[1]);
        SequenceLength = checked((int)entry.Shape[2] - 1);
        ids = entry.DType == DType.I32 ? source.ReadI32(tensor) : [.. source.ReadI64(tensor).Select(id => checked((int)id))];
        int wrong = Array.FindIndex(ids, id => (uint)id >= (uint)vocabulary);
        if (wrong >= 0)
            throw new FathomException($"{file}: {tensor} holds id {ids[wrong]} at place {wrong}, outside the vocabulary of {vocabulary}");
    }

    /// <summary>Batches in the file.</summary>
    public long Steps { get; }

    /// <summary>Sequences of a batch.</summary>
    public int BatchSize { get; }

    /// <inheritdoc/>
    public int SequenceLength { get; }

    /// <inheritdoc/>
    public long SamplesPerEpoch => Steps * BatchSize;

    /// <inheritdoc/>
    public void Fill(long sampleIndex, Span<int> tokens)
    {
        int length = SequenceLength + 1;
        ids.AsSpan((int)(sampleIndex % SamplesPerEpoch) * length, length).CopyTo(tokens);
    }
}
