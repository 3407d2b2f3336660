// Decode at DeepSeek's sizes on Hopper, beyond the operator table: results that depend neither on the batch nor on the width of the
// tables, memory behind a sequence's end that is not a number, and faults that only the device sees. 16 heads, so that most rows of a
// tile of 64 heads are another sequence's or behind the last.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class HopperDecodeTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const int Heads = 16, Nope = 128, Rope = 64, Value = 128, Latent = 512, BlockSize = 64;
    private const float Scale = 0.07f;

    [Fact]
    public void A_sequence_decodes_alike_alone_and_among_many()
    {
        // Eighteen sequences go into the latent space by 32, one by sixteen; of the splits that the wide tables could hold most are empty.
        CudaDevice device = Device();
        int[] lengths = [.. Enumerable.Range(0, 18).Select(b => b switch { 3 => 449, 11 => 64, 17 => 385, _ => 1 + b * 23 % 130 })];
        var many = new Problem(device, lengths, first: 0, columns: 20);
        byte[] together = many.Decode(lengths);
        int rowBytes = together.Length / lengths.Length;
        foreach (int b in (int[])[0, 3, 11, 17])
        {
            var one = new Problem(device, [lengths[b]], first: b, columns: (lengths[b] + BlockSize - 1) / BlockSize);
            Assert.Equal(together.AsSpan(b * rowBytes, rowBytes).ToArray(), one.Decode([lengths[b]]));
        }

        Assert.Equal(together, many.Decode(lengths));
        output.WriteLine($"{together.Length} bytes twice alike, and of 4 sequences alone alike");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(63)]
    [InlineData(65)]
    [InlineData(400)]
    public void What_lies_behind_the_end_is_not_read(int length)
    {
        CudaDevice device = Device();
        var problem = new Problem(device, [length], first: 0, columns: 8);
        byte[] before = problem.Decode([length]);
        problem.PoisonBehind(length);
        byte[] after = problem.Decode([length]);
        int numbers = 0;
        foreach (ushort bits in MemoryMarshal.Cast<byte, ushort>(after)) numbers += float.IsNaN((float)BFloat16.FromBits(bits)) ? 0 : 1;
        output.WriteLine($"{numbers} of {after.Length / 2} results are numbers");
        Assert.Equal(after.Length / 2, numbers);
        Assert.Equal(before, after);
    }

    [Theory]
    [InlineData(0, -1, "length 0 of sequence 1 is outside 1 to 192")]
    [InlineData(193, -1, "length 193 of sequence 1 is outside 1 to 192")]
    [InlineData(192, 99, "cache block 99 of sequence 1 is outside the cache of 6 blocks")]
    [InlineData(192, -7, "cache block -7 of sequence 1 is outside the cache of 6 blocks")]
    public void Wrong_lengths_and_tables_are_told_and_spoil_their_sequence_alone(int length, int block, string expected)
    {
        CudaDevice device = Device();
        int[] good = [70, 192], wrong = [70, length];
        var problem = new Problem(device, good, first: 0, columns: 3);
        byte[] right = problem.Decode(good);
        if (block != -1) problem.SetLastBlock(block);
        string message = Assert.Throws<ArgumentException>(() => problem.Decode(wrong)).Message;
        output.WriteLine(message);
        Assert.Contains(expected, message, StringComparison.Ordinal);
        byte[] result = problem.Result();
        int half = result.Length / 2;
        Assert.Equal(right.AsSpan(0, half).ToArray(), result.AsSpan(0, half).ToArray());
        foreach (ushort bits in MemoryMarshal.Cast<byte, ushort>(result.AsSpan(half))) Assert.True(float.IsNaN((float)BFloat16.FromBits(bits)));
    }

    private CudaDevice Device()
    {
        CudaDevice device = gpu.Device();
        if (!HopperLinear.IsSupported(device.Context)) Assert.Skip($"{device.Name} has not compute capability 9.0");
        return device;
    }

    /// <summary>Sequences first, first + 1, … of a fixed set, in a cache of their own.</summary>
    private sealed class Problem
    {
        private readonly CudaDevice device;
        private readonly int columns;
        private readonly Tensor q, cache, weights, result;
        private readonly int[] tables;

        public Problem(CudaDevice device, int[] lengths, int first, int columns)
        {
            (this.device, this.columns) = (device, columns);
            int batch = lengths.Length;
            q = New(new Shape(batch, Heads, Nope + Rope), DType.BF16);
            cache = New(new Shape((long)batch * columns, BlockSize, Latent + Rope), DType.BF16);
            weights = New(new Shape(Heads * (Nope + Value), Latent), DType.BF16);
            result = New(new Shape(batch, Heads, Value), DType.BF16);
            Fill(weights, 7, 0.1f);
            tables = new int[batch * columns];
            for (int b = 0; b < batch; b++)
            {
                Fill(q.Slice(b, 1), 100 + first + b, 1);
                // Blocks in another order than the sequence's, those behind its end at random.
                for (int i = 0; i < columns; i++)
                {
                    tables[b * columns + i] = b * columns + columns - 1 - i;
                    Fill(cache.Slice(tables[b * columns + i], 1), 1000 * (1 + first + b) + i, 1);
                }
            }
        }

        public byte[] Decode(int[] lengths)
        {
            device.Attention.LatentDecode(
                q, weights, cache, Integers(new Shape(lengths.Length, columns), tables), Integers(new Shape(lengths.Length), lengths), Scale, result);
            return Result();
        }

        public byte[] Result()
        {
            Tensor host = HostMemory.Allocate(result.Shape, DType.BF16);
            device.Download(result, host);
            return MemoryMarshal.AsBytes(host.AsSpan<ushort>()).ToArray();
        }

        /// <summary>Every cached token of the only sequence from its length on becomes NaN.</summary>
        public void PoisonBehind(int length)
        {
            for (int i = length / BlockSize; i < columns; i++)
            {
                Tensor block = cache.Slice(tables[i], 1), host = HostMemory.Allocate(block.Shape, DType.BF16);
                device.Download(block, host);
                host.AsSpan<ushort>()[(Math.Max(0, length - i * BlockSize) * (Latent + Rope))..].Fill(0x7fff);
                device.Upload(host, block);
            }
        }

        public void SetLastBlock(int block) => tables[^1] = block;

        private Tensor New(Shape shape, DType type) => device.Allocate(shape, type, MemoryKind.Workspace);

        private void Fill(Tensor tensor, int seed, float size)
        {
            var random = new Random(seed);
            Tensor host = HostMemory.Allocate(tensor.Shape, tensor.DType);
            foreach (ref ushort bits in host.AsSpan<ushort>()) bits = ((BFloat16)((random.NextSingle() * 2 - 1) * size)).Bits;
            device.Upload(host, tensor);
        }

        private Tensor Integers(Shape shape, int[] values)
        {
            Tensor host = HostMemory.Allocate(shape, DType.I32), tensor = New(shape, DType.I32);
            values.CopyTo(host.AsSpan<int>());
            device.Upload(host, tensor);
            return tensor;
        }
    }
}
