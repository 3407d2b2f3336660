// SwiGLU in one pass: three operands of memory forward, five backward; or with the quantisation of a recipe around it.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="IActivationOperators"/> on a GPU. Matrices are F32 or BF16, all of one type; row scales and their gradient F32.</summary>
internal sealed class CudaActivation : IActivationOperators
{
    private const string QuantizedFile = "activation_quantized.cu";
    private const int Chunk = 8, TilesOfBlock = 32, QuantizedThreads = 256; // of that file
    private const int WaitingBytes = 2 * ScaledTensor.TileSize * ScaledTensor.TileSize * sizeof(ushort); // two tiles, of activation_operands.cu
    private readonly ElementKernels forward, backward;
    private readonly Kernel quantized, gradientQuantized, gradientOperands;

    public CudaActivation(CudaContext context)
    {
        KernelModule module = context.Module(
            "activation.cu", [.. ElementKernels.Instances("swiglu", 1), .. ElementKernels.Instances("swiglu_gradient", 1)]);
        forward = new ElementKernels(module, "swiglu", 1);
        backward = new ElementKernels(module, "swiglu_gradient", 1);
        KernelModule withCodes = context.Module(QuantizedFile, "swiglu_quantized", "swiglu_gradient_quantized");
        (quantized, gradientQuantized) = (withCodes.Kernel("swiglu_quantized"), withCodes.Kernel("swiglu_gradient_quantized"));
        gradientOperands = context.Module("activation_operands.cu", "swiglu_gradient_operands").Kernel("swiglu_gradient_operands");
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor rowScale, Tensor y)
    {
        const string Op = "swiglu";
        DType type = Elementwise.ActivationType(y);
        Require.Matrix(Op, "gate", gate, y.Rows, y.Columns, type);
        Require.Matrix(Op, "up", up, y.Rows, y.Columns, type);
        Require.Matrix(Op, "y", y, y.Rows, y.Columns, type);
        Require.Writable(Op, "y", y);
        if (!rowScale.IsEmpty) Require.Vector(Op, "rowScale", rowScale, y.Rows);
        bool flat = rowScale.IsEmpty && Elementwise.Flat(gate, up, y);
        long rows = flat ? 1 : y.Rows, columns = flat ? y.Elements : y.Columns;
        int width = Elementwise.Width(columns, gate, up, y);
        forward.For(type, width).Launch(
            Elementwise.Shape(rows, columns, width),
            gate, gate.RowStride, up, up.RowStride, rowScale, y, y.RowStride, rows, columns);
    }

    public void SwiGluGradient(Tensor dy, Tensor gate, Tensor up, Tensor rowScale, Tensor dgate, Tensor dup, Tensor drowScale)
    {
        const string Op = "swiglu gradient";
        DType type = Elementwise.ActivationType(dy);
        Require.Matrix(Op, "dy", dy, dy.Rows, dy.Columns, type);
        Require.Matrix(Op, "gate", gate, dy.Rows, dy.Columns, type);
        Require.Matrix(Op, "up", up, dy.Rows, dy.Columns, type);
        Require.Matrix(Op, "dgate", dgate, dy.Rows, dy.Columns, type);
        Require.Matrix(Op, "dup", dup, dy.Rows, dy.Columns, type);
        Require.Writable(Op, "dgate", dgate);
        Require.Writable(Op, "dup", dup);
        if (!rowScale.IsEmpty) Require.Vector(Op, "rowScale", rowScale, dy.Rows);
        if (!drowScale.IsEmpty) Require.Vector(Op, "drowScale", drowScale, dy.Rows);
        int width = Elementwise.Width(dy.Columns, dy, gate, up, dgate, dup);
        backward.For(type, width).Launch(
            new LaunchShape(dy.Rows, Elementwise.ThreadsOfRow(dy.Columns, width)),
            dy, dy.RowStride, gate, gate.RowStride, up, up.RowStride, rowScale, dgate, dgate.RowStride, dup, dup.RowStride, drowScale, dy.Columns);
    }

    public void SwiGluQuantized(Tensor gate, Tensor up, Tensor rowScale, in CodesTarget y, in CodesTarget gateCodes, in CodesTarget upCodes)
    {
        const string Op = "swiglu with quantisation";
        Values(Op, "gate", gate, gate);
        Values(Op, "up", up, gate);
        if (!rowScale.IsEmpty) Require.Vector(Op, "rowScale", rowScale, gate.Rows);
        long tiles = ScaledTensor.Tiles(gate.Columns);
        if (gate.Elements == 0) return;
        var arguments = new QuantizedSwiGlu
        {
            Gate = gate.Address,
            GateStride = gate.RowStride,
            Up = up.Address,
            UpStride = up.RowStride,
            RowScale = rowScale.Address,
            Y = CodesOf(Op, "y", y, gate),
            GateCodes = CodesOf(Op, "gateCodes", gateCodes, gate),
            UpCodes = CodesOf(Op, "upCodes", upCodes, gate),
            Rows = gate.Rows,
            Columns = gate.Columns,
            LeastAmax = TileQuantizer.SmallestAmax,
        };
        quantized.LaunchWith(new LaunchShape(LaunchShape.Cover(checked((uint)(gate.Rows * tiles)), TilesOfBlock), QuantizedThreads), arguments);
    }

