// What a request asks for before a token is chosen: a constraint's mask, biases, penalties. Presence and frequency count what was
// generated; repetition counts the prompt too. Each token that is affected has one entry, kept up to date as the text grows, so that a
// step hands over a list and never goes over the vocabulary.
using System.Runtime.InteropServices;
using Fathom.Compute.Operators;

namespace Fathom.Inference;

/// <summary>The adjustments of one request, with the counts that they follow.</summary>
internal sealed class LogitAdjustments
{
    private readonly SamplingOptions options;
    private readonly int[] endIds;
    private readonly ITokenConstraint? constraint;
    private readonly ulong[] mask;
    private readonly List<LogitChange> changes = [];
    private readonly Dictionary<int, int> places = [];
    private readonly Dictionary<int, int> generated = [];
    private int count;

    /// <summary>The adjustments of the first token.</summary>
    /// <param name="options">Biases and penalties.</param>
    /// <param name="prompt">Ids of the prompt.</param>
    /// <param name="endIds">Ids that may not come before the least number of tokens.</param>
    /// <param name="constraint">What may come, or null.</param>
    /// <param name="vocabulary">V.</param>
    public LogitAdjustments(SamplingOptions options, ReadOnlySpan<int> prompt, IReadOnlyList<int> endIds, ITokenConstraint? constraint, int vocabulary)
    {
        (this.options, this.constraint) = (options, constraint);
        this.endIds = [.. endIds.Where(id => id < vocabulary)];
        mask = constraint is null ? [] : new ulong[(vocabulary + 63) / 64];
        foreach ((int id, float bias) in options.LogitBias) Of(id).Bias(bias);
        if (options.MinNewTokens > 0) Forbid(true);
        if (options.RepetitionPenalty == 1) return;
        foreach (int id in prompt) Of(id).Repetition(options.RepetitionPenalty);
    }

    /// <summary>Whether logits stay as they are, for the next token and all that follow.</summary>
    public bool IsEmpty => constraint is null && changes.Count == 0 && !CountsTokens;

    /// <summary>Changes of single logits before the next token.</summary>
    public ReadOnlySpan<LogitChange> Changes => CollectionsMarshal.AsSpan(changes);

    private bool CountsTokens => options.RepetitionPenalty != 1 || options.FrequencyPenalty != 0 || options.PresencePenalty != 0;

    /// <summary>Bits of the tokens that may come next, as <see cref="ITokenConstraint.Mask"/> leaves them; empty where all may. Valid until the next call.</summary>
    public ReadOnlySpan<ulong> Mask()
    {
        mask.AsSpan().Fill(ulong.MaxValue);
        constraint?.Mask(mask);
        return mask;
    }

    /// <summary>Told each token that was chosen.</summary>
    public void Accept(int token)
    {
        count++;
        constraint?.Accept(token);
        if (count == options.MinNewTokens) Forbid(false);
        if (!CountsTokens) return;
        int times = generated[token] = generated.GetValueOrDefault(token) + 1;
        Entry entry = Of(token);
        entry.Repetition(options.RepetitionPenalty);
        entry.Penalty(options.FrequencyPenalty * times + options.PresencePenalty);
    }

    private void Forbid(bool forbidden)
    {
        foreach (int id in endIds) Of(id).Bias(forbidden ? float.NegativeInfinity : options.LogitBias.GetValueOrDefault(id));
    }

    private Entry Of(int token)
    {
        ref int place = ref CollectionsMarshal.GetValueRefOrAddDefault(places, token, out bool known);
        if (!known)
        {
            place = changes.Count;
            changes.Add(new LogitChange(token, 0, 1, 0));
        }

        return new Entry(changes, place);
    }

    private readonly struct Entry(List<LogitChange> changes, int place)
    {
        public void Bias(float value) => changes[place] = changes[place] with { Bias = value };

        public void Repetition(float value) => changes[place] = changes[place] with { Repetition = value };

        public void Penalty(float value) => changes[place] = changes[place] with { Penalty = value };
    }
}
