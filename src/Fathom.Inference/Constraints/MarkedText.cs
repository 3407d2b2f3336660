// Free text in which marks mean what a reader of the text takes them for. Whoever reads an answer sees characters, not tokens: a mark that
// is spelled letter by letter opens a call as much as its control token does, so the grammar has to see it too, or what follows would be
// read as a call and not be held to a schema. All marks begin with '<' and hold no other, so that after a mismatch there is one place to be.
using System.Text;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>A piece of a grammar: any bytes, and marks that lead elsewhere.</summary>
internal sealed class MarkedText
{
    private const byte Less = (byte)'<';
    private readonly GrammarBuilder builder;
    private readonly Tokenizer tokenizer;
    private readonly IReadOnlyList<(string Mark, int? Next)> marks;
    private readonly bool mayEnd;
    private readonly int less; // after '<'

    /// <summary>Writes it.</summary>
    /// <param name="builder">The grammar.</param>
    /// <param name="tokenizer">Whose control tokens the marks are, where it has them.</param>
    /// <param name="marks">Each with the node after it; null for a mark that may not come.</param>
    /// <param name="mayEnd">Whether the rule may end anywhere in the text.</param>
    /// <param name="afterBlanks">The text that follows as soon as something but white space has come; null where nothing changes.</param>
    public MarkedText(GrammarBuilder builder, Tokenizer tokenizer, IReadOnlyList<(string Mark, int? Next)> marks, bool mayEnd, MarkedText? afterBlanks = null)
    {
        (this.builder, this.tokenizer, this.marks, this.mayEnd) = (builder, tokenizer, marks, mayEnd);
        (Start, less) = (builder.Node(), builder.Node());
        MarkedText rest = afterBlanks ?? this;
        builder.EachByte(Start, value => value == Less ? less : value is (byte)' ' or >= (byte)'\t' and <= (byte)'\r' ? Start : rest.Start);
        Close(Start);
        Spell(less, 1, [.. marks.Select(m => (Encoding.UTF8.GetBytes(m.Mark), m.Next))], rest);
    }

    /// <summary>Its first node.</summary>
    public int Start { get; }

    /// <summary>What can follow a beginning that some marks share.</summary>
    private void Spell(int node, int length, IReadOnlyList<(byte[] Mark, int? Next)> begun, MarkedText rest)
    {
        Dictionary<byte, int?> next = [];
        foreach (IGrouping<byte, (byte[] Mark, int? Next)> same in begun.GroupBy(m => m.Mark[length]))
        {
            (byte[] Mark, int? Next) whole = same.FirstOrDefault(m => m.Mark.Length == length + 1);
            next[same.Key] = whole.Mark is null ? builder.Node() : whole.Next;
            if (whole.Mark is null) Spell(next[same.Key]!.Value, length + 1, [.. same], rest);
        }

        builder.EachByte(node, value => next.TryGetValue(value, out int? known) ? known : value == Less ? rest.less : rest.Start);
        rest.Close(node);
    }

    /// <summary>What may come at any place of the text besides bytes: control tokens, the end.</summary>
    private void Close(int node)
    {
        foreach ((string mark, int? next) in marks)
        {
            if (next is { } target && tokenizer.TryGetId(mark) is { } id) builder.Token(node, id, target);
        }

        if (mayEnd) builder.Return(node);
    }
}
