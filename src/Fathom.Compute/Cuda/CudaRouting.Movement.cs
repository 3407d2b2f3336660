// Tokens to experts and back on a GPU. Moving rows is bound by memory: 4096 tokens of 7168 BF16 to eight experts each are 0.53 GB, or
// 124 µs at 4.27 TB/s, and the way back is as long.
using System.Numerics;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

internal sealed partial class CudaRouting
{
    private readonly MovementKernels movement;

    public void Sort(Tensor experts, Tensor rowOffsets, Tensor slotOfRow, Tensor rowOfSlot)
    {
        const string Op = "sort slots";
        long slots = experts.Elements, count = rowOffsets.Elements - 1;
        Require.Vector(Op, "experts", experts, slots, DType.I32);
        Require.That(count >= 1, Op, "rowOffsets has no room for an expert, expected [E + 1]");
        Require.Vector(Op, "rowOffsets", rowOffsets, count + 1, DType.I32);
        Require.Vector(Op, "slotOfRow", slotOfRow, slots, DType.I32);
        Require.Vector(Op, "rowOfSlot", rowOfSlot, slots, DType.I32);
        Require.That(slots <= int.MaxValue, Op, $"{slots} slots, expected at most {int.MaxValue}");
        (int warps, long slotsOfWarp) = SortCut(slots, count, context.SharedBytesPerBlock);
        Require.That(warps >= 1, Op, $"{count} experts need more shared memory than this GPU gives");
        movement.Sort.Launch(
            new LaunchShape(1, warps * Warp, checked((int)(warps * count * sizeof(int)))),
            experts, slots, slotsOfWarp, (int)count, BitsOf(count), rowOffsets, slotOfRow, rowOfSlot);
    }

    public void Dispatch(Tensor x, Tensor slotOfRow, int topK, Tensor y)
    {
        const string Op = "dispatch";
        Require.That(topK >= 1, Op, "topK must be positive");
        Require.Matrix(Op, "x", x, x.Rows, y.Columns, y.DType);
        Require.Vector(Op, "slotOfRow", slotOfRow, slotOfRow.Elements, DType.I32);
        Require.Matrix(Op, "y", y, slotOfRow.Elements, y.Columns, y.DType);
        Require.Writable(Op, "y", y);
        int size = y.DType.SizeInBytes(), piece = PieceBytes(x, y);
        long chunks = y.Columns * size / piece;
        RowCut cut = RowCut.For(y.Rows, chunks, chunksOfThread: 4, context.Multiprocessors);
        (piece switch { 16 => movement.Dispatch16, 4 => movement.Dispatch4, _ => movement.Dispatch1 }).Launch(
            cut.Shape(y.Rows, chunks), x, x.RowStride * size, slotOfRow, topK, y, y.RowStride * size, y.Rows, chunks, cut.Width, cut.RowsOfBlock);
    }

    public void Combine(Tensor y, Tensor rowOfSlot, Tensor output, bool accumulate)
    {
        const string Op = "combine";
        long topK = rowOfSlot.Columns;
        Require.That(topK >= 1, Op, "rowOfSlot has no column");
        Require.That(!y.IsEmpty && y.DType is DType.F32 or DType.BF16, Op, $"y is {y}, expected F32 or BF16");
        Require.Matrix(Op, "y", y, y.Rows, output.Columns, y.DType);
        Require.Vector(Op, "rowOfSlot", rowOfSlot, rowOfSlot.Elements, DType.I32);
        Require.Matrix(Op, "output", output, rowOfSlot.Rows, output.Columns, y.DType);
        Require.Writable(Op, "output", output);
        int size = y.DType.SizeInBytes();
        bool wide = PieceBytes(y, output) == 16;
        long chunks = wide ? output.Columns * size / 16 : output.Columns;
        RowCut cut = RowCut.For(output.Rows, chunks, chunksOfThread: 1, context.Multiprocessors);
        movement.Combine[(y.DType == DType.BF16 ? 4 : 0) + (wide ? 2 : 0) + (accumulate ? 1 : 0)].Launch(
            cut.Shape(output.Rows, chunks), y, y.RowStride, rowOfSlot, (int)topK, output, output.RowStride, output.Rows, chunks, cut.Width, cut.RowsOfBlock);
    }

