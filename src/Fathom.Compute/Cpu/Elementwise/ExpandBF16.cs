using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>y = x from BF16 to F32, within one row.</summary>
internal readonly unsafe struct ExpandBF16(ushort* x, float* y) : IElementBody
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Apply<V>(long i) where V : struct, ILanes<V> => V.LoadBF16(x + i).Store(y + i);
}
