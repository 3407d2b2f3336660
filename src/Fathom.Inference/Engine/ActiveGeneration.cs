// A request on its way through the engine: chooses its tokens, makes them text, and knows when it is over.
using System.Diagnostics;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>A request, its sequence and its text. Used by the engine's thread alone.</summary>
internal sealed class ActiveGeneration : ScheduledSequence
{
    private readonly GenerationRequest request;
    private readonly IReadOnlyList<int> eosIds;
    private readonly LogitAdjustments adjustments;
    private readonly StreamingDecoder? decoder;
    private readonly StopMatcher stops;
    private readonly List<GeneratedToken> stepTokens = [];
    private readonly System.Text.StringBuilder stepText = new();
    private readonly long submitted = Stopwatch.GetTimestamp();
    private long started;
    private long firstToken;
    private int? endToken;
    private bool ended;
    private float[] raw = []; // logits as the model gave them, where log-probabilities are wanted

    /// <summary>A request to be scheduled.</summary>
    /// <param name="handle">What its reader holds.</param>
    /// <param name="cache">Blocks; none yet.</param>
    /// <param name="request">What was asked for, checked.</param>
    /// <param name="prompt">Its ids.</param>
    /// <param name="limit">Most tokens of prompt and answer.</param>
    /// <param name="tokenizer">Makes tokens text; null for none.</param>
    /// <param name="eosIds">Ids that end a text.</param>
    /// <param name="vocabulary">V.</param>
    public ActiveGeneration(
        Generation handle, CachedSequence cache, GenerationRequest request, ReadOnlySpan<int> prompt, int limit, Tokenizer? tokenizer, IReadOnlyList<int> eosIds, int vocabulary)
        : base(cache, prompt, limit, request.Priority, request.UserId)
    {
        (Handle, this.request, this.eosIds) = (handle, request, eosIds);
        adjustments = new LogitAdjustments(request.Sampling, prompt, eosIds, request.Constraint, vocabulary);
        decoder = tokenizer is null ? null : new StreamingDecoder(tokenizer, skipSpecial: !request.KeepSpecialTokens);
        stops = new StopMatcher(request.Sampling.StopSequences);
    }

    /// <summary>What its reader holds.</summary>
    public Generation Handle { get; }

    /// <summary>Why it is over, or null.</summary>
    public FinishReason? Finish { get; private set; }

    /// <summary>Whether it has ended, or ends with this step.</summary>
    public bool IsOver => Finish is not null || ended;

    /// <summary>Tokens generated.</summary>
    public int NewTokens => Tokens.Length - PromptLength;

    /// <summary>Tokens that the engine's counts hold already.</summary>
    public int CountedTokens { get; set; }

    /// <summary>Tokens that were drafted.</summary>
    public int DraftedTokens { get; set; }

    /// <summary>Drafted tokens that were chosen.</summary>
    public int AcceptedTokens { get; set; }

    /// <summary>A step begins to compute it.</summary>
    public void Start()
    {
        if (started != 0) return;
        started = Stopwatch.GetTimestamp();
        Handle.HasStarted = true;
    }

    /// <summary>
    /// Whether a token takes logits and a random number and nothing that depends on the tokens before: then drafted rows can be chosen
    /// before it is known whether they are valid.
    /// </summary>
    public bool ChoosesAhead => adjustments.IsEmpty && request.Sampling.LogProbs is null;

    /// <summary>Whether the logits themselves are wanted, by <see cref="Note"/>.</summary>
    public bool WantsLogits => request.Sampling.LogProbs is not null;

    /// <summary>Keeps the logits of the next token for its log-probabilities.</summary>
    /// <param name="logits">[V], as the model gave them.</param>
    public void Note(ReadOnlySpan<float> logits)
    {
        if (raw.Length == 0) raw = new float[logits.Length];
        logits.CopyTo(raw);
    }

