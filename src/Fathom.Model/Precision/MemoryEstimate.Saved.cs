// What a micro-batch keeps for its backward pass, part by part ([P] §3.2.3 and §3.3.3 say what may be computed again).
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

public sealed partial class MemoryEstimate
{
    /// <summary>Sums of saved bytes by element type.</summary>
    private sealed class SavedActivations
    {
        private readonly ModelConfig config;
        private readonly Recipe recipe;
        private readonly KeptFormats kept;
        private readonly int batch;

        public SavedActivations(ModelConfig config, KeptFormats kept, int batch, int tokens)
        {
            (this.config, this.kept, this.batch) = (config, kept, batch);
            recipe = kept.Recipe;
            MainModel((long)batch * tokens);
            for (int k = 1; k <= config.NumNextnPredictLayers; k++) MtpModule((long)batch * (tokens - k), config.NumHiddenLayers + k - 1);
        }

        /// <summary>Bytes by <see cref="DType"/>.</summary>
        public long[] Bytes { get; } = new long[Enum.GetValues<DType>().Length];

        private void MainModel(long tokens)
        {
            for (int layer = 0; layer < config.NumHiddenLayers; layer++)
            {
                Keep(recipe.Plain, tokens, config.HiddenSize); // the layer's input
                Block(tokens, layer);
            }

            FinalNorm(tokens);
        }

        private void MtpModule(long tokens, int layer)
        {
            Keep(recipe.Plain, tokens, 2L * config.HiddenSize); // embedding and hidden state, before their norms
            Keep(2 * tokens);                                   // their reciprocal roots
            Keep(kept.Normed, tokens, 2L * config.HiddenSize);  // both, joined
            Keep(recipe.Plain, tokens, config.HiddenSize);      // the layer's input
            Block(tokens, layer);
            FinalNorm(tokens);
        }

        /// <summary>Input and reciprocal roots of the norm in front of the head. Its output is read before anything else is computed, but stays where results are kept as they flow.</summary>
        private void FinalNorm(long tokens)
        {
            Keep(recipe.Plain, tokens, config.HiddenSize);
            Keep(tokens);
            if (kept.KeepsResults) Keep(kept.Flow, tokens, config.HiddenSize);
        }

        /// <summary>A layer without its input, which is the output of the layer before.</summary>
        private void Block(long tokens, int layer)
        {
            long width = config.HiddenSize;
            Keep(2 * tokens); // reciprocal roots of both norms
            Keep(kept.LinearInput, tokens, width);
            Attention(tokens);
            Keep(recipe.Plain, tokens, width); // between attention and feed-forward layer
            if (!config.IsMoeLayer(layer))
            {
                Keep(kept.LinearInput, tokens, width);
                Mlp(tokens, config.IntermediateSize);
                return;
            }

            Keep(kept.Normed, tokens, width); // for the router
            if (!recipe.Dispatch.IsPlain) Keep(recipe.Dispatch, tokens, width);
            Experts(tokens);
            if (config.NSharedExperts == 0) return;
            Keep(kept.Copy(kept.Normed), tokens, width);
            Mlp(tokens, (long)config.NSharedExperts * config.MoeIntermediateSize);
        }

        private void Attention(long tokens)
        {
            long heads = config.NumAttentionHeads;
            if (config.QLoraRank > 0)
            {
                Keep(recipe.Plain, tokens, config.QLoraRank);
                Keep(tokens); // reciprocal roots
                Operand(kept.LinearInput, tokens, config.QLoraRank, recipe.RecomputeNorms || kept.FusesNorm(config.QLoraRank, config.QLoraRank));
            }

            Keep(recipe.Plain, tokens, config.KeyValueCacheWidth);
            Keep(tokens); // reciprocal roots
            Operand(kept.LinearInput, tokens, config.KvLoraRank, recipe.RecomputeNorms || kept.FusesNorm(config.KvLoraRank, config.KeyValueCacheWidth));
            if (!recipe.RecomputeUpProjections)
            {
                Keep(recipe.Plain, tokens, heads * config.QkHeadDim);
                Keep(recipe.Plain, tokens, heads * (config.QkNopeHeadDim + config.VHeadDim));
            }

            Keep(recipe.SavedAttentionOutput, tokens, heads * config.VHeadDim);
            Keep(heads * tokens); // log-sum-exp
        }

        private void Mlp(long tokens, long inner)
        {
            Keep(recipe.SavedSwiGluInput, tokens, inner); // gate
            Keep(recipe.SavedSwiGluInput, tokens, inner); // up
            Operand(kept.Hidden, tokens, inner, recipe.RecomputeSwiGlu);
        }

        private void Experts(long tokens)
        {
            long experts = config.NRoutedExperts, rows = tokens * config.NumExpertsPerTok;
            Keep(tokens * experts); // scores
            Keep(2 * rows);         // gates, by slot and by sorted row
            Keep(batch * experts);  // frequencies of the balance loss
            Keep(3 * rows + experts + 1, DType.I32); // chosen experts, sorted order and its inverse, first row of each expert
            Keep(recipe.SavedSwiGluInput, rows, config.MoeIntermediateSize); // gate
            Keep(recipe.SavedSwiGluInput, rows, config.MoeIntermediateSize); // up
            Operand(kept.ExpertHidden, rows, config.MoeIntermediateSize, recipe.RecomputeSwiGlu);
        }

        /// <summary>
        /// A result that linear layers take. Where results are kept as they flow, and it is neither computed again nor only ever there as
        /// codes, it stays beside a narrower copy.
        /// </summary>
        private void Operand(OperandFormat? format, long rows, long columns, bool passes)
        {
            bool stays = kept.KeepsResults && !passes;
            if (stays) Keep(kept.Flow, rows, columns);
            if (!stays || format != kept.Flow) Keep(format, rows, columns);
        }

        private void Keep(OperandFormat? format, long rows, long columns)
        {
            if (format is not { } f) return;
            long elements = ScaledTensor.ElementShape(new Shape(rows, columns), f.Elements).Elements * f.Elements.SizeInBytes();
            Bytes[(int)f.Elements] += elements;
            Bytes[(int)f.Scales] += f.Bytes(rows, columns) - elements;
        }

        private void Keep(long elements, DType dtype = DType.F32) => Bytes[(int)dtype] += elements * dtype.SizeInBytes();
    }
}
