// What a full block of the cache holds is decided by the tokens up to its end, and by who may find it: a chain of SHA-256 over both.
// A collision would give one user another's text, so nothing shorter or weaker will do.
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Fathom.Model;

/// <summary>Names the contents of a full block: 256 bits.</summary>
public readonly record struct BlockHash
{
    private readonly UInt128 high;
    private readonly UInt128 low;

    private BlockHash(ReadOnlySpan<byte> digest)
    {
        high = MemoryMarshal.Read<UInt128>(digest);
        low = MemoryMarshal.Read<UInt128>(digest[16..]);
    }

    /// <summary>What the first block of a sequence follows.</summary>
    /// <param name="scope">Who may find the blocks; null for everyone, which is a scope of its own.</param>
    public static BlockHash Begin(string? scope)
    {
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        byte[] text = scope is null ? [] : [1, .. MemoryMarshal.AsBytes(scope.AsSpan())];
        SHA256.HashData(text, digest);
        return new BlockHash(digest);
    }

    /// <summary>The hash of a block that follows this one.</summary>
    /// <param name="tokens">Its tokens, <see cref="BlockPool.BlockSize"/> of them.</param>
    public BlockHash Next(ReadOnlySpan<int> tokens)
    {
        if (tokens.Length != BlockPool.BlockSize) throw new ArgumentException($"a block has {BlockPool.BlockSize} tokens, not {tokens.Length}", nameof(tokens));
        Span<byte> text = stackalloc byte[SHA256.HashSizeInBytes + BlockPool.BlockSize * sizeof(int)], digest = stackalloc byte[SHA256.HashSizeInBytes];
        MemoryMarshal.Write(text, high);
        MemoryMarshal.Write(text[16..], low);
        MemoryMarshal.AsBytes(tokens).CopyTo(text[SHA256.HashSizeInBytes..]);
        SHA256.HashData(text, digest);
        return new BlockHash(digest);
    }
}
