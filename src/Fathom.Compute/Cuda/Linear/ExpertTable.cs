// Where the matrices of all experts of a layer lie, as a table in the GPU's memory: in a checkpoint each has its own place. Made once for
// every ExpertWeights and kept as long as it lives.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>The matrices of a layer's experts on a GPU.</summary>
internal sealed unsafe class ExpertTable
{
    private readonly DeviceMemory memory;

    private ExpertTable(CudaContext context, ExpertWeights weights)
    {
        GemmSide first = GemmSide.Of(weights[0], transposed: false);
        bool chunks = first.WholeChunks, fours = first.WholeFours;
        GemmExpert* experts = (GemmExpert*)NativeMemory.Alloc((nuint)weights.Count, (nuint)sizeof(GemmExpert));
        try
        {
            for (int e = 0; e < weights.Count; e++)
            {
                ScaledTensor expert = weights[e];
                GemmSide side = GemmSide.Of(expert, transposed: false);
                chunks &= side.WholeChunks;
                fours &= side.WholeFours;
                experts[e] = new GemmExpert
                {
                    Elements = expert.Elements.Address,
                    Stride = expert.Elements.RowStride,
                    Scales = expert.Layout == ScaleLayout.None ? 0 : expert.Scales.Address,
                    ScaleStride = expert.Layout == ScaleLayout.None ? 0 : expert.Scales.RowStride,
                };
            }

            nuint bytes = (nuint)(weights.Count * sizeof(GemmExpert));
            memory = context.Memory.Take((long)bytes);
            context.MakeCurrent();
            CudaException.Check(Driver.CopyToDevice(memory.Address, (nint)experts, bytes, context.Stream.Handle), "cuMemcpyHtoDAsync of the places of experts");
            context.Stream.Synchronize();
        }
        finally
        {
            NativeMemory.Free(experts);
        }

        (WholeChunks, WholeFours) = (chunks, fours);
    }

    /// <summary>[E] <see cref="GemmExpert"/> in the GPU's memory.</summary>
    public nint Address => memory.Address;

    /// <summary>Whether rows of every matrix begin at 16 bytes and hold whole 16 bytes.</summary>
    public bool WholeChunks { get; }

    /// <summary>The same for four elements.</summary>
    public bool WholeFours { get; }

    /// <summary>The tables of one GPU.</summary>
    public sealed class Tables(CudaContext context)
    {
        private readonly ConditionalWeakTable<ExpertWeights, ExpertTable> tables = [];

        /// <summary>The table of a layer's experts.</summary>
        public ExpertTable Of(ExpertWeights weights)
        {
            if (tables.TryGetValue(weights, out ExpertTable? table)) return table;
            table = new ExpertTable(context, weights);
            tables.Add(weights, table);
            return table;
        }
    }
}
