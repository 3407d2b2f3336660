// Requests and tokens a minute, by key: buckets that fill evenly and hold a minute's worth. What a request will use is not known before, so
// it may enter while its key's bucket of tokens is not below zero, and is charged when it is settled, below zero if it comes to that.
using System.Collections.Concurrent;
using Fathom.Server.Http;

namespace Fathom.Server.Accounts;

/// <summary>Rate limits of keys. Safe for many threads.</summary>
/// <param name="time">The clock.</param>
internal sealed class RateLimits(TimeProvider time)
{
    private readonly ConcurrentDictionary<string, Buckets> byKey = new();

    /// <summary>Lets a request of a key in.</summary>
    /// <exception cref="ApiException">429, with the time after which there is room again.</exception>
    public void Admit(Account account)
    {
        if (account.RequestsPerMinute is null && account.TokensPerMinute is null) return;
        Buckets buckets = Of(account);
        lock (buckets)
        {
            long now = time.GetTimestamp();
            if (buckets.Tokens.Wait(account.TokensPerMinute, 0, now, time) is { } tokens) throw ApiException.RateLimit($"this key may use {account.TokensPerMinute} tokens a minute", tokens);
            if (buckets.Requests.Wait(account.RequestsPerMinute, 1, now, time) is { } requests) throw ApiException.RateLimit($"this key may send {account.RequestsPerMinute} requests a minute", requests);
            buckets.Requests.Take(1);
        }
    }

    /// <summary>Takes what a request used.</summary>
    public void Charge(Account account, int tokens)
    {
        if (account.TokensPerMinute is not { } perMinute) return;
        Buckets buckets = Of(account);
        lock (buckets)
        {
            buckets.Tokens.Fill(perMinute, time.GetTimestamp(), time);
            buckets.Tokens.Take(tokens);
        }
    }

    private Buckets Of(Account account) => byKey.GetOrAdd(account.Id, _ => new Buckets());

    private sealed class Buckets
    {
        public Bucket Requests { get; } = new();

        public Bucket Tokens { get; } = new();
    }

    private sealed class Bucket
    {
        private double level = double.NaN; // full at first use
        private long filled;

        /// <summary>Seconds until the bucket holds what is needed, or null where it does.</summary>
        public int? Wait(int? perMinute, int need, long now, TimeProvider time)
        {
            if (perMinute is not { } size) return null;
            Fill(size, now, time);
            double missing = need - level;
            return missing <= 0 ? null : Math.Max(1, (int)Math.Ceiling(missing / size * 60));
        }

        /// <summary>Adds what has come since the last time.</summary>
        public void Fill(int size, long now, TimeProvider time)
        {
            level = double.IsNaN(level) ? size : Math.Min(size, level + (time.GetElapsedTime(filled, now).TotalMinutes * size));
            filled = now;
        }

        public void Take(double amount) => level -= amount;
    }
}
