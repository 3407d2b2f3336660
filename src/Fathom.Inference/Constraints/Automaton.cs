// Runs a grammar: from a state and a byte to the next state, each computed once and kept. The states that a text can reach have no bound
// (nesting, counts), so that what is kept is dropped as a whole when it has grown large: a text that is under way carries its state
// with it, and goes on.
//
// The trap is work that a stranger's schema can ask for: patterns that can be read in very many ways make states of thousands of places.
// Work is counted, and a mask that asks for too much is refused.
using System.Runtime.InteropServices;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>A grammar's states. Used by one thread at a time.</summary>
internal sealed class Automaton
{
    /// <summary>Most brackets that a document opens within each other, less one: System.Text.Json and others read 64.</summary>
    public const int MaxDepth = 63;

    /// <summary>Most places that are looked at for one mask, some tenths of a second; ordinary schemas take some thousands.</summary>
    public const int MaxWork = 4_000_000;

    private const long MaxKept = 4_000_000; // of places, transitions and words of masks together: tens of megabytes

    private readonly Grammar grammar;
    private readonly Dictionary<Frame, CallStack> singleStacks = [];
    private readonly Dictionary<Frame[], CallStack> mergedStacks = new(new FrameComparer());
    private readonly Dictionary<(Place[] Places, bool Accepts), AutomatonState> states = new(new PlaceComparer());
    private readonly HashSet<Place> seen = [];
    private readonly Stack<Place> open = [];
    private readonly List<Place> waiting = [];
    private int generation;
    private int lastStack;
    private long kept;
    private bool accepts;

    /// <summary>An automaton at its start.</summary>
    public Automaton(Grammar grammar)
    {
        this.grammar = grammar;
        Visit(grammar.Start, 0, new CallStack(0, 0, [new Frame(-1, 0, null)]));
        Start = Close();
    }

    /// <summary>Nothing has been read.</summary>
    public AutomatonState Start { get; private set; }

    /// <summary>The class of each byte: where a state keeps what follows it.</summary>
    public ReadOnlySpan<byte> Classes => grammar.Classes;

    /// <summary>Places looked at since it was set to zero.</summary>
    public int Work { get; set; }

    /// <summary>The state after a byte.</summary>
    public AutomatonState Step(AutomatonState state, byte value)
    {
        int byteClass = grammar.Classes[value];
        if (state.Next?[byteClass] is { } known) return known;
        byte representative = grammar.Representatives[byteClass];
        foreach (Place place in state.Places)
        {
            foreach (Edge edge in grammar.Edges(place.Node))
            {
                if (edge.Kind == EdgeKind.Bytes && representative >= edge.Low && representative <= edge.High) Visit(edge.Target, place.Count, place.Stack);
            }
        }

        AutomatonState next = Close();
        if (state.Next is null)
        {
            state.Next = new AutomatonState[grammar.Representatives.Length];
            kept += state.Next.Length;
        }

        return state.Next[byteClass] = next;
    }

    /// <summary>The state after a control token.</summary>
    public AutomatonState StepToken(AutomatonState state, int token)
    {
        foreach (Place place in state.Places)
        {
            foreach (Edge edge in grammar.Edges(place.Node))
            {
                if (edge.Kind == EdgeKind.Token && edge.Bound == token) Visit(edge.Target, place.Count, place.Stack);
            }
        }

        return Close();
    }

    /// <summary>Sets the bits of the control tokens that may come.</summary>
    public void AddTokens(AutomatonState state, ulong[] mask)
    {
        foreach (Place place in state.Places)
        {
            foreach (Edge edge in grammar.Edges(place.Node))
            {
                if (edge.Kind == EdgeKind.Token) mask[edge.Bound >> 6] |= 1ul << edge.Bound;
            }
        }
    }

    /// <summary>Notes that a mask is kept.</summary>
    public void Keep(AutomatonState state, ulong[] mask)
    {
        state.Mask = mask;
        kept += mask.Length;
    }

    /// <summary>Drops all states where they have become many. Called between masks.</summary>
    /// <param name="state">A state of any generation.</param>
    /// <returns>The same state in the present generation.</returns>
    public AutomatonState Refresh(AutomatonState state)
    {
        if (kept > MaxKept)
        {
            (kept, generation) = (0, generation + 1);
            states.Clear();
            singleStacks.Clear();
            mergedStacks.Clear();
            Start = Intern(Start.Places, Start.Accepts);
        }

        return state.Generation == generation ? state : Intern(state.Places, state.Accepts);
    }

    /// <summary>A place that can be reached, unless the text could not be finished from there.</summary>
    private void Visit(int node, int count, CallStack stack)
    {
        var place = new Place(node, count, stack);
        if (stack.Depth + grammar.Need(node) <= MaxDepth && seen.Add(place)) open.Push(place);
    }