    public void SlotsToRows(Tensor from, Tensor slotOfRow, Tensor to)
    {
        RoutingChecks.Permutation("slots to rows", from, slotOfRow, to);
        movement.SlotsToRows.Launch(new LaunchShape(LaunchShape.Cover(to.Elements, 256), 256), from, slotOfRow, to, to.Elements);
    }

    public void RowsToSlots(Tensor from, Tensor slotOfRow, Tensor to)
    {
        RoutingChecks.Permutation("rows to slots", from, slotOfRow, to);
        movement.RowsToSlots.Launch(new LaunchShape(LaunchShape.Cover(to.Elements, 256), 256), from, slotOfRow, to, to.Elements);
    }

    /// <summary>
    /// How slots are dealt to the warps of one block, each with its counters in shared memory: a warp for every 128 slots up to 32, and
    /// no warps at all where not even one's counters fit.
    /// </summary>
    internal static (int Warps, long SlotsOfWarp) SortCut(long slots, long experts, int sharedBytes)
    {
        const int OwnSharedBytes = 1 << 10;
        long most = Math.Min(32, (sharedBytes - OwnSharedBytes) / (experts * sizeof(int)));
        if (most < 1) return (0, 0);
        long warps = Math.Clamp(LaunchShape.Cover(slots, 4 * Warp), 1, most);
        return ((int)warps, LaunchShape.Cover(LaunchShape.Cover(slots, warps), Warp) * Warp);
    }

    /// <summary>Bits of the largest expert number.</summary>
    internal static int BitsOf(long experts) => 64 - BitOperations.LeadingZeroCount((ulong)(experts - 1));

    /// <summary>Bytes that a thread moves at once: 16 or 4 where rows are whole numbers of them and lie aligned, else 1.</summary>
    internal static int PieceBytes(in Tensor x, in Tensor y)
    {
        int size = y.DType.SizeInBytes();
        long bits = (long)x.Address | (long)y.Address | y.Columns * size;
        if (x.Rows > 1) bits |= x.RowStride * size;
        if (y.Rows > 1) bits |= y.RowStride * size;
        return bits % 16 == 0 ? 16 : bits % 4 == 0 ? 4 : 1;
    }

    private sealed class MovementKernels
    {
        public MovementKernels(CudaContext context)
        {
            const string Piece16 = "dispatch_rows<Pack<uint32_t, 4>>", Piece4 = "dispatch_rows<uint32_t>", Piece1 = "dispatch_rows<uint8_t>";
            string[] combinations =
            [
                .. from type in (DType[])[DType.F32, DType.BF16]
                   from chunk in (int[])[1, 16 / type.SizeInBytes()]
                   from accumulate in (string[])["false", "true"]
                   select $"combine_rows<{DTypeNames.Of(type)}, {chunk}, {accumulate}>",
            ];
            KernelModule module = context.Module("routing_movement.cu", ["sort_slots", Piece16, Piece4, Piece1, .. combinations, "slots_to_rows", "rows_to_slots"]);
            Sort = module.Kernel("sort_slots");
            (Dispatch16, Dispatch4, Dispatch1) = (module.Kernel(Piece16), module.Kernel(Piece4), module.Kernel(Piece1));
            Combine = [.. combinations.Select(module.Kernel)];
            (SlotsToRows, RowsToSlots) = (module.Kernel("slots_to_rows"), module.Kernel("rows_to_slots"));
        }

        public Kernel Sort { get; }

        public Kernel Dispatch16 { get; }

        public Kernel Dispatch4 { get; }

        public Kernel Dispatch1 { get; }

        // F32 then BF16; of each narrow then wide; of each overwriting then adding.
        public Kernel[] Combine { get; }

        public Kernel SlotsToRows { get; }

        public Kernel RowsToSlots { get; }
    }
}
