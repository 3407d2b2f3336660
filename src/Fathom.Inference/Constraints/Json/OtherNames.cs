// A name that is none of those that are declared: a tree of the declared names, which any other character leaves for good. Where the tree
// ends a declared name, the quotation mark is not allowed.
using System.Text;

namespace Fathom.Inference;

/// <summary>Builds the names that <c>additionalProperties</c> leaves.</summary>
internal static class OtherNames
{
    /// <summary>The rule of a quoted name that is not among <paramref name="names"/>.</summary>
    public static int Build(GrammarBuilder builder, IEnumerable<string> names)
    {
        int start = builder.Node(), free = builder.Node(), escaped = builder.Node(), beyondAscii = builder.Node(), end = builder.Node();
        builder.Return(end);
        JsonSpelling.Characters(builder, free, 0, 0x10FFFF, free);
        builder.Character(free, '"', end);
        JsonSpelling.Characters(builder, escaped, 0, 0x1F, free);
        builder.CodePoints(beyondAscii, 0x80, 0x10FFFF, free);

        var root = new Branch(builder.Node());
        builder.Character(start, '"', root.Node);
        foreach (string name in names)
        {
            Branch branch = root;
            foreach (Rune rune in name.EnumerateRunes())
            {
                if (!branch.Children.TryGetValue(rune.Value, out Branch? child)) branch.Children[rune.Value] = child = new Branch(builder.Node());
                branch = child;
            }

            branch.IsName = true;
        }

        var open = new Stack<Branch>([root]);
        while (open.TryPop(out Branch? branch))
        {
            if (!branch.IsName) builder.Character(branch.Node, '"', end);
            int next = 0;
            foreach ((int codePoint, Branch child) in branch.Children)
            {
                builder.Literal(branch.Node, JsonSpelling.Of(codePoint), child.Node);
                Others(branch.Node, next, codePoint - 1);
                next = Math.Max(next, codePoint + 1);
                open.Push(child);
            }

            Others(branch.Node, next, 0x10FFFF);
        }

        return start;

        void Others(int node, int low, int high)
        {
            // What no declared name goes on with is shared by all branches.
            if (low == 0 && high >= 0x1F) builder.Jump(node, escaped);
            JsonSpelling.Characters(builder, node, low == 0 && high >= 0x1F ? 0x20 : low, Math.Min(high, 0x7F), free);
            if (low <= 0x80 && high == 0x10FFFF) builder.Jump(node, beyondAscii);
            else builder.CodePoints(node, Math.Max(low, 0x80), high, free);
        }
    }

    private sealed class Branch(int node)
    {
        public int Node => node;

        public SortedDictionary<int, Branch> Children { get; } = [];

        public bool IsName { get; set; }
    }
}
