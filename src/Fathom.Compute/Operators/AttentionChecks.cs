// The first layer of attention's operators, the same on every device: shapes, types, and what a caller may write into.
using Fathom.Numerics;

namespace Fathom.Compute.Operators;

/// <summary>Sizes of a causal call, in the letters of <see cref="IAttentionOperators"/>.</summary>
/// <param name="Batch">B.</param>
/// <param name="Heads">H.</param>
/// <param name="Queries">T.</param>
/// <param name="Keys">S.</param>
/// <param name="Nope">dn.</param>
/// <param name="Rope">dr.</param>
/// <param name="Value">dv.</param>
public readonly record struct CausalSizes(int Batch, int Heads, int Queries, int Keys, int Nope, int Rope, int Value)
{
    /// <summary>dn + dr.</summary>
    public int Key => Nope + Rope;

    /// <summary>B·T.</summary>
    public long QueryTokens => (long)Batch * Queries;
}

/// <summary>Sizes of a decode call, in the letters of <see cref="IAttentionOperators"/>.</summary>
/// <param name="Batch">B.</param>
/// <param name="Heads">H.</param>
/// <param name="Nope">dn.</param>
/// <param name="Rope">dr.</param>
/// <param name="Value">dv.</param>
/// <param name="Latent">R.</param>
/// <param name="BlockSize">Tokens of a cache block.</param>
internal readonly record struct DecodeSizes(int Batch, int Heads, int Nope, int Rope, int Value, int Latent, int BlockSize)
{
    /// <summary>R + dr.</summary>
    public int Key => Latent + Rope;
}

/// <summary>Argument checks of <see cref="IAttentionOperators"/>.</summary>
internal static class AttentionChecks
{
    /// <summary>Name of the forward operator in messages.</summary>
    public const string Forward = "attention.causal_forward";

    /// <summary>Name of the backward operator in messages.</summary>
    public const string Backward = "attention.causal_backward";

    /// <summary>Name of the decode operator in messages.</summary>
    public const string Decode = "attention.latent_decode";

    /// <summary>Operands of the forward pass, activations all of one type.</summary>
    public static CausalSizes CheckForward(DType type, in Tensor q, in Tensor kv, in Tensor kRope, int batch, in Tensor output, in Tensor logSumExp)
    {
        CausalSizes sizes = CheckCausal(Forward, type, q, kv, kRope, output, batch);
        Require.Writable(Forward, "output", output);
        if (logSumExp.IsEmpty) return sizes;
        Require.Vector(Forward, "logSumExp", logSumExp, sizes.QueryTokens * sizes.Heads);
        Require.Writable(Forward, "logSumExp", logSumExp);
        return sizes;
    }

    /// <summary>Operands of the backward pass, activations all of one type; the output perhaps in codes.</summary>
    public static CausalSizes CheckBackward(
        DType type, in Tensor q, in Tensor kv, in Tensor kRope, in ScaledTensor output, in Tensor logSumExp, in Tensor doutput,
        int batch, in Tensor dq, in Tensor dkv, in Tensor dkRope)
    {
        CausalSizes sizes = CheckCausal(Backward, type, q, kv, kRope, output, batch);
        if (sizes.Keys != sizes.Queries)
            throw new ArgumentException($"{Backward}: kv has {sizes.Keys} tokens a sequence and q {sizes.Queries}; gradients need as many keys as queries");
        long tokens = sizes.QueryTokens;
        Require.Vector(Backward, "logSumExp", logSumExp, tokens * sizes.Heads);
        Require.Matrix(Backward, "doutput", doutput, tokens * sizes.Heads, sizes.Value, type);
        Require.Matrix(Backward, "dq", dq, tokens * sizes.Heads, sizes.Key, type);
        Require.Matrix(Backward, "dkv", dkv, tokens * sizes.Heads, sizes.Nope + sizes.Value, type);
        Require.Matrix(Backward, "dkRope", dkRope, tokens, sizes.Rope, type);
        Require.Writable(Backward, "dq", dq);
        Require.Writable(Backward, "dkv", dkv);
        Require.Writable(Backward, "dkRope", dkRope);
        return sizes;
    }

    /// <summary>The backward pass' output for kernels that read values alone.</summary>
    /// <exception cref="NotSupportedException">It is codes.</exception>
    public static Tensor Values(in ScaledTensor output) => output.Layout == ScaleLayout.None
        ? output.Elements
        : throw new NotSupportedException($"{Backward}: output is {output}, expected values; DeviceTraits.ReadsAttentionCodes says which codes a device reads, in rows of whole words");

