// SwiGLU in one pass: three operands of memory forward, five backward.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="IActivationOperators"/> on a GPU. Matrices are F32 or BF16, all of one type; row scales and their gradient F32.</summary>
internal sealed class CudaActivation : IActivationOperators
{
    private readonly ElementKernels forward, backward;

    public CudaActivation(CudaContext context)
    {
        KernelModule module = context.Module(
            "activation.cu", [.. ElementKernels.Instances("swiglu", 1), .. ElementKernels.Instances("swiglu_gradient", 1)]);
        forward = new ElementKernels(module, "swiglu", 1);
        backward = new ElementKernels(module, "swiglu_gradient", 1);
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
}
