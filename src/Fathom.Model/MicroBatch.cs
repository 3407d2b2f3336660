// One micro-batch in flight: its tokens in the forms that the model's parts take, and all that its forward pass keeps.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>B sequences of T tokens with the token after each, so that every position has a target.</summary>
public sealed class MicroBatch
{
    private readonly LossRows[] depths;

    /// <summary>Memory for micro-batches of one shape.</summary>
    /// <param name="model">The model that will run it.</param>
    /// <param name="batch">B.</param>
    /// <param name="tokens">T.</param>
    /// <param name="training">Whether backward passes follow.</param>
    /// <param name="recipe">How numbers are stored and multiplied; F32 throughout where none is given.</param>
    public MicroBatch(DeepSeekModel model, int batch, int tokens, bool training, Recipe? recipe = null)
    {
        if (tokens <= model.MtpModules.Count)
            throw new FathomException($"sequences of {tokens} tokens are too short for {model.MtpModules.Count} MTP modules");
        (Batch, Tokens) = (batch, tokens);
        Context = new LayerContext(model.Device, training, recipe ?? Recipe.Fp32) { Batch = batch };
        Blocks = [.. model.Blocks.Select(_ => new BlockActivations())];
        Mtp = [.. model.MtpModules.Select(_ => new MtpActivations())];
        depths = [.. Enumerable.Range(0, 1 + model.MtpModules.Count).Select(k => new LossRows(model.Device, batch, tokens, k))];
        model.Rotary.Reserve(tokens);
    }

    /// <summary>Sequences, B.</summary>
    public int Batch { get; }

    /// <summary>Tokens of a sequence, T.</summary>
    public int Tokens { get; }

    /// <summary>Memory and positions that the layers use.</summary>
    public LayerContext Context { get; }

    internal BlockActivations[] Blocks { get; }

    internal MtpActivations[] Mtp { get; }

    internal ScaledTensor FinalInput { get; set; } // [M, D], before the final norm

    internal Tensor FinalRstd { get; set; }      // [M]

    internal Tensor FinalNormed { get; set; }    // [M, D]

    /// <summary>Loss rows of the main model (0) and of each MTP depth.</summary>
    public IReadOnlyList<LossRows> Depths => depths;

    /// <summary>Sets the tokens.</summary>
    /// <param name="tokens">B rows of T + 1.</param>
    /// <exception cref="FathomException">Another number of tokens.</exception>
    public void Load(ReadOnlySpan<int> tokens)
    {
        if (tokens.Length != Batch * (Tokens + 1))
            throw new FathomException($"a micro-batch takes {Batch} x {Tokens + 1} tokens, not {tokens.Length}");
        foreach (LossRows depth in depths) depth.Load(tokens);
    }
}

/// <summary>
/// What depth k of a micro-batch trains on: position i of T - k, with the token k places on as input and the one after as target.
/// </summary>
public sealed class LossRows
{
    private readonly int tokens;
    private readonly int batch;

    internal LossRows(Device device, int batch, int tokens, int depth)
    {
        (this.tokens, this.batch, Depth) = (tokens, batch, depth);
        long rows = (long)batch * (tokens - depth);
        Ids = Integers(rows);
        Targets = Integers(rows);
        Positions = Integers(rows);
        PreviousRows = Integers(rows);
        Correct = Integers(rows);
        Losses = device.Allocate(new Shape(rows), DType.F32, MemoryKind.Inputs);
        int at = 0, length = tokens - depth;
        for (int b = 0; b < batch; b++)
        {
            for (int i = 0; i < length; i++, at++)
            {
                Positions.AsSpan<int>()[at] = i;
                PreviousRows.AsSpan<int>()[at] = b * (length + 1) + i;
            }
        }

        Tensor Integers(long count) => device.Allocate(new Shape(count), DType.I32, MemoryKind.Inputs);
    }

    /// <summary>k; 0 is the main model.</summary>
    public int Depth { get; }

    /// <summary>[B·(T - k)], I32: token i + k.</summary>
    public Tensor Ids { get; }

    /// <summary>[B·(T - k)], I32: token i + k + 1.</summary>
    public Tensor Targets { get; }

    /// <summary>[B·(T - k)], I32: i.</summary>
    public Tensor Positions { get; }

    /// <summary>[B·(T - k)], I32: the row of position i among the rows of depth k - 1.</summary>
    public Tensor PreviousRows { get; }

    /// <summary>[B·(T - k)]: cross-entropy of each row, after a pass.</summary>
    public Tensor Losses { get; }

    /// <summary>[B·(T - k)], I32: 1 where the most likely token was the target.</summary>
    public Tensor Correct { get; }

    /// <summary>Sum of the losses divided by B·T ([P] eq. 24 divides by T, not by the T - k terms).</summary>
    public double MeanLoss(Device device) => device.Reduction.Sum(Losses) / ((double)batch * tokens);

    /// <summary>Share of rows whose most likely token was the target.</summary>
    public double Accuracy()
    {
        long hits = 0;
        foreach (int c in Correct.AsSpan<int>()) hits += c;
        return (double)hits / Correct.Elements;
    }

    internal void Load(ReadOnlySpan<int> source)
    {
        int length = tokens - Depth;
        for (int b = 0; b < batch; b++)
        {
            ReadOnlySpan<int> sequence = source.Slice(b * (tokens + 1), tokens + 1);
            sequence.Slice(Depth, length).CopyTo(Ids.AsSpan<int>().Slice(b * length, length));
            sequence.Slice(Depth + 1, length).CopyTo(Targets.AsSpan<int>().Slice(b * length, length));
        }
    }
}