    public void SwiGluGradientQuantized(Tensor dy, in ScaledTensor gate, in ScaledTensor up, Tensor rowScale, Tensor dgate, Tensor dup, Tensor drowScale, Tensor y)
    {
        const string Op = "swiglu gradient from codes";
        Values(Op, "dy", dy, dy);
        Values(Op, "dgate", dgate, dy);
        Values(Op, "dup", dup, dy);
        Values(Op, "y", y, dy);
        Require.Writable(Op, "dgate", dgate);
        Require.Writable(Op, "dup", dup);
        Require.Writable(Op, "y", y);
        CodesArgument gateCodes = CodesOf(Op, "gate", new CodesTarget(gate), dy), upCodes = CodesOf(Op, "up", new CodesTarget(up), dy);
        if (!rowScale.IsEmpty) Require.Vector(Op, "rowScale", rowScale, dy.Rows);
        if (!drowScale.IsEmpty) Require.Vector(Op, "drowScale", drowScale, dy.Rows);
        gradientQuantized.Launch(
            new LaunchShape(dy.Rows, Elementwise.ThreadsOfRow(dy.Columns, Chunk)),
            dy, dy.RowStride, gateCodes.Codes, gateCodes.Stride, gateCodes.Scales, gateCodes.ScaleStride,
            upCodes.Codes, upCodes.Stride, upCodes.Scales, upCodes.ScaleStride, rowScale,
            dgate, dgate.RowStride, dup, dup.RowStride, drowScale, y, y.RowStride, dy.Columns);
    }

    public void SwiGluGradientOperands(
        Tensor dy, in ScaledTensor gate, in ScaledTensor up, in GradientTarget dgate, in GradientTarget dup, in CodesTarget y, float leastGradientAmax)
    {
        const string Op = "swiglu gradient to operands";
        Values(Op, "dy", dy, dy);
        var arguments = new SwiGluOperands
        {
            Dy = dy.Address,
            DyStride = dy.RowStride,
            Gate = CodesOf(Op, "gate", new CodesTarget(gate), dy),
            Up = CodesOf(Op, "up", new CodesTarget(up), dy),
            DGate = CodesOf(Op, "dgate", dgate.OfRows, dy),
            DUp = CodesOf(Op, "dup", dup.OfRows, dy),
            DGateOverRows = CudaQuantization.TransposedCodes(Op, "dgate over rows", dgate.OverRows, dy.Shape),
            DUpOverRows = CudaQuantization.TransposedCodes(Op, "dup over rows", dup.OverRows, dy.Shape),
            YOverRows = CudaQuantization.TransposedCodes(Op, "y over rows", y, dy.Shape),
            Rows = dy.Rows,
            Columns = checked((int)dy.Columns),
            LeastAmax = TileQuantizer.SmallestAmax,
            LeastGradientAmax = leastGradientAmax,
        };
        if (dy.Elements == 0) return;
        gradientOperands.LaunchWith(CudaQuantization.Transposed(ScaledTensor.Tiles(dy.Rows), dy.Columns) with { SharedBytes = WaitingBytes }, arguments);
    }

    private static void Values(string op, string name, in Tensor x, in Tensor like)
    {
        Require.Matrix(op, name, x, like.Rows, like.Columns, DType.BF16);
        Require.That(Elementwise.Aligned(Chunk, x.Columns, x), op, $"{name} is {x} with rows {x.RowStride} elements apart, expected whole, aligned 16 bytes");
    }

    private static CodesArgument CodesOf(string op, string name, in CodesTarget target, in Tensor like)
    {
        ScaledTensor x = target.Codes;
        bool fits = x.DType == DType.F8E4M3 && x.Layout == ScaleLayout.RowTile && x.Scales.DType == DType.F32 && x.Shape.Rows == like.Rows && x.Shape.Columns == like.Columns;
        Require.That(fits && Elementwise.Aligned(Chunk, like.Columns, x.Elements), op, $"{name} is {x}, expected F8_E4M3 [{like.Rows}, {like.Columns}] in 1x128 tiles of F32 scales");
        if (!target.Fault.IsEmpty) Require.Vector(op, "fault", target.Fault, 1, DType.I64);
        return new CodesArgument(target);
    }

    /// <summary>QuantizedSwiGlu of activation_quantized.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct QuantizedSwiGlu
    {
        public nint Gate;
        public long GateStride;
        public nint Up;
        public long UpStride;
        public nint RowScale;
        public CodesArgument Y;
        public CodesArgument GateCodes;
        public CodesArgument UpCodes;
        public long Rows;
        public long Columns;
        public float LeastAmax;
    }

    /// <summary>SwiGluOperands of activation_operands.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct SwiGluOperands
    {
        public nint Dy;
        public long DyStride;
        public CodesArgument Gate;
        public CodesArgument Up;
        public CodesArgument DGate;
        public CodesArgument DUp;
        public CodesArgument DGateOverRows;
        public CodesArgument DUpOverRows;
        public CodesArgument YOverRows;
        public long Rows;
        public int Columns;
        public float LeastAmax;
        public float LeastGradientAmax;
    }
}
