// Cross-entropy needs each logit twice, once for the sum and once for the gradient. As many rows at a time as the second-level
// cache holds, so main memory is read once and written once: 2 x 517 KB a row of V3's vocabulary.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="ILossOperators"/> on a GPU. Logits are F32.</summary>
internal sealed class CudaLoss : ILossOperators
{
    /// <summary>Columns of a piece: a block's 32 logits a thread.</summary>
    internal const int PieceColumns = 8192;

    private const int Threads = 256; // loss.cu has the same
    private const int PieceBytes = 12;
    private readonly CudaContext context;
    private readonly Kernel[] pieces, rows; // single logits, four at a time

    public CudaLoss(CudaContext context)
    {
        this.context = context;
        string[] pieceNames = ["cross_entropy_pieces<1>", "cross_entropy_pieces<4>"], rowNames = ["cross_entropy_rows<1>", "cross_entropy_rows<4>"];
        KernelModule module = context.Module("loss.cu", [.. pieceNames, .. rowNames]);
        pieces = [.. pieceNames.Select(module.Kernel)];
        rows = [.. rowNames.Select(module.Kernel)];
    }

    public void CrossEntropy(Tensor logits, Tensor targets, float gradientScale, Tensor losses, Tensor correct)
    {
        const string Op = "cross-entropy";
        Require.Matrix(Op, "logits", logits, logits.Rows, logits.Columns);
        Require.Vector(Op, "targets", targets, logits.Rows, DType.I32);
        Require.Vector(Op, "losses", losses, logits.Rows);
        Require.Writable(Op, "losses", losses);
        if (gradientScale != 0) Require.Writable(Op, "logits", logits);
        if (!correct.IsEmpty) Require.Vector(Op, "correct", correct, logits.Rows, DType.I32);
        if (logits.Elements == 0) return;
        int variant = Elementwise.Width(logits.Columns, logits) > 1 ? 1 : 0, columns = checked((int)logits.Columns);
        int count = (int)LaunchShape.Cover(columns, PieceColumns);
        long together = Math.Min(logits.Rows, gradientScale == 0 ? logits.Rows : RowsAtOnce(logits.Columns, context.L2Bytes));
        nint found = context.Workspace(together * count * PieceBytes);
        for (long first = 0; first < logits.Rows; first += together)
        {
            long height = Math.Min(together, logits.Rows - first);
            nint row = logits.Address + (nint)(first * logits.RowStride * sizeof(float));
            nint entry = (nint)(first * sizeof(int));
            pieces[variant].Launch(new LaunchShape((height, count, 1), Threads), row, logits.RowStride, columns, PieceColumns, found);
            rows[variant].Launch(
                new LaunchShape((height, gradientScale == 0 ? 1 : count, 1), Threads),
                row, logits.RowStride, columns, PieceColumns, found, count, targets.Address + entry, gradientScale, losses.Address + entry,
                correct.IsEmpty ? 0 : correct.Address + entry, context.Faults.Address);
        }
    }

    /// <summary>Rows whose logits fill half of the second-level cache.</summary>
    internal static long RowsAtOnce(long columns, long cacheBytes) => Math.Max(1, cacheBytes / 2 / (columns * sizeof(float)));
}
