// One micro-batch in flight: its tokens in the forms that the model's parts take, and all that its forward pass keeps. What goes to
// the device for a pass goes in one piece, and what a step wants back from all of its passes comes in one: a device that works beside
// the processor is waited for once a step.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>B sequences of T tokens with the token after each, so that every position has a target.</summary>
public sealed class MicroBatch
{
    private readonly Device device;
    private readonly LossRows[] depths;
    private readonly MixtureOfExpertsActivations[] expertLayers;
    private readonly long rows;     // of all depths
    private readonly Mirror inputs; // [2 rows], I32: ids and targets of one depth after the other
    private Mirror losses;          // [passes, rows, then B for each expert layer], F32
    private Mirror correct;         // [passes, rows], I32
    private int pass;

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
        (device, Batch, Tokens) = (model.Device, batch, tokens);
        Context = new LayerContext(device, training, recipe ?? Recipe.Fp32) { Batch = batch };
        Blocks = [.. model.Blocks.Select(_ => new BlockActivations())];
        Mtp = [.. model.MtpModules.Select(_ => new MtpActivations())];
        expertLayers = !training ? [] :
        [
            .. Blocks.Where((_, l) => model.Blocks[l].Experts is not null).Select(b => b.Experts),
            .. Mtp.Where((_, k) => model.MtpModules[k].Block.Experts is not null).Select(m => m.Block.Experts),
        ];
        depths = new LossRows[1 + model.MtpModules.Count];
        for (int k = 0; k < depths.Length; k++)
        {
            depths[k] = new LossRows(this, k, rows);
            rows += depths[k].Count;
        }

        inputs = new Mirror(device, new Shape(2 * rows), DType.I32);
        Positions = PositionsOf(depths);
        (losses, correct) = Results(1);
        Pass = 0;
        model.Rotary.Reserve(tokens);
    }

    /// <summary>Sequences, B.</summary>
    public int Batch { get; }

    /// <summary>Tokens of a sequence, T.</summary>
    public int Tokens { get; }

    /// <summary>Memory and positions that the layers use.</summary>
    public LayerContext Context { get; }

    /// <summary>Loss rows of the main model (0) and of each MTP depth.</summary>
    public IReadOnlyList<LossRows> Depths => depths;

    /// <summary>Which of the passes of a step the results are of, from 0: those that the next pass writes, and those that are read.</summary>
    public int Pass
    {
        get => pass;
        set
        {
            pass = value;
            for (int i = 0; i < expertLayers.Length; i++) expertLayers[i].BalanceLosses = LossesAt(losses.Tensor, rows + (long)i * Batch, Batch);
        }
    }

    internal BlockActivations[] Blocks { get; }

    internal MtpActivations[] Mtp { get; }

    internal ScaledTensor FinalInput { get; set; } // [M, D], before the final norm

    internal Tensor FinalRstd { get; set; }      // [M]

    internal Tensor FinalNormed { get; set; }    // [M, D]

    internal Tensor Inputs => inputs.Tensor;

    internal Tensor Positions { get; } // [rows], I32

    /// <summary>Makes room for the results of this many passes; those of earlier ones may be lost.</summary>
    public void Reserve(int passes)
    {
        if (losses.Tensor.Shape[0] >= passes) return;
        (losses, correct) = Results(passes);
        Pass = 0;
    }

    /// <summary>Sets the tokens.</summary>
    /// <param name="tokens">B rows of T + 1.</param>
    /// <exception cref="FathomException">Another number of tokens.</exception>
    public void Load(ReadOnlySpan<int> tokens)
    {
        if (tokens.Length != Batch * (Tokens + 1))
            throw new FathomException($"a micro-batch takes {Batch} x {Tokens + 1} tokens, not {tokens.Length}");
        Span<int> all = inputs.Host.AsSpan<int>();
        foreach (LossRows depth in depths) depth.Fill(tokens, all);
        inputs.Push();
    }

    /// <summary>Brings the results of all passes to the host, when everything asked for has run.</summary>
    public void Pull()
    {
        losses.Pull();
        correct.Pull();
    }

    /// <summary>Sum over all expert layers of the mean over sequences of the balance loss, without alpha, as of the last <see cref="Pull"/>.</summary>
    public double BalanceLoss()
    {
        double sum = 0;
        for (int i = 0; i < expertLayers.Length; i++) sum += LossRows.Sum(LossesAt(losses.Host, rows + (long)i * Batch, Batch).AsSpan<float>()) / Batch;
        return sum;
    }

    /// <summary>Where the results of all passes lie; another place after <see cref="Reserve"/> made room.</summary>
    internal nint ResultsAddress => losses.Tensor.Address;

    internal Tensor Losses(long first, long count) => LossesAt(losses.Tensor, first, count);

    internal ReadOnlySpan<float> HostLosses(long first, long count) => LossesAt(losses.Host, first, count).AsSpan<float>();

    internal Tensor Correct(long first, long count) => correct.Tensor.At(pass).Slice(first, count);

    internal ReadOnlySpan<int> HostCorrect(long first, long count) => correct.Host.At(pass).Slice(first, count).AsSpan<int>();

    private Tensor LossesAt(Tensor all, long first, long count) => all.At(pass).Slice(first, count);

    private (Mirror Losses, Mirror Correct) Results(int passes) => (
        new Mirror(device, new Shape(passes, rows + (long)expertLayers.Length * Batch), DType.F32),
        new Mirror(device, new Shape(passes, rows), DType.I32));

    private Tensor PositionsOf(LossRows[] depths)
    {
        var positions = new Mirror(device, new Shape(rows), DType.I32);
        foreach (LossRows depth in depths) depth.FillPositions(positions.Host.AsSpan<int>());
        positions.Push();
        return positions.Tensor;
    }
}

