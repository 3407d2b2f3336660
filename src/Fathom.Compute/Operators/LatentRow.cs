// How a token lies in the latent cache. In F32 or BF16 it is its numbers, latent then rotary key. In FP8 it is the row of FlashMLA and
// DeepSeek-V3.2: codes of the latent, an F32 scale for each 128 of them, and the rotary key in BF16, since the errors of positions would
// add up over a long context; 512 + 16 + 128 = 656 bytes at V3's sizes, where BF16 takes 1,152.
using Fathom.Numerics;

namespace Fathom.Compute.Operators;

/// <summary>The row of one token and layer.</summary>
/// <param name="Type">F32, BF16, or F8E4M3 for codes with scales; a column of such a row is a byte.</param>
/// <param name="Latent">R: numbers of the normalised latent.</param>
/// <param name="Rope">dr: numbers of the turned key.</param>
public readonly record struct LatentRow(DType Type, int Latent, int Rope)
{
    /// <summary>Numbers that share a scale.</summary>
    public const int Tile = ScaledTensor.TileSize;

    /// <summary>Whether the latent is codes with scales.</summary>
    public bool IsQuantized => Type == DType.F8E4M3;

    /// <summary>Scales of a row.</summary>
    public int Scales => (Latent + Tile - 1) / Tile;

    /// <summary>Byte at which the rotary key begins in a row of codes.</summary>
    public int RopeOffset => Latent + sizeof(float) * Scales;

    /// <summary>Columns of the cache, of its type.</summary>
    public int Columns => IsQuantized ? RopeOffset + sizeof(ushort) * Rope : Latent + Rope;

    /// <summary>Bytes of a row.</summary>
    public int Bytes => Columns * Type.SizeInBytes();

    /// <summary>Whether scales and rotary keys lie where they can be read as such: a row of codes needs R in fours and an even dr.</summary>
    public bool IsPossible => Type is DType.F32 or DType.BF16 || IsQuantized && Latent % sizeof(float) == 0 && Rope % 2 == 0;

    /// <summary>The row of a cache whose latents have a size; <see cref="Rope"/> is negative where they are longer than its rows.</summary>
    /// <param name="cache">[…, columns].</param>
    /// <param name="latent">R.</param>
    public static LatentRow Of(in Tensor cache, long latent)
    {
        var row = new LatentRow(cache.DType, checked((int)latent), 0);
        long rest = cache.Columns - row.Columns;
        return row with { Rope = checked((int)(row.IsQuantized ? rest >> 1 : rest)) };
    }
}
