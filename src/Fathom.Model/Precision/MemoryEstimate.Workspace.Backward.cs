// The backward pass: gradients between the two halves of a layer's pass, what is recalled or computed again, and operands.
using Fathom.Compute;
using Fathom.Compute.Operators;

namespace Fathom.Model;

public sealed partial class MemoryEstimate
{
    private sealed partial class WorkspaceTrace
    {
        private const long LossRowsAtATime = 512;

        private void Backward(long[] rows)
        {
            Temporary(rows[0], width); // gradient of the final norm's output
            Temporary(rows[0], width); // gradient of its input
            Recall(recipe.Plain, rows[0], width);
            Loss(rows[0]);
            for (int k = rows.Length - 1; k > 0; k--)
            {
                Temporary(rows[k], width); // gradient of what the head took
                Loss(rows[k]);
                if (k > 1) Temporary(rows[k - 1], width); // gradient for the depth before
                MtpModuleBackward(rows[k], config.NumHiddenLayers + k - 1, last: k == rows.Length - 1);
            }

            Temporary(rows[0], width); // gradient between attention and feed-forward layer
            for (int layer = config.NumHiddenLayers - 1; layer >= 0; layer--) BlockBackward(rows[0], layer);
        }

        private void Loss(long rows)
        {
            var mark = stack.Position;
            long logits = Math.Min(LossRowsAtATime, rows) * config.VocabSize;
            stack.Take(logits);
            if (flow != OperandFormat.F32) stack.Take(logits, flow.Elements); // their gradients, for the products
            stack.Release(mark);
        }

        private void MtpModuleBackward(long rows, int layer, bool last)
        {
            var mark = stack.Position;
            if (last) Temporary(rows, width); // gradient of the block's output; other depths are handed theirs
            Temporary(rows, width);           // between attention and feed-forward layer
            Temporary(rows, width);           // of the block's input
            Recall(recipe.Plain, rows, width);
            BlockBackward(rows, layer);
            Temporary(rows, 2 * width); // gradient of both inputs
            Recall(recipe.Plain, rows, width);
            Recall(recipe.Plain, rows, width);
            if (kept.Normed is null) Temporary(rows, 2 * width);
            Temporary(rows, width); // gradient of the embedding
            Temporary(rows, width); // gradient of the hidden state of the depth before
            stack.Release(mark);
        }

        /// <summary>Both halves: what the first takes, the second still reads.</summary>
        private void BlockBackward(long rows, int layer)
        {
            var mark = stack.Position;
            bool experts = config.IsMoeLayer(layer);
            Temporary(rows, width); // gradient of the second norm's output
            Temporary(rows, width); // gradient of the first norm's output
            Recall(recipe.Plain, rows, width);
            Recall(recipe.Plain, rows, width);
            if ((experts ? kept.Normed : kept.LinearInput) is null) Temporary(rows, width); // the second norm's output
            if (experts) ExpertsBackward(rows);
            else MlpBackward(rows, config.IntermediateSize);
            if (kept.LinearInput is null) Temporary(rows, width); // the first norm's output
            AttentionBackward(rows);

            if (experts) ExpertWeights(rows);
            else MlpWeights(rows, config.IntermediateSize, kept.LinearInput);
            AttentionWeights(rows);
            stack.Release(mark);
        }

        private void AttentionBackward(long rows)
        {
            Temporary(rows, queries);
            Temporary(rows, keyValues);
            Temporary(rows, config.KeyValueCacheWidth);
            long queryInput = config.QLoraRank > 0 ? config.QLoraRank : width;
            Gradient(rows, width, values);
            Gradient(rows, queries, queryInput);
            Gradient(rows, keyValues, config.KvLoraRank);
            Gradient(rows, config.KeyValueCacheWidth, width);
            Temporary(rows, config.KvLoraRank);
            Recall(recipe.Plain, rows, config.KeyValueCacheWidth);
            if (config.QLoraRank > 0)
            {
                Temporary(rows, config.QLoraRank); // gradient of the latent
                Temporary(rows, config.QLoraRank); // gradient of what is normalised to it
                Gradient(rows, config.QLoraRank, width);
                Recall(recipe.Plain, rows, config.QLoraRank);
            }

            if (kept.LinearInput is null)
            {
                Temporary(rows, config.KvLoraRank);
                if (config.QLoraRank > 0) Temporary(rows, config.QLoraRank);
            }

            var mark = stack.Position;
            Temporary(rows, values); // gradient of the attention core's output
            InputGradient(rows, width);
            Expand(rows);
            if (!ReadsAttentionCodes(rows)) Recall(recipe.SavedAttentionOutput, rows, values);
            stack.Release(mark);
            InputGradient(rows, keyValues);
            InputGradient(rows, config.KeyValueCacheWidth);
            InputGradient(rows, queries);
            if (config.QLoraRank > 0) InputGradient(rows, config.QLoraRank);
        }

