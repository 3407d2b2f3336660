// What the operator table does not show of attention on a GPU: results that do not depend on the batch, repeated bits, and what happens
// to lengths and tables that are wrong, which only the device sees.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaAttentionTests(CudaFixture gpu) : IClassFixture<CudaFixture>
{
    private const int Heads = 64, Nope = 16, Rope = 16, Value = 16, BlockSize = 32, Columns = 3;

    [Theory]
    [InlineData(DType.BF16, 48)]
    [InlineData(DType.BF16, 512)]
    [InlineData(DType.F32, 48)]
    public void A_sequence_decodes_alike_alone_and_among_many(DType type, int latent)
    {
        // So many that a block takes 64 heads and eight queries at a time, alone 16 and one.
        const int batch = 140;
        CudaDevice device = gpu.Device();
        int[] lengths = [.. Enumerable.Range(0, batch).Select(b => 1 + b * 17 % (Columns * BlockSize))];
        byte[] together = Decode(device, type, latent, lengths, first: 0);
        int rowBytes = together.Length / batch;
        foreach (int b in (int[])[0, 5, 77, 139])
        {
            byte[] alone = Decode(device, type, latent, [lengths[b]], first: b);
            Assert.Equal(together.AsSpan(b * rowBytes, rowBytes).ToArray(), alone);
        }
    }

    [Theory]
    [InlineData(0, 0, "length 0 of sequence 1 is outside 1 to 96")]
    [InlineData(97, 0, "length 97 of sequence 1 is outside 1 to 96")]
    [InlineData(96, 99, "cache block 99 of sequence 1 is outside the cache of 6 blocks")]
    public void Wrong_lengths_and_tables_are_told_at_the_next_wait(int length, int block, string expected)
    {
        CudaDevice device = gpu.Device();
        foreach (DType type in (DType[])[DType.BF16, DType.F32])
        {
            string message = Assert.Throws<ArgumentException>(() => Decode(device, type, 48, [5, length], 0, block)).Message;
            Assert.Contains(expected, message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_backward_pass_gives_the_same_bits_twice()
    {
        CudaDevice device = gpu.Device();
        foreach ((int tokens, DType type) in ((int, DType)[])[(70, DType.BF16), (70, DType.F32)])
        {
            Assert.Equal(Backward(device, tokens, type), Backward(device, tokens, type));
        }
    }

    private static byte[] Backward(CudaDevice device, int tokens, DType type)
    {
        const int heads = 3;
        Tensor q = Random(device, new Shape(tokens, heads, Nope + Rope), type, 1), kv = Random(device, new Shape(tokens, heads, Nope + Value), type, 2);
        Tensor kRope = Random(device, new Shape(tokens, Rope), type, 3), doutput = Random(device, new Shape(tokens, heads, Value), type, 4);
        Tensor output = New(device, doutput.Shape, type), logSumExp = New(device, new Shape(1, heads, tokens), DType.F32);
        Tensor dq = New(device, q.Shape, type), dkv = New(device, kv.Shape, type), dkRope = New(device, kRope.Shape, type);
        device.Attention.CausalForward(q, kv, kRope, 0.2f, 1, output, logSumExp);
        device.Attention.CausalBackward(q, kv, kRope, output, logSumExp, doutput, 0.2f, 1, dq, dkv, dkRope);
        return [.. Bytes(device, output), .. Bytes(device, logSumExp), .. Bytes(device, dq), .. Bytes(device, dkv), .. Bytes(device, dkRope)];
    }

    // Sequence i is number first + i of a fixed set. A block other than 0 stands in the last entry of the last sequence's table.
    private static byte[] Decode(CudaDevice device, DType type, int latent, int[] lengths, int first, int block = 0)
    {
        int batch = lengths.Length;
        Tensor q = New(device, new Shape(batch, Heads, Nope + Rope), type), output = New(device, new Shape(batch, Heads, Value), type);
        for (int b = 0; b < batch; b++) Fill(device, q.Slice(b, 1), 100 + first + b);
        Tensor cache = New(device, new Shape((long)batch * Columns, BlockSize, latent + Rope), type);
        for (int b = 0; b < batch; b++) Fill(device, cache.Slice((long)b * Columns, Columns), 1000 + first + b);
        Tensor weights = Random(device, new Shape(Heads * (Nope + Value), latent), DType.BF16, 7);
        int[] tables = [.. Enumerable.Range(0, batch * Columns)];
        if (block != 0) tables[^1] = block;
        Tensor blockTables = Integers(device, new Shape(batch, Columns), tables), deviceLengths = Integers(device, new Shape(batch), lengths);
        device.Attention.LatentDecode(q, weights, cache, blockTables, deviceLengths, 0.1f, output);
        return Bytes(device, output);
    }

    private static Tensor New(CudaDevice device, Shape shape, DType type) => device.Allocate(shape, type, MemoryKind.Workspace);

    private static Tensor Random(CudaDevice device, Shape shape, DType type, int seed)
    {
        Tensor tensor = New(device, shape, type);
        Fill(device, tensor, seed);
        return tensor;
    }

    private static void Fill(CudaDevice device, Tensor tensor, int seed)
    {
        var random = new Random(seed);
        Tensor host = HostMemory.Allocate(tensor.Shape, tensor.DType);
        for (long i = 0; i < host.Elements; i++)
        {
            float value = random.NextSingle() * 2 - 1;
            if (tensor.DType == DType.F32) host.AsSpan<float>()[(int)i] = value;
            else host.AsSpan<ushort>()[(int)i] = ((BFloat16)value).Bits;
        }

        device.Upload(host, tensor);
    }

    private static Tensor Integers(CudaDevice device, Shape shape, int[] values)
    {
        Tensor host = HostMemory.Allocate(shape, DType.I32), tensor = New(device, shape, DType.I32);
        values.CopyTo(host.AsSpan<int>());
        device.Upload(host, tensor);
        return tensor;
    }

    private static byte[] Bytes(CudaDevice device, Tensor tensor)
    {
        Tensor host = HostMemory.Allocate(tensor.Shape, tensor.DType);
        device.Download(tensor, host);
        return (tensor.DType == DType.F32 ? MemoryMarshal.AsBytes(host.AsSpan<float>()) : MemoryMarshal.AsBytes(host.AsSpan<ushort>())).ToArray();
    }
}
