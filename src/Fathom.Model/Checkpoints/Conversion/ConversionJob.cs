// The strips of a conversion as tiles of a worker team. The team hands them out in order, so the source is read almost from
// front to back; scales of a quantised source are read with a tensor's first strip and given up with its last.
using System.Runtime.InteropServices;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Reads, converts and writes one strip a tile.</summary>
internal readonly struct ConversionJob : ITileJob
{
    private const long StripElements = 1 << 20;
    private readonly Shared shared;

    /// <summary>Cuts a plan into strips.</summary>
    /// <param name="plan">What becomes of every tensor.</param>
    /// <param name="files">The source.</param>
    /// <param name="shards">The destination.</param>
    /// <param name="workers">Size of the team.</param>
    /// <param name="progress">Told the bytes read so far and in all.</param>
    /// <param name="stop">Makes the next tile throw.</param>
    /// <exception cref="FathomException">A row is too long to be held in memory.</exception>
    public ConversionJob(ConversionPlan plan, SourceFiles files, ShardSet shards, int workers, Action<long, long>? progress, CancellationToken stop)
    {
        var strips = new List<Strip>();
        foreach (PlannedTensor tensor in plan.Tensors)
        {
            var state = new TensorState(tensor);
            long columns = tensor.Source.Columns, rows = tensor.Source.Rows;
            long step = Math.Max(1, StripElements / Math.Max(1, columns));
            if (tensor.IsQuantized) step = (step + ScaledTensor.TileSize - 1) / ScaledTensor.TileSize * ScaledTensor.TileSize;
            if (Math.Min(step, rows) * columns * sizeof(double) > Array.MaxLength)
                throw new FathomException($"converting '{tensor.Name}': rows of {columns} elements are too long");
            for (long row = 0; row < rows; row += step, state.Strips++) strips.Add(new Strip(state, row, (int)Math.Min(step, rows - row)));
        }

        var scratch = new Scratch[workers];
        for (int i = 0; i < workers; i++) scratch[i] = new Scratch();
        shared = new Shared(plan, files, shards, [.. strips], scratch, progress, stop);
    }

    /// <summary>Number of tiles.</summary>
    public int Strips => shared.Strips.Length;

    /// <inheritdoc/>
    public void Run(int tile, int worker)
    {
        shared.Stop.ThrowIfCancellationRequested();
        Strip strip = shared.Strips[tile];
        PlannedTensor tensor = strip.State.Tensor;
        StoredTensor source = tensor.Source;
        Scratch scratch = shared.Scratch[worker];
        if (tile + shared.Scratch.Length < shared.Strips.Length) shared.Expect(shared.Strips[tile + shared.Scratch.Length]);
        BlockScales? scales = source.IsScaled ? strip.State.Scales(shared) : null;
        Span<byte> input = Scratch.Take(ref scratch.Input, strip.Rows * source.Columns * source.DType.SizeInBytes());
        shared.Files.Read(source.Name, (source.FirstRow + strip.Row) * source.Columns * source.DType.SizeInBytes(), input);
        if (tensor.Step == ConversionStep.Quantize) Quantize(strip, scales, input, scratch);
        else if (tensor.Step == ConversionStep.Copy) shared.Shards.Write(tensor.Name, strip.Row * source.Columns * source.DType.SizeInBytes(), input);
        else Convert(strip, scales, input, scratch);
        if (strip.Row == 0 && tensor.IsQuantized && tensor.Step == ConversionStep.Copy)
            shared.Shards.Write(tensor.Name + TensorLayout.ScaleSuffix, 0, MemoryMarshal.AsBytes(scales!.Values));
        strip.State.Complete();
        shared.Read(input.Length);
    }

    private void Convert(in Strip strip, BlockScales? scales, ReadOnlySpan<byte> input, Scratch scratch)
    {
        PlannedTensor tensor = strip.State.Tensor;
        int size = tensor.DType.SizeInBytes();
        Span<byte> output = Scratch.Take(ref scratch.Output, strip.Rows * tensor.Source.Columns * size);
        scratch.Converter.Convert(input, tensor.Source.DType, scales, strip.Row, tensor.Source.Columns, output, tensor.DType);
        shared.Shards.Write(tensor.Name, strip.Row * tensor.Source.Columns * size, output);
    }

    private void Quantize(in Strip strip, BlockScales? scales, ReadOnlySpan<byte> input, Scratch scratch)
    {
        PlannedTensor tensor = strip.State.Tensor;
        int columns = (int)tensor.Source.Columns;
        long columnBlocks = ScaledTensor.Tiles(columns), firstBlock = strip.Row / ScaledTensor.TileSize * columnBlocks;
        Span<byte> codes = Scratch.Take(ref scratch.Output, (long)strip.Rows * columns);
        Span<float> newScales = MemoryMarshal.Cast<byte, float>(Scratch.Take(ref scratch.Scales, ScaledTensor.Tiles(strip.Rows) * columnBlocks * sizeof(float)));
        int fault = scratch.Converter.Quantize(
            input, tensor.Source.DType, scales, strip.Row, columns, codes, tensor.DType, shared.Plan.Config.QuantizationConfig!.HasPowerOfTwoScales, newScales);
        if (fault >= 0)
        {
            throw new FathomException(
                $"converting '{tensor.Name}': a value in rows {strip.Row + fault / columnBlocks * ScaledTensor.TileSize} and on, columns {fault % columnBlocks * ScaledTensor.TileSize} and on is not finite and has no 8-bit code; repair the source, or convert to bf16");
        }

        shared.Shards.Write(tensor.Name, strip.Row * columns, codes);
        shared.Shards.Write(tensor.Name + TensorLayout.ScaleSuffix, firstBlock * sizeof(float), MemoryMarshal.AsBytes(newScales));
    }

    private readonly record struct Strip(TensorState State, long Row, int Rows);

    /// <summary>Buffers of one worker; they grow to the largest strip.</summary>
    private sealed class Scratch
    {
        public byte[] Input = [], Output = [], Scales = [];

        public StripConverter Converter { get; } = new();

        public static Span<byte> Take(ref byte[] buffer, long bytes)
        {
            if (buffer.Length < bytes) buffer = GC.AllocateUninitializedArray<byte>((int)bytes);
            return buffer.AsSpan(0, (int)bytes);
        }
    }

    /// <summary>Scales of a tensor while its strips are in work.</summary>
    private sealed class TensorState(PlannedTensor tensor)
    {
        private readonly Lock reading = new();
        private BlockScales? scales;
        private int complete;

        public PlannedTensor Tensor => tensor;

        public int Strips { get; set; }

        public BlockScales Scales(Shared shared)
        {
            lock (reading) return scales ??= shared.Plan.ReadScales(tensor, shared.Files.Read);
        }

        public void Complete()
        {
            if (Interlocked.Increment(ref complete) == Strips) scales = null;
        }
    }

    private sealed record Shared(
        ConversionPlan Plan, SourceFiles Files, ShardSet Shards, Strip[] Strips, Scratch[] Scratch, Action<long, long>? Progress, CancellationToken Stop)
    {
        private readonly long total = Plan.Tensors.Sum(t => t.SourceBytes);
        private long read;

        public void Read(long bytes) => Progress?.Invoke(Interlocked.Add(ref read, bytes), total);

        public void Expect(in Strip strip)
        {
            StoredTensor source = strip.State.Tensor.Source;
            long row = source.Columns * source.DType.SizeInBytes();
            Files.Expect(source.Name, (source.FirstRow + strip.Row) * row, strip.Rows * row);
        }
    }
}