/// <summary>
/// What depth k of a micro-batch trains on: position i of T - k, with the token k places on as input and the one after as target.
/// </summary>
public sealed class LossRows
{
    private readonly MicroBatch micro;
    private readonly long first;
    private readonly int length;

    /// <summary>The rows of a depth.</summary>
    /// <param name="micro">The micro-batch.</param>
    /// <param name="depth">k.</param>
    /// <param name="first">Rows of the depths before.</param>
    internal LossRows(MicroBatch micro, int depth, long first)
    {
        (this.micro, Depth, this.first) = (micro, depth, first);
        length = micro.Tokens - depth;
        Count = (long)micro.Batch * length;
    }

    /// <summary>k; 0 is the main model.</summary>
    public int Depth { get; }

    /// <summary>B·(T - k).</summary>
    public long Count { get; }

    /// <summary>[B·(T - k)], I32: token i + k.</summary>
    public Tensor Ids => micro.Inputs.Slice(2 * first, Count);

    /// <summary>[B·(T - k)], I32: token i + k + 1.</summary>
    public Tensor Targets => micro.Inputs.Slice(2 * first + Count, Count);

    /// <summary>[B·(T - k)], I32: i.</summary>
    public Tensor Positions => micro.Positions.Slice(first, Count);

    /// <summary>[B·(T - k)]: cross-entropy of each row, after a pass.</summary>
    public Tensor Losses => micro.Losses(first, Count);

    /// <summary>[B·(T - k)], I32: 1 where the most likely token was the target.</summary>
    public Tensor Correct => micro.Correct(first, Count);

    /// <summary><see cref="Losses"/> in host memory, as of the last <see cref="MicroBatch.Pull"/>.</summary>
    public ReadOnlySpan<float> HostLosses => micro.HostLosses(first, Count);

    /// <summary>Sum of the losses on the host divided by B·T ([P] eq. 24 divides by T, not by the T - k terms).</summary>
    public double MeanLoss() => Sum(HostLosses) / ((double)micro.Batch * micro.Tokens);

    /// <summary>Share of rows whose most likely token was the target, as of the last <see cref="MicroBatch.Pull"/>.</summary>
    public double Accuracy()
    {
        long hits = 0;
        foreach (int c in micro.HostCorrect(first, Count)) hits += c;
        return (double)hits / Count;
    }

    /// <summary>Σ in F64.</summary>
    internal static double Sum(ReadOnlySpan<float> losses)
    {
        double sum = 0;
        foreach (float loss in losses) sum += loss;
        return sum;
    }

    /// <summary>Writes ids and targets to their places among those of all depths.</summary>
    internal void Fill(ReadOnlySpan<int> source, Span<int> all)
    {
        Span<int> ids = all.Slice((int)(2 * first), (int)Count), targets = all.Slice((int)(2 * first + Count), (int)Count);
        for (int b = 0; b < micro.Batch; b++)
        {
            ReadOnlySpan<int> sequence = source.Slice(b * (micro.Tokens + 1), micro.Tokens + 1);
            sequence.Slice(Depth, length).CopyTo(ids[(b * length)..]);
            sequence.Slice(Depth + 1, length).CopyTo(targets[(b * length)..]);
        }
    }

    /// <summary>Writes positions to their place among those of all depths.</summary>
    internal void FillPositions(Span<int> all)
    {
        for (int i = 0; i < Count; i++) all[(int)first + i] = i % length;
    }
}
