using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

public sealed partial class DeepSeekModel
{
    /// <summary>Runs a pass over the cache.</summary>
    /// <param name="pass">The new tokens; their room in the cache is taken.</param>
    /// <param name="cache">Holds the sequences' earlier tokens, and receives the new ones.</param>
    /// <returns>[outputs, V] F32: the logits of the rows that want them, in the order they were added, prompts first. Valid until the next pass.</returns>
    /// <exception cref="FathomException">A token is outside the vocabulary.</exception>
    public Tensor Infer(InferencePass pass, LatentCache cache)
    {
        pass.Complete();
        foreach (int id in pass.TokenIds)
        {
            if ((uint)id >= (uint)Config.VocabSize)
                throw new FathomException($"token id {id} is outside the model's vocabulary of {Config.VocabSize}");
        }

        pass.Context.Reset();
        Rotary.Reserve(pass.Reach);
        return pass.IsRepeatable ? pass.Recordings.Run(this, pass, cache) : Compute(pass, cache);
    }

    /// <summary>What <see cref="Infer"/> asks of the device, once the pass's tables lie there.</summary>
    internal Tensor Compute(InferencePass pass, LatentCache cache)
    {
        LayerContext context = pass.Context;
        long width = Config.HiddenSize;
        Tensor x = context.SaveResult(pass.Count, width), output = context.SaveResult(pass.Count, width);
        Device.Embedding.Forward(pass.Ids, embedding.Value, x);
        context.Round(x);
        for (int l = 0; l < Blocks.Count; l++)
        {
            Arena.Mark mark = context.Saved.Position;
            Blocks[l].Infer(context, x, pass, cache.Layer(l), output);
            context.Saved.Release(mark);
            (x, output) = (output, x);
        }

        long rows = pass.OutputRows.Elements;
        Tensor last = context.SaveResult(rows, width), logits = context.Save(new Shape(rows, Config.VocabSize));
        Device.Embedding.Forward(pass.OutputRows, x, last);
        finalNorm.Forward(context, last, last, default);
        head.Logits(context, last, logits);
        return logits;
    }
}