        /// <summary>Whether the attention core's backward pass takes its output as it is kept.</summary>
        private bool ReadsAttentionCodes(long rows)
        {
            int tokens = (int)(rows / batch);
            var sizes = new CausalSizes(batch, config.NumAttentionHeads, tokens, tokens, config.QkNopeHeadDim, config.QkRopeHeadDim, config.VHeadDim);
            return kept.Device.ReadsAttentionCodes(flow.Elements, recipe.SavedAttentionOutput.Traits, sizes, config.KvLoraRank);
        }

        /// <summary>Queries, keys and values: recalled, or computed again from what the up-projections took.</summary>
        private void Expand(long rows)
        {
            if (!recipe.RecomputeUpProjections)
            {
                Recall(recipe.Plain, rows, queries);
                Recall(recipe.Plain, rows, keyValues);
                return;
            }

            Temporary(rows, queries);
            Temporary(rows, keyValues);
            OperandFormat latent = kept.LinearInput ?? flow;
            Operand(latent, recipe.Activation, rows, config.QLoraRank > 0 ? config.QLoraRank : width);
            Operand(latent, recipe.Activation, rows, config.KvLoraRank);
        }

        private void AttentionWeights(long rows)
        {
            var mark = stack.Position;
            OperandFormat input = kept.LinearInput ?? flow;
            WeightGradient(rows, width, recipe.SavedAttentionOutput, values);
            WeightGradient(rows, keyValues, input, config.KvLoraRank);
            Recall(recipe.Plain, rows, config.KeyValueCacheWidth);
            (long outputs, long inputs) = config.QLoraRank > 0 ? (config.QLoraRank, width) : (queries, width);
            bool shares = TokenLayout(config.KeyValueCacheWidth, width) == TokenLayout(outputs, inputs);
            if (shares) OverTokens(input, rows, width, config.KeyValueCacheWidth, width);
            WeightGradient(rows, config.KeyValueCacheWidth, shares ? null : input, width);
            if (config.QLoraRank == 0)
            {
                WeightGradient(rows, queries, shares ? null : input, width);
            }
            else
            {
                WeightGradient(rows, queries, input, config.QLoraRank);
                Recall(recipe.Plain, rows, config.QLoraRank);
                WeightGradient(rows, config.QLoraRank, shares ? null : input, width);
            }

            stack.Release(mark);
        }

        private void MlpBackward(long rows, long inner)
        {
            Gradient(rows, width, inner);
            if (FusesSwiGlu(inner) && FusedSwiGlu.GivesOperands(recipe, kept.Device, width, inner))
            {
                for (int i = 0; i < 3; i++) stack.TakeTransposed(recipe.WeightGradient, rows, inner, 0); // gradients of gate and up, the hidden vector
                var mark = stack.Position;
                Temporary(rows, inner);
                InputGradient(rows, width);
                stack.Take(recipe.ActivationGradient, rows, inner);
                stack.Take(recipe.ActivationGradient, rows, inner);
                stack.Release(mark);
                return;
            }

            Temporary(rows, inner);
            Temporary(rows, inner);
            Gradient(rows, inner, width);
            Gradient(rows, inner, width);
            if (kept.Hidden is null) Temporary(rows, inner);
            InputGradient(rows, width);
            if (!FusesSwiGlu(inner))
            {
                var mark = stack.Position;
                Recall(recipe.SavedSwiGluInput, rows, inner);
                Recall(recipe.SavedSwiGluInput, rows, inner);
                stack.Release(mark);
            }

            InputGradient(rows, inner);
        }

