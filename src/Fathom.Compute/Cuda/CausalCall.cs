using System.Runtime.InteropServices;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cuda;

/// <summary>What every kernel of causal attention takes: Causal in attention.cuh, field by field; what each field means stands there.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CausalCall(in CausalSizes sizes, float scale)
{
    public RowsArgument Q, Kv, KRope, Output, Doutput, Dq, Dkv, DkRope;
    public nint LogSumExp, Delta, Rotary;
    public readonly int Batch = sizes.Batch, Heads = sizes.Heads, Queries = sizes.Queries, Keys = sizes.Keys, Nope = sizes.Nope, Rope = sizes.Rope, Value = sizes.Value;
    public int GroupHeads;
    public readonly float Scale = scale;
    public int Groups;
}