    /// <summary>Asks for a token.</summary>
    /// <param name="chooser">Of the engine.</param>
    /// <param name="row">Of the logits.</param>
    /// <param name="ahead">Tokens between the next one and this; 0 unless <see cref="ChoosesAhead"/>.</param>
    public void Ask(TokenChooser chooser, int row, int ahead)
    {
        if (adjustments.IsEmpty) chooser.Add(row, request.Sampling, NewTokens + ahead);
        else chooser.Add(row, request.Sampling, NewTokens, adjustments.Changes, adjustments.Mask());
    }

    /// <summary>
    /// Asks for a further draft: what would be chosen if the module's logits were the model's, with the random number of its place and the
    /// request's biases and penalties.
    /// </summary>
    /// <param name="chooser">Of the engine.</param>
    /// <param name="row">Of the module's logits.</param>
    public void AskDraft(TokenChooser chooser, int row) => chooser.Add(row, request.Sampling, NewTokens + Draft.Count, adjustments.Changes, default);

    /// <summary>Takes the next token.</summary>
    /// <param name="token">As it was chosen.</param>
    /// <exception cref="FathomException">No token could be chosen.</exception>
    public void Take(int token)
    {
        if (token < 0)
        {
            throw new FathomException(adjustments.IsEmpty
                ? "no token can be chosen: the model's logits are not numbers"
                : "no token can be chosen: the constraint, biases and least length forbid all of them, or the model's logits are not numbers");
        }

        if (request.Sampling.LogProbs is not { } count)
        {
            Take(new GeneratedToken(token, float.NaN, []));
            return;
        }

        double logSum = LogProbabilities.LogSum(raw);
        Take(new GeneratedToken(token, LogProbabilities.Of(raw, token, logSum), LogProbabilities.Top(raw, count, logSum)));
    }

    /// <summary>Hands what the step brought to the reader.</summary>
    public void Emit()
    {
        if (stepTokens.Count == 0 && stepText.Length == 0) return;
        Handle.Emit(new GenerationPiece(stepText.ToString(), [.. stepTokens]));
        stepTokens.Clear();
        stepText.Clear();
    }

    /// <summary>Ends it, and tells the reader.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="error">What went wrong, or null.</param>
    public GenerationResult End(FinishReason reason, string? error = null)
    {
        ended = true;
        if (decoder is not null) stepText.Append(stops.Push(decoder.Flush()));
        stepText.Append(stops.Flush());
        Emit();
        long now = Stopwatch.GetTimestamp();
        var result = new GenerationResult(reason, PromptLength, FoundTokens, NewTokens)
        {
            StopSequence = stops.Met,
            EndToken = endToken,
            Error = error,
            QueueTime = Stopwatch.GetElapsedTime(submitted, started == 0 ? now : started),
            TimeToFirstToken = firstToken == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(submitted, firstToken),
            TotalTime = Stopwatch.GetElapsedTime(submitted, now),
            Preemptions = Preemptions,
            DraftedTokens = DraftedTokens,
            AcceptedTokens = AcceptedTokens,
        };
        Handle.End(result);
        return result;
    }

    private void Take(GeneratedToken generated)
    {
        int token = generated.Id;
        if (firstToken == 0) firstToken = Stopwatch.GetTimestamp();
        Append(token);
        stepTokens.Add(generated);
        adjustments.Accept(token);
        if (request.Sampling.StopAtEos && eosIds.Contains(token))
        {
            endToken = token;
            Finish = FinishReason.Stop;
            return;
        }

        stepText.Append(stops.Push(TextOf(token)));
        if (stops.Met is not null || request.Constraint is { IsComplete: true }) Finish = FinishReason.Stop;
        else if (Tokens.Length >= Limit) Finish = FinishReason.Length;
    }

    /// <summary>The text that a token completes.</summary>
    private string TextOf(int token)
    {
        try
        {
            return decoder?.Push(token) ?? "";
        }
        catch (ArgumentOutOfRangeException)
        {
            return ""; // a model's vocabulary may be larger than its tokenizer's: what is beyond has no text
        }
    }
}
