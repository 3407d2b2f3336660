// Users take turns by the tokens they have had, not by the requests they made (virtual token counters: Sheng et al., "Fairness in Serving
// Large Language Models", OSDI 2024). Who was away begins at the level of those who were not, so that time away is no credit.

namespace Fathom.Inference;

/// <summary>Tokens computed for each user who has requests.</summary>
internal sealed class FairShares
{
    private readonly Dictionary<string, Share> shares = new(StringComparer.Ordinal);

    /// <summary>A user has one more request.</summary>
    public void Enter(string? user)
    {
        string key = user ?? "";
        if (!shares.TryGetValue(key, out Share? share))
        {
            double least = shares.Count == 0 ? 0 : shares.Values.Min(s => s.Tokens);
            shares[key] = share = new Share { Tokens = least };
        }

        share.Requests++;
    }

    /// <summary>One of a user's requests has ended.</summary>
    public void Leave(string? user)
    {
        string key = user ?? "";
        if (--shares[key].Requests == 0) shares.Remove(key);
    }

    /// <summary>Tokens were computed for a user.</summary>
    public void Charge(string? user, int tokens) => shares[user ?? ""].Tokens += tokens;

    /// <summary>What a user has had.</summary>
    public double Of(string? user) => shares[user ?? ""].Tokens;

    private sealed class Share
    {
        public double Tokens { get; set; }

        public int Requests { get; set; }
    }
}
