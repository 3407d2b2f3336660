// Rows of the table out, gradients back in. An id outside the vocabulary gives NaN (forward) or nothing (backward), and the next
// wait for the GPU throws.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="IEmbeddingOperators"/> on a GPU. Table, y, dy and dtable are F32 or BF16 each.</summary>
internal sealed class CudaEmbedding : IEmbeddingOperators
{
    private const int IdsOfBlock = 128; // embedding.cu has the same
    private readonly CudaContext context;
    private readonly ElementKernels forward, backward;
    private readonly Kernel places;

    public CudaEmbedding(CudaContext context)
    {
        this.context = context;
        KernelModule module = context.Module(
            "embedding.cu", [.. ElementKernels.Instances("embedding", 2), .. ElementKernels.Instances("embedding_gradient", 2), "embedding_places"]);
        forward = new ElementKernels(module, "embedding", 2);
        backward = new ElementKernels(module, "embedding_gradient", 2);
        places = module.Kernel("embedding_places");
    }

    public void Forward(Tensor ids, Tensor table, Tensor y)
    {
        const string Op = "embedding";
        Require.Matrix(Op, "table", table, table.Rows, y.Columns, Elementwise.ActivationType(table));
        Require.Matrix(Op, "y", y, ids.Elements, y.Columns, Elementwise.ActivationType(y));
        Require.Vector(Op, "ids", ids, ids.Elements, DType.I32);
        Require.Writable(Op, "y", y);
        int width = Elementwise.Width(y.Columns, table, y);
        forward.For(table.DType, y.DType, width).Launch(
            new LaunchShape(ids.Elements, Elementwise.ThreadsOfRow(y.Columns, width)),
            ids, table, table.RowStride, table.Rows, y, y.RowStride, y.Columns, context.Faults.Address);
    }

    public void WeightGradient(Tensor ids, Tensor dy, Tensor dtable)
    {
        const string Op = "embedding weight gradient";
        Require.Matrix(Op, "dy", dy, ids.Elements, dtable.Columns, Elementwise.ActivationType(dy));
        Require.Vector(Op, "ids", ids, ids.Elements, DType.I32);
        Require.Matrix(Op, "dtable", dtable, dtable.Rows, dy.Columns, Elementwise.ActivationType(dtable));
        Require.Writable(Op, "dtable", dtable);
        if (dy.Elements == 0) return;
        int width = Elementwise.Width(dy.Columns, dy, dtable), threads = Elementwise.ThreadsOfRow(dy.Columns, width), tokens = checked((int)ids.Elements);
        nint later = context.Workspace(tokens * sizeof(int));
        places.Launch(new LaunchShape(LaunchShape.Cover(tokens, IdsOfBlock), IdsOfBlock), ids, tokens, dtable.Rows, later, context.Faults.Address);
        backward.For(dy.DType, dtable.DType, width).Launch(
            new LaunchShape((tokens, LaunchShape.Cover(dy.Columns, (long)threads * width), 1), threads),
            ids, tokens, later, dy, dy.RowStride, dtable, dtable.RowStride, dy.Columns);
    }
}
