using Fathom.Server.Answers;

namespace Fathom.Server.Accounts;

/// <summary>A key as the server knows it; the key itself it does not know.</summary>
/// <param name="Id">Short public id, part of the key.</param>
/// <param name="Name">What its owner is called.</param>
/// <param name="RequestsPerMinute">Most requests a minute, or null for any number.</param>
/// <param name="TokensPerMinute">Most tokens a minute, or null for any number.</param>
/// <param name="BalanceNano">What may still be spent, in billionths of the currency; null for anything.</param>
/// <param name="Created">When it was made.</param>
/// <param name="Revoked">Since when it is not accepted any more, or null.</param>
public sealed record Account(
    string Id, string Name, int? RequestsPerMinute, int? TokensPerMinute, long? BalanceNano, DateTimeOffset Created, DateTimeOffset? Revoked);

/// <summary>What a key used of a model.</summary>
/// <param name="KeyId">The key.</param>
/// <param name="Model">The model.</param>
/// <param name="Requests">Requests that used tokens.</param>
/// <param name="HitTokens">Tokens of prompts found in the cache.</param>
/// <param name="MissTokens">Tokens of prompts that were computed.</param>
/// <param name="OutputTokens">Tokens generated.</param>
/// <param name="CostNano">Price, in billionths of the currency.</param>
public sealed record UsageTotal(string KeyId, string Model, long Requests, long HitTokens, long MissTokens, long OutputTokens, long CostNano);

/// <summary>What one request used.</summary>
/// <param name="RequestId">Its id; written at most once.</param>
/// <param name="KeyId">The key.</param>
/// <param name="Model">The model.</param>
/// <param name="Usage">The tokens.</param>
/// <param name="Time">When it ended.</param>
internal sealed record UsageRecord(string RequestId, string KeyId, string Model, TokenUsage Usage, DateTimeOffset Time);
