// The whole model: embedding, transformer layers, final norm, head, MTP modules. One definition for training, evaluation and
// inference; what differs is only the attention core and what is kept.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>How the parts of the loss are weighted in one micro-batch.</summary>
/// <param name="MicroBatches">Micro-batches of the step, over which everything is averaged.</param>
/// <param name="Mtp">λ, shared out among the depths ([P] eq. 25).</param>
/// <param name="Balance">α of the sequence-wise balance loss.</param>
public readonly record struct LossWeights(int MicroBatches, float Mtp, float Balance);

/// <summary>A DeepSeek-V2 or V3 model on a device.</summary>
public sealed partial class DeepSeekModel
{
    private readonly Parameter embedding;
    private readonly RmsNormLayer finalNorm;
    private readonly OutputHead head;
    private readonly Mirror? loads; // [expert layers, E], I64

    /// <summary>Builds the layers, taking their weights from <paramref name="source"/>.</summary>
    /// <exception cref="Numerics.FathomException">The source is a checkpoint that does not fit the configuration.</exception>
    public DeepSeekModel(Device device, ModelConfig config, IParameterSource source)
    {
        (Device, Config) = (device, config);
        Rotary = new RotaryTable(device, config);
        Shape table = new(config.VocabSize, config.HiddenSize);
        embedding = source.Get("model.embed_tokens.weight", table, ParameterRole.Embedding);
        Blocks = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(l => new TransformerBlock(source, config, l, Rotary))];
        finalNorm = new RmsNormLayer(source.Get("model.norm.weight", new Shape(config.HiddenSize), ParameterRole.NormWeight), (float)config.RmsNormEps);
        head = new OutputHead(source.Get("lm_head.weight", table, ParameterRole.Matrix));
        MtpModules =
        [
            .. Enumerable.Range(1, config.NumNextnPredictLayers)
                .TakeWhile(k => source.HasMtpModule(config.NumHiddenLayers + k - 1))
                .Select(k => new MtpModule(source, config, k, Rotary)),
        ];
        ExpertLayers = [.. Blocks.Concat(MtpModules.Select(m => m.Block)).Where(b => b.Experts is not null)];
        if (ExpertLayers.Count == 0) return;
        loads = new Mirror(device, new Shape(ExpertLayers.Count, config.NRoutedExperts), DType.I64);
        for (int l = 0; l < ExpertLayers.Count; l++) ExpertLayers[l].Experts!.Load = loads.Tensor.At(l);
    }

    /// <summary>Where the model runs.</summary>
    public Device Device { get; }

    /// <summary>The model's configuration.</summary>
    public ModelConfig Config { get; }

    /// <summary>The transformer layers.</summary>
    public IReadOnlyList<TransformerBlock> Blocks { get; }

    /// <summary>The MTP modules; none where the checkpoint has none.</summary>
    public IReadOnlyList<MtpModule> MtpModules { get; }

    /// <summary>All layers with experts, those of MTP modules last.</summary>
    public IReadOnlyList<TransformerBlock> ExpertLayers { get; }

    internal RotaryTable Rotary { get; }

    /// <summary>Brings the experts' loads to the host, when all that was asked for has run.</summary>
    public void PullLoads() => loads?.Pull();

    /// <summary>Tokens that chose each expert of a layer, [E], as of the last <see cref="PullLoads"/>.</summary>
    /// <param name="layer">Among <see cref="ExpertLayers"/>.</param>
    public ReadOnlySpan<long> LoadsOf(int layer) => loads!.Host.Row<long>(layer);

    /// <summary>Sets the loads of all expert layers to zero.</summary>
    public void ClearLoads()
    {
        if (loads is not null) Device.Reduction.Zero(loads.Tensor);
    }

    /// <summary>Forward and backward pass of one micro-batch; adds to the gradients and to the experts' loads.</summary>
    public void ForwardBackward(MicroBatch micro, in LossWeights weights)
    {
        Forward(micro);
        Backward(micro, weights);
    }

    /// <summary>Forward pass and losses only, keeping nothing.</summary>
    public void Evaluate(MicroBatch micro)
    {
        Forward(micro);
        LayerContext context = micro.Context;
        head.Loss(context, micro.FinalNormed, micro.Depths[0].Targets, 0, default, micro.Depths[0].Losses, micro.Depths[0].Correct);
        for (int k = 0; k < MtpModules.Count; k++)
        {
            LossRows rows = micro.Depths[k + 1];
            head.Loss(context, micro.Mtp[k].OutputNormed, rows.Targets, 0, default, rows.Losses, rows.Correct);
        }
    }

    /// <summary>Logits of every position of the micro-batch, [B·(T - k), V], for depth k (0 the main model); in <see cref="LayerContext.Saved"/>.</summary>
    public Tensor Logits(MicroBatch micro, int depth)
    {
        if (depth == 0) Forward(micro);
        Tensor hidden = depth == 0 ? micro.FinalNormed : micro.Mtp[depth - 1].OutputNormed;
        Tensor logits = micro.Context.Save(new Shape(hidden.Rows, Config.VocabSize));
        head.Logits(micro.Context, hidden, logits);
        return logits;
    }

    private void Forward(MicroBatch micro)
    {
        LayerContext context = micro.Context;
        context.Reset();
        LossRows main = micro.Depths[0];
        context.Positions = main.Positions;
        long tokens = main.Ids.Elements, width = Config.HiddenSize;
        OperandFormat plain = context.Recipe.Plain;
        Tensor x = context.Result(tokens, width, plain);
        Device.Embedding.Forward(main.Ids, embedding.Value, x);
        context.Round(x);

        // Where results are kept as they are, each block has an output of its own; otherwise two buffers take turns.
        bool own = context.Training && context.KeepsResults;
        Tensor spare = own ? default : context.Result(tokens, width, plain);
        for (int l = 0; l < Blocks.Count; l++)
        {
            Tensor output = own ? context.SaveResult(tokens, width) : spare;
            Arena.Mark mark = context.Saved.Position;
            Blocks[l].Forward(context, x, micro.Blocks[l], output);
            if (!context.Training) context.Saved.Release(mark);
            if (!own) spare = x;
            x = output;
        }

        micro.FinalInput = context.Keep(x, plain, default);
        micro.FinalRstd = context.SaveForBackward(tokens);
        micro.FinalNormed = context.KeepsResults ? context.SaveResult(tokens, width) : context.Temporary(tokens, width);
        finalNorm.Forward(context, x, micro.FinalNormed, micro.FinalRstd);

        Tensor previous = Config.MtpHiddenBeforeNorm ? x : micro.FinalNormed;
        for (int k = 0; k < MtpModules.Count; k++)
        {
            LossRows rows = micro.Depths[k + 1];
            context.Positions = rows.Positions;
            MtpModules[k].Forward(context, previous, rows.Ids, embedding.Value, micro.Mtp[k]);
            previous = micro.Mtp[k].Hidden;
        }
    }

    private void Backward(MicroBatch micro, in LossWeights weights)
    {
        LayerContext context = micro.Context;
        Arena scratch = context.Scratch;
        LossRows main = micro.Depths[0];
        long tokens = main.Ids.Elements, width = Config.HiddenSize;
        float mainScale = (float)(1.0 / ((double)tokens * weights.MicroBatches));
        float mtpScale = MtpModules.Count == 0 ? 0 : weights.Mtp / MtpModules.Count * mainScale;
        float balanceScale = weights.Balance / (micro.Batch * weights.MicroBatches);

        Tensor dnormed = context.Temporary(tokens, width), dhidden = context.Temporary(tokens, width), finalInput = context.Recall(micro.FinalInput);
        head.Loss(context, micro.FinalNormed, main.Targets, mainScale, dnormed, main.Losses, main.Correct);
        bool beforeNorm = Config.MtpHiddenBeforeNorm && MtpModules.Count > 0;
        if (beforeNorm) Device.Reduction.Zero(dhidden);
        BackwardMtp(micro, mtpScale, balanceScale, beforeNorm ? dhidden : dnormed);

        context.Positions = main.Positions;
        finalNorm.BackwardInput(context, dnormed, finalInput, micro.FinalRstd, dhidden, beforeNorm ? dhidden : default);
        finalNorm.BackwardWeight(context, dnormed, finalInput, micro.FinalRstd);

        Tensor dx = dhidden, spare = dnormed, dmiddle = context.Temporary(tokens, width);
        for (int l = Blocks.Count - 1; l >= 0; l--)
        {
            Arena.Mark mark = scratch.Position;
            Blocks[l].BackwardInput(context, dx, micro.Blocks[l], balanceScale, dmiddle, spare);
            Blocks[l].BackwardWeights(context, micro.Blocks[l]);
            scratch.Release(mark);
            (dx, spare) = (spare, dx);
        }

        embedding.CompleteGradient(Device);
        Device.Embedding.WeightGradient(main.Ids, dx, embedding.Gradient);
    }

    /// <summary>Backward passes of the MTP modules, deepest first; adds to the gradient of the main model's hidden states.</summary>
    private void BackwardMtp(MicroBatch micro, float scale, float balanceScale, Tensor dmain)
    {
        LayerContext context = micro.Context;
        Tensor doutput = default;
        for (int k = MtpModules.Count - 1; k >= 0; k--)
        {
            LossRows rows = micro.Depths[k + 1];
            MtpActivations activations = micro.Mtp[k];
            context.Positions = rows.Positions;
            Tensor dnormed = context.Temporary(rows.Ids.Elements, Config.HiddenSize);
            head.Loss(context, activations.OutputNormed, rows.Targets, scale, dnormed, rows.Losses, rows.Correct);
            Tensor dprevious = dmain;
            if (k > 0)
            {
                dprevious = context.Temporary(micro.Depths[k].Ids.Elements, Config.HiddenSize);
                Device.Reduction.Zero(dprevious);
            }

            MtpModules[k].Backward(context, dnormed, doutput, rows.Ids, embedding, balanceScale, activations, dprevious);
            doutput = dprevious;
        }
    }
}
