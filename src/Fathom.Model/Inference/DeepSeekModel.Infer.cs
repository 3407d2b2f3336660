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
        Begin(pass);
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
        if (pass.KeepsHidden)
        {
            Tensor normed = context.SaveResult(pass.Count, width);
            finalNorm.Forward(context, x, normed, default);
            pass.Hidden = Config.MtpHiddenBeforeNorm ? x : normed;
            Device.Embedding.Forward(pass.OutputRows, normed, last);
        }
        else
        {
            Device.Embedding.Forward(pass.OutputRows, x, last);
            finalNorm.Forward(context, last, last, default);
        }

        head.Logits(context, last, logits);
        return logits;
    }

    /// <summary>
    /// Runs the first MTP module over the cache: a row joins the hidden state after a token with the token that follows, and predicts the one
    /// after that. Its own hidden states, with a token that it predicted, take it one further.
    /// </summary>
    /// <param name="pass">The tokens that follow, at the positions of the hidden states, whose rows are the tokens' sources.</param>
    /// <param name="hidden">[rows, D]: <see cref="InferencePass.Hidden"/> of the pass before.</param>
    /// <param name="cache">Holds what the module computed for earlier tokens; behind the transformer layers.</param>
    /// <returns>[outputs, V] F32, as <see cref="Infer"/>.</returns>
    /// <exception cref="FathomException">A token is outside the vocabulary.</exception>
    /// <exception cref="InvalidOperationException">The model has no MTP module.</exception>
    public Tensor InferMtp(InferencePass pass, Tensor hidden, LatentCache cache)
    {
        if (MtpModules.Count == 0) throw new InvalidOperationException("the model has no MTP module");
        Begin(pass);
        return pass.IsRepeatable ? pass.Recordings.Run(this, pass, cache, hidden) : ComputeMtp(pass, hidden, cache);
    }

    /// <summary>What <see cref="InferMtp"/> asks of the device, once the pass's tables lie there.</summary>
    internal Tensor ComputeMtp(InferencePass pass, Tensor hidden, LatentCache cache)
    {
        LayerContext context = pass.Context;
        long width = Config.HiddenSize, rows = pass.OutputRows.Elements;
        Tensor last = context.SaveResult(rows, width), normed = context.SaveResult(rows, width), logits = context.Save(new Shape(rows, Config.VocabSize));
        Arena.Mark mark = context.Saved.Position;
        Tensor output = context.SaveResult(pass.Count, width);
        MtpModules[0].Infer(context, hidden, pass, embedding.Value, cache.Layer(Blocks.Count), output);
        Device.Embedding.Forward(pass.OutputRows, output, last);
        context.Saved.Release(mark);
        pass.Hidden = last;
        if (rows == 0) return logits;
        MtpModules[0].Norm(context, last, normed);
        head.Logits(context, normed, logits);
        return logits;
    }

    /// <summary>Checks the tokens of a pass, and makes its memory and the rotary tables ready.</summary>
    private void Begin(InferencePass pass)
    {
        pass.Complete();
        foreach (int id in pass.TokenIds)
        {
            if ((uint)id >= (uint)Config.VocabSize)
                throw new FathomException($"token id {id} is outside the model's vocabulary of {Config.VocabSize}");
        }

        pass.Context.Reset();
        Rotary.Reserve(pass.Reach);
    }
}
