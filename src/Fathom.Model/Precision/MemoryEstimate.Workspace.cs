// The peak of scratch memory depends on which temporaries live together: a forward and a backward pass are followed layer by layer,
// with sizes in the place of tensors. This file has the forward pass, which decides what lies in scratch memory and what is kept.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

public sealed partial class MemoryEstimate
{
    /// <summary>Follows the temporaries of one micro-batch. M tokens, D hidden, S = M·K sorted rows.</summary>
    private sealed partial class WorkspaceTrace
    {
        private readonly ModelConfig config;
        private readonly Recipe recipe;
        private readonly KeptFormats kept;
        private readonly OperandFormat flow;
        private readonly Stack stack = new();
        private readonly int batch;
        private readonly long width, queries, keyValues, values;

        public WorkspaceTrace(ModelConfig config, KeptFormats kept, int batch, int tokens)
        {
            (this.config, this.kept, this.batch) = (config, kept, batch);
            (recipe, flow) = (kept.Recipe, kept.Flow);
            long heads = config.NumAttentionHeads;
            width = config.HiddenSize;
            (queries, keyValues, values) = (heads * config.QkHeadDim, heads * (config.QkNopeHeadDim + config.VHeadDim), heads * config.VHeadDim);
            long[] rows = [.. Enumerable.Range(0, 1 + config.NumNextnPredictLayers).Select(k => (long)batch * (tokens - k))];
            Forward(rows);
            Backward(rows);
        }

        /// <summary>The most bytes in use at one time.</summary>
        public long Peak => stack.Peak;

        private void Forward(long[] rows)
        {
            Result(rows[0], width, recipe.Plain); // the embedded tokens,
            Result(rows[0], width, recipe.Plain); // and the other of two buffers that layers write in turn
            for (int layer = 0; layer < config.NumHiddenLayers; layer++) Block(rows[0], layer);
            if (!kept.KeepsResults) Temporary(rows[0], width); // the final norm's output
            for (int k = 1; k < rows.Length; k++) MtpModule(rows[k], config.NumHiddenLayers + k - 1);
        }

        private void MtpModule(long rows, int layer)
        {
            Result(rows, width, recipe.Plain);            // the block's output
            if (!kept.KeepsResults) Temporary(rows, width); // the same, normalised
            var mark = stack.Position;
            Result(rows, width, recipe.Plain);      // embedding
            Result(rows, width, recipe.Plain);      // hidden state of the depth before
            Result(rows, 2 * width, kept.Normed);   // both, normalised and joined
            Result(rows, width, recipe.Plain);      // the block's input
            Block(rows, layer);
            stack.Release(mark);
        }

        private void Block(long rows, int layer)
        {
            var mark = stack.Position;
            bool experts = config.IsMoeLayer(layer), quantizes = kept.Quantizes && (!experts || config.NSharedExperts > 0);
            Result(rows, width, recipe.Plain); // the sum that attention is added to
            bool fused = kept.FusesNorm(width, width);
            if (!fused) Result(rows, width, kept.Quantizes ? null : kept.Normed);
            OperandBesideCopy(rows, width);
            Attention(rows);
            if (experts || !fused) Result(rows, width, experts || !kept.Quantizes ? kept.Normed : null);
            if (quantizes) OperandBesideCopy(rows, width);
            if (experts) Experts(rows);
            else Mlp(rows, config.IntermediateSize);
            stack.Release(mark);
        }

        private void Attention(long rows)
        {
            OperandFormat? expanded = recipe.RecomputeUpProjections ? null : recipe.Plain;
            if (config.QLoraRank > 0)
            {
                Result(rows, config.QLoraRank, recipe.Plain);
                if (!kept.FusesNorm(config.QLoraRank, config.QLoraRank)) Result(rows, config.QLoraRank, kept.Normed);
                OperandBesideCopy(rows, config.QLoraRank);
            }

            Result(rows, queries, expanded);
            Result(rows, config.KeyValueCacheWidth, recipe.Plain);
            if (!kept.FusesNorm(config.KvLoraRank, config.KeyValueCacheWidth)) Result(rows, config.KvLoraRank, kept.Normed);
            OperandBesideCopy(rows, config.KvLoraRank);
            Result(rows, keyValues, expanded);
            Result(rows, values, recipe.SavedAttentionOutput);
            Operand(flow, recipe.Activation, rows, values);
        }

