using Fathom.Compute;

namespace Fathom.Model;

public sealed partial class DeepSeekModel
{
    /// <summary>
    /// The first activation of a micro-batch that is not finite, in the order of computation, or the first tile that could not be
    /// quantised; null where all are finite.
    /// </summary>
    public string? FirstNonFinite(MicroBatch micro)
    {
        if (micro.Context.Faults.First() is { } fault) return fault;
        for (int l = 0; l < Blocks.Count; l++)
        {
            if (OfBlock(micro.Blocks[l], l) is { } where) return where;
        }

        if (Bad(micro.FinalInput)) return $"the output of layer {Blocks.Count - 1}";
        if (Bad(micro.FinalNormed)) return "model.norm";
        if (Bad(micro.Depths[0].Losses)) return "lm_head (the logits)";
        for (int k = 0; k < MtpModules.Count; k++)
        {
            int layer = MtpModules[k].Block.Layer;
            if (Bad(micro.Mtp[k].Joined)) return $"the inputs of MTP module {k + 1} (layer {layer})";
            if (OfBlock(micro.Mtp[k].Block, layer) is { } where) return where;
            if (Bad(micro.Mtp[k].OutputNormed) || Bad(micro.Depths[k + 1].Losses)) return $"the output of MTP module {k + 1} (layer {layer})";
        }

        return null;

        string? OfBlock(BlockActivations a, int layer)
        {
            if (Bad(a.Input)) return layer == 0 ? "model.embed_tokens" : $"the output of layer {layer - 1}";
            if (Bad(a.InputRstd)) return $"layer {layer}, input_layernorm";
            if (Bad(a.Middle)) return $"layer {layer}, self_attn";
            return Bad(a.MiddleRstd) ? $"layer {layer}, post_attention_layernorm" : null;
        }

        bool Bad(ScaledTensor x)
        {
            if (x.IsEmpty) return false;
            Arena.Mark mark = micro.Context.Scratch.Position;
            bool finite = Device.Reduction.AllFinite(micro.Context.Recall(x));
            micro.Context.Scratch.Release(mark);
            return !finite;
        }
    }
}
