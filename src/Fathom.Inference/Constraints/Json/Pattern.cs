// A regular expression over the characters of a JSON string, without what a finite automaton cannot do.
namespace Fathom.Inference;

/// <summary>A set of strings.</summary>
internal abstract record Pattern
{
    /// <summary>Builds it between two nodes, each character in its one spelling.</summary>
    public abstract void Build(GrammarBuilder builder, int from, int to);

    /// <summary>One character of some ranges of code points.</summary>
    public sealed record Set(IReadOnlyList<(int Low, int High)> Ranges) : Pattern
    {
        /// <summary>Any character.</summary>
        public static Set Any { get; } = new([(0, 0x10FFFF)]);

        /// <summary>All other characters.</summary>
        public Set Complement()
        {
            List<(int, int)> others = [];
            int next = 0;
            foreach ((int low, int high) in Ranges.OrderBy(r => r.Low))
            {
                if (low > next) others.Add((next, low - 1));
                next = Math.Max(next, high + 1);
            }

            if (next <= 0x10FFFF) others.Add((next, 0x10FFFF));
            return new Set(others);
        }

        /// <inheritdoc/>
        public override void Build(GrammarBuilder builder, int from, int to)
        {
            foreach ((int low, int high) in Ranges) JsonSpelling.Characters(builder, from, low, high, to);
        }
    }

    /// <summary>One after the other.</summary>
    public sealed record Sequence(IReadOnlyList<Pattern> Parts) : Pattern
    {
        /// <inheritdoc/>
        public override void Build(GrammarBuilder builder, int from, int to)
        {
            foreach (Pattern part in Parts)
            {
                int next = builder.Node();
                part.Build(builder, from, next);
                from = next;
            }

            builder.Jump(from, to);
        }
    }

    /// <summary>Any one of several.</summary>
    public sealed record Choice(IReadOnlyList<Pattern> Parts) : Pattern
    {
        /// <inheritdoc/>
        public override void Build(GrammarBuilder builder, int from, int to)
        {
            // Each with a node of its own: a loop at its end must not lead back into the others.
            foreach (Pattern part in Parts)
            {
                int start = builder.Node();
                builder.Jump(from, start);
                part.Build(builder, start, to);
            }
        }
    }

    /// <summary>Several times.</summary>
    public sealed record Repeat(Pattern Part, int Min, int? Max) : Pattern
    {
        /// <inheritdoc/>
        public override void Build(GrammarBuilder builder, int from, int to)
        {
            for (int i = 0; i < Min; i++) from = Once(builder, from);
            if (Max is null)
            {
                int loop = builder.Node();
                builder.Jump(from, loop);
                Part.Build(builder, loop, loop);
                from = loop;
            }

            builder.Jump(from, to);
            for (int i = Min; i < Max; i++)
            {
                from = Once(builder, from);
                builder.Jump(from, to);
            }
        }

        private int Once(GrammarBuilder builder, int from)
        {
            int next = builder.Node();
            Part.Build(builder, from, next);
            return next;
        }
    }
}
