// The model alone, one sequence and no choice: logits after a prompt, after each token, after going back. What measures or checks the model
// itself uses it; texts are the engine's.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>The logits of one growing sequence, over a cache of its own. Not thread-safe.</summary>
public sealed class SequenceLogits : IDisposable
{
    private const int PromptChunk = 512;
    private readonly DeepSeekModel model;
    private readonly LatentCache cache;
    private readonly CachedSequence sequence;
    private readonly InferencePass pass;
    private readonly Staging staging;
    private readonly int capacity;

    /// <summary>An empty sequence.</summary>
    /// <param name="model">The model.</param>
    /// <param name="capacity">Most tokens; 0 for the model's max_position_embeddings, at most 32,768.</param>
    /// <param name="cacheType">What the cache holds, as <see cref="LatentCache"/> says.</param>
    /// <param name="recipe">How activations are stored and multiplied; <see cref="Recipe.ForInference"/> where none is given.</param>
    /// <exception cref="FathomException">The capacity is beyond the model's context.</exception>
    public SequenceLogits(DeepSeekModel model, int capacity = 0, DType cacheType = DType.BF16, Recipe? recipe = null)
    {
        this.model = model;
        int most = model.Config.MaxPositionEmbeddings;
        if (capacity > most) throw new FathomException($"the model's context is {most} tokens (max_position_embeddings); {capacity} were asked for");
        this.capacity = capacity > 0 ? capacity : Math.Min(most, 32_768);
        cache = new LatentCache(model.Device, model.Config, this.capacity, cacheType);
        sequence = new CachedSequence(cache.Pool);
        pass = new InferencePass(model.Device, recipe);
        staging = new Staging(model.Device);
    }

    /// <summary>Computes more tokens, in chunks.</summary>
    /// <param name="tokens">Ids, at least one.</param>
    /// <returns>The logits after the last, [V]; valid until the next call.</returns>
    /// <exception cref="FathomException">The sequence is full, or an id outside the vocabulary.</exception>
    public ReadOnlySpan<float> Prefill(ReadOnlySpan<int> tokens)
    {
        ReadOnlySpan<float> logits = default;
        for (int at = 0; at < tokens.Length; at += PromptChunk)
        {
            ReadOnlySpan<int> chunk = tokens.Slice(at, Math.Min(PromptChunk, tokens.Length - at));
            bool last = at + chunk.Length == tokens.Length;
            Grow(chunk.Length);
            pass.Clear();
            pass.AddPrefill(sequence, chunk, last);
            Tensor result = model.Infer(pass, cache);
            if (last) logits = Host(result);
        }

        return logits;
    }

    /// <summary>Computes one more token, as a generated one.</summary>
    /// <returns>The logits after it, [V]; valid until the next call.</returns>
    /// <exception cref="FathomException">The sequence is full, or an id outside the vocabulary.</exception>
    public ReadOnlySpan<float> Decode(int token)
    {
        Grow(1);
        pass.Clear();
        pass.AddDecode(sequence, token);
        return Host(model.Infer(pass, cache));
    }

    /// <summary>Forgets the tokens from a place on.</summary>
    public void Truncate(int length) => sequence.Truncate(length);

    /// <inheritdoc/>
    public void Dispose() => sequence.Dispose();

    private ReadOnlySpan<float> Host(Tensor result) => staging.Download(result).Row<float>(0);

    private void Grow(int tokens)
    {
        if (!sequence.TryGrow(tokens)) throw new FathomException($"the sequence of at most {capacity} tokens is full");
    }
}
