// What the routes share: the engine, the model's names, its prompts, and the books.
using Fathom.Inference;
using Fathom.Server.Accounts;
using Fathom.Server.Answers;
using Fathom.Server.Http;
using Fathom.Server.Metrics;

namespace Fathom.Server.Hosting;

/// <summary>The model as the routes see it. Safe for many threads.</summary>
internal sealed class ModelService
{
    private readonly RateLimits rates;
    private readonly AnswerConstraints? constraints;

    public ModelService(InferenceEngine engine, FathomServerOptions options, ServerMetrics metrics, RateLimits rates, KeyStore? keys = null)
    {
        (Engine, Options, Metrics, this.rates, Keys) = (engine, options, metrics, rates, keys);
        if (engine.Model.Tokenizer is not null) (Prompts, constraints) = (new ChatPromptBuilder(engine.Model), new AnswerConstraints(engine.Model));
        Name = options.NameOf(engine.Model);
    }

    public InferenceEngine Engine { get; }

    public FathomServerOptions Options { get; }

    public ServerMetrics Metrics { get; }

    public KeyStore? Keys { get; }

    /// <summary>Makes prompts; null for a model without tokenizer.</summary>
    public ChatPromptBuilder? Prompts { get; }

    /// <summary>The model's name.</summary>
    public string Name { get; }

    /// <summary>All names that requests may use.</summary>
    public IEnumerable<string> Names => Options.Aliases.Prepend(Name);

    /// <summary>When the server began, in seconds since 1970.</summary>
    public long Created { get; } = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    /// <summary>Changes with what may change the texts of a seed: program and model.</summary>
    public string Fingerprint => field ??= "fp_" + Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(
        System.Text.Encoding.UTF8.GetBytes($"{ServerVersion.Text} {Name} {Engine.Model.Model.Config.ToJson()}")))[..12];

    /// <summary>Makes prompts.</summary>
    /// <exception cref="ApiException">The model has no tokenizer.</exception>
    public ChatPromptBuilder RequirePrompts() => Prompts ?? throw ApiException.Format("this model has no tokenizer; only /v1/completions with token ids can be used");

    /// <summary>Makes constraints.</summary>
    /// <exception cref="ApiException">The model has no tokenizer.</exception>
    public AnswerConstraints RequireConstraints()
    {
        RequirePrompts();
        return constraints!;
    }

    /// <summary>The name to answer under.</summary>
    /// <param name="name">The name that was asked for, or null.</param>
    /// <exception cref="ApiException">There is no such model here.</exception>
    public string ResolveModel(string? name) => name is null ? Name
        : Names.Contains(name) ? name
        : throw ApiException.UnknownModel($"the model '{(name.Length <= 80 ? name : name[..80] + "…")}' does not exist here; there is {string.Join(", ", Names)}");

    /// <summary>Writes down what a request used.</summary>
    public async Task SettleAsync(RequestScope request, TokenUsage usage)
    {
        request.Usage = usage;
        if (request.Account is not { } account || Keys is null) return;
        rates.Charge(account, usage.TotalTokens);
        if (usage.TotalTokens > 0) await Keys.RecordAsync(new UsageRecord(request.Id, account.Id, Name, usage, DateTimeOffset.UtcNow), Options.Prices).ConfigureAwait(false);
    }
}
