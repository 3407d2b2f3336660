// Puts a grammar's graph together. Methods take the node where a piece begins and the node where it ends. What a stranger's schema can
// make large is bounded here, in one place: edges are counted, and the text that asks for more is refused.
using System.Text;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>A graph under construction.</summary>
internal sealed class GrammarBuilder
{
    /// <summary>Most edges of a grammar: some megabytes, and a compilation of milliseconds.</summary>
    public const int MaxEdges = 250_000;

    private readonly List<(int From, Edge Edge)> edges = [];
    private int nodes;

    /// <summary>A new node without edges.</summary>
    public int Node() => nodes++;

    /// <summary>The finished graph.</summary>
    public Grammar Build(int start) => new(nodes, edges, start);

    /// <summary>Any byte of a range.</summary>
    public void Bytes(int from, byte low, byte high, int to) => Add(from, new Edge(EdgeKind.Bytes, to, Low: low, High: high));

    /// <summary>Every byte by itself.</summary>
    /// <param name="from">The node.</param>
    /// <param name="to">The node after a byte; null for a byte that may not come.</param>
    public void EachByte(int from, Func<byte, int?> to)
    {
        for (int low = 0, next; low <= byte.MaxValue; low = next)
        {
            int? target = to((byte)low);
            for (next = low + 1; next <= byte.MaxValue && to((byte)next) == target; next++) ;
            if (target is { } node) Bytes(from, (byte)low, (byte)(next - 1), node);
        }
    }

    /// <summary>One ASCII character.</summary>
    public void Character(int from, char value, int to) => Bytes(from, (byte)value, (byte)value, to);

    /// <summary>A control token.</summary>
    public void Token(int from, int token, int to) => Add(from, new Edge(EdgeKind.Token, to, Bound: token));

    /// <summary>A mark: its control token, or where the tokenizer has none its text.</summary>
    public void Mark(int from, Tokenizer tokenizer, string mark, int to)
    {
        if (tokenizer.TryGetId(mark) is { } id) Token(from, id, to);
        else Literal(from, mark, to);
    }

    /// <summary>Nothing.</summary>
    public void Jump(int from, int to) => Add(from, new Edge(EdgeKind.Jump, to));

    /// <summary>Nothing, while the count is below <paramref name="bound"/>.</summary>
    public void JumpIfBelow(int from, int bound, int to) => Add(from, new Edge(EdgeKind.JumpIfBelow, to, Bound: bound));

    /// <summary>Nothing, once the count is at least <paramref name="bound"/>.</summary>
    public void JumpIfAtLeast(int from, int bound, int to) => Add(from, new Edge(EdgeKind.JumpIfAtLeast, to, Bound: bound));

    /// <summary>Counts one more, up to <paramref name="bound"/>.</summary>
    public void Count(int from, int bound, int to) => Add(from, new Edge(EdgeKind.Count, to, Bound: bound));

    /// <summary>A rule.</summary>
    /// <param name="from">Where it is called.</param>
    /// <param name="rule">Its first node.</param>
    /// <param name="to">Where it returns to.</param>
    /// <param name="deeper">Whether it is one level of nesting below.</param>
    public void Call(int from, int rule, int to, bool deeper = false) => Add(from, new Edge(EdgeKind.Call, rule, to, deeper ? 1 : 0));

    /// <summary>The end of the rule.</summary>
    public void Return(int from) => Add(from, new Edge(EdgeKind.Return));

    /// <summary>Certain bytes.</summary>
    public void Literal(int from, ReadOnlySpan<byte> bytes, int to)
    {
        if (bytes.IsEmpty) Jump(from, to);
        for (int i = 0; i < bytes.Length; i++)
        {
            int next = i == bytes.Length - 1 ? to : Node();
            Bytes(from, bytes[i], bytes[i], next);
            from = next;
        }
    }

    /// <summary>Certain bytes.</summary>
    public void Literal(int from, string text, int to) => Literal(from, Encoding.UTF8.GetBytes(text), to);

    /// <summary>One character of a range of code points, as UTF-8; surrogates are left out.</summary>
    public void CodePoints(int from, int low, int high, int to)
    {
        foreach ((int first, int last, int length) in (ReadOnlySpan<(int, int, int)>)[(0, 0x7F, 1), (0x80, 0x7FF, 2), (0x800, 0xD7FF, 3), (0xE000, 0xFFFF, 3), (0x10000, 0x10FFFF, 4)])
        {
            if (Math.Max(low, first) <= Math.Min(high, last)) SameLength(from, Math.Max(low, first), Math.Min(high, last), length, to);
        }
    }

    /// <summary>
    /// A range whose characters take the same number of bytes: cut so that each piece is a range in every byte, then a path a piece.
    /// </summary>
    private void SameLength(int from, int low, int high, int length, int to)
    {
        for (int tail = 1; tail < length; tail++)
        {
            int mask = (1 << (6 * tail)) - 1;
            if ((low & ~mask) == (high & ~mask)) break;
            if ((low & mask) != 0)
            {
                SameLength(from, low, low | mask, length, to);
                SameLength(from, (low | mask) + 1, high, length, to);
                return;
            }

            if ((high & mask) != mask)
            {
                SameLength(from, low, (high & ~mask) - 1, length, to);
                SameLength(from, high & ~mask, high, length, to);
                return;
            }
        }

        Span<byte> first = stackalloc byte[4], last = stackalloc byte[4];
        new Rune(low).EncodeToUtf8(first);
        new Rune(high).EncodeToUtf8(last);
        for (int i = 0; i < length; i++)
        {
            int next = i == length - 1 ? to : Node();
            Bytes(from, first[i], last[i], next);
            from = next;
        }
    }

    private void Add(int from, Edge edge)
    {
        if (edges.Count == MaxEdges)
            throw new FathomException($"the schema is too large: it makes a grammar of more than {MaxEdges:N0} edges; make enums, patterns or names fewer or shorter");
        edges.Add((from, edge));
    }
}
