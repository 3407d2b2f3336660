// What texts a constraint allows, as a graph over bytes. Edges consume a byte or a control token, or move without consuming: jump, call a
// rule (which returns to where it was called from), or count. A counter belongs to a call, so that "at most 10,000 items" is one edge
// and not 10,000 nodes.
//
// The trap is the dead end: an alternative that can be entered but never finished, because what it requires is impossible or too deep.
// Need says for each node how many more levels of nesting the shortest way out takes; a node whose need does not fit is never entered.
namespace Fathom.Inference;

/// <summary>What an edge does.</summary>
internal enum EdgeKind : byte
{
    /// <summary>Consumes a byte from Low to High.</summary>
    Bytes,

    /// <summary>Consumes the token Bound.</summary>
    Token,

    /// <summary>Consumes nothing.</summary>
    Jump,

    /// <summary>Consumes nothing; only while the count is below Bound.</summary>
    JumpIfBelow,

    /// <summary>Consumes nothing; only once the count is at least Bound.</summary>
    JumpIfAtLeast,

    /// <summary>Adds one to the count, which stays at Bound once there.</summary>
    Count,

    /// <summary>Goes to Target with a count of its own, Bound levels deeper, and to Return when that returns.</summary>
    Call,

    /// <summary>Ends the rule.</summary>
    Return,
}

/// <summary>One edge of a node.</summary>
internal readonly record struct Edge(EdgeKind Kind, int Target = 0, int Return = 0, int Bound = 0, byte Low = 0, byte High = 0);

/// <summary>A finished graph. Immutable.</summary>
internal sealed class Grammar
{
    /// <summary>The need of a node from which no text can be finished.</summary>
    public const int Impossible = int.MaxValue / 2;

    private readonly int[] firstEdges; // [nodes + 1]
    private readonly Edge[] edges;
    private readonly int[] needs; // [nodes]
    private readonly byte[] classes = new byte[256];
    private readonly byte[] representatives;

    /// <param name="nodes">Number of nodes.</param>
    /// <param name="list">Edges with the nodes that they leave, in any order.</param>
    /// <param name="start">Where a text begins; the text is finished where its rule returns.</param>
    public Grammar(int nodes, IReadOnlyList<(int From, Edge Edge)> list, int start)
    {
        Start = start;
        int[] from = new int[list.Count];
        firstEdges = GroupedBy(nodes, list.Count, i => list[i].From, out int[] order);
        edges = new Edge[list.Count];
        for (int i = 0; i < order.Length; i++) (from[i], edges[i]) = list[order[i]];
        needs = FindNeeds(from);
        representatives = FindClasses();
    }

    /// <summary>Where a text begins.</summary>
    public int Start { get; }

    /// <summary>The class of each byte: bytes of a class are treated alike by every edge.</summary>
    public ReadOnlySpan<byte> Classes => classes; // [256]

    /// <summary>A byte of each class.</summary>
    public ReadOnlySpan<byte> Representatives => representatives;

    /// <summary>The edges that leave a node.</summary>
    public ReadOnlySpan<Edge> Edges(int node) => edges.AsSpan(firstEdges[node], firstEdges[node + 1] - firstEdges[node]);

    /// <summary>Levels of nesting below a node without which its rule cannot return; <see cref="Impossible"/> if it never can.</summary>
    public int Need(int node) => needs[node];

    /// <summary>Shortest ways out, from the ends backwards; a call needs what it calls, one level deeper, and what follows.</summary>
    private int[] FindNeeds(int[] from)
    {
        int nodes = firstEdges.Length - 1;
        int[] result = new int[nodes];
        Array.Fill(result, Impossible);
        int[] firstInto = GroupedBy(nodes, edges.Length, i => edges[i].Target, out int[] into);
        int[] firstBack = GroupedBy(nodes, edges.Length, i => edges[i].Return, out int[] back);
        var lowered = new Queue<int>();
        for (int i = 0; i < edges.Length; i++)
        {
            if (edges[i].Kind == EdgeKind.Return) Lower(i);
        }

        while (lowered.TryDequeue(out int node))
        {
            for (int i = firstInto[node]; i < firstInto[node + 1]; i++) Lower(into[i]);
            for (int i = firstBack[node]; i < firstBack[node + 1]; i++) Lower(back[i]);
        }

        return result;

        void Lower(int edge)
        {
            Edge e = edges[edge];
            int need = e.Kind switch
            {
                EdgeKind.Return => 0,
                EdgeKind.Call => Math.Min(Impossible, Math.Max(result[e.Target] + e.Bound, result[e.Return])),
                _ => result[e.Target],
            };
            if (need >= result[from[edge]]) return;
            result[from[edge]] = need;
            lowered.Enqueue(from[edge]);
        }
    }

    private byte[] FindClasses()
    {
        bool[] begins = new bool[257];
        begins[0] = true;
        foreach (Edge edge in edges)
        {
            if (edge.Kind == EdgeKind.Bytes) begins[edge.Low] = begins[edge.High + 1] = true;
        }

        List<byte> first = [];
        for (int value = 0; value < 256; value++)
        {
            if (begins[value]) first.Add((byte)value);
            classes[value] = (byte)(first.Count - 1);
        }

        return [.. first];
    }

    /// <summary>Sorts items by a key below <paramref name="groups"/>, keeping their order within a group.</summary>
    /// <returns>Where each group begins in <paramref name="order"/>; [groups + 1].</returns>
    private static int[] GroupedBy(int groups, int count, Func<int, int> key, out int[] order)
    {
        int[] first = new int[groups + 1];
        for (int i = 0; i < count; i++) first[key(i) + 1]++;
        for (int g = 0; g < groups; g++) first[g + 1] += first[g];
        int[] next = first[..groups];
        order = new int[count];
        for (int i = 0; i < count; i++) order[next[key(i)]++] = i;
        return first;
    }
}
