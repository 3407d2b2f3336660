// All rows of the operator table. Each family adds its own in a file of its own, OperatorTable.<Family>.cs, and is named here.

namespace Fathom.Compute.Table;

/// <summary>The shared table of operator cases.</summary>
public static partial class OperatorTable
{
    /// <summary>Every case of every family.</summary>
    public static IEnumerable<OperatorCase> All() =>
    [
        .. Norms(),
        .. Rotaries(),
        .. Routings(),
        .. Activations(),
        .. Losses(),
        .. Samplings(),
        .. Embeddings(),
        .. Caches(),
        .. Optimizers(),
        .. Linears(),
        .. GroupedLinears(),
        .. Quantizations(),
        .. QuantizedLinears(),
        .. StoredLinears(),
        .. GroupedStoredLinears(),
        .. Reductions(),
        .. Attention(),
    ];
}
