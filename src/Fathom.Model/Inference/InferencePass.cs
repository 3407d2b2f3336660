// One pass of the model over new tokens of several sequences: chunks of prompts first, then tokens of the sequences that are
// generating, usually one of each. A chunk expands keys and values for all its tokens at once; a generating token attends in the latent
// space on its own, whatever stands beside it, so several of one sequence (drafts to verify, a text to compute again) have the numbers
// that they have one at a time. All memory is kept from pass to pass, so a decode step allocates nothing; everything that says where tokens belong
// goes to the device in one piece.
using System.Runtime.InteropServices;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>New tokens of one sequence's prompt within a pass.</summary>
/// <param name="Start">First row of the pass.</param>
/// <param name="Count">New tokens.</param>
/// <param name="Past">Tokens of the sequence that were cached before.</param>
/// <param name="FirstSlot">Where among the pass's tables the cache rows of the whole sequence begin, Past + Count of them.</param>
internal readonly record struct PrefillChunk(int Start, int Count, int Past, int FirstSlot);

/// <summary>The tokens of a pass, where their latents go, and which rows want logits.</summary>
public sealed class InferencePass
{
    private const int LeastTable = 1 << 10, LeastColumns = 8;
    private readonly List<PrefillChunk> prefills = [];
    private readonly List<DecodeRow> decodes = [];
    private readonly List<int> ids = [];
    private readonly List<int> positions = [];
    private readonly List<int> slots = [];
    private readonly List<int> outputs = [];
    private readonly List<int> sequenceSlots = []; // of sequences that are prefilled on, whole
    private readonly List<int> sources = [];
    private readonly Device device;
    private Mirror tables;
    private Tensor allSlots;

    /// <summary>A pass on a device, to be used again and again.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="recipe">How activations are stored and multiplied; <see cref="Recipe.ForInference"/> where none is given.</param>
    /// <param name="byRow">Whether the bits of a row must be its own (<see cref="Device.LinearByRow"/>), as where strangers share a pass.</param>
    public InferencePass(Device device, Recipe? recipe = null, bool byRow = false)
    {
        this.device = device;
        tables = new Mirror(device, new Shape(LeastTable), DType.I32);
        Context = new LayerContext(device, training: false, recipe ?? Recipe.ForInference(device), byRow) { Batch = 1 };
        Recordings = new StepRecordings(device);
    }

    /// <summary>Memory of the layers.</summary>
    public LayerContext Context { get; }

    /// <summary>Number of tokens, M.</summary>
    public int Count => ids.Count;

    /// <summary>Whether the device does passes of this form again and again, and can record them: then it pays to give passes few forms.</summary>
    public bool IsRepeatable => device.CanRecord && prefills.Count == 0 && decodes.Count > 0;

    /// <summary>Rows that have been added.</summary>
    public int Rows => ids.Count + decodes.Count;

    internal StepRecordings Recordings { get; }

    /// <summary>Where the tables lie on the device.</summary>
    internal nint Tables => tables.Tensor.Address;

    /// <summary>Whether nothing has been added.</summary>
    public bool IsEmpty => ids.Count + decodes.Count == 0;

    /// <summary>Whether the hidden states of all rows are kept until the next pass, for MTP modules to go on from.</summary>
    public bool KeepsHidden { get; init; }

    /// <summary>Hidden states that an MTP module reads: of all rows [M, D] of a pass of the model, of the rows that want logits of one of a module.</summary>
    public Tensor Hidden { get; internal set; }

    internal BlockActivations Block { get; } = new();

    internal LatentAttentionActivations Attention => Block.Attention;

    internal ReadOnlySpan<PrefillChunk> Prefills => CollectionsMarshal.AsSpan(prefills);

    internal int DecodeStart { get; private set; }

    internal int DecodeCount { get; private set; }

    /// <summary>The tokens, when the pass is complete.</summary>
    internal ReadOnlySpan<int> TokenIds => CollectionsMarshal.AsSpan(ids);

    internal Tensor Ids { get; private set; }               // [M] I32

    internal Tensor Slots { get; private set; }             // [M] I32

    internal Tensor OutputRows { get; private set; }        // [outputs] I32

