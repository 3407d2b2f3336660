// One pass of the model over new tokens of several sequences: chunks of prompts first, then one token each of the sequences that
// are generating. All memory is kept from pass to pass, so a decode step allocates nothing.
using System.Runtime.InteropServices;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>New tokens of one sequence's prompt within a pass.</summary>
/// <param name="Start">First row of the pass.</param>
/// <param name="Count">New tokens.</param>
/// <param name="Past">Tokens of the sequence that were cached before.</param>
/// <param name="AllSlots">[Past + Count], I32: cache rows of the whole sequence; empty where Past is 0.</param>
public readonly record struct PrefillChunk(int Start, int Count, int Past, Tensor AllSlots);

/// <summary>The tokens of a pass, where their latents go, and which rows want logits.</summary>
public sealed class InferencePass
{
    private readonly List<PrefillChunk> prefills = [];
    private readonly List<(CachedSequence Sequence, int Token)> decodes = [];
    private readonly List<int> ids = [];
    private readonly List<int> positions = [];
    private readonly List<int> slots = [];
    private readonly List<int> outputs = [];
    private readonly List<int> blocks = [];
    private readonly List<int> lengths = [];
    private readonly Arena integers;

    /// <summary>A pass on a device, to be used again and again.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="recipe">How activations are stored and multiplied; F32 throughout where none is given.</param>
    public InferencePass(Device device, Recipe? recipe = null)
    {
        integers = new Arena(device, MemoryKind.Inputs, 1 << 16);
        Context = new LayerContext(device, training: false, recipe ?? Recipe.Fp32) { Batch = 1 };
    }

    /// <summary>Memory of the layers.</summary>
    public LayerContext Context { get; }

    /// <summary>Number of tokens, M.</summary>
    public int Count => ids.Count;

    internal BlockActivations Block { get; } = new();

    internal LatentAttentionActivations Attention => Block.Attention;

    internal ReadOnlySpan<PrefillChunk> Prefills => CollectionsMarshal.AsSpan(prefills);

    internal int DecodeStart { get; private set; }

    internal int DecodeCount { get; private set; }

    internal Tensor Ids { get; private set; }               // [M] I32

    internal Tensor Slots { get; private set; }             // [M] I32

    internal Tensor OutputRows { get; private set; }        // [outputs] I32

    internal Tensor DecodeBlocks { get; private set; }      // [decodes, most blocks] I32

    internal Tensor DecodeLengths { get; private set; }     // [decodes] I32

    /// <summary>Position of the furthest token plus one.</summary>
    internal int Reach { get; private set; }

    /// <summary>Empties the pass.</summary>
    public void Clear()
    {
        prefills.Clear();
        decodes.Clear();
        ids.Clear();
        positions.Clear();
        slots.Clear();
        outputs.Clear();
        integers.Reset();
        Reach = 0;
    }

    /// <summary>Adds a chunk of a prompt, whose room in the cache the sequence has already taken (its last tokens).</summary>
    /// <param name="sequence">The sequence; its length includes the chunk.</param>
    /// <param name="tokens">The chunk's ids.</param>
    /// <param name="wantLogits">Whether the last token's logits are wanted.</param>
    public void AddPrefill(CachedSequence sequence, ReadOnlySpan<int> tokens, bool wantLogits)
    {
        int past = sequence.Length - tokens.Length, start = ids.Count;
        for (int i = 0; i < tokens.Length; i++) AddToken(sequence, tokens[i], past + i);
        Tensor all = default;
        if (past > 0)
        {
            all = integers.Take(new Shape(sequence.Length), DType.I32);
            for (int i = 0; i < sequence.Length; i++) all.AsSpan<int>()[i] = sequence.Slot(i);
        }

        prefills.Add(new PrefillChunk(start, tokens.Length, past, all));
        if (wantLogits) outputs.Add(ids.Count - 1);
    }

    /// <summary>Adds the next token of a generating sequence, whose room in the cache it has already taken; its logits are wanted.</summary>
    public void AddDecode(CachedSequence sequence, int token) => decodes.Add((sequence, token));

    internal void Complete()
    {
        DecodeStart = ids.Count;
        DecodeCount = decodes.Count;
        int mostBlocks = 0;
        foreach ((CachedSequence sequence, int token) in decodes)
        {
            outputs.Add(ids.Count);
            AddToken(sequence, token, sequence.Length - 1);
            mostBlocks = Math.Max(mostBlocks, sequence.Blocks.Count);
        }

        blocks.Clear();
        lengths.Clear();
        foreach ((CachedSequence sequence, _) in decodes)
        {
            lengths.Add(sequence.Length);
            for (int i = 0; i < mostBlocks; i++) blocks.Add(i < sequence.Blocks.Count ? sequence.Blocks[i] : 0);
        }

        Ids = Upload(ids);
        Context.Positions = Upload(positions);
        Slots = Upload(slots);
        OutputRows = Upload(outputs);
        if (DecodeCount == 0) return;
        DecodeBlocks = Upload(blocks).Reshape(new Shape(DecodeCount, mostBlocks));
        DecodeLengths = Upload(lengths);
    }

    private void AddToken(CachedSequence sequence, int token, int position)
    {
        ids.Add(token);
        positions.Add(position);
        slots.Add(sequence.Slot(position));
        Reach = Math.Max(Reach, position + 1);
    }

    private Tensor Upload(List<int> values)
    {
        Tensor tensor = integers.Take(new Shape(values.Count), DType.I32);
        CollectionsMarshal.AsSpan(values).CopyTo(tensor.AsSpan<int>());
        return tensor;
    }
}