    /// <summary>Follows what consumes nothing, and gives the state of all places that wait.</summary>
    private AutomatonState Close()
    {
        accepts = false;
        waiting.Clear();
        while (open.TryPop(out Place place))
        {
            if (++Work > MaxWork)
            {
                open.Clear();
                seen.Clear();
                throw new FathomException($"the schema can be read in too many ways: more than {MaxWork:N0} steps for one token; make patterns and anyOf simpler, or optional properties fewer");
            }

            Follow(place);
        }

        seen.Clear();
        return Intern(Merge(), accepts);
    }

    private void Follow(Place place)
    {
        (int node, int count, CallStack stack) = place;
        bool waits = false;
        foreach (Edge edge in grammar.Edges(node))
        {
            switch (edge.Kind)
            {
                case EdgeKind.Jump:
                case EdgeKind.JumpIfBelow when count < edge.Bound:
                case EdgeKind.JumpIfAtLeast when count >= edge.Bound:
                    Visit(edge.Target, count, stack);
                    break;
                case EdgeKind.Count:
                    Visit(edge.Target, Math.Min(count + 1, edge.Bound), stack);
                    break;
                case EdgeKind.Call when stack.Depth + grammar.Need(edge.Return) <= MaxDepth:
                    Visit(edge.Target, 0, StackOf(new Frame(edge.Return, count, stack), stack.Depth + edge.Bound));
                    break;
                case EdgeKind.Return:
                    foreach (Frame frame in stack.Frames)
                    {
                        if (frame.Parent is null) accepts = true;
                        else Visit(frame.Node, frame.Count, frame.Parent);
                    }

                    break;
                case EdgeKind.Bytes or EdgeKind.Token:
                    waits = true;
                    break;
            }
        }

        if (waits) waiting.Add(place);
    }

    /// <summary>The places that wait, sorted; those of the same node and count become one with all their callers.</summary>
    private Place[] Merge()
    {
        waiting.Sort(static (a, b) => a.Node != b.Node ? a.Node.CompareTo(b.Node) : a.Count != b.Count ? a.Count.CompareTo(b.Count) : a.Stack.Id.CompareTo(b.Stack.Id));
        Span<Place> all = CollectionsMarshal.AsSpan(waiting);
        int count = 0;
        for (int first = 0, end; first < all.Length; first = end)
        {
            for (end = first + 1; end < all.Length && all[end].Node == all[first].Node && all[end].Count == all[first].Count;) end++;
            all[count++] = end == first + 1 ? all[first] : all[first] with { Stack = Union(all.Slice(first, end - first)) };
        }

        return all.Slice(0, count).ToArray();
    }

    private CallStack StackOf(Frame frame, int depth)
    {
        if (singleStacks.TryGetValue(frame, out CallStack? stack)) return stack;
        kept += 8;
        return singleStacks[frame] = new CallStack(++lastStack, depth, [frame]);
    }

    private CallStack Union(ReadOnlySpan<Place> places)
    {
        var frames = new HashSet<Frame>();
        int depth = 0;
        foreach (Place place in places)
        {
            frames.UnionWith(place.Stack.Frames);
            depth = Math.Max(depth, place.Stack.Depth);
        }

        Frame[] key = [.. frames.OrderBy(f => f.Node).ThenBy(f => f.Count).ThenBy(f => f.Parent?.Id ?? 0)];
        if (mergedStacks.TryGetValue(key, out CallStack? stack)) return stack;
        kept += 8 * key.Length;
        return mergedStacks[key] = new CallStack(++lastStack, depth, key);
    }

    private AutomatonState Intern(Place[] places, bool accepting)
    {
        if (states.TryGetValue((places, accepting), out AutomatonState? state)) return state;
        kept += 16 + 3 * places.Length;
        return states[(places, accepting)] = new AutomatonState(generation, places, accepting);
    }

    private sealed class FrameComparer : IEqualityComparer<Frame[]>
    {
        public bool Equals(Frame[]? x, Frame[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(Frame[] frames)
        {
            var hash = default(HashCode);
            foreach (Frame frame in frames) hash.Add(frame);
            return hash.ToHashCode();
        }
    }

    private sealed class PlaceComparer : IEqualityComparer<(Place[] Places, bool Accepts)>
    {
        public bool Equals((Place[] Places, bool Accepts) x, (Place[] Places, bool Accepts) y) =>
            x.Accepts == y.Accepts && x.Places.AsSpan().SequenceEqual(y.Places);

        public int GetHashCode((Place[] Places, bool Accepts) key)
        {
            var hash = default(HashCode);
            hash.Add(key.Accepts);
            foreach (Place place in key.Places) hash.Add(place);
            return hash.ToHashCode();
        }
    }
}