    /// <summary>Operands of decode, but for what the tables and lengths contain; queries and output are of one type.</summary>
    public static DecodeSizes CheckDecode(
        DType type, in Tensor q, in ScaledTensor kvB, in Tensor cache, in Tensor blockTables, in Tensor lengths, in Tensor output)
    {
        CheckRank(Decode, "q", q, "[B, H, dn + dr]");
        CheckRank(Decode, "cache", cache, "[blocks, block size, R + dr]");
        CheckRank(Decode, "output", output, "[B, H, dv]");
        if (kvB.Shape.Rank != 2 || !ReadsWeights(kvB))
            throw new ArgumentException($"{Decode}: kvB is {kvB}, expected F32, BF16 or codes with scales by block [H·(dn + dv), R]");
        if (cache.DType is not (DType.F32 or DType.BF16 or DType.F8E4M3))
            throw new ArgumentException($"{Decode}: cache is {cache}, expected F32, BF16 or rows of codes [blocks, block size, columns of a row]");
        LatentRow row = LatentRow.Of(cache, kvB.Shape.Columns);
        long rope = row.Rope, nope = q.Columns - rope, batch = q.Shape[0], heads = q.Shape[1];
        if (rope < 0 || nope < 0 || row.Columns != cache.Columns || !row.IsPossible)
            throw new ArgumentException($"{Decode}: q {q.Shape}, kvB {kvB.Shape} and cache {cache} do not fit: R is {kvB.Shape.Columns}, dn + dr {q.Columns}, and the cache's rows leave a dr of {rope}");
        var sizes = new DecodeSizes(
            checked((int)batch), checked((int)heads), (int)nope, (int)rope, checked((int)output.Columns), checked((int)kvB.Shape.Columns), checked((int)cache.Shape[1]));
        Require.Matrix(Decode, "q", q, batch * heads, nope + rope, type);
        Require.Matrix(Decode, "kvB", kvB.Elements, heads * (nope + sizes.Value), sizes.Latent, kvB.DType);
        Require.Matrix(Decode, "output", output, batch * heads, sizes.Value, type);
        Require.Writable(Decode, "output", output);
        Require.Vector(Decode, "lengths", lengths, batch, DType.I32);
        Require.Vector(Decode, "blockTables", blockTables, batch * blockTables.Columns, DType.I32);
        return sizes;
    }

    /// <summary>Whether kv_b_proj has a form that decode reads.</summary>
    public static bool ReadsWeights(in ScaledTensor weights) => weights.Layout switch
    {
        ScaleLayout.None => weights.DType is DType.F32 or DType.BF16,
        ScaleLayout.Block or ScaleLayout.Tensor => weights.DType is DType.F8E4M3 or DType.HiF8,
        _ => false,
    };

    private static CausalSizes CheckCausal(string op, DType type, in Tensor q, in Tensor kv, in Tensor kRope, in ScaledTensor output, int batch)
    {
        CheckRank(op, "q", q, "[B·T, H, dn + dr]");
        CheckRank(op, "kv", kv, "[B·S, H, dn + dv]");
        CheckRank(op, "output", output, "[B·T, H, dv]");
        if (batch < 1 || q.Shape[0] % batch != 0 || kv.Shape[0] % batch != 0)
            throw new ArgumentException($"{op}: batch is {batch}, expected a positive divisor of the tokens of q {q.Shape} and kv {kv.Shape}");
        if (q.Shape[1] < 1) throw new ArgumentException($"{op}: q is {q}, expected at least one head");
        if (kRope.IsEmpty || kRope.Columns > q.Columns)
            throw new ArgumentException($"{op}: kRope is {kRope}, expected [B·S, dr] with dr at most the {q.Columns} columns of q");
        var sizes = new CausalSizes(
            batch, checked((int)q.Shape[1]), checked((int)(q.Shape[0] / batch)), checked((int)(kv.Shape[0] / batch)),
            checked((int)(q.Columns - kRope.Columns)), checked((int)kRope.Columns), checked((int)output.Shape.Columns));
        if (sizes.Keys < sizes.Queries)
            throw new ArgumentException($"{op}: kv has {sizes.Keys} tokens a sequence, expected at least the {sizes.Queries} of q");
        Require.Matrix(op, "q", q, q.Shape[0] * sizes.Heads, sizes.Key, type);
        Require.Matrix(op, "kv", kv, kv.Shape[0] * sizes.Heads, sizes.Nope + sizes.Value, type);
        Require.Matrix(op, "kRope", kRope, kv.Shape[0], sizes.Rope, type);
        long rows = q.Shape[0] * sizes.Heads;
        if (output.Layout == ScaleLayout.None) Require.Matrix(op, "output", output.Elements, rows, sizes.Value, type);
        else Require.That(output.Layout == ScaleLayout.RowTile && output.Shape.Rows == rows, op, $"output is {output}, expected {type} or codes in 1x128 tiles [{rows}, {sizes.Value}]");
        return sizes;
    }

    private static void CheckRank(string op, string name, in ScaledTensor tensor, string expected)
    {
        if (tensor.Shape.Rank != 3) throw new ArgumentException($"{op}: {name} is {tensor}, expected three dimensions {expected}");
    }
}
