// One sequence that grows: a prompt, what the model answers, the next prompt. Tokens that are in the cache are not computed again,
// so a turn of a chat costs its own length.
using System.Diagnostics;
using System.Runtime.InteropServices;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>Why a text ended.</summary>
public enum FinishReason
{
    /// <summary>An end-of-sequence token or a stop sequence.</summary>
    Stop,

    /// <summary>The most tokens that were asked for, or the end of the context.</summary>
    Length,

    /// <summary>Cancelled.</summary>
    Cancelled,

    /// <summary>An error, which the result names.</summary>
    Failed,
}

/// <summary>What one generation did.</summary>
/// <param name="Reason">Why it ended.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="CachedTokens">Tokens of the prompt that were in the cache.</param>
/// <param name="NewTokens">Tokens generated, an end token among them.</param>
/// <param name="PrefillSeconds">Time to the first token.</param>
/// <param name="DecodeSeconds">Time of the others.</param>
public readonly record struct GenerationReport(
    FinishReason Reason, int PromptTokens, int CachedTokens, int NewTokens, double PrefillSeconds, double DecodeSeconds)
{
    /// <summary>Tokens a second after the first.</summary>
    public double TokensPerSecond => NewTokens > 1 ? (NewTokens - 1) / DecodeSeconds : 0;
}

/// <summary>Generation from one model with a cache of its own. Not thread-safe.</summary>
public sealed class GenerationSession : IDisposable
{
    private const int PrefillChunk = 512;
    private readonly DeepSeekModel model;
    private readonly LatentCache cache;
    private readonly CachedSequence sequence;
    private readonly InferencePass pass;
    private readonly Sampler sampler;
    private readonly Staging staging;
    private readonly List<int> cached = [];
    private readonly int capacity;

    /// <summary>A session for texts up to a length.</summary>
    /// <param name="model">The model.</param>
    /// <param name="capacity">Most tokens of prompt and answers together; 0 for the model's max_position_embeddings, at most 32,768.</param>
    /// <param name="cacheType">F32 or BF16.</param>
    /// <param name="recipe">How activations are stored and multiplied; <see cref="Recipe.ForInference"/> where none is given.</param>
    public GenerationSession(DeepSeekModel model, int capacity = 0, DType cacheType = DType.BF16, Recipe? recipe = null)
    {
        this.model = model;
        int most = model.Config.MaxPositionEmbeddings;
        if (capacity > most) throw new FathomException($"the model's context is {most} tokens (max_position_embeddings); {capacity} were asked for");
        this.capacity = capacity > 0 ? capacity : Math.Min(most, 32_768);
        cache = new LatentCache(model.Device, model.Config, this.capacity, cacheType);
        sequence = new CachedSequence(cache.Pool);
        pass = new InferencePass(model.Device, recipe);
        staging = new Staging(model.Device);
        sampler = new Sampler(model.Config.VocabSize);
    }

    /// <summary>Generates after a prompt. Whatever the prompt shares with the text before it comes from the cache.</summary>
    /// <param name="prompt">Ids, at least one.</param>
    /// <param name="options">Sampling and limits.</param>
    /// <param name="eosIds">Ids that end the text.</param>
    /// <param name="onToken">Told each new id, the end token too; returns whether to go on.</param>
    /// <param name="cancellation">Ends the generation between tokens.</param>
    /// <exception cref="FathomException">The prompt is empty, does not fit the context, or has ids outside the vocabulary.</exception>
    public GenerationReport Generate(
        ReadOnlySpan<int> prompt, SamplingOptions options, IReadOnlyList<int> eosIds, Func<int, bool> onToken, CancellationToken cancellation = default)
    {
        options.Validate();
        if (prompt.IsEmpty) throw new FathomException("the prompt is empty: there is nothing to continue from");
        if (prompt.Length > capacity)
            throw new FathomException($"the prompt has {prompt.Length} tokens, the context holds {capacity}");
        foreach (int id in prompt)
        {
            if ((uint)id >= (uint)model.Config.VocabSize)
                throw new FathomException($"token id {id} is outside the model's vocabulary of {model.Config.VocabSize}");
        }

        if (options.MaxNewTokens == 0) return new GenerationReport(FinishReason.Length, prompt.Length, 0, 0, 0, 0);
        int reused = Math.Min(prompt.CommonPrefixLength(CollectionsMarshal.AsSpan(cached)), prompt.Length - 1);
        Truncate(reused);
        long started = Stopwatch.GetTimestamp();
        int next = sampler.Next(Prefill(prompt[reused..]), options, 0);
        double prefill = Stopwatch.GetElapsedTime(started).TotalSeconds;
        started = Stopwatch.GetTimestamp();
        int count = 1;
        FinishReason reason;
        while (true)
        {
            bool goOn = onToken(next);
            if (!goOn || options.StopAtEos && eosIds.Contains(next))
            {
                reason = FinishReason.Stop;
                break;
            }

            if (count >= options.MaxNewTokens || sequence.Length >= capacity)
            {
                reason = FinishReason.Length;
                break;
            }

            if (cancellation.IsCancellationRequested)
            {
                reason = FinishReason.Cancelled;
                break;
            }

            next = sampler.Next(Decode(next), options, count++);
        }

        return new GenerationReport(reason, prompt.Length, reused, count, prefill, Stopwatch.GetElapsedTime(started).TotalSeconds);
    }

    /// <summary>Computes more tokens of the sequence; the logits after the last, [V].</summary>
    public ReadOnlySpan<float> Prefill(ReadOnlySpan<int> tokens)
    {
        ReadOnlySpan<float> logits = default;
        for (int at = 0; at < tokens.Length; at += PrefillChunk)
        {
            ReadOnlySpan<int> chunk = tokens.Slice(at, Math.Min(PrefillChunk, tokens.Length - at));
            bool last = at + chunk.Length == tokens.Length;
            Grow(chunk);
            pass.Clear();
            pass.AddPrefill(sequence, chunk, last);
            Tensor result = model.Infer(pass, cache);
            if (last) logits = Logits(result);
        }

        return logits;
    }

    /// <summary>Computes one more token; the logits after it, [V].</summary>
    public ReadOnlySpan<float> Decode(int token)
    {
        Grow([token]);
        pass.Clear();
        pass.AddDecode(sequence, token);
        return Logits(model.Infer(pass, cache));
    }

    /// <summary>Forgets the tokens from a place on.</summary>
    public void Truncate(int length)
    {
        sequence.Truncate(length);
        cached.RemoveRange(length, cached.Count - length);
    }

    /// <inheritdoc/>
    public void Dispose() => sequence.Dispose();

    /// <summary>The one row of logits, on the host. Here, once a token, a device that works beside the processor is waited for.</summary>
    private ReadOnlySpan<float> Logits(Tensor result) => staging.Download(result).Row<float>(0);

    private void Grow(ReadOnlySpan<int> tokens)
    {
        if (!sequence.TryGrow(tokens.Length)) throw new FathomException($"the context of {capacity} tokens is full");
        cached.AddRange(tokens);
    }
}