        private void MlpWeights(long rows, long inner, OperandFormat? input)
        {
            bool operands = FusesSwiGlu(inner) && FusedSwiGlu.GivesOperands(recipe, kept.Device, width, inner);
            WeightGradient(rows, width, operands ? null : kept.Hidden ?? flow, inner);
            var mark = stack.Position;
            OverTokens(input ?? flow, rows, width, inner, width);
            WeightGradient(rows, inner, null, width);
            stack.Release(mark);
        }

        private void ExpertsBackward(long tokens)
        {
            long rows = tokens * config.NumExpertsPerTok, inner = config.MoeIntermediateSize;
            Temporary(rows, inner);
            Temporary(rows, inner);
            Gradient(rows, inner, width, config.NRoutedExperts);
            Gradient(rows, inner, width, config.NRoutedExperts);
            stack.Take(tokens * config.NRoutedExperts); // gradient of the logits
            if (kept.ExpertHidden is null) Temporary(rows, inner);
            Operand(flow, recipe.DispatchGradient, tokens, width);
            OperandFormat dispatched = Dispatch(recipe.DispatchGradient, rows);

            var mark = stack.Position;
            Operand(dispatched, recipe.ActivationGradient, rows, width);
            stack.Take(rows); // gradients of the gates, by row
            stack.Take(rows); // and by slot
            if (!FusesSwiGlu(inner))
            {
                Recall(recipe.SavedSwiGluInput, rows, inner);
                Recall(recipe.SavedSwiGluInput, rows, inner);
            }

            Temporary(rows, width); // gradient of the dispatched inputs
            Operand(flow, recipe.ActivationGradient, rows, inner);
            Operand(flow, recipe.ActivationGradient, rows, inner);
            stack.Release(mark);
            if (config.NSharedExperts > 0) MlpBackward(tokens, config.NSharedExperts * inner);
        }

        private void ExpertWeights(long tokens)
        {
            long rows = tokens * config.NumExpertsPerTok, inner = config.MoeIntermediateSize;
            int experts = config.NRoutedExperts;
            OperandFormat input = kept.Normed ?? flow, output = recipe.DispatchGradient.IsPlain ? flow : recipe.DispatchGradient;
            var mark = stack.Position;
            OverTokens(kept.ExpertHidden ?? flow, rows, inner, width, inner, experts);
            OfOutput(output, width, inner, waits: false);
            if (recipe.Dispatch.IsPlain) Recall(input, tokens, width);
            OverTokens(Dispatch(recipe.Dispatch, rows), rows, width, inner, width, experts);
            OfOutput(flow, inner, width, OutputGradient.IsBothWays(recipe, kept.Device, inner, width));
            Recall(input, tokens, width); // for the router
            stack.Release(mark);
            if (config.NSharedExperts > 0) MlpWeights(tokens, config.NSharedExperts * inner, kept.SharedInput);

            void OfOutput(OperandFormat from, long outputs, long inputs, bool waits)
            {
                var mark = stack.Position;
                if (!waits) OverTokens(from, rows, outputs, outputs, inputs, experts);
                stack.Release(mark);
            }
        }

        /// <summary>Operands of the gradient of a linear layer's input, given that of its outputs.</summary>
        private void InputGradient(long rows, long outputs)
        {
            var mark = stack.Position;
            Operand(flow, recipe.ActivationGradient, rows, outputs);
            stack.Release(mark);
        }

        /// <summary>Operands of the gradient of a linear layer's weight; null for an input that lies there already.</summary>
        private void WeightGradient(long rows, long outputs, OperandFormat? input, long inputs)
        {
            var mark = stack.Position;
            if (!OutputGradient.IsBothWays(recipe, kept.Device, outputs, inputs)) OverTokens(flow, rows, outputs, outputs, inputs);
            if (input is { } format) OverTokens(format, rows, inputs, outputs, inputs);
            stack.Release(mark);
        }

        /// <summary>What waits for the weight gradient where a layer's output gradient is quantised both ways at once.</summary>
        private void Gradient(long rows, long outputs, long inputs, int groups = 0)
        {
            if (OutputGradient.IsBothWays(recipe, kept.Device, outputs, inputs)) stack.TakeTransposed(recipe.WeightGradient, rows, outputs, groups);
        }

        private ScaleLayout TokenLayout(long outputs, long inputs) => kept.Device.TokenLayout(recipe.WeightGradient.Elements, recipe.WeightGradient.Scales, outputs, inputs);
    }
}
