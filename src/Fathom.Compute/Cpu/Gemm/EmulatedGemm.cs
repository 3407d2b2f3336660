// Products of a linear layer summed as Hopper's FP8 tensor cores sum them ([P] §3.3.2). The three roles are one product seen three
// ways; a group of rows is a product of its own. Both operands are laid out whole before the kernel runs: memory is no object in a
// study, and every element is decoded once.
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>
/// <see cref="ILinearOperators"/> in an emulated accumulator. Where no scale tile of either operand ends between two promotions, the
/// narrow sum is that of the elements alone and is multiplied by both scales when it is promoted, as on the chip. Elsewhere (tiles and
/// no promotion, or one beyond a tile) elements are multiplied by their scales first, as a unit with scale inputs would do, and their
/// products are aligned and cut. Values must be finite. Not to be called from within a tile of the team.
/// </summary>
public sealed unsafe class EmulatedGemm : ILinearOperators
{
    private const int RowPanelsOfTile = 32;
    private readonly Lock oneCallAtATime = new();
    private readonly WorkerTeam team;
    private readonly Accumulation accumulation;
    private Tensor memory;

    /// <summary>Products on a team.</summary>
    /// <param name="team">The threads.</param>
    /// <param name="accumulation">The accumulator; not FP32.</param>
    public EmulatedGemm(WorkerTeam team, Accumulation accumulation)
    {
        if (!accumulation.IsHopper) throw new ArgumentException("sums in FP32 need no emulation", nameof(accumulation));
        (this.team, this.accumulation) = (team, accumulation);
    }

