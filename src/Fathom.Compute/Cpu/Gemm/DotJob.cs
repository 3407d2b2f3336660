namespace Fathom.Compute.Cpu.Gemm;

/// <summary>C[m, n] = A[m, :] · B[n, :]: tiles of some n each, of one product after the other.</summary>
/// <typeparam name="TKernels">The dot products.</typeparam>
/// <typeparam name="TElement">Element type of A.</typeparam>
/// <param name="products">The products.</param>
/// <param name="layout">What they have in common.</param>
/// <param name="width">Columns of C in a tile.</param>
/// <param name="tiles">Tiles of a product.</param>
internal readonly unsafe struct DotJob<TKernels, TElement>(Product* products, ProductLayout layout, long width, int tiles) : ITileJob
    where TKernels : struct, IDotKernels<TElement>
    where TElement : unmanaged
{
    public void Run(int tile, int worker)
    {
        ref Product product = ref products[tile / tiles];
        long first = tile % tiles * width, end = Math.Min(first + width, layout.Columns);
        Dots<TKernels, TElement>.Run(product, (TElement*)product.A, (nint)layout.StrideA, first, end, layout);
    }
}