        private void Mlp(long rows, long inner)
        {
            Result(rows, inner, recipe.SavedSwiGluInput);
            Result(rows, inner, recipe.SavedSwiGluInput);
            if (FusesSwiGlu(inner))
            {
                stack.Take(recipe.Activation, rows, inner);
                return;
            }

            Result(rows, inner, recipe.RecomputeSwiGlu ? null : recipe.Plain);
            if (recipe.RecomputeSwiGlu) Operand(flow, recipe.Activation, rows, inner);
            else OperandBesideCopy(rows, inner);
        }

        private void Experts(long tokens)
        {
            long rows = tokens * config.NumExpertsPerTok, inner = config.MoeIntermediateSize;
            var mark = stack.Position;
            stack.Take(tokens * config.NRoutedExperts); // logits
            stack.Release(mark);
            Result(rows, inner, recipe.SavedSwiGluInput);
            Result(rows, inner, recipe.SavedSwiGluInput);
            bool fused = FusesSwiGlu(inner);
            if (!fused) Result(rows, inner, recipe.RecomputeSwiGlu ? null : recipe.Plain);
            mark = stack.Position;
            Operand(Dispatch(recipe.Dispatch, rows), recipe.Activation, rows, width);
            if (fused) stack.Take(recipe.Activation, rows, inner);
            Temporary(rows, width); // the experts' outputs
            if (!fused) Operand(flow, recipe.Activation, rows, inner);
            stack.Release(mark);
            if (config.NSharedExperts > 0) Mlp(tokens, (long)config.NSharedExperts * inner);
        }

        /// <summary>A matrix that flows on.</summary>
        private void Temporary(long rows, long columns) => stack.Take(rows * columns, flow.Elements);

        /// <summary>A result: in scratch memory unless it is kept as it flows.</summary>
        private void Result(long rows, long columns, OperandFormat? format)
        {
            if (format != flow) Temporary(rows, columns);
        }

        /// <summary>What was kept, as it flowed.</summary>
        private void Recall(OperandFormat format, long rows, long columns)
        {
            if (format != flow) Temporary(rows, columns);
        }

        /// <summary>A matrix in the format that a product takes, by way of F32 where it has another.</summary>
        private void Operand(OperandFormat from, OperandFormat to, long rows, long columns, int groups = 0)
        {
            if (to.IsPlain || from.Layout == to.Layout && from.Elements == to.Elements) return;
            stack.Take(to, rows, columns, groups);
            if (from != flow) stack.Take(rows * columns);
        }

        /// <summary>
        /// An operand of a weight gradient, quantised over tokens. Where the device takes it transposed it is made in one pass from values,
        /// or from codes of rows; else as any other.
        /// </summary>
        private void OverTokens(OperandFormat from, long rows, long columns, long outputs, long inputs, int groups = 0)
        {
            OperandFormat to = recipe.WeightGradient;
            bool readable = from.IsPlain || from.Layout == ScaleLayout.RowTile && from.Elements is DType.F8E4M3 or DType.E5M6Pair;
            if (!readable || !OutputGradient.IsTransposed(recipe, kept.Device, outputs, inputs)) Operand(from, to, rows, columns, groups);
            else stack.TakeTransposed(to, rows, columns, groups);
        }

        /// <summary>Whether SwiGLU writes and reads codes alone.</summary>
        private bool FusesSwiGlu(long inner) => FusedSwiGlu.Fits(recipe, kept.Device, flow.Elements, inner);

        /// <summary>The operand of a forward product, where what is kept of it is something else.</summary>
        private void OperandBesideCopy(long rows, long columns)
        {
            if (kept.Quantizes && !kept.KeepsOperand) Operand(flow, recipe.Activation, rows, columns);
        }

        /// <summary>Rows in the order of the experts.</summary>
        private OperandFormat Dispatch(OperandFormat format, long rows)
        {
            // What is not quantised is dispatched as it flows.
            OperandFormat moved = format.IsPlain ? flow : format;
            stack.Take(moved, rows, width);
            return moved;
        }
    }
}