    /// <inheritdoc/>
    public void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        const string Op = "emulated linear forward";
        Matrix(Op, "x", x, y.Rows, x.Elements.Columns);
        Matrix(Op, "w", w, y.Columns, x.Elements.Columns);
        Output(Op, "y", y, x.Elements.Rows, w.Elements.Rows);
        Run(new EmulatedOperand(x, depthAlongColumns: true), new EmulatedOperand(w, depthAlongColumns: true), y, accumulate);
    }

    /// <inheritdoc/>
    public void InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx, bool accumulate)
    {
        const string Op = "emulated linear input gradient";
        Matrix(Op, "dy", dy, dx.Rows, dy.Elements.Columns);
        Matrix(Op, "w", w, dy.Elements.Columns, dx.Columns);
        Output(Op, "dx", dx, dy.Elements.Rows, w.Elements.Columns);
        Run(new EmulatedOperand(dy, depthAlongColumns: true), new EmulatedOperand(w, depthAlongColumns: false), dx, accumulate);
    }

    /// <inheritdoc/>
    public void WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate)
    {
        const string Op = "emulated linear weight gradient";
        Matrix(Op, "dy", dy, x.Elements.Rows, dw.Rows);
        Matrix(Op, "x", x, dy.Elements.Rows, dw.Columns);
        Output(Op, "dw", dw, dy.Elements.Columns, x.Elements.Columns);
        Run(new EmulatedOperand(dy, depthAlongColumns: false), new EmulatedOperand(x, depthAlongColumns: false), dw, accumulate);
    }

    /// <inheritdoc/>
    public void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        const string Op = "emulated grouped linear forward";
        Matrix(Op, "x", x, y.Rows, w.Inputs);
        Output(Op, "y", y, x.Elements.Rows, w.Outputs);
        ReadOnlySpan<int> offsets = Offsets(Op, rowOffsets, w.Count, x.Elements.Rows);
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = (offsets[e], offsets[e + 1] - offsets[e]);
            if (count == 0) continue;
            Matrix(Op, "w", w[e], w.Outputs, w.Inputs);
            Run(EmulatedOperand.OfRows(x, start, count), new EmulatedOperand(w[e], depthAlongColumns: true), y.Slice(start, count), accumulate: false);
        }
    }

    /// <inheritdoc/>
    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate)
    {
        const string Op = "emulated grouped linear input gradient";
        Matrix(Op, "dy", dy, dx.Rows, w.Outputs);
        Output(Op, "dx", dx, dy.Elements.Rows, w.Inputs);
        ReadOnlySpan<int> offsets = Offsets(Op, rowOffsets, w.Count, dy.Elements.Rows);
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = (offsets[e], offsets[e + 1] - offsets[e]);
            if (count == 0) continue;
            Matrix(Op, "w", w[e], w.Outputs, w.Inputs);
            Run(EmulatedOperand.OfRows(dy, start, count), new EmulatedOperand(w[e], depthAlongColumns: false), dx.Slice(start, count), accumulate);
        }
    }

    /// <inheritdoc/>
    public void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        const string Op = "emulated grouped linear weight gradient";
        if (dw.Shape.Rank != 3) Fail(Op, $"dw is {dw}, expected F32 [E, N, K]");
        int experts = checked((int)dw.Shape[0]);
        Matrix(Op, "dy", dy, x.Elements.Rows, dw.Shape[1]);
        Matrix(Op, "x", x, dy.Elements.Rows, dw.Shape[2]);
        Output(Op, "dw", dw, experts * dw.Shape[1], dw.Shape[2]);
        ReadOnlySpan<int> offsets = Offsets(Op, rowOffsets, experts, x.Elements.Rows);
        for (int e = 0; e < experts; e++)
        {
            (int start, int count) = (offsets[e], offsets[e + 1] - offsets[e]);
            if (count > 0 || !accumulate) Run(EmulatedOperand.OfGroup(dy, start, count, e), EmulatedOperand.OfGroup(x, start, count, e), dw.At(e), accumulate);
        }
    }

    private void Run(in EmulatedOperand a, in EmulatedOperand b, Tensor c, bool accumulate)
    {
        lock (oneCallAtATime)
        {
            long depth = a.Depth, step = accumulation.Run(depth), scaledRun = accumulation.ScaledRun(depth, Math.Min(a.ScaleRun, b.ScaleRun));
            long runs = depth == 0 ? 0 : (depth + step - 1) / step;
            long bytesA = EmulatedPanels.Bytes(a.Lines, depth, runs, EmulatedGemmKernel.Rows), bytesB = EmulatedPanels.Bytes(b.Lines, depth, runs, EmulatedGemmKernel.Columns);
            if (memory.IsEmpty || memory.Bytes < bytesA + bytesB) memory = HostMemory.Allocate(new Shape(bytesA + bytesB), DType.U8);
            EmulatedPanels panelsA = EmulatedPanels.In(memory.Pointer<byte>(), a.Lines, depth, runs, EmulatedGemmKernel.Rows);
            EmulatedPanels panelsB = EmulatedPanels.In(memory.Pointer<byte>() + bytesA, b.Lines, depth, runs, EmulatedGemmKernel.Columns);
            team.For(Panels(a.Lines, EmulatedGemmKernel.Rows), new PackJob(a, panelsA, EmulatedGemmKernel.Rows, scaledRun));
            team.For(Panels(b.Lines, EmulatedGemmKernel.Columns), new PackJob(b, panelsB, EmulatedGemmKernel.Columns, scaledRun));
            int rowTiles = Panels(a.Lines, EmulatedGemmKernel.Rows * RowPanelsOfTile), columnPanels = Panels(b.Lines, EmulatedGemmKernel.Columns);
            team.For(checked(rowTiles * columnPanels), new ProductJob
            {
                A = panelsA,
                B = panelsB,
                C = c.Pointer<float>(),
                Stride = c.RowStride,
                Rows = a.Lines,
                Columns = b.Lines,
                Depth = depth,
                Step = step,
                ColumnPanels = columnPanels,
                Accumulate = accumulate,
            });
        }
    }

    private static int Panels(long lines, int width) => checked((int)((lines + width - 1) / width));

    private static void Matrix(string op, string name, in ScaledTensor matrix, long rows, long columns)
    {
        bool readable = matrix.DType is DType.F32 or DType.BF16 or DType.F8E4M3 or DType.F8E5M2 or DType.HiF8;
        if (matrix.IsEmpty || !readable || matrix.Elements.Rows != rows || matrix.Elements.Columns != columns)
            Fail(op, $"{name} is {matrix}, expected F32, BF16 or an 8-bit float [{rows}, {columns}]");
    }

    private static void Output(string op, string name, in Tensor tensor, long rows, long columns)
    {
        Require.Matrix(op, name, tensor, rows, columns);
        Require.Writable(op, name, tensor);
    }

    private static ReadOnlySpan<int> Offsets(string op, in Tensor offsets, int experts, long rows)
    {
        Require.Vector(op, "rowOffsets", offsets, experts + 1, DType.I32);
        ReadOnlySpan<int> values = offsets.AsSpan<int>();
        for (int e = 0; e <= experts; e++)
        {
            int least = e == 0 ? 0 : values[e - 1];
            if (values[e] < least || values[e] > rows) Fail(op, $"rowOffsets[{e}] is {values[e]}, expected {least} to {rows} (ascending, within the rows)");
        }

        return values;
    }

    [DoesNotReturn]
    private static void Fail(string op, string what) => throw new ArgumentException($"{op}: {what}");

    private readonly struct PackJob(EmulatedOperand operand, EmulatedPanels target, int width, long run) : ITileJob
    {
        public void Run(int tile, int worker) => operand.Pack(tile, width, run, target);
    }

    private readonly struct ProductJob : ITileJob
    {
        public required EmulatedPanels A { get; init; }

        public required EmulatedPanels B { get; init; }

        public required float* C { get; init; }

        public required long Stride { get; init; }

        public required long Rows { get; init; }

        public required long Columns { get; init; }

        public required long Depth { get; init; }

        public required long Step { get; init; }

        public required int ColumnPanels { get; init; }

        public required bool Accumulate { get; init; }

        [SkipLocalsInit]
        public void Run(int tile, int worker)
        {
            float* sums = stackalloc float[EmulatedGemmKernel.Rows * EmulatedGemmKernel.Columns];
            long columnPanel = tile % ColumnPanels, firstPanel = (long)(tile / ColumnPanels) * RowPanelsOfTile;
            long firstColumn = columnPanel * EmulatedGemmKernel.Columns, columns = Math.Min(EmulatedGemmKernel.Columns, Columns - firstColumn);
            for (long panel = firstPanel; panel < firstPanel + RowPanelsOfTile && panel * EmulatedGemmKernel.Rows < Rows; panel++)
            {
                EmulatedGemmKernel.Run(A, panel, B, columnPanel, Depth, Step, sums);
                for (int r = 0; r < Math.Min(EmulatedGemmKernel.Rows, Rows - panel * EmulatedGemmKernel.Rows); r++)
                {
                    float* target = C + (panel * EmulatedGemmKernel.Rows + r) * Stride + firstColumn, source = sums + r * EmulatedGemmKernel.Columns;
                    for (long n = 0; n < columns; n++) target[n] = Accumulate ? target[n] + source[n] : source[n];
                }
            }
        }
    }
}
