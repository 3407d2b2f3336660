// A compiled constraint: what a text may be, as masks over a tokenizer's vocabulary. Requests with the same schema use one, so that they
// share what has been found out; a request's own part is its place in the text (GrammarConstraint).
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>
/// A grammar compiled for a tokenizer, made by <see cref="JsonConstraints"/>. It takes some megabytes, keeps the masks that it has computed,
/// and may be used by many threads and requests at once; each request takes a constraint of its own from <see cref="Begin"/>.
/// </summary>
public sealed class TokenGrammar
{
    private readonly TokenTrie trie;
    private readonly Automaton automaton;
    private readonly int[] endTokens;
    private readonly int words;
    private readonly AutomatonState[] path = new AutomatonState[TokenTrie.LongestToken + 1]; // by depth in the tree
    private readonly Lock gate = new();

    internal TokenGrammar(Tokenizer tokenizer, Grammar grammar, IReadOnlyCollection<int> endTokens, IReadOnlyList<string> ignored)
    {
        Ignored = ignored;
        this.endTokens = [.. endTokens];
        trie = TokenTrie.Of(tokenizer);
        automaton = new Automaton(grammar);
        words = (Math.Max(tokenizer.VocabularySize, endTokens.Max() + 1) + 63) / 64;
    }

    /// <summary>
    /// The keywords of a schema that are not imposed on the text, each with its place, as <c>#/properties/name: not</c>. Empty for a strict
    /// schema, which is refused instead.
    /// </summary>
    public IReadOnlyList<string> Ignored { get; }

    /// <summary>A constraint for one generation, at the beginning of its text.</summary>
    public ITokenConstraint Begin() => new GrammarConstraint(this);

    /// <summary>The state of an empty text.</summary>
    internal AutomatonState Start
    {
        get
        {
            lock (gate) return automaton.Start;
        }
    }

    /// <summary>The tokens that may come next: bit t of word t / 64, the rest zero. Not to be changed.</summary>
    /// <param name="state">Where the text is; renewed where the automaton has dropped its states.</param>
    internal ulong[] Mask(ref AutomatonState state)
    {
        lock (gate)
        {
            state = automaton.Refresh(state);
            if (state.Mask is { } known) return known;
            automaton.Work = 0;
            var mask = new ulong[words]; // [ceil(V / 64)]
            Walk(state, mask);
            automaton.AddTokens(state, mask);
            if (state.Accepts)
            {
                foreach (int token in endTokens) mask[token >> 6] |= 1ul << token;
            }

            automaton.Keep(state, mask);
            return mask;
        }
    }

    /// <summary>The state after a token.</summary>
    /// <param name="state">Where the text is.</param>
    /// <param name="token">What comes.</param>
    /// <param name="ended">Whether the text is over with this token.</param>
    /// <exception cref="ArgumentException">The token may not come here.</exception>
    internal AutomatonState Next(AutomatonState state, int token, out bool ended)
    {
        lock (gate)
        {
            automaton.Work = 0;
            ended = state.Accepts && endTokens.Contains(token);
            if (ended) return state;
            ReadOnlySpan<byte> bytes = trie.Bytes(token);
            if (bytes.IsEmpty) state = automaton.StepToken(state, token);
            foreach (byte value in bytes) state = automaton.Step(state, value);
            if (state.IsDead) throw new ArgumentException($"token {token} may not come at this place of the text: choose one that the mask allows", nameof(token));
            ended = state.Accepts && state.Places.Length == 0;
            return state;
        }
    }

    /// <summary>Walks the vocabulary's tree and the automaton together.</summary>
    private void Walk(AutomatonState state, ulong[] mask)
    {
        byte[] labels = trie.Labels, depths = trie.Depths;
        ReadOnlySpan<byte> classes = automaton.Classes;
        int[] ends = trie.Ends, firstTokens = trie.FirstTokens, tokens = trie.Tokens;
        path[0] = state;
        for (int node = 1; node < labels.Length;)
        {
            int depth = depths[node];
            AutomatonState before = path[depth - 1];
            AutomatonState next = before.Next?[classes[labels[node]]] ?? automaton.Step(before, labels[node]);
            if (next.IsDead)
            {
                node = ends[node];
                continue;
            }

            path[depth] = next;
            int end = firstTokens[node + 1];
            for (int i = firstTokens[node]; i < end; i++) mask[tokens[i] >> 6] |= 1ul << tokens[i];
            node++;
        }

        Array.Clear(path); // else it would keep states that have been dropped
    }
}
