// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
// A number is a function of (seed, stream, index) and nothing else: there is no state to carry, so weights, data order and
// samples do not depend on threads, devices or the order in which they are asked for. The trap is reuse: two uses must not
// share a stream, which is why streams are named (StreamOf).
using System.Runtime.CompilerServices;

namespace Fathom.Numerics;

/// <summary>Random numbers addressed by (seed, stream, index). A value; copying it is free and it is safe on any thread.</summary>
/// <param name="seed">The run's seed: the key of the generator.</param>
/// <param name="stream">What the numbers are for: the upper half of the counter.</param>
public readonly struct Philox(ulong seed, ulong stream)
{
    private const uint Multiplier0 = 0xD2511F53, Multiplier1 = 0xCD9E8D57; // Salmon et al., table 2
    private const uint Weyl0 = 0x9E3779B9, Weyl1 = 0xBB67AE85; // golden ratio; sqrt(3) - 1

    private readonly ulong seed = seed;
    private readonly ulong stream = stream;

    /// <summary>Numbers of a stream that is told apart by its name, such as a tensor's.</summary>
    public Philox(ulong seed, string stream) : this(seed, StreamOf(stream)) { }

    /// <summary>A number for a name: 64-bit FNV-1a of its UTF-16 code units, the same on every machine and run.</summary>
    public static ulong StreamOf(string name)
    {
        ulong hash = 0xCBF29CE484222325;
        foreach (char c in name)
        {
            hash = (hash ^ (byte)c) * 0x100000001B3;
            hash = (hash ^ (byte)(c >> 8)) * 0x100000001B3;
        }

        return hash;
    }

    /// <summary>The generator itself: ten rounds over a 128-bit counter under a 64-bit key.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (uint X, uint Y, uint Z, uint W) Generate(uint c0, uint c1, uint c2, uint c3, uint k0, uint k1)
    {
        for (int round = 0; round < 10; round++)
        {
            ulong product0 = (ulong)Multiplier0 * c0;
            ulong product1 = (ulong)Multiplier1 * c2;
            (c0, c1, c2, c3) = ((uint)(product1 >> 32) ^ c1 ^ k0, (uint)product1, (uint)(product0 >> 32) ^ c3 ^ k1, (uint)product0);
            k0 += Weyl0;
            k1 += Weyl1;
        }

        return (c0, c1, c2, c3);
    }

    /// <summary>The four 32-bit numbers of one counter value: numbers 4·block to 4·block + 3.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public (uint X, uint Y, uint Z, uint W) Block(ulong block) =>
        Generate((uint)block, (uint)(block >> 32), (uint)stream, (uint)(stream >> 32), (uint)seed, (uint)(seed >> 32));

    /// <summary>The 32-bit number at an index.</summary>
    public uint UInt32(ulong index)
    {
        var (x, y, z, w) = Block(index >> 2);
        return (index & 3) switch { 0 => x, 1 => y, 2 => z, _ => w };
    }

    /// <summary>The 64-bit number at an index (numbers 2·index and 2·index + 1 of <see cref="UInt32"/>).</summary>
    public ulong UInt64(ulong index)
    {
        var (x, y, z, w) = Block(index >> 1);
        return (index & 1) == 0 ? x | (ulong)y << 32 : z | (ulong)w << 32;
    }

    /// <summary>Uniform in [0, 1), a multiple of 2^-24.</summary>
    public float Uniform(ulong index) => ToUniform(UInt32(index));

    /// <summary>Uniform in [0, 1), a multiple of 2^-53.</summary>
    public double UniformDouble(ulong index) => (UInt64(index) >> 11) * (1.0 / (1L << 53));

    /// <summary>Uniform integer in [0, limit), by the upper half of a 64 × 64-bit product; its bias is below limit / 2^64.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The limit is not positive.</exception>
    public long Integer(ulong index, long limit)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(limit);
        return (long)Math.BigMul(UInt64(index), (ulong)limit, out _);
    }

    /// <summary>The standard normal number at an index: Box-Muller over pairs of 32-bit numbers, in double precision.</summary>
    public float Normal(ulong index)
    {
        var (x, y, z, w) = Block(index >> 2);
        var (first, second) = (index & 2) == 0 ? BoxMuller(x, y) : BoxMuller(z, w);
        return (float)((index & 1) == 0 ? first : second);
    }

    /// <summary>Uniform numbers in [0, 1) at consecutive indices.</summary>
    /// <param name="destination">Receives numbers <paramref name="firstIndex"/> onwards.</param>
    /// <param name="firstIndex">Index of the first; any, so that a tensor can be filled in pieces.</param>
    public void FillUniform(Span<float> destination, ulong firstIndex = 0)
    {
        int i = 0;
        for (; i < destination.Length && ((firstIndex + (uint)i) & 3) != 0; i++) destination[i] = Uniform(firstIndex + (uint)i);
        for (; i + 4 <= destination.Length; i += 4)
        {
            var (x, y, z, w) = Block((firstIndex + (uint)i) >> 2);
            destination[i] = ToUniform(x);
            destination[i + 1] = ToUniform(y);
            destination[i + 2] = ToUniform(z);
            destination[i + 3] = ToUniform(w);
        }

        for (; i < destination.Length; i++) destination[i] = Uniform(firstIndex + (uint)i);
    }

    /// <summary>Normal numbers at consecutive indices.</summary>
    /// <param name="destination">Receives numbers <paramref name="firstIndex"/> onwards.</param>
    /// <param name="mean">Mean.</param>
    /// <param name="standardDeviation">Standard deviation.</param>
    /// <param name="firstIndex">Index of the first; any, so that a tensor can be filled in pieces.</param>
    public void FillNormal(Span<float> destination, float mean, float standardDeviation, ulong firstIndex = 0)
    {
        int i = 0;
        for (; i < destination.Length && ((firstIndex + (uint)i) & 3) != 0; i++)
            destination[i] = mean + standardDeviation * Normal(firstIndex + (uint)i);
        for (; i + 4 <= destination.Length; i += 4)
        {
            var (x, y, z, w) = Block((firstIndex + (uint)i) >> 2);
            var (a, b) = BoxMuller(x, y);
            var (c, d) = BoxMuller(z, w);
            destination[i] = mean + standardDeviation * (float)a;
            destination[i + 1] = mean + standardDeviation * (float)b;
            destination[i + 2] = mean + standardDeviation * (float)c;
            destination[i + 3] = mean + standardDeviation * (float)d;
        }

        for (; i < destination.Length; i++) destination[i] = mean + standardDeviation * Normal(firstIndex + (uint)i);
    }

    private static float ToUniform(uint bits) => (bits >> 8) * (1f / (1 << 24));

    // The radius takes (x + 1) / 2^32, which is never zero. Doubles keep the platforms' differing log and sine libraries below
    // the last bit of a single except in one case of about 2^29.
    private static (double First, double Second) BoxMuller(uint x, uint y)
    {
        double radius = Math.Sqrt(-2 * Math.Log((x + 1.0) * (1.0 / 4294967296.0)));
        var (sin, cos) = Math.SinCos(y * (Math.Tau / 4294967296.0));
        return (radius * cos, radius * sin);
    }
}