    internal Tensor Sources { get; private set; }           // [M] I32, in a pass of an MTP module

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
        sequenceSlots.Clear();
        sources.Clear();
        Reach = 0;
    }

    /// <summary>Adds a chunk of a prompt, whose room in the cache the sequence has already taken (its last tokens).</summary>
    /// <param name="sequence">The sequence; its length includes the chunk.</param>
    /// <param name="tokens">The chunk's ids.</param>
    /// <param name="wantLogits">Whether the last token's logits are wanted.</param>
    /// <param name="source">In a pass of an MTP module: the row of the first token's hidden state.</param>
    public void AddPrefill(CachedSequence sequence, ReadOnlySpan<int> tokens, bool wantLogits, int source = 0)
    {
        int past = sequence.Length - tokens.Length, start = ids.Count;
        for (int i = 0; i < tokens.Length; i++) AddToken(sequence.Slot(past + i), tokens[i], past + i, source + i);
        prefills.Add(new PrefillChunk(start, tokens.Length, past, sequenceSlots.Count));
        for (int i = 0; i < sequence.Length; i++) sequenceSlots.Add(sequence.Slot(i));
        if (wantLogits) outputs.Add(ids.Count - 1);
    }

    /// <summary>Adds the next token of a generating sequence, whose room in the cache it has already taken; its logits are wanted.</summary>
    public void AddDecode(CachedSequence sequence, int token) => AddDecode(sequence, sequence.Length - 1, [token], 1);

    /// <summary>Adds tokens of a generating sequence, whose room in the cache it has already taken.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">Of the first token.</param>
    /// <param name="tokens">The ids.</param>
    /// <param name="outputs">Of how many, the last, logits are wanted.</param>
    /// <param name="source">In a pass of an MTP module: the row of the first token's hidden state.</param>
    public void AddDecode(CachedSequence sequence, int position, ReadOnlySpan<int> tokens, int outputs, int source = 0)
    {
        for (int i = 0; i < tokens.Length; i++)
            decodes.Add(new DecodeRow(sequence, tokens[i], position + i, i >= tokens.Length - outputs, source + i, sequence.Slot(position + i)));
    }

    /// <summary>
    /// Fills the pass up with rows of nobody, each a first token of its own, so that it has the form of others of its size. They attend to
    /// themselves and are written where no sequence reads.
    /// </summary>
    /// <param name="rows">Rows that the pass is to have.</param>
    /// <param name="cache">Of the pass.</param>
    /// <param name="outputs">Of how many rows logits are wanted then, as far as there is something to fill up; all that are added where it is not said.</param>
    public void FillUp(int rows, LatentCache cache, int outputs = int.MaxValue)
    {
        int wanted = this.outputs.Count;
        foreach (DecodeRow row in decodes) wanted += row.WantLogits ? 1 : 0;
        for (; Rows < rows; wanted++) decodes.Add(new DecodeRow(null, 0, 0, wanted < outputs, 0, cache.ScratchSlot));
    }

    /// <summary>Adds the tokens that are generated, and hands all tables to the device.</summary>
    internal void Complete()
    {
        DecodeStart = ids.Count;
        DecodeCount = decodes.Count;
        int mostBlocks = 0;
        foreach (DecodeRow row in decodes)
        {
            if (row.WantLogits) outputs.Add(ids.Count);
            AddToken(row.Slot, row.Token, row.Position, row.Source);
            mostBlocks = Math.Max(mostBlocks, BlockPool.BlocksOf(row.Position + 1));
        }

        // One form of pass serves until the longest sequence has doubled.
        if (IsRepeatable) mostBlocks = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(mostBlocks, LeastColumns));
        int size = 4 * ids.Count + outputs.Count + DecodeCount * (1 + mostBlocks) + sequenceSlots.Count;
        if (size > tables.Tensor.Elements) tables = new Mirror(device, new Shape(System.Numerics.BitOperations.RoundUpToPowerOf2((uint)size)), DType.I32);
        int at = 0;
        Ids = Place(CollectionsMarshal.AsSpan(ids), ref at);
        Context.Positions = Place(CollectionsMarshal.AsSpan(positions), ref at);
        Slots = Place(CollectionsMarshal.AsSpan(slots), ref at);
        OutputRows = Place(CollectionsMarshal.AsSpan(outputs), ref at);
        Sources = Place(CollectionsMarshal.AsSpan(sources), ref at);
        allSlots = Place(CollectionsMarshal.AsSpan(sequenceSlots), ref at);
        if (DecodeCount > 0) PlaceDecodes(mostBlocks, ref at);
        tables.Push(at);
    }

    /// <summary>[Past + Count], I32: cache rows of a chunk's whole sequence.</summary>
    internal Tensor AllSlots(PrefillChunk chunk) => allSlots.Slice(chunk.FirstSlot, chunk.Past + chunk.Count);

    private void PlaceDecodes(int mostBlocks, ref int at)
    {
        DecodeBlocks = tables.Tensor.Slice(at, (long)DecodeCount * mostBlocks).Reshape(new Shape(DecodeCount, mostBlocks));
        DecodeLengths = tables.Tensor.Slice(at + (long)DecodeCount * mostBlocks, DecodeCount);
        Span<int> table = tables.Host.AsSpan<int>()[at..], lengths = table[(DecodeCount * mostBlocks)..];
        for (int d = 0; d < DecodeCount; d++)
        {
            DecodeRow row = decodes[d];
            lengths[d] = row.Position + 1;
            int blocks = BlockPool.BlocksOf(row.Position + 1);
            for (int i = 0; i < mostBlocks; i++) table[d * mostBlocks + i] = i >= blocks ? 0 : row.Sequence?.Blocks[i] ?? row.Slot / BlockPool.BlockSize;
        }

        at += DecodeCount * (1 + mostBlocks);
    }

    private Tensor Place(ReadOnlySpan<int> values, ref int at)
    {
        values.CopyTo(tables.Host.AsSpan<int>()[at..]);
        Tensor placed = tables.Tensor.Slice(at, values.Length);
        at += values.Length;
        return placed;
    }

    private void AddToken(int slot, int token, int position, int source)
    {
        sources.Add(source);
        ids.Add(token);
        positions.Add(position);
        slots.Add(slot);
        Reach = Math.Max(Reach, position + 1);
    }

    /// <summary>A token of a generating sequence, or of none.</summary>
    private readonly record struct DecodeRow(CachedSequence? Sequence, int Token, int Position, bool WantLogits, int Source, int Slot);
}
