using Fathom.Numerics;

namespace Fathom.Server;

/// <summary>What tokens cost.</summary>
/// <param name="Currency">Three letters: CNY, USD.</param>
/// <param name="CacheHit">A million tokens of prompts that were found in the cache.</param>
/// <param name="CacheMiss">A million tokens of prompts that were computed.</param>
/// <param name="Output">A million generated tokens.</param>
public sealed record PriceList(string Currency, decimal CacheHit, decimal CacheMiss, decimal Output)
{
    /// <summary>Of DeepSeek-V3 at its launch, in RMB: 0.1 for a million input tokens from the cache, 1 for others, 2 for output.</summary>
    public static PriceList DeepSeekV3Launch { get; } = new("CNY", 0.1m, 1m, 2m);

    /// <summary>The price in billionths of the currency: whole, because a price has at most three decimals.</summary>
    internal long CostNano(long hit, long miss, long output) => (long)(1000m * ((hit * CacheHit) + (miss * CacheMiss) + (output * Output)));

    /// <summary>Checks the values.</summary>
    /// <exception cref="FathomException">A price is negative, absurd, or finer than a thousandth.</exception>
    public void Validate()
    {
        if (Currency.Length != 3 || !Currency.All(char.IsAsciiLetterUpper)) throw new FathomException($"a currency is three capital letters as CNY, not '{Currency}'");
        foreach (decimal price in (decimal[])[CacheHit, CacheMiss, Output])
        {
            if (price is < 0 or > 1_000_000) throw new FathomException($"a price for a million tokens is 0 to 1,000,000, not {price}");
            if (decimal.Round(price, 3) != price) throw new FathomException($"a price for a million tokens has at most three decimals; {price} has more");
        }
    }
}
