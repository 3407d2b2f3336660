// What a request asks for before a token is chosen: a constraint's mask, biases, penalties. Presence and frequency count what was
// generated; repetition counts the prompt too.

namespace Fathom.Inference;

/// <summary>The adjustments of one request, with the counts that they follow.</summary>
/// <param name="options">Biases and penalties.</param>
/// <param name="prompt">Ids of the prompt.</param>
/// <param name="endIds">Ids that may not come before the least number of tokens.</param>
/// <param name="constraint">What may come, or null.</param>
internal sealed class LogitAdjustments(SamplingOptions options, ReadOnlySpan<int> prompt, IReadOnlyList<int> endIds, ITokenConstraint? constraint)
{
    private readonly Dictionary<int, int> generated = [];
    private readonly HashSet<int> inPrompt = options.RepetitionPenalty == 1 ? [] : [.. prompt];
    private int count;

    /// <summary>Changes the logits of the next token.</summary>
    /// <param name="logits">[V], in place.</param>
    public void Apply(Span<float> logits)
    {
        constraint?.Mask(logits);
        foreach ((int id, float bias) in options.LogitBias) logits[id] += bias;
        if (count < options.MinNewTokens)
        {
            foreach (int id in endIds) logits[id] = float.NegativeInfinity;
        }

        if (options.RepetitionPenalty != 1)
        {
            foreach (int id in inPrompt) Repeat(logits, id);
            foreach (int id in generated.Keys)
            {
                if (!inPrompt.Contains(id)) Repeat(logits, id);
            }
        }

        if (options.FrequencyPenalty == 0 && options.PresencePenalty == 0) return;
        foreach ((int id, int times) in generated) logits[id] -= options.FrequencyPenalty * times + options.PresencePenalty;
    }

    /// <summary>Told each token that was chosen.</summary>
    public void Accept(int token)
    {
        count++;
        constraint?.Accept(token);
        generated[token] = generated.GetValueOrDefault(token) + 1;
    }

    private void Repeat(Span<float> logits, int id) =>
        logits[id] = logits[id] > 0 ? logits[id] / options.RepetitionPenalty : logits[id] * options.RepetitionPenalty;
}
