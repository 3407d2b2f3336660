// What kernels know about vector registers, so that one kernel text serves 512, 256 and 128 bits and the single elements left
// over at the end of a row. Every operation rounds the same way at every width: an element's value does not depend on where in
// a row it stands. Only sums, whose order depends on the width, may differ in the last bits from processor to processor.

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>Arithmetic on one or more F32 lanes.</summary>
/// <typeparam name="V">The implementing type.</typeparam>
internal unsafe interface ILanes<V> where V : struct, ILanes<V>
{
    /// <summary>Number of lanes.</summary>
    static abstract int Count { get; }

    /// <summary>Reads F32 elements; no alignment needed.</summary>
    static abstract V Load(float* source);

    /// <summary>Reads BF16 elements, which are exact in F32.</summary>
    static abstract V LoadBF16(ushort* source);

    /// <summary>The same number in all lanes.</summary>
    static abstract V Broadcast(float value);

    /// <summary>Lane by lane sum.</summary>
    static abstract V operator +(V a, V b);

    /// <summary>Lane by lane difference.</summary>
    static abstract V operator -(V a, V b);

    /// <summary>Lane by lane product.</summary>
    static abstract V operator *(V a, V b);

    /// <summary>Lane by lane quotient.</summary>
    static abstract V operator /(V a, V b);

    /// <summary>a · b + c, rounded once where the processor can.</summary>
    static abstract V MultiplyAdd(V a, V b, V c);

    /// <summary>Square root.</summary>
    static abstract V Sqrt(V x);

    /// <summary>Nearest integer, ties to even.</summary>
    static abstract V Round(V x);

    /// <summary>Between low and high; NaN stays NaN.</summary>
    static abstract V Clamp(V x, float low, float high);

    /// <summary>x · 2^n for integral n of absolute value below 250, correct into the subnormals and up to infinity.</summary>
    static abstract V Scale(V x, V n);

    /// <summary>Writes F32 elements.</summary>
    void Store(float* destination);

    /// <summary>Writes BF16 elements, rounded to nearest even; NaN stays NaN.</summary>
    void StoreBF16(ushort* destination);
}

/// <summary>A whole vector register: what only loops and reductions over lanes need.</summary>
/// <typeparam name="V">The implementing type.</typeparam>
internal interface ISimd<V> : ILanes<V> where V : struct, ISimd<V>
{
    /// <summary>Sum of the lanes.</summary>
    static abstract float Sum(V x);

    /// <summary>The larger of x and largest, lane by lane; a NaN in x is passed over.</summary>
    static abstract V Larger(V x, V largest);

    /// <summary>The largest lane; no lane may be NaN.</summary>
    static abstract float Largest(V x);

    /// <summary>Whether any lanes are equal.</summary>
    static abstract bool AnyEqual(V a, V b);

    /// <summary>Exchanges lanes 0 and 1, 2 and 3, ….</summary>
    static abstract V SwapPairs(V x);

    /// <summary>Half of the lanes as F64, which fill a register of the same size.</summary>
    static abstract (V Lower, V Upper) Widen(V x);

    /// <summary>Sum of registers that hold F64.</summary>
    static abstract V AddF64(V a, V b);

    /// <summary>a · b + c of registers that hold F64.</summary>
    static abstract V MultiplyAddF64(V a, V b, V c);

    /// <summary>Sum of the lanes of a register that holds F64.</summary>
    static abstract double SumF64(V x);
}
