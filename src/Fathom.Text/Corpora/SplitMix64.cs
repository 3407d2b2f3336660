// Counter-based random numbers: the k-th number of a stream is a hash of (key, k), so a document's cut points or an
// epoch's order depend on nothing that ran before, on no thread count and on no resume point.
// The mixing function is SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014, variant 13 of Stafford); the stream is x_k = mix(key + k * golden ratio).
namespace Fathom.Text;

/// <summary>A stream of 64-bit random numbers fixed by its key alone.</summary>
/// <param name="key">The stream's key; <see cref="Key(ulong, ulong, ulong)"/> makes one out of a seed and counters.</param>
public struct SplitMix64(ulong key)
{
    private const ulong GoldenRatio = 0x9E3779B97F4A7C15;
    private ulong _state = key;

    /// <summary>A bijection of 64-bit numbers in which every input bit changes each output bit with probability near 1/2.</summary>
    public static ulong Mix(ulong x)
    {
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return x ^ (x >> 31);
    }

    /// <summary>The key of the stream number <paramref name="counter"/> of one purpose under one seed.</summary>
    /// <param name="seed">The run's seed.</param>
    /// <param name="purpose">Keeps apart streams that share seed and counter, e.g. the split and the shuffle.</param>
    /// <param name="counter">A document index or an epoch.</param>
    public static ulong Key(ulong seed, ulong purpose, ulong counter) =>
        Mix(Mix(Mix(seed + GoldenRatio) + purpose + GoldenRatio) + counter + GoldenRatio);

    /// <summary>The next number, uniform over all 64-bit values.</summary>
    public ulong Next() => Mix(_state += GoldenRatio);

    /// <summary>The next number in [0, <paramref name="bound"/>); the bias is below bound / 2^64.</summary>
    public ulong NextBelow(ulong bound) => Math.BigMul(Next(), bound, out _);

    /// <summary>The next number in [0, 1), a multiple of 2^-53.</summary>
    public double NextUnit() => (Next() >> 11) * (1.0 / (1UL << 53));
}
