using Fathom.Server.Accounts;
using Microsoft.AspNetCore.Http;

namespace Fathom.Server.Hosting;

/// <summary>What belongs to one HTTP request.</summary>
/// <param name="Http">The request.</param>
/// <param name="Id">Its id, which the header x-request-id and the log hold.</param>
/// <param name="Account">The key that it came with, or null where none is needed.</param>
internal sealed record RequestScope(HttpContext Http, string Id, Account? Account)
{
    /// <summary>The client has gone.</summary>
    public CancellationToken Aborted => Http.RequestAborted;

    /// <summary>The field that holds the prompt, for errors.</summary>
    public string PromptField { get; set; } = "messages";

    /// <summary>What it used, for the log.</summary>
    public Answers.TokenUsage Usage { get; set; }

    /// <summary>Whose prompts are found in the cache: those of the same key and, where it says so, the same user.</summary>
    public string? CacheScope(string? user) => Account is null ? user : $"{Account.Id}/{user}";
}
